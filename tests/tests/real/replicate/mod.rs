//! The worker: from the rows of the source and the relay's stream to the target.

mod bootstrap;
mod disk;
mod failover;
pub mod faults;
pub mod foreign;
mod input;
mod itself;
pub mod proxy;
pub mod setup;
mod standby;
pub mod writers;
