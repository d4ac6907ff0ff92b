//! The worker: from the rows of the source and the relay's stream to the target.

mod bootstrap;
mod disk;
mod faults;
mod foreign;
mod input;
mod proxy;
mod setup;
mod writers;
