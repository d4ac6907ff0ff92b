//! One instance of a plugin, and what becomes of each call into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::error::Elapsed;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::context::Context;
use super::engine::{Engine, TICK};
use super::limits::TimeIsUp;
use super::limits::{INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use super::load::load;
use super::state::{State, place};
use super::store::store;
use crate::capabilities::origin::Snapshot;
use crate::capabilities::role::Role;
use crate::capabilities::types;
use crate::config::{Limits, Section};
use crate::error::{Code, Error, Next, Rejected, Rejection, Result};
use crate::printable::printable;

/// What a plugin may say about why it failed.
const REASON_BYTES_MAX: usize = 8 << 10;
/// And about one of the rows that it rejects.
const REJECTION_BYTES_MAX: usize = 1 << 10;
const REJECTIONS_SHOWN: usize = 5;
const FRAMES_SHOWN: usize = 5;

/// What a call comes to: in time or not, trapped or not, done or failed.
type Outcome<T> = std::result::Result<wasmtime::Result<std::result::Result<T, types::Error>>, Elapsed>;

pub(super) struct Session {
    pub store: Store<State>,
    pub context: types::Context,
    /// The section's configuration as JSON.
    pub configuration: String,
    plugin: String,
    section: String,
    role: Role,
    place: String,
    limits: Limits,
    /// False while a call is under way, and for ever after one that did not return.
    usable: bool,
}

impl Session {
    /// Finds and checks the section's component, and makes an instance of it.
    pub async fn start(
        engine: &Engine,
        section: &Section,
        role: Role,
        context: &Context,
        origin: Option<Arc<Snapshot>>,
    ) -> Result<(Self, Instance, InstancePre<State>)> {
        let loaded = load(engine, section, role).await?;
        let store = store(engine, &loaded.name, loaded.instances_max, section, context, origin)?;
        let context = types::Context { cluster: context.cluster.clone(), set: context.set.clone(), section: section.name.clone() };
        let mut session = Self {
            store,
            context,
            configuration: section.configuration.to_string(),
            plugin: loaded.name,
            section: section.name.clone(),
            role,
            place: place(section),
            limits: section.limits,
            usable: true,
        };
        let limit = session.begin(Duration::ZERO)?;
        let started = tokio::time::timeout(limit, loaded.pre.instantiate_async(&mut session.store)).await;
        let exhausted = session.store.data().runtime.memory.exhausted();
        let started = session.end("start", started.map(|instance| instance.map(Ok)), nothing);
        let instance = started.map_err(|error| if exhausted { error.but(Next::Configure) } else { error })?;
        Ok((session, instance, loaded.pre))
    }

    /// An interface that has the right name and other functions or types.
    pub fn mismatch(&self, error: &wasmtime::Error) -> Error {
        Error::configure(
            Code::PluginUnfit,
            format!(
                "{}: its interface differs from this host's: {error:#}; build the plugin again with the WIT of this version of pgshovel",
                self.name()
            ),
        )
    }

    /// Starts the clock of a call that may take `extra` time by its contract.
    /// Returns after how long to give up waiting.
    pub fn begin(&mut self, extra: Duration) -> Result<Duration> {
        if !self.usable {
            return Err(Error::trap(Code::PluginLate, format!("{}: an earlier call did not return; open the plugin again", self.name())));
        }
        self.store.data_mut().check().map_err(|error| error.context(self.name()))?;
        self.usable = false;
        let limit = self.limits.call.saturating_add(extra);
        self.store.data_mut().shared.deadline = Instant::now() + limit;
        self.store.data_mut().shared.misconfigured = false;
        // Running code is interrupted at the deadline, and can tell where it was; only
        // code that waits for the host needs this longer limit.
        Ok(limit + 4 * TICK)
    }

    /// Names what became of a call. `passed` says what was passed at an index, if anything was.
    pub fn end<T>(&mut self, function: &str, outcome: Outcome<T>, passed: impl Fn(u32) -> Option<Rejected>) -> Result<T> {
        match outcome {
            Ok(Ok(answer)) => {
                self.usable = true;
                answer.map_err(|error| self.failed(function, error, passed))
            }
            Ok(Err(error)) => {
                self.store.data_mut().give_up();
                Err(self.broken(function, &error))
            }
            Err(_) => {
                self.store.data_mut().give_up();
                Err(self.late(function, ""))
            }
        }
    }

    /// What the plugin itself returned as an error.
    fn failed(&self, function: &str, error: types::Error, passed: impl Fn(u32) -> Option<Rejected>) -> Error {
        let (case, reason) = match &error {
            types::Error::Reject(rejections) => return self.rejected(function, rejections, passed),
            types::Error::Retry(reason) => ("retry", reason),
            types::Error::Stop(reason) => ("stop", reason),
            types::Error::Blocked(reason) => ("blocked", reason),
            types::Error::Configure(reason) => ("configure", reason),
        };
        let text = match reason.trim() {
            "" => format!("{}: `{function}` failed as `{case}` and gave no reason, which is a fault of the plugin", self.name()),
            reason => format!("{}: {}", self.name(), printable(reason, REASON_BYTES_MAX)),
        };
        match error {
            // Whatever the plugin makes of it, trying again does not help.
            _ if self.store.data().shared.misconfigured => reported(self.role, Next::Configure, text),
            types::Error::Configure(_) => reported(self.role, Next::Configure, format!("{text} ({})", self.place)),
            types::Error::Retry(_) => reported(self.role, Next::Retry, text),
            types::Error::Blocked(_) => reported(self.role, Next::Blocked, text),
            types::Error::Stop(_) | types::Error::Reject(_) => reported(self.role, Next::Stop, text),
        }
    }

    /// Rows that the plugin accepts never. Which ones they are is for the host to know: an
    /// index of none is the plugin's fault, and says nothing of any row.
    fn rejected(&self, function: &str, rejections: &[types::Rejection], passed: impl Fn(u32) -> Option<Rejected>) -> Error {
        if rejections.is_empty() {
            return self.invalid(function, "`reject` without a rejection");
        }
        let mut named = Vec::with_capacity(rejections.len());
        for types::Rejection { index, reason } in rejections {
            let Some(what) = passed(*index) else {
                return self.invalid(function, format_args!("a rejection of number {index}, counted from 0, and so many were not passed"));
            };
            if named.iter().any(|known: &Rejection| known.index == *index) {
                continue;
            }
            let reason = match reason.trim() {
                "" => "the plugin gave no reason".to_owned(),
                reason => printable(reason, REJECTION_BYTES_MAX),
            };
            named.push(Rejection { index: *index, what, reason });
        }
        let shown: Vec<String> = named.iter().take(REJECTIONS_SHOWN).map(ToString::to_string).collect();
        let more = named.len().saturating_sub(REJECTIONS_SHOWN);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        let what = if named.iter().all(|rejection| rejection.what == Rejected::Message) { "messages" } else { "rows" };
        let text = format!("{}: `{function}` rejects {} {what}: {}{more}", self.name(), named.len(), shown.join("; "));
        Error { rejections: named, ..Error::stop(Code::RowsRejected, text) }
    }

    /// The plugin did not return: the instance is of no more use.
    fn broken(&self, function: &str, error: &wasmtime::Error) -> Error {
        let name = self.name();
        let at = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        if error.is::<TimeIsUp>() {
            return self.late(function, &at);
        }
        if let Some(refusal) = error.downcast_ref::<Error>() {
            return refusal.clone().context(self.name());
        }
        if self.store.data().runtime.memory.exhausted() {
            let memory = crate::printable::size(self.limits.memory as u64);
            return Error::trap(
                Code::PluginLimit,
                format!(
                    "{name}: `{function}` needs more than its {memory} of memory{at}; raise limits.memory in the {} if it deserves more",
                    self.place
                ),
            );
        }
        let cause = error.root_cause().to_string();
        if cause.starts_with("resource limit exceeded") {
            return Error::configure(
                Code::PluginUnfit,
                format!(
                    "{name}: {cause}: a plugin has at most {INSTANCES_MAX} instances, fewer if its modules are large, {MEMORIES_MAX} memories and \
                 {TABLES_MAX} tables; build it with fewer"
                ),
            );
        }
        if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
            return Error::trap(Code::PluginTrapped, format!("{name}: `{function}` ended the plugin with exit code {code}"));
        }
        let cause = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => printable(&cause, REASON_BYTES_MAX),
        };
        Error::trap(Code::PluginTrapped, format!("{name}: `{function}` trapped: {cause}{at}; what it wrote before stands in the log"))
    }

    fn late(&self, function: &str, at: &str) -> Error {
        Error::trap(
            Code::PluginLate,
            format!(
                "{}: `{function}` did not return within {:?}{at}; raise limits.call in the {} if it deserves more",
                self.name(),
                self.limits.call,
                self.place
            ),
        )
    }

    /// Something that it returned breaks the contract in `wit/`.
    pub fn invalid(&self, function: &str, reason: impl std::fmt::Display) -> Error {
        Error::stop(Code::PluginContract, format!("{}: `{function}` returned {reason}; that is a fault of the plugin", self.name()))
    }

    fn name(&self) -> String {
        format!("{}: {}", self.section, self.plugin)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("section", &self.section)
            .field("plugin", &self.plugin)
            .field("usable", &self.usable)
            .finish_non_exhaustive()
    }
}

