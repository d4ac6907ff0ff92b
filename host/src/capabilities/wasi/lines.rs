//! Standard output and standard error of a plugin, which become lines of the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::capabilities::output::{LINE_BYTES_MAX, Log};

/// Cuts a byte stream into lines. Clones share the line that is not complete yet.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    log: Log,
    level: Level,
    partial: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    /// A stream whose lines are logged at `level`.
    pub fn new(log: &Log, level: Level) -> Self {
        Self { log: log.clone(), level, partial: Arc::default() }
    }

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
    fn bytes_become_lines() {
        let lines = Lines::new(&Log::new("a.wasm", "target", Arc::default()), Level::INFO);
        lines.take(b"one\ntw");
        assert_eq!(*lines.partial.lock().unwrap(), b"tw");
        lines.take(b"o\n");
        assert!(lines.partial.lock().unwrap().is_empty());
        lines.take(&vec![b'x'; 3 * LINE_BYTES_MAX]);
        assert_eq!(lines.partial.lock().unwrap().len(), LINE_BYTES_MAX + 1);
    }
}
