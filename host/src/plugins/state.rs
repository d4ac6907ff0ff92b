//! What the host keeps for one instance of a plugin.

use super::limits::Memory;
use crate::budget::Budget;
use crate::capabilities::Instance;
use crate::config::Section;

/// The data of a store.
pub(super) type State = Instance<Runtime>;

/// What the runtime needs of an instance, besides what its capabilities keep.
#[derive(Debug)]
pub(super) struct Runtime {
    pub memory: Memory,
}

/// What the host holds for the section's plugin.
pub(super) fn budget(section: &Section) -> Budget {
    Budget::new(section.limits.memory, section.limits.connections, place(section))
}

pub(super) fn place(section: &Section) -> String {
    format!("section `{}` of {}", section.name, section.file.display())
}