/// What a plugin of this role reports, by whose situation it is.
fn reported(role: Role, next: Next, text: String) -> Error {
    let [waits, blocked, stops, configured] = match role {
        Role::Writer | Role::Stream => [Code::StreamAway, Code::StreamBlocked, Code::StreamRefused, Code::StreamMisconfigured],
        Role::Target => [Code::TargetAway, Code::TargetBlocked, Code::TargetRefused, Code::TargetMisconfigured],
        Role::Loader | Role::Transform => [Code::PluginWaits, Code::PluginBlocked, Code::PluginStopped, Code::PluginMisconfigured],
    };
    let code = match next {
        Next::Retry => waits,
        Next::Blocked => blocked,
        Next::Configure | Next::Usage => configured,
        Next::Stop | Next::Trap | Next::Bug => stops,
    };
    Error::new(next, code, text)
}

/// What was passed to a function that takes no rows.
pub(super) fn nothing(_: u32) -> Option<Rejected> {
    None
}

/// The innermost functions: ` in a, called by b, called by c`.
fn frames(backtrace: &WasmBacktrace) -> String {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => printable(name, 200),
        None => format!("function {}", frame.func_index()),
    };
    let names: Vec<String> = backtrace.frames().iter().take(FRAMES_SHOWN).map(name).collect();
    if names.is_empty() { String::new() } else { format!(" in {}", names.join(", called by ")) }
}
