//! What a plugin may do with Kafka: `kafka.wit` in Rust, served by librdkafka.
//!
//! Order and durability are not negotiable here: one partition, an idempotent
//! producer that waits for all in-sync replicas, a consumer that reports lost
//! messages instead of skipping them. No consumer group keeps an offset.

mod brokers;
mod client;
mod consumer;
mod failure;
mod grant;
mod link;
mod producer;
mod reports;
mod topic;

pub use brokers::Brokers;
pub use client::Place;
pub use consumer::{Consumer, Entries};
pub use failure::Failure;
pub use grant::Properties;
pub use link::Kafka;
pub use producer::Producer;
pub use topic::ensure_topic;
