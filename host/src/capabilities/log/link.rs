//! The interface `log`.

use tracing::Level;

use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View, Views};
use crate::capabilities::shared::Shared;
use crate::error::Result;
use generated::pgshovel::plugin::log;

#[allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package pgshovel:host;

            world host {
                import pgshovel:plugin/log@0.2.0;
            }
        ",
        imports: { default: trappable },
    });
}

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
        log::add_to_linker::<_, Views<Logs>>(linker, T::view)
    }

    fn state(_: &(), _: &Setup<'_>, _: &Shared) -> Result<()> {
        Ok(())
    }
}

impl log::Host for View<'_, Logs> {
    fn emit(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::DEBUG,
            log::Level::Info => Level::INFO,
            log::Level::Warn => Level::WARN,
            log::Level::Error => Level::ERROR,
        };
        self.shared.log.emit(level, &message);
        Ok(())
    }
}
