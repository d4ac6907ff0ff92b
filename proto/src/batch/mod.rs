//! The grammar of a stream: `batch = Begin Mutation* (Commit | Rollback)`.
//!
//! [`publisher`] is its sending half, [`step`] its receiving half. Both are pure:
//! what happened goes in, what to do about it comes out.

use std::fmt;

use crate::interfaces::common::{Source, Tick};

pub mod bootstrap;
mod fence;
mod layout;
pub mod publisher;
mod relations;
mod state;
pub mod step;
pub mod version;
mod violation;

pub use violation::Violation;

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
    /// Whose batch it is. `None` in a batch of pgshovel 2015.
    pub source: Option<Source>,
}

/// An [`Id`] in the usual text form of a UUID.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub Id);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
