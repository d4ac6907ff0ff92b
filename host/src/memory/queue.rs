//! The queue of a [`Source`], as its one consumer sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proto::batch::Batch;
use proto::row::Mutation;

use super::faults::Faults;
use super::source::Source;
use crate::error::{Code, Error, Result};
use crate::ports;

/// Small, so that a batch takes several calls.
const CHUNK: usize = 3;

/// How soon a tick is noticed.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Queue {
    source: Arc<Source>,
    faults: Arc<Faults>,
    place: String,
    epoch: u64,
    /// PgQ's id for the open batch.
    id: u64,
    /// What is still to be read, and of which batch.
    reading: Option<(u64, VecDeque<Mutation>)>,
}

impl Queue {
    /// Takes the queue under an epoch of at least `epoch_min`, if `leads` says so: a queue that
    /// was opened before, and whose process may not know of its end yet, reads and finishes
    /// nothing any more. `id` is PgQ's for the batch that is open or comes next: after a crash
    /// it may be another one for the same batch.
    pub async fn open(
        source: Arc<Source>,
        faults: Arc<Faults>,
        place: &str,
        id: u64,
        epoch_min: u64,
        leads: impl Future<Output = bool>,
    ) -> Result<Self> {
        let holder = faults.around("queue.holder", || source.holder(place)).await?;
        if !leads.await {
            return Err(Error::retry(Code::LeadershipLost, "leadership of the set was lost before the queue was opened"));
        }
        let take = || {
            source.check_place(place)?;
            let taken = source.take(holder, epoch_min);
            taken.ok_or_else(|| Error::retry(Code::QueueTaken, "another relay took the queue at the same time"))
        };
        let epoch = faults.around("queue.take", take).await?;
        Ok(Self { source, faults, place: place.to_owned(), epoch, id, reading: None })
    }

    fn check_epoch(&self) -> Result<()> {
        self.source.check_place(&self.place)?;
        if self.source.is_taken(self.epoch) { Ok(()) } else { Err(Error::retry(Code::QueueTaken, "another relay has taken the queue")) }
    }

    fn take(&mut self, batch: &Batch) -> Vec<Mutation> {
        let open = self.reading.take().filter(|(id, _)| *id == batch.id);
        let (_, mut rest) = open.unwrap_or_else(|| (batch.id, self.source.events(batch).into()));
        let chunk: Vec<Mutation> = rest.drain(..CHUNK.min(rest.len())).collect();
        if !chunk.is_empty() {
            self.reading = Some((batch.id, rest));
        }
        chunk
    }
}

impl ports::Queue for Queue {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        self.faults.around("queue.next", || self.check_epoch().map(|()| self.source.batch(self.id))).await
    }

    async fn wait(&mut self, at_most: Duration) -> Result<()> {
        tokio::time::sleep(at_most.min(POLL)).await;
        self.faults.around("queue.wait", || Ok(())).await
    }

    async fn read(&mut self, batch: &Batch) -> Result<Vec<Mutation>> {
        let faults = Arc::clone(&self.faults);
        faults.around("queue.read", || self.check_epoch().map(|()| self.take(batch))).await
    }

    async fn finish(&mut self, batch: &Batch) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        let finish = || {
            self.check_epoch()?;
            if !self.source.finish(batch) {
                return Err(Error::stop(Code::BatchEnded, "the batch was ended by somebody else"));
            }
            self.id += 1;
            self.reading = None;
            Ok(())
        };
        faults.around("queue.finish", finish).await
    }
}
