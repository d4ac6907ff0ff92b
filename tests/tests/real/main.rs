//! The real program against real servers: PostgreSQL with PgQ, ZooKeeper, Kafka.
//! One binary, a module per area. See `tests::harness`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod queue;
mod servers;
mod store;
