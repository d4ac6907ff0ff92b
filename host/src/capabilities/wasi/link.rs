//! The interfaces of `wasi:io`, `wasi:clocks`, `wasi:random` and `wasi:cli`.

use std::fmt;

use tracing::Level;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::p2::bindings::{cli, clocks, io, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};

use super::lines::Lines;
use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View};
use crate::capabilities::output::Log;
use crate::capabilities::shared::Shared;
use crate::error::Result;

/// What a plugin sees of the process.
pub struct Surroundings(WasiCtx);

impl Surroundings {
    pub(super) fn new(log: &Log) -> Self {
        let mut wasi = WasiCtx::builder();
        wasi.stdout(Lines::new(log, Level::INFO)).stderr(Lines::new(log, Level::WARN));
        Self(wasi.build())
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings")
    }
}

/// The interfaces of `wasi:io` need the table alone.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// The capability.
#[derive(Debug)]
pub struct Wasi;

impl Capability for Wasi {
    const NAME: &'static str = "wasi";
    const INTERFACES: &'static [Interfaces] = &[
        Interfaces::wasi("wasi:io", &["error", "poll", "streams"]),
        Interfaces::wasi("wasi:clocks", &["monotonic-clock", "wall-clock"]),
        Interfaces::wasi("wasi:random", &["insecure", "insecure-seed", "random"]),
        Interfaces::wasi(
            "wasi:cli",
            &[
                "environment",
                "exit",
                "stderr",
                "stdin",
                "stdout",
                "terminal-input",
                "terminal-output",
                "terminal-stderr",
                "terminal-stdin",
                "terminal-stdout",
            ],
        ),
    ];
    const ACCESS: Access = Access::Free;
    type Grant = ();
    type State = Surroundings;

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        io::error::add_to_linker::<T, Io>(linker, table)?;
        io::poll::add_to_linker::<T, Io>(linker, table)?;
        io::streams::add_to_linker::<T, Io>(linker, table)?;
        clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(linker, clocks)?;
        clocks::wall_clock::add_to_linker::<T, WasiClocks>(linker, clocks)?;
        random::insecure::add_to_linker::<T, WasiRandom>(linker, random)?;
        random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, random)?;
        random::random::add_to_linker::<T, WasiRandom>(linker, random)?;
        cli::environment::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::exit::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::stderr::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::stdin::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::stdout::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::terminal_input::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::terminal_output::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, cli)?;
        cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, cli)
    }

    fn state(_: &(), _: &Setup<'_>, shared: &Shared) -> Result<Self::State> {
        Ok(Surroundings::new(&shared.log))
    }
}

fn table<T: Holds<Wasi>>(store: &mut T) -> &mut ResourceTable {
    &mut store.view().shared.table
}

fn clocks<T: Holds<Wasi>>(store: &mut T) -> WasiClocksCtxView<'_> {
    let View { state, shared } = store.view();
    WasiClocksCtxView { ctx: state.0.clocks(), table: &mut shared.table }
}

fn random<T: Holds<Wasi>>(store: &mut T) -> &mut WasiRandomCtx {
    store.view().state.0.random()
}

fn cli<T: Holds<Wasi>>(store: &mut T) -> WasiCliCtxView<'_> {
    let View { state, shared } = store.view();
    WasiCliCtxView { ctx: state.0.cli(), table: &mut shared.table }
}
