//! What the host holds for one plugin, beside the plugin's own memory: bytes, and
//! handles to servers. Whatever grows at a plugin's will takes its share here first.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The least that a budget has: enough for a batch of a plugin that is small itself.
pub const BYTES_MIN: usize = 64 << 20;

/// Cheap to clone; clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    bytes: AtomicUsize,
    handles_max: usize,
    handles: AtomicUsize,
    /// Where the limits stand, for messages: ``section `target` of app.yaml``.
    place: String,
}

/// Why something is not held. The text names the limit and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded(String);

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Exceeded {}

impl Budget {
    /// `memory` is what the plugin itself may use: the host holds as much again for it,
    /// and [`BYTES_MIN`] where that is more.
    #[must_use]
    pub fn new(memory: usize, handles_max: usize, place: String) -> Self {
        let (bytes, handles) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { inner: Arc::new(Inner { bytes_max: memory.max(BYTES_MIN), bytes, handles_max, handles, place }) }
    }

    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.inner.bytes_max
    }

    /// What is taken at this moment.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.bytes.load(Ordering::Relaxed)
    }

    /// A share of nothing, to grow.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { of: Arc::clone(&self.inner), bytes: 0 }
    }

    pub fn take(&self, bytes: usize) -> Result<Share, Exceeded> {
        let mut share = self.share();
        share.grow(bytes)?;
        Ok(share)
    }

    /// One more connection or cursor.
    pub fn handle(&self) -> Result<Handle, Exceeded> {
        let Inner { handles, handles_max, place, .. } = &*self.inner;
        add(handles, 1, *handles_max).then(|| Handle { of: Arc::clone(&self.inner) }).ok_or_else(|| {
            Exceeded(format!(
                "the plugin holds {handles_max} connections to servers, which is the most it may; raise limits.connections in the {place} if \
                 it deserves more"
            ))
        })
    }
}

/// Bytes that are taken. Dropping it gives them back.
#[derive(Debug)]
pub struct Share {
    of: Arc<Inner>,
    bytes: usize,
}

impl Share {
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let Inner { bytes: taken, bytes_max, place, .. } = &*self.of;
        if !add(taken, bytes, *bytes_max) {
            let most = crate::printable::size(*bytes_max as u64);
            return Err(Exceeded(format!(
                "the host holds at most {most} for the plugin, and this needs more; raise limits.memory in the {place} if it deserves more"
            )));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.of.bytes.fetch_sub(surplus, Ordering::Relaxed);
        self.bytes -= surplus;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// A place for one handle. Dropping it gives it back.
#[derive(Debug)]
pub struct Handle {
    of: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.of.handles.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds, unless the sum would be more than `max`.
fn add(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    let sum = |now: usize| now.checked_add(amount).filter(|sum| *sum <= max);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(0, 2, "section `target` of app.yaml".into())
    }

    #[test]
    fn shares_are_given_back() {
        let budget = budget();
        let mut share = budget.take(BYTES_MIN - 1).unwrap();
        let error = budget.take(2).unwrap_err().to_string();
        assert_eq!(
            error,
            "the host holds at most 64MiB for the plugin, and this needs more; raise limits.memory in the section `target` of app.yaml if it \
             deserves more"
        );
        assert!(share.grow(usize::MAX).is_err());
        share.shrink(10);
        share.shrink(20);
        assert_eq!(budget.bytes(), 10);
        let other = budget.take(BYTES_MIN - 10).unwrap();
        drop(share);
        drop(other);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn handles_are_counted() {
        let budget = budget();
        let (first, _second) = (budget.handle().unwrap(), budget.handle().unwrap());
        assert!(budget.handle().unwrap_err().to_string().contains("holds 2 connections"), "the third is refused");
        drop(first);
        budget.handle().unwrap();
    }

    #[test]
    fn a_plugin_that_may_use_more_gets_more() {
        assert_eq!(Budget::new(1 << 30, 1, String::new()).bytes_max(), 1 << 30);
    }
}
