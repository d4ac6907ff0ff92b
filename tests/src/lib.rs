//! Real servers on loopback, and what tests of the real `pgshovel` need of them.
//! The demo and the benchmarks start the same servers.

pub mod chaos;
pub mod compare;
pub mod figures;
pub mod harness;
pub mod matrix;
pub mod paths;
pub mod screen;
pub mod servers;
pub mod stage;
