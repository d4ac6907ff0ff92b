//! The capability `wasi`: what language runtimes need to start: clocks, random numbers,
//! polling, standard output and standard error, which go to the log. No environment, no
//! arguments, and nothing on standard input.

mod lines;
mod link;

use super::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup};
use super::shared::Shared;
use crate::error::Result;

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
    type State = link::Surroundings;

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        link::link(linker)
    }

    fn state(_: &(), _: &Setup<'_>, shared: &Shared) -> Result<Self::State> {
        Ok(link::Surroundings::new(&shared.log))
    }
}
