//! Publishes a set's changes: one of the program's two loops, and what it opens.

pub mod progress;
pub mod run;
mod work;

pub use work::{Assignment, Relay};
