//! The interfaces of `wasi:sockets`.

use std::fmt;

use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::bindings::sockets::{instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};

use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View};
use crate::capabilities::shared::Shared;
use crate::error::Result;

/// What a plugin can reach.
pub struct Network(WasiCtx);

impl Network {
    /// Nothing.
    pub(super) fn closed() -> Self {
        Self(WasiCtx::builder().allow_tcp(false).allow_udp(false).build())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

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
    type State = Network;

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        instance_network::add_to_linker::<T, WasiSockets>(linker, view)?;
        ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, view)?;
        network::add_to_linker::<T, WasiSockets>(linker, &network::LinkOptions::default(), view)?;
        tcp::add_to_linker::<T, WasiSockets>(linker, view)?;
        tcp_create_socket::add_to_linker::<T, WasiSockets>(linker, view)?;
        udp::add_to_linker::<T, WasiSockets>(linker, view)?;
        udp_create_socket::add_to_linker::<T, WasiSockets>(linker, view)
    }

    fn state(_: &(), _: &Setup<'_>, _: &Shared) -> Result<Self::State> {
        Ok(Network::closed())
    }
}

fn view<T: Holds<Sockets>>(store: &mut T) -> WasiSocketsCtxView<'_> {
    let View { state, shared } = store.view();
    WasiSocketsCtxView { ctx: state.0.sockets(), table: &mut shared.table }
}
