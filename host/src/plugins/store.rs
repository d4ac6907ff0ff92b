//! How the store of an instance is made: what it may reach, and when it is interrupted.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Store, UpdateDeadline};

use super::context::Context;
use super::engine::Engine;
use super::limits::{Memory, TimeIsUp};
use super::state::{Runtime, State, budget, place};
use crate::capabilities::capability::Setup;
use crate::capabilities::origin::Snapshot;
use crate::capabilities::shared::Shared;
use crate::config::Section;
use crate::error::Result;

/// A store for one instance, with the section's grants and limits.
pub(super) fn store(
    engine: &Engine,
    name: &str,
    instances_max: usize,
    section: &Section,
    context: &Context,
    origin: Option<Arc<Snapshot>>,
) -> Result<Store<State>> {
    let application = format!("pgshovel {} {}/{}", section.name, context.cluster, context.set);
    let state = state(engine, section, name, application, instances_max, origin)?;
    // What one call passes to the host.
    let fuel = state.shared.budget.bytes_max();
    let mut store = Store::new(&engine.host(section).wasmtime, state);
    store.limiter(|state| &mut state.runtime.memory);
    store.set_hostcall_fuel(fuel);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        if Instant::now() >= store.data().shared.deadline {
            return Err(TimeIsUp.into());
        }
        store.data_mut().check()?;
        // As a task of tokio yields, so that its timers and sockets are looked at.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    Ok(store)
}

/// What the host keeps for one instance. `instances_max` is how many core instances it may have.
pub(super) fn state(
    engine: &Engine,
    section: &Section,
    plugin: &str,
    application: String,
    instances_max: usize,
    origin: Option<Arc<Snapshot>>,
) -> Result<State> {
    let shared = Shared::new(budget(section), engine.log(plugin, &section.name), application, section.limits.call, place(section));
    let runtime = Runtime { memory: Memory::new(section.limits.memory, instances_max) };
    let setup = Setup { section: &section.name, file: &section.file, configuration: &section.configuration, compiled: engine.compiled() };
    let mut state = State::new(runtime, &section.grants, &setup, shared)?;
    state.states.origin = origin;
    Ok(state)
}
