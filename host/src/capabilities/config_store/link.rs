//! The interface `store` of `wasi:config`.

use super::settings::{Settings, settings};
use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View, Views};
use crate::capabilities::shared::Shared;
use crate::error::Result;
use generated::wasi::config::store;

#[allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit/deps/wasi-config",
        world: "imports",
        imports: { default: trappable },
    });
}

/// The capability.
#[derive(Debug)]
pub struct ConfigStore;

impl Capability for ConfigStore {
    const NAME: &'static str = "config-store";
    const INTERFACES: &'static [Interfaces] = &[Interfaces { package: "wasi:config", names: &["store"], version: "0.2.0-rc.1" }];
    const ACCESS: Access = Access::Free;
    type Grant = ();
    type State = Settings;

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        store::add_to_linker::<_, Views<Self>>(linker, T::view)
    }

    fn state(_: &(), setup: &Setup<'_>, _: &Shared) -> Result<Settings> {
        Ok(settings(setup.configuration))
    }
}

impl store::Host for View<'_, ConfigStore> {
    fn get(&mut self, key: String) -> wasmtime::Result<std::result::Result<Option<String>, store::Error>> {
        let found = self.state.iter().find(|(name, _)| *name == key);
        Ok(Ok(found.map(|(_, value)| value.clone())))
    }

    fn get_all(&mut self) -> wasmtime::Result<std::result::Result<Settings, store::Error>> {
        Ok(Ok(self.state.clone()))
    }
}
