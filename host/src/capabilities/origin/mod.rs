//! The capability `origin`: the set's own database as of one exported snapshot. See
//! `wit/origin.wit`, which is its contract.

mod catalog;
mod copy;
mod cursor;
mod held;
mod link;
mod snapshot;
mod source;

pub use cursor::Cursor;
pub use link::Origin;
pub use snapshot::{Snapshot, State};
pub use source::Table;
