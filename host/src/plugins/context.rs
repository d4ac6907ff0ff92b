//! Where a plugin runs.

/// Where a plugin runs; it is told so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub cluster: String,
    pub set: String,
}
