//! The interfaces of `wasi:sockets`.

use std::fmt;

use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::bindings::sockets::{instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};

use super::Sockets;
use crate::capabilities::capability::{Holds, Linked, Linker, View};

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

pub(super) fn link<T: Holds<Sockets>>(linker: &mut Linker<T>) -> Linked {
    instance_network::add_to_linker::<T, WasiSockets>(linker, view)?;
    ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, view)?;
    network::add_to_linker::<T, WasiSockets>(linker, &network::LinkOptions::default(), view)?;
    tcp::add_to_linker::<T, WasiSockets>(linker, view)?;
    tcp_create_socket::add_to_linker::<T, WasiSockets>(linker, view)?;
    udp::add_to_linker::<T, WasiSockets>(linker, view)?;
    udp_create_socket::add_to_linker::<T, WasiSockets>(linker, view)
}

fn view<T: Holds<Sockets>>(store: &mut T) -> WasiSocketsCtxView<'_> {
    let View { state, shared } = store.view();
    WasiSocketsCtxView { ctx: state.0.sockets(), table: &mut shared.table }
}
