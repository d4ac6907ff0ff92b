//! A relay that dies as often as it can: it writes messages that the worker must
//! understand whatever happened to their sender.

use std::sync::Arc;

use bytes::Bytes;
use pgshovel::memory::{Log, Source};
use proto::batch::Batch;
use proto::batch::publisher::Publisher;
use proto::interfaces::common::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NOW: Timestamp = Timestamp { seconds: 1_000_000_000, nanos: 0 };

pub struct Relay {
    source: Arc<Source>,
    log: Arc<Log>,
    random: StdRng,
    incarnations: u64,
    batches: u64,
    /// Messages that a dead publisher's broker still has in hand.
    late: Vec<Bytes>,
    /// Deaths in a thousand, at each point where it may die.
    pub deaths: u32,
}

impl Relay {
    pub fn new(source: Arc<Source>, log: Arc<Log>, seed: u64) -> Self {
        Self { source, log, random: StdRng::seed_from_u64(seed), incarnations: 0, batches: 0, late: Vec::new(), deaths: 150 }
    }

    /// One incarnation: publishes until there is nothing more, or it dies.
    pub async fn live(&mut self) {
        self.incarnations += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.incarnations.to_be_bytes());
        let mut publisher = Publisher::new(id, self.incarnations);
        // A batch id that nobody finished is another one after a restart.
        self.batches += self.random.random_range(1..3);
        while let Some(batch) = self.source.batch(self.batches) {
            if self.publish(&mut publisher, &batch).await.is_none() {
                return;
            }
            self.batches += 1;
        }
    }

    fn dies(&mut self) -> Option<()> {
        (self.random.random_range(0..1000) >= self.deaths).then_some(())
    }

    async fn publish(&mut self, publisher: &mut Publisher, batch: &Batch) -> Option<()> {
        if self.random.random_range(0..10) == 0 {
            self.attempt(publisher, batch, false).await?;
        }
        self.attempt(publisher, batch, true).await?;
        self.dies()?;
        assert!(self.source.finish(batch), "another relay finished the batch");
        Some(())
    }

    /// Sends the batch, or a part of it and a rollback.
    async fn attempt(&mut self, publisher: &mut Publisher, batch: &Batch, commit: bool) -> Option<()> {
        let mut events = self.source.events(batch);
        if !commit {
            events.truncate(self.random.random_range(0..=events.len()));
        }
        let mut messages = vec![publisher.begin(batch, NOW).unwrap()];
        messages.extend(events.iter().map(|event| publisher.mutation(event, NOW).unwrap()));
        messages.push(if commit { publisher.commit(NOW) } else { publisher.rollback(NOW) }.unwrap());
        while !messages.is_empty() {
            tokio::task::yield_now().await;
            let part = self.random.random_range(1..=messages.len());
            let rest = messages.split_off(part);
            if self.dies().is_none() {
                // Of what was sent some arrives, and some of that later.
                let arrives = self.random.random_range(0..=messages.len());
                self.late = messages.split_off(arrives);
                self.log.append(messages);
                return None;
            }
            self.log.append(messages.iter().cloned());
            if self.random.random_range(0..10) == 0 {
                // The answer was lost, and the client sent it once more.
                self.log.append(messages);
            }
            if self.random.random_range(0..4) == 0 {
                self.log.append(std::mem::take(&mut self.late));
            }
            messages = rest;
        }
        Some(())
    }
}
