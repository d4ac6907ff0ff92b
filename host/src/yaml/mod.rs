//! YAML values that know where they stand in their file, so that each mistake is told
//! with its line, its field and what to write instead. The only user of `serde_yaml`.

pub mod expand;
pub mod field;
pub mod position;

pub use expand::{Sources, expand_dsn};
pub use field::{Field, Problem, Step, join};
pub use serde_yaml::{Error, Value, from_str};
