//! The grammar of a stream: `batch = Begin Mutation* (Commit | Rollback)`.

use crate::interfaces::common::Tick;

/// The UUID of a database, or of a publisher.
pub type Id = [u8; 16];

/// One PgQ batch: the events between two ticks of one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// PgQ's batch id; see `BatchIdentifier.id` for what it is not.
    pub id: u64,
    pub node: Id,
    pub start: Tick,
    pub end: Tick,
}
