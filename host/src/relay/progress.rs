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
}

impl Progress {
    #[must_use]
    pub fn new(set: &str) -> Self {
        Self { status: Status::new("relay", set), said: None, begun: None }
    }

    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// A part of `batch` was handed to the stream.
    pub fn pushed(&mut self, batch: &Batch, mutations: u64, bytes: u64) {
        self.status.update(|facts| {
            facts.mutations += mutations;
            facts.bytes += bytes;
        });
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
        self.status.update(|facts| {
            facts.batches += 1;
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
            mutations = facts.mutations,
            bytes = facts.bytes,
            tick = batch.end.id,
            lag_seconds = Last::now(batch).lag_seconds,
            finished,
            "relayed"
        );
    }
}
