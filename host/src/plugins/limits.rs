//! The memory of one plugin.

use wasmtime::ResourceLimiter;

/// Elements of all tables together; each takes a pointer.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// Counts what all memories and tables of one store hold together.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: usize,
    bytes: usize,
    elements: usize,
    /// The plugin asked for more than it may have. If it breaks off, that is why.
    exhausted: bool,
}

impl Memory {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, elements: 0, exhausted: false }
    }

    pub fn exhausted(&self) -> bool {
        self.exhausted
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if bytes > self.bytes_max {
            self.exhausted = true;
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        if elements > TABLE_ELEMENTS_MAX {
            self.exhausted = true;
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together() {
        let mut memory = Memory::new(100);
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.memory_growing(0, 40, None).unwrap());
        assert!(!memory.exhausted());
        assert!(!memory.memory_growing(40, 41, None).unwrap());
        assert!(memory.exhausted());
    }

    #[test]
    fn a_memory_that_limits_itself_is_not_exhausted() {
        let mut memory = Memory::new(100);
        assert!(!memory.memory_growing(10, 20, Some(15)).unwrap());
        assert!(!memory.exhausted());
        assert!(memory.memory_growing(10, 100, None).unwrap());
    }
}
