//! The receiving end of a [`Log`].

use std::sync::Arc;
use std::time::Duration;

use super::faults::Faults;
use super::log::Log;
use crate::error::{Code, Error, Result};
use crate::ports::{self, Entries};

/// A position is the index of a message, eight bytes big-endian.
#[derive(Debug)]
pub struct Stream {
    log: Arc<Log>,
    faults: Arc<Faults>,
    next: usize,
}

impl Stream {
    #[must_use]
    pub fn new(log: Arc<Log>, faults: Arc<Faults>) -> Self {
        Self { log, faults, next: 0 }
    }

    fn take(&mut self, max: u32) -> Entries {
        let first = self.next;
        let messages = self.log.read(first, max as usize);
        self.next += messages.len();
        let mut entries = Entries::default();
        for (index, message) in messages.iter().enumerate() {
            entries.add(&((first + index) as u64).to_be_bytes(), message);
        }
        entries
    }
}

fn index(position: &[u8], length: usize) -> Result<usize> {
    let index = position.try_into().ok().and_then(|bytes| usize::try_from(u64::from_be_bytes(bytes)).ok());
    index.filter(|index| *index < length).ok_or_else(|| Error::stop(Code::StreamRefused, "the position is not one of this log"))
}

impl ports::Stream for Stream {
    async fn seek(&mut self, after: Option<&[u8]>) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults
            .around("stream.seek", || {
                self.next = after.map_or(Ok(0), |position| index(position, self.log.len()).map(|index| index + 1))?;
                Ok(())
            })
            .await
    }

    async fn next(&mut self, max_messages: u32, max_wait: Duration) -> Result<Entries> {
        // An empty answer is what a timeout gives, so it is no error.
        let _ = tokio::time::timeout(max_wait, self.log.wait(self.next)).await;
        let faults = Arc::clone(&self.faults);
        faults.around("stream.next", || Ok(self.take(max_messages))).await
    }
}
