//! The interface `logging` of `wasi:logging`.

use tracing::Level;

use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View, Views};
use crate::capabilities::output::LINE_BYTES_MAX;
use crate::capabilities::shared::Shared;
use crate::error::Result;
use generated::wasi::logging::logging;

#[allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit/deps/wasi-logging",
        world: "imports",
        imports: { default: trappable },
    });
}

/// The capability.
#[derive(Debug)]
pub struct Logging;

impl Capability for Logging {
    const NAME: &'static str = "logging";
    const INTERFACES: &'static [Interfaces] = &[Interfaces { package: "wasi:logging", names: &["logging"], version: "0.1.0-draft" }];
    const ACCESS: Access = Access::Free;
    type Grant = ();
    type State = ();

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        logging::add_to_linker::<_, Views<Self>>(linker, T::view)
    }

    fn state(_: &(), _: &Setup<'_>, _: &Shared) -> Result<()> {
        Ok(())
    }
}

impl logging::Host for View<'_, Logging> {
    fn log(&mut self, level: logging::Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Trace | logging::Level::Debug => Level::DEBUG,
            logging::Level::Info => Level::INFO,
            logging::Level::Warn => Level::WARN,
            logging::Level::Error | logging::Level::Critical => Level::ERROR,
        };
        if context.is_empty() {
            self.shared.log.emit(level, &message);
        } else {
            self.shared.log.emit(level, &format!("{}: {}", start(&context), start(&message)));
        }
        Ok(())
    }
}

/// As much as can be shown, and a little more, so that what is cut is seen to be cut.
fn start(text: &str) -> &str {
    &text[..text.floor_char_boundary(LINE_BYTES_MAX + 1)]
}
