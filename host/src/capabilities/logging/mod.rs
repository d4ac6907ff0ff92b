//! The capability `logging`: `wasi:logging`, for plugins whose language logs by it. What it
//! is told goes where the interface `log` goes, within the same bounds.

mod link;

pub use link::Logging;
