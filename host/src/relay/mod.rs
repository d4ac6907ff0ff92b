//! Publishes a set's changes: one of the program's two loops, and what keeps it
//! running.

pub mod progress;
pub mod run;
pub mod supervise;
