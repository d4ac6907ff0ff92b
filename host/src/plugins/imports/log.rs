//! The interface `log`.

use tracing::Level;

use crate::plugins::bindings::pgshovel::plugin::log;
use crate::plugins::state::State;

impl log::Host for State {
    fn emit(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::DEBUG,
            log::Level::Info => Level::INFO,
            log::Level::Warn => Level::WARN,
            log::Level::Error => Level::ERROR,
        };
        self.log.emit(level, &message);
        Ok(())
    }
}
