//! What all capabilities of one instance share.

use std::fmt;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;

use super::output::Log;
use crate::budget::Budget;

/// Connections, cursors, files and streams of one plugin: far fewer than a process may
/// have files open (1024, usually), of which all its plugins have their share.
const RESOURCES_MAX: usize = 256;

/// How long its statements may wait for one lock, at most.
const LOCK_TIMEOUT_MAX: Duration = Duration::from_secs(30);

pub struct Shared {
    pub table: ResourceTable,
    /// What the host holds for it.
    pub budget: Budget,
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
}

impl Shared {
    /// `call` is how long one call into the plugin may take.
    #[must_use]
    pub fn new(budget: Budget, log: Log, application: String, call: Duration, place: String) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            table,
            budget,
            log,
            application,
            lock_timeout: LOCK_TIMEOUT_MAX.min(call / 2),
            place,
            misconfigured: false,
            deadline: Instant::now(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("place", &self.place).field("misconfigured", &self.misconfigured).finish_non_exhaustive()
    }
}
