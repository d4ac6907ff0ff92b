//! The real program against real servers: PostgreSQL with PgQ, ZooKeeper, Kafka.
//! One binary, a module per area. See `tests::harness`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod admin;
mod chaos;
mod forge;
mod languages;
mod leadership;
mod order;
mod pgbench;
mod pgqd;
mod pools;
mod queue;
mod relay;
mod replicate;
mod security;
mod servers;
mod store;
mod streams;
mod types;

/// The batch between two ticks of a node that all tests share.
fn batch(start: u64) -> proto::batch::Batch {
    use proto::interfaces::common::{Snapshot, Tick, Timestamp};
    let tick = |id| Tick { id, snapshot: Snapshot { min: id, max: id, active: vec![] }, timestamp: Timestamp { seconds: 0, nanos: 0 } };
    proto::batch::Batch { id: start, node: [7; 16], start: tick(start), end: tick(start + 1), source: None }
}
