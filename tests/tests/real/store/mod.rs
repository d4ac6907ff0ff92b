//! The plugin `postgresql` and the capabilities it stands on.

mod apply;
mod native;
mod origin;
mod random;
mod speed;
