//! One adapter per role: a port of the host on one side, a component on the other.

pub mod loader;
pub mod stream;
pub mod target;
pub mod transform;
pub mod writer;

use crate::capabilities::types;
use crate::error::Rejected;
use proto::batch::Batch;

fn to_batch(batch: &Batch) -> types::Batch {
    let node = uuid::Uuid::from_bytes(batch.node).to_string();
    types::Batch { node, start_tick: batch.start.id, end_tick: batch.end.id }
}

/// The mutation at an index, by its table and event.
fn mutation(index: u32, relations: &[types::Relation], mutations: &[types::Mutation]) -> Option<Rejected> {
    let mutation = mutations.get(index as usize)?;
    // As the host numbered them.
    let relation = relations.get(mutation.relation as usize)?;
    let (schema, table) = (relation.schema.clone(), relation.table.clone());
    Some(match mutation.id {
        // A row of a bootstrap, which no event made.
        0 => Rejected::Row { schema, table },
        id => Rejected::Event { id, schema, table },
    })
}
