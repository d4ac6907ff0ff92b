//! What a plugin says: the interface `log`, standard output and standard error,
//! into the host's log, line by line and within bounds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use crate::printable::printable;

/// See `log.wit`.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 10;
const LINES_PER_SECOND_MAX: u32 = 1000;
const BYTES_PER_SECOND_MAX: usize = 256 << 10;

/// What the log's formats put around a line.
const LINE_OVERHEAD_BYTES: usize = 200;

/// The log of one plugin of one section.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    plugin: String,
    section: String,
    rate: Arc<Mutex<Rate>>,
}

impl Log {
    /// `rate` is that of the section: what is started anew goes on counting.
    pub fn new(plugin: &str, section: &str, rate: Arc<Mutex<Rate>>) -> Self {
        Self { inner: Arc::new(Inner { plugin: plugin.to_owned(), section: section.to_owned(), rate }) }
    }

    pub fn emit(&self, level: Level, message: &str) {
        let Inner { plugin, section, rate } = &*self.inner;
        let message = printable(message, LINE_BYTES_MAX);
        // JSON escapes these once more.
        let escaped = message.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        let bytes = message.len() + escaped + LINE_OVERHEAD_BYTES;
        // A poisoned counter is still a counter.
        let (admitted, dropped) = rate.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now(), bytes);
        if dropped > 0 {
            tracing::warn!(
                target: "pgshovel::plugin", plugin, section, dropped,
                "the plugin logs more than {LINES_PER_SECOND_MAX} lines or {} KiB a second", BYTES_PER_SECOND_MAX >> 10
            );
        }
        if !admitted {
            return;
        }
        match level {
            Level::ERROR => tracing::error!(target: "pgshovel::plugin", plugin, section, "{message}"),
            Level::WARN => tracing::warn!(target: "pgshovel::plugin", plugin, section, "{message}"),
            Level::INFO => tracing::info!(target: "pgshovel::plugin", plugin, section, "{message}"),
            _ => tracing::debug!(target: "pgshovel::plugin", plugin, section, "{message}"),
        }
    }
}

/// What the current second had.
#[derive(Debug)]
pub struct Rate {
    since: Instant,
    lines: u32,
    bytes: usize,
    dropped: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { since: Instant::now(), lines: 0, bytes: 0, dropped: 0 }
    }
}

impl Rate {
    /// Whether one more line may pass, and how many did not in the second before.
    fn admit(&mut self, now: Instant, bytes: usize) -> (bool, u64) {
        let mut dropped = 0;
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            dropped = self.dropped;
            *self = Self { since: now, ..Self::default() };
        }
        let admitted = self.lines < LINES_PER_SECOND_MAX && self.bytes + bytes <= BYTES_PER_SECOND_MAX;
        if admitted {
            self.lines += 1;
            self.bytes += bytes;
        } else {
            self.dropped += 1;
        }
        (admitted, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut rate = Rate { since: start, ..Rate::default() };
        let admitted = (0..LINES_PER_SECOND_MAX + 5).filter(|_| rate.admit(start, 1).0).count();
        assert_eq!(admitted, LINES_PER_SECOND_MAX as usize);
        assert_eq!(rate.admit(start + Duration::from_secs(1), 1), (true, 5));
        assert_eq!(rate.admit(start + Duration::from_secs(3), 1), (true, 0));
        let admitted = (0..LINES_PER_SECOND_MAX).filter(|_| rate.admit(start + Duration::from_secs(5), LINE_BYTES_MAX).0).count();
        assert_eq!(admitted, BYTES_PER_SECOND_MAX / LINE_BYTES_MAX);
    }
}
