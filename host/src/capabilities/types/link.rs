//! What `bindgen!` makes of `types.wit`: one set of types for all capabilities and roles.

use crate::capabilities::capability::{Holds, View, Views};
use crate::capabilities::types::Types;

#[allow(unsafe_code, reason = "generated")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package pgshovel:host;

            world host {
                import pgshovel:plugin/types@0.1.0;
            }
        ",
    });
}

pub use generated::pgshovel::plugin::types as bindings;

impl bindings::Host for View<'_, Types> {}

pub(super) fn link<T: Holds<Types>>(linker: &mut wasmtime::component::Linker<T>) -> wasmtime::Result<()> {
    bindings::add_to_linker::<_, Views<Types>>(linker, T::view)
}
