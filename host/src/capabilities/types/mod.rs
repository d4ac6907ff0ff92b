//! The interface `types`: what the other interfaces are made of. It has no functions.

pub mod convert;
mod link;

pub use link::Types;
pub use link::bindings::*;
