//! What a plugin says: the interface `log`, standard output and standard error,
//! into the host's log, line by line and within bounds.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::printable::printable;

/// See `log.wit`.
const LINE_BYTES_MAX: usize = 8 << 10;
const LINES_PER_SECOND_MAX: u32 = 1000;
const BYTES_PER_SECOND_MAX: usize = 256 << 10;

/// What the log's formats put around a line.
const LINE_OVERHEAD_BYTES: usize = 200;

/// The log of one plugin of one section.
#[derive(Clone, Debug)]
pub(super) struct Log {
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

    /// A stream whose lines are logged at `level`.
    pub fn stream(&self, level: Level) -> Lines {
        Lines { log: self.clone(), level, partial: Arc::default() }
    }
}

/// What the current second had.
#[derive(Debug)]
pub(super) struct Rate {
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

/// Cuts a byte stream into lines. Clones share the line that is not complete yet.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    log: Log,
    level: Level,
    partial: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    fn take(&self, mut bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            append(&mut partial, line);
            self.emit(&mut partial);
            bytes = &rest[1..];
        }
        append(&mut partial, bytes);
    }

    fn emit(&self, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if !text.is_empty() {
            self.log.emit(self.level, text);
        }
        line.clear();
    }
}

/// Keeps one byte more than is shown, so that what is cut is seen to be cut.
fn append(partial: &mut Vec<u8>, bytes: &[u8]) {
    let room = (LINE_BYTES_MAX + 1).saturating_sub(partial.len());
    partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Drop for Lines {
    /// The last words of a plugin that breaks off often lack a newline.
    fn drop(&mut self) {
        if Arc::strong_count(&self.partial) == 1 {
            self.take(b"\n");
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Pollable for Lines {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
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

    #[test]
    fn bytes_become_lines() {
        let lines = Log::new("a.wasm", "target", Arc::default()).stream(Level::INFO);
        lines.take(b"one\ntw");
        assert_eq!(*lines.partial.lock().unwrap(), b"tw");
        lines.take(b"o\n");
        assert!(lines.partial.lock().unwrap().is_empty());
        lines.take(&vec![b'x'; 3 * LINE_BYTES_MAX]);
        assert_eq!(lines.partial.lock().unwrap().len(), LINE_BYTES_MAX + 1);
    }
}
