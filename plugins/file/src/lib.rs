//! The plugin `file`.
