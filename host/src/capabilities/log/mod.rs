//! The capability `log`: what a plugin says goes to the host's log. See `wit/log.wit`,
//! which is its contract.

mod link;

use super::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup};
use super::shared::Shared;
use crate::error::Result;

/// The capability.
#[derive(Debug)]
pub struct Logs;

impl Capability for Logs {
    const NAME: &'static str = "log";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::own(&["log"])];
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
