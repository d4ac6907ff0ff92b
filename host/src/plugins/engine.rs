//! The one wasmtime engine of a process: compiles components, keeps what it
//! compiled, and interrupts what runs too long.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use wasmtime::component::{Component, Linker};
use wasmtime::{Cache, CacheConfig, Config};

use super::imports;
use super::state::State;
use crate::error::{Error, Result};

/// How often running components are interrupted, to yield and to see the time.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// A configuration file names a handful; more would be a leak.
const COMPONENTS_MAX: usize = 32;

/// Where an engine looks for components and keeps what it compiled.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folders searched after the configuration file's own.
    pub search: Vec<PathBuf>,
    /// Compiled components are kept here, for all processes of this user; `None`
    /// compiles them anew in each process.
    pub cache: Option<PathBuf>,
}

/// Cheap to clone; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    cache: Option<Cache>,
    linker: Linker<State>,
    search: Vec<PathBuf>,
    /// By SHA-256 of the file: a loop that opens its plugins again finds them here.
    components: Mutex<HashMap<[u8; 32], Component>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("search", &self.inner.search).finish_non_exhaustive()
    }
}

impl Engine {
    pub fn new(options: Options) -> Result<Self> {
        let cache = options.cache.as_deref().and_then(cache);
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true).cache(cache.clone());
        let broken = |error: wasmtime::Error| Error::bug(format!("cannot set up the plugin host: {error:#}"));
        let wasmtime = wasmtime::Engine::new(&config).map_err(broken)?;
        let mut linker = Linker::new(&wasmtime);
        imports::add_to_linker(&mut linker).map_err(broken)?;
        let inner = Arc::new(Inner { wasmtime, cache, linker, search: options.search, components: Mutex::default() });
        tick(Arc::downgrade(&inner))?;
        Ok(Self { inner })
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.inner.linker
    }

    pub(super) fn search(&self) -> &[PathBuf] {
        &self.inner.search
    }

    /// Compiles a component, unless this process or the cache has it already.
    pub(super) async fn compile(&self, name: &str, sha256: [u8; 32], bytes: Vec<u8>) -> wasmtime::Result<Component> {
        if let Some(component) = self.components().get(&sha256) {
            return Ok(component.clone());
        }
        let (engine, size, start, kept) = (self.inner.wasmtime.clone(), bytes.len(), Instant::now(), self.cache_hits());
        let component = tokio::task::spawn_blocking(move || Component::from_binary(&engine, &bytes)).await??;
        // From the cache it takes milliseconds; a language's whole runtime takes half a minute, once.
        let (cached, seconds) = (self.cache_hits() > kept, start.elapsed().as_secs_f32());
        tracing::info!(plugin = name, bytes = size, seconds, cached, "plugin compiled");
        let mut components = self.components();
        if components.len() >= COMPONENTS_MAX {
            components.clear();
        }
        components.insert(sha256, component.clone());
        Ok(component)
    }

    /// How many components the cache had.
    pub(super) fn cache_hits(&self) -> usize {
        self.inner.cache.as_ref().map_or(0, Cache::cache_hits)
    }

    fn components(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Component>> {
        // An insertion is whole or not there, whatever panicked.
        self.inner.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Advances the epoch until the engine is dropped.
fn tick(engine: Weak<Inner>) -> Result<()> {
    let run = move || {
        while let Some(engine) = engine.upgrade() {
            engine.wasmtime.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("plugin epochs".into())
        .spawn(run)
        .map(drop)
        .map_err(|error| Error::stop(format!("cannot start a thread: {error}")))
}

/// wasmtime keeps its folder below a size by removing from it whatever it finds,
/// its own or not: it gets one of its own, inside the one that was named.
const COMPILED: &str = "compiled-plugins";

/// Without its cache the host only starts slower.
fn cache(folder: &Path) -> Option<Cache> {
    let folder = &folder.join(COMPILED);
    // wasmtime wants an absolute path.
    let absolute = std::fs::create_dir_all(folder).and_then(|()| folder.canonicalize()).map_err(wasmtime::Error::from);
    let opened = absolute.and_then(|folder| {
        let mut config = CacheConfig::new();
        config.with_directory(folder);
        Cache::new(config)
    });
    opened
        .inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), "cannot keep compiled plugins, so each start compiles them: {error:#}; name another folder with --cache-dir");
        })
        .ok()
}
