//! Private servers: each on ports of its own, in one folder of their own, and
//! none of them outlives the program that started it.

pub mod certificates;
mod command;
mod fleet;
pub mod kafka;
pub mod pgbouncer;
pub mod pgqd;
pub mod port;
pub mod postgres;
pub mod process;
pub mod zookeeper;

pub use certificates::{Certificate, Wanted};
pub use fleet::Fleet;
pub use kafka::Kafka;
pub use pgbouncer::Pgbouncer;
pub use pgqd::Pgqd;
pub use postgres::Postgres;
pub use process::Process;
pub use zookeeper::ZooKeeper;
