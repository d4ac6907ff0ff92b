//! Catching up: from the rows of a bootstrap to the stream, without gap or duplicate.
//!
//! The loaded rows are what snapshot S sees, so a mutation is applied exactly
//! when S does not see its transaction. That is complete only if the stream
//! begins inside S, and over once no transaction that S sees can still come:
//! PgQ puts a transaction into a batch by the ticks' snapshots alone.

use super::{Batch, Id, Uuid, Violation};
use crate::interfaces::common::Snapshot;
use crate::snapshot;

/// The filter between the end of the bootstrap and the end of catching up.
#[derive(Clone, Debug, PartialEq)]
pub struct CatchUp {
    /// The database that the rows were loaded from.
    pub node: Id,
    /// S: what the loaded rows contain.
    pub snapshot: Snapshot,
}

impl CatchUp {
    /// Whether the loaded rows contain what the transaction did.
    #[must_use]
    pub fn contains(&self, transaction: u64) -> bool {
        snapshot::visible(&self.snapshot, transaction)
    }

    /// Whether the loaded rows contain all of this batch and of those before it.
    #[must_use]
    pub fn contains_batch(&self, batch: &Batch) -> bool {
        batch.node == self.node && snapshot::contains(&self.snapshot, &batch.end.snapshot)
    }

    /// Whether every transaction of this batch and of those after it came after S.
    #[must_use]
    pub fn is_over(&self, batch: &Batch) -> bool {
        batch.node == self.node && batch.start.snapshot.min >= self.snapshot.max
    }

    /// Whether all that the loaded rows contain is visible in `later`.
    #[must_use]
    pub fn is_seen_by(&self, later: &Snapshot) -> bool {
        snapshot::contains(later, &self.snapshot)
    }

    /// Whether nothing is missing between the loaded rows and `first`, the first
    /// batch that is consumed: all that came before it must be visible in S.
    pub fn covers(&self, first: &Batch) -> Result<(), Violation> {
        if snapshot::contains(&self.snapshot, &first.start.snapshot) {
            return Ok(());
        }
        Err(Violation::Uncovered {
            node: Uuid(first.node),
            tick: first.start.id,
            starts: snapshot::print(&first.start.snapshot),
            loaded: snapshot::print(&self.snapshot),
        })
    }
}
