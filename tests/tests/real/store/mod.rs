//! The plugin `postgresql` and the capabilities it stands on.

mod apply;
mod captured;
mod connection;
mod load;
pub mod native;
mod origin;
mod random;
mod speed;
