//! The plugin `postgresql`.
