//! A log of messages: what a stream keeps.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Messages in the order in which they became durable.
#[derive(Debug, Default)]
pub struct Log {
    messages: Mutex<Vec<Bytes>>,
    grown: Notify,
}

impl Log {
    /// Durable, and seen by readers, on return.
    pub fn append(&self, messages: impl IntoIterator<Item = Bytes>) {
        self.lock().extend(messages);
        self.grown.notify_waiters();
    }

    /// Up to `max` messages from index `from` on.
    #[must_use]
    pub fn read(&self, from: usize, max: usize) -> Vec<Bytes> {
        self.lock().iter().skip(from).take(max).cloned().collect()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when there is a message at index `at`.
    pub async fn wait(&self, at: usize) {
        loop {
            let mut grown = std::pin::pin!(self.grown.notified());
            // Before the check, or an append between the two would be missed.
            grown.as_mut().enable();
            if self.len() > at {
                return;
            }
            grown.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
