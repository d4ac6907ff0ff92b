//! The plugin `postgresql` and the capabilities it stands on.

mod apply;
mod connection;
mod native;
mod origin;
mod random;
mod speed;
