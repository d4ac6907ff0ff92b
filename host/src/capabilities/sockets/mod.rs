//! The capability `sockets`: `wasi:sockets` as language runtimes import it. No address can
//! be reached, and no name is looked up.

mod link;

use super::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup};
use super::shared::Shared;
use crate::error::Result;

/// The capability.
#[derive(Debug)]
pub struct Sockets;

impl Capability for Sockets {
    const NAME: &'static str = "sockets";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::wasi(
        "wasi:sockets",
        &["instance-network", "ip-name-lookup", "network", "tcp", "tcp-create-socket", "udp", "udp-create-socket"],
    )];
    const ACCESS: Access = Access::Hollow { finds: "no address can be reached" };
    type Grant = ();
    type State = link::Network;

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        link::link(linker)
    }

    fn state(_: &(), _: &Setup<'_>, _: &Shared) -> Result<Self::State> {
        Ok(link::Network::closed())
    }
}
