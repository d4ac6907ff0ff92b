//! What the host keeps for one instance of a plugin.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tracing::Level;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use super::capture::Log;
use super::engine::Engine;
use super::limits::Memory;
use super::quota::Quota;
use crate::budget::Budget;
use crate::capabilities::grants::{Files, Grants, Mode};
use crate::capabilities::origin::Snapshot;
use crate::config::Section;
use crate::error::{Error, Result};

/// Connections, cursors, files and streams of one plugin: far fewer than a process may
/// have files open (1024, usually), of which all its plugins have their share.
const RESOURCES_MAX: usize = 256;

/// Producers and consumers of one plugin, those that are being let go of included: each has
/// some threads, and holds up to 32 MiB.
pub(super) const CLIENTS_MAX: usize = 4;

/// How long its statements may wait for one lock, at most.
const LOCK_TIMEOUT_MAX: Duration = Duration::from_secs(30);

pub(super) struct State {
    pub wasi: WasiCtx,
    pub table: ResourceTable,
    pub memory: Memory,
    /// What the host holds for it.
    pub budget: Budget,
    pub grants: Grants,
    /// The set's own database, for a loader.
    pub origin: Option<Arc<Snapshot>>,
    pub log: Log,
    /// Shows in the servers that the plugin uses.
    pub application: String,
    /// How long its statements may wait for one lock: so that the server says what holds
    /// it up before the time of the call is up, and it is waited out.
    pub lock_timeout: Duration,
    /// Where the section stands, for messages: ``section `target` of app.yaml``.
    pub place: String,
    /// In the call that is under way, a grant turned out to be wrong.
    pub misconfigured: bool,
    /// When the call that is under way has to be over.
    pub deadline: Instant,
    /// Places for clients of brokers that are free.
    pub clients: Arc<Semaphore>,
    /// Of the folder that is granted.
    pub quota: Option<Quota>,
}

impl State {
    /// `instances_max` is how many core instances it may have.
    pub fn new(
        engine: &Engine,
        section: &Section,
        plugin: &str,
        application: String,
        instances_max: usize,
        origin: Option<Arc<Snapshot>>,
    ) -> Result<Self> {
        let log = engine.log(plugin, &section.name);
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.stream(Level::INFO)).stderr(log.stream(Level::WARN)).allow_tcp(false).allow_udp(false);
        if let Some(files) = &section.grants.files {
            let perms = prepare(files, section)?;
            engine.guard(&files.path, section)?;
            wasi.preopened_dir(&files.path, "/", perms).map_err(|error| unusable(files, section, &error))?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Ok(Self {
            wasi: wasi.build(),
            table,
            memory: Memory::new(section.limits.memory, instances_max),
            budget: budget(section),
            grants: section.grants.clone(),
            origin,
            log,
            application,
            lock_timeout: LOCK_TIMEOUT_MAX.min(section.limits.call / 2),
            place: place(section),
            misconfigured: false,
            deadline: Instant::now(),
            clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
            quota: section.grants.files.as_ref().and_then(|files| Some(Quota::new(files.path.clone(), files.size?))),
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("memory", &self.memory).field("grants", &self.grants).finish_non_exhaustive()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// What the host holds for the section's plugin.
pub(super) fn budget(section: &Section) -> Budget {
    Budget::new(section.limits.memory, section.limits.connections, place(section))
}

pub(super) fn place(section: &Section) -> String {
    format!("section `{}` of {}", section.name, section.file.display())
}

/// A folder to write in is made if it is missing; one to read has to be there.
fn prepare(files: &Files, section: &Section) -> Result<FsPerms> {
    match files.mode {
        Mode::ReadOnly => Ok(FsPerms::ReadOnly),
        Mode::ReadWrite => {
            std::fs::create_dir_all(&files.path).map_err(|error| unusable(files, section, &error))?;
            Ok(FsPerms::ReadWrite)
        }
    }
}

fn unusable(files: &Files, section: &Section, cause: &dyn fmt::Display) -> Error {
    Error::configure(format!(
        "{}: {}.grants.files: cannot open the folder {}: {cause}; name a folder that this user may {}",
        section.file.display(),
        section.name,
        files.path.display(),
        match files.mode {
            Mode::ReadOnly => "read",
            Mode::ReadWrite => "write in",
        }
    ))
}
