//! Whether those that are passed over are zombies.
//!
//! A relay that was superseded has at most the batch in hand that its successor
//! begins with: the queue lets it end none after that, so it never comes to another.
//! Publishers of lower epochs that commit a batch and begin the one after it hold the
//! queue. Then it is the stream's epochs that went back, and what is passed over
//! would be lost.

use super::state::{Frontier, Progress, is_after};
use super::{Batch, Id, Violation};
use crate::codec::{BatchIdentifier, Header, Operation};

/// The last batch of lower epochs that was not committed before.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence(Option<Ahead>);

#[derive(Clone, Debug)]
struct Ahead {
    publisher: Id,
    epoch: Option<u64>,
    batch: Batch,
    committed: bool,
}

impl Fence {
    /// Takes note of a message that is passed over, since its epoch is lower than `epoch`.
    pub(super) fn watch(
        &mut self,
        epoch: Option<u64>,
        header: &Header,
        batch: BatchIdentifier,
        operation: &Operation<'_>,
        progress: &Progress,
    ) -> Result<(), Violation> {
        match operation {
            Operation::Begin(begun) if is_beyond(begun, progress) => {
                self.check(begun, epoch, progress)?;
                let repeats = |ahead: &Ahead| ahead.committed && ahead.batch.node == begun.node && ahead.batch.end == begun.end;
                if !self.0.as_ref().is_some_and(repeats) {
                    let (publisher, epoch, batch) = (header.publisher, header.epoch, begun.as_ref().clone());
                    self.0 = Some(Ahead { publisher, epoch, batch, committed: false });
                }
            }
            Operation::Commit => {
                let own = |ahead: &&mut Ahead| {
                    ahead.publisher == header.publisher && ahead.batch.id == batch.id && ahead.batch.node == batch.node
                };
                if let Some(ahead) = self.0.as_mut().filter(own) {
                    ahead.committed = true;
                }
            }
            Operation::Begin(_) | Operation::Mutation(_) | Operation::Rollback => {}
        }
        Ok(())
    }

    /// Refuses `batch`, of whatever epoch, if what comes just before it was passed over.
    /// `epoch` is the highest so far.
    pub(super) fn check(&self, batch: &Batch, epoch: Option<u64>, progress: &Progress) -> Result<(), Violation> {
        match &self.0 {
            Some(ahead) if ahead.committed && precedes(&ahead.batch, batch) && is_beyond(&ahead.batch, progress) => {
                Err(Violation::EpochFell {
                    start: ahead.batch.start.id,
                    end: ahead.batch.end.id,
                    from: epoch.unwrap_or(0),
                    to: ahead.epoch.unwrap_or(0),
                })
            }
            _ => Ok(()),
        }
    }
}

fn precedes(batch: &Batch, next: &Batch) -> bool {
    batch.node == next.node && batch.end.id == next.start.id && batch.end.timestamp == next.start.timestamp
}

/// Whether the batch is neither committed nor older than what is.
fn is_beyond(batch: &Batch, progress: &Progress) -> bool {
    let same_node = progress.node == Some(batch.node);
    match progress.frontier {
        Frontier::Unknown => true,
        Frontier::Batch(id) => !same_node || id != batch.id,
        Frontier::Tick { id, made } => (same_node && batch.end.id > id) || made.is_some_and(|made| is_after(&batch.end.timestamp, &made)),
    }
}
