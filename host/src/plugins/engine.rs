//! The one wasmtime engine of a process: compiles components, keeps what it
//! compiled, and interrupts what runs too long.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};
use wasmtime::{Cache, Config};

use super::cache;
use super::state::State;
use crate::capabilities;
use crate::capabilities::output::{Log, Rate};
use crate::config::Section;
use crate::error::{Code, Error, Result};

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
    /// compiles them anew in each process. What a section pins by its SHA-256 is not
    /// kept: the bytes that were pinned are those that are compiled.
    pub cache: Option<PathBuf>,
}

/// Cheap to clone; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    /// For what may be kept compiled, and for what is pinned.
    kept: Host,
    pinned: Host,
    cache: Option<Cache>,
    search: Vec<PathBuf>,
    /// What was logged, by section.
    rates: Mutex<HashMap<String, Arc<Mutex<Rate>>>>,
    /// Compiling cannot be broken off, so nothing else is compiled beside it.
    compiling: Arc<Semaphore>,
}

/// An engine of wasmtime, and what runs in it.
pub(super) struct Host {
    pub wasmtime: wasmtime::Engine,
    pub linker: Linker<State>,
    /// By SHA-256 of the file: a loop that opens its plugins again finds them here.
    components: Mutex<HashMap<[u8; 32], Component>>,
}

impl Host {
    fn new(cache: Option<Cache>) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true).cache(cache);
        let wasmtime = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&wasmtime);
        capabilities::link(&mut linker)?;
        Ok(Self { wasmtime, linker, components: Mutex::default() })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("search", &self.inner.search).finish_non_exhaustive()
    }
}

impl Engine {
    pub fn new(options: Options) -> Result<Self> {
        let cache = options.cache.as_deref().and_then(cache::open);
        let broken = |error: wasmtime::Error| Error::bug(format!("cannot set up the plugin host: {error:#}"));
        let inner = Arc::new(Inner {
            kept: Host::new(cache.clone()).map_err(broken)?,
            pinned: Host::new(None).map_err(broken)?,
            cache,
            search: options.search,
            rates: Mutex::default(),
            compiling: Arc::new(Semaphore::new(1)),
        });
        tick(Arc::downgrade(&inner))?;
        Ok(Self { inner })
    }

    /// Where the section's component is compiled and runs.
    pub(super) fn host(&self, section: &Section) -> &Host {
        if section.sha256.is_some() { &self.inner.pinned } else { &self.inner.kept }
    }

    pub(super) fn search(&self) -> &[PathBuf] {
        &self.inner.search
    }

    /// The log of a plugin. All instances of one section have the same bounds.
    pub(super) fn log(&self, plugin: &str, section: &str) -> Log {
        let rate = Arc::clone(locked(&self.inner.rates).entry(section.to_owned()).or_default());
        Log::new(plugin, section, rate)
    }

    /// The folder of compiled plugins.
    pub(super) fn compiled(&self) -> Option<&Path> {
        self.inner.cache.as_ref().map(Cache::directory).map(PathBuf::as_path)
    }

    /// Compiles a component, unless this process or the cache has it already. Whoever
    /// does not wait for it any more leaves it to end in its own time.
    pub(super) async fn compile(&self, host: &Host, name: &str, sha256: [u8; 32], bytes: Vec<u8>) -> wasmtime::Result<Component> {
        if let Some(component) = locked(&host.components).get(&sha256) {
            return Ok(component.clone());
        }
        let turn = Arc::clone(&self.inner.compiling).acquire_owned().await?;
        let (engine, size, start, kept) = (host.wasmtime.clone(), bytes.len(), Instant::now(), self.cache_hits());
        let compile = move || {
            let _turn = turn;
            Component::from_binary(&engine, &bytes)
        };
        let component = tokio::task::spawn_blocking(compile).await??;
        // From the cache it takes milliseconds; a language's whole runtime takes half a minute, once.
        let (cached, seconds) = (self.cache_hits() > kept, start.elapsed().as_secs_f32());
        tracing::info!(plugin = name, bytes = size, seconds, cached, "plugin compiled");
        let mut components = locked(&host.components);
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
}

/// An insertion is whole or not there, whatever panicked.
fn locked<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Advances the epoch until the engine is dropped.
fn tick(engine: Weak<Inner>) -> Result<()> {
    let run = move || {
        while let Some(engine) = engine.upgrade() {
            engine.kept.wasmtime.increment_epoch();
            engine.pinned.wasmtime.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("plugin epochs".into())
        .spawn(run)
        .map(drop)
        .map_err(|error| Error::stop(Code::SystemRefused, format!("cannot start a thread: {error}")))
}
