//! Writers, streams, loaders, targets and transforms as WebAssembly components.
//! What they import is linked by `capabilities`; all else of wasmtime is used here only.
//!
//! A section of the configuration becomes an adapter that implements a port:
//! [`writer::open`], [`stream::open`], [`loader::open`], [`target::open`],
//! [`transform::open`]. Whatever is wrong with the component is found before any
//! of its code runs, and is an error of the configuration. Once it runs: what a
//! plugin returns as `retry` or `stop` is that; when it traps, uses up its memory
//! or its time, its instance is gone and the error is `Trap`: open it again.

mod accept;
mod bindings;
mod cache;
mod context;
mod cost;
mod engine;
mod examine;
mod limits;
mod load;
mod locate;
mod roles;
mod session;
mod state;
mod store;

pub use crate::capabilities::role::Role;
pub use accept::offered;
pub use context::Context;
pub use engine::{Engine, Options};
pub use examine::{Examination, Interface, NoComponent, examine, hex};
pub use load::{check, read};
pub use locate::locate;
pub use roles::{loader, stream, target, transform, writer};

#[cfg(test)]
mod tests;
