//! The memory of one plugin, and what it is made of.

use wasmtime::ResourceLimiter;

/// What an element of a table takes.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Core instances, memories and tables of one plugin. A language's whole runtime has about 40 instances.
pub(super) const INSTANCES_MAX: usize = 100;
pub(super) const MEMORIES_MAX: usize = 16;
pub(super) const TABLES_MAX: usize = 100;

/// Ends the call that is under way.
#[derive(Debug, thiserror::Error)]
#[error("the time of the call is up")]
pub(super) struct TimeIsUp;

/// Counts what all memories and tables of one store hold together.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: usize,
    bytes: usize,
    instances_max: usize,
    /// The plugin asked for more than it may have. If it breaks off, that is why.
    exhausted: bool,
}

impl Memory {
    pub fn new(bytes_max: usize, instances_max: usize) -> Self {
        Self { bytes_max, bytes: 0, instances_max, exhausted: false }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let bytes = self.bytes.saturating_add(bytes);
        self.exhausted |= bytes > self.bytes_max;
        if bytes > self.bytes_max {
            return false;
        }
        self.bytes = bytes;
        true
    }

    pub fn exhausted(&self) -> bool {
        self.exhausted
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together() {
        let mut memory = Memory::new(100, 1);
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.memory_growing(0, 40, None).unwrap());
        assert!(!memory.exhausted());
        assert!(!memory.memory_growing(40, 41, None).unwrap());
        assert!(memory.exhausted());
    }

    #[test]
    fn tables_count_as_memory() {
        let mut memory = Memory::new(100, 1);
        assert!(memory.table_growing(0, 10, None).unwrap());
        assert!(!memory.table_growing(10, 13, None).unwrap());
        assert!(memory.exhausted() && memory.memory_growing(0, 20, None).unwrap());
    }

    #[test]
    fn a_memory_that_limits_itself_is_not_exhausted() {
        let mut memory = Memory::new(100, 1);
        assert!(!memory.memory_growing(10, 20, Some(15)).unwrap());
        assert!(!memory.exhausted());
        assert!(memory.memory_growing(10, 100, None).unwrap());
    }
}
