//! The real program against real servers: PostgreSQL with PgQ, ZooKeeper, Kafka.
//! One binary, a module per area. See `tests::harness`.

mod queue;
mod servers;
