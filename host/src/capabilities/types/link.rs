//! What `bindgen!` makes of `types.wit`: one set of types for all capabilities and roles.

use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View, Views};
use crate::capabilities::shared::Shared;
use crate::error::Result;

#[allow(unsafe_code, reason = "generated")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package pgshovel:host;

            world host {
                import pgshovel:plugin/types@0.2.0;
            }
        ",
    });
}

pub use generated::pgshovel::plugin::types as bindings;

impl bindings::Host for View<'_, Types> {}

/// The capability.
#[derive(Debug)]
pub struct Types;

impl Capability for Types {
    const NAME: &'static str = "types";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::own(&["types"])];
    const ACCESS: Access = Access::Free;
    type Grant = ();
    type State = ();

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        bindings::add_to_linker::<_, Views<Types>>(linker, T::view)
    }

    fn state(_: &(), _: &Setup<'_>, _: &Shared) -> Result<()> {
        Ok(())
    }
}
