//! The interface `types`: what the other interfaces are made of. It has no functions.

pub mod convert;
mod link;

use super::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup};
use super::shared::Shared;
use crate::error::Result;

pub use link::bindings::*;

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
        link::link(linker)
    }

    fn state(_: &(), _: &Setup<'_>, _: &Shared) -> Result<()> {
        Ok(())
    }
}
