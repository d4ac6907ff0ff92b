//! What a relay has done so far, for people and for programs that read the log.

use proto::batch::Batch;
use tokio::time::Instant;

use crate::observe::{Last, SAID_EVERY, Status};

/// Writes the counts of the relay's [`Status`], and says them.
#[derive(Debug)]
pub struct Progress {
    status: Status,
    said: Option<Instant>,
    /// The batch under way: its last tick, and since when.
    begun: Option<(u64, Instant)>,
    /// What the stream was handed of it by this attempt: it counts once all is relayed.
    mutations: u64,
    bytes: u64,
}

impl Progress {
    #[must_use]
    pub fn new(set: &str) -> Self {
        Self { status: Status::new("relay", set), said: None, begun: None, mutations: 0, bytes: 0 }
    }

    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// A batch is sent from its beginning.
    pub fn begin(&mut self) {
        (self.mutations, self.bytes) = (0, 0);
    }

    /// A part of `batch` was handed to the stream.
    pub fn pushed(&mut self, batch: &Batch, mutations: u64, bytes: u64) {
        self.mutations += mutations;
        self.bytes += bytes;
        let (_, since) = *match &mut self.begun {
            Some(begun) if begun.0 == batch.end.id => begun,
            other => other.insert((batch.end.id, Instant::now())),
        };
        // One that is soon over is better said to be finished.
        if since.elapsed() >= SAID_EVERY {
            self.say(batch, false);
        }
    }

    /// `batch` is durable in the stream and finished in the queue.
    pub fn finished(&mut self, batch: &Batch) {
        let (mutations, bytes) = (std::mem::take(&mut self.mutations), std::mem::take(&mut self.bytes));
        self.status.update(|facts| {
            facts.batches += 1;
            facts.mutations += mutations;
            facts.bytes += bytes;
            facts.attempts = 0;
            facts.last = Some(Last::now(batch));
        });
        self.say(batch, true);
    }

    #[must_use]
    pub fn batches(&self) -> u64 {
        self.status.update(|facts| facts.batches)
    }

    /// The relay ends, for whatever reason.
    pub fn ended(&self) {
        let facts = self.status.facts();
        tracing::info!(set = %facts.set, batches = facts.batches, mutations = facts.mutations, bytes = facts.bytes, "ended");
    }

    fn say(&mut self, batch: &Batch, finished: bool) {
        if self.said.is_some_and(|said| said.elapsed() < SAID_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        let facts = self.status.facts();
        tracing::info!(
            set = %facts.set,
            batches = facts.batches,
            mutations = facts.mutations + self.mutations,
            bytes = facts.bytes + self.bytes,
            tick = batch.end.id,
            lag_seconds = Last::now(batch).lag_seconds,
            finished,
            "relayed"
        );
    }
}

#[cfg(test)]
mod tests {
    use proto::interfaces::common::{Snapshot, Tick, Timestamp};

    use super::*;

    /// Before, what a stream refused counted at each attempt.
    #[tokio::test]
    async fn a_batch_counts_once_however_often_it_is_sent() {
        let tick =
            |id| Tick { id, snapshot: Snapshot { min: 1, max: 1, active: Vec::new() }, timestamp: Timestamp { seconds: 1, nanos: 0 } };
        let batch = Batch { id: 1, node: [7; 16], start: tick(1), end: tick(2), source: None };
        let mut progress = Progress::new("app");
        for _ in 0..5 {
            progress.begin();
            progress.pushed(&batch, 10, 100);
        }
        let counts = |progress: &Progress| progress.status().update(|facts| (facts.batches, facts.mutations, facts.bytes));
        assert_eq!(counts(&progress), (0, 0, 0));
        progress.pushed(&batch, 5, 50);
        progress.finished(&batch);
        assert_eq!(counts(&progress), (1, 15, 150));
    }
}
