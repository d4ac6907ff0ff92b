//! One adapter per role: a port of the host on one side, a component on the other.

pub mod loader;
pub mod stream;
pub mod target;
pub mod transform;
pub mod writer;

use crate::capabilities::types;
use proto::batch::Batch;

fn to_batch(batch: &Batch) -> types::Batch {
    let node = uuid::Uuid::from_bytes(batch.node).to_string();
    types::Batch { node, start_tick: batch.start.id, end_tick: batch.end.id }
}

/// How a rejected row is named when nothing more is known of it.
fn by_index(index: u32) -> String {
    format!("row {index}")
}
