//! What the host keeps for one instance of a plugin.

use std::sync::Arc;

use super::engine::Engine;
use super::limits::Memory;
use crate::budget::Budget;
use crate::capabilities::Instance;
use crate::capabilities::capability::Setup;
use crate::capabilities::origin::Snapshot;
use crate::capabilities::shared::Shared;
use crate::config::Section;
use crate::error::Result;

/// The data of a store.
pub(super) type State = Instance<Runtime>;

/// What the runtime needs of an instance, besides what its capabilities keep.
#[derive(Debug)]
pub(super) struct Runtime {
    pub memory: Memory,
}

/// `instances_max` is how many core instances it may have.
pub(super) fn new(
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

/// What the host holds for the section's plugin.
pub(super) fn budget(section: &Section) -> Budget {
    Budget::new(section.limits.memory, section.limits.connections, place(section))
}

pub(super) fn place(section: &Section) -> String {
    format!("section `{}` of {}", section.name, section.file.display())
}
