//! The plugin `kafka`.
