//! The grammar of a stream: `batch = Begin Mutation* (Commit | Rollback)`.
//!
//! [`publisher`] is its sending half, [`step`] its receiving half. Both are pure:
//! what happened goes in, what to do about it comes out.

use crate::interfaces::common::{Source, Tick};

pub mod bootstrap;
mod fence;
mod identity;
mod layout;
pub mod publisher;
mod refusal;
mod relations;
mod state;
pub mod step;
pub mod version;
mod violation;

pub use identity::{Id, Uuid};
pub use violation::Violation;

/// One PgQ batch: the events between two ticks of one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// PgQ's batch id; see `BatchIdentifier.id` for what it is not.
    pub id: u64,
    pub node: Id,
    pub start: Tick,
    pub end: Tick,
    /// Whose batch it is. `None` in a batch of pgshovel 2015.
    pub source: Option<Source>,
}
