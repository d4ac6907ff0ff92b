//! From a section to a component that may run: every reason to refuse it is found
//! here, before any of its code runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::InstancePre;
use wasmtime::{Store, UpdateDeadline};

use super::Context;
use super::engine::Engine;
use super::examine::{Examination, Offer, Role, VERSION, examine, hex, offer};
use super::imports::example;
use super::locate::locate;
use super::session::TimeIsUp;
use super::state::State;
use crate::capabilities::grants::Grants;
use crate::capabilities::origin::Snapshot;
use crate::config::Section;
use crate::error::{Error, Result};

/// A component with all of a language's runtime in it stays well below.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;
/// A guest's lists and texts are larger in the host than in its own memory.
const HOST_BYTES_PER_GUEST_BYTE: usize = 4;

/// A component that passed every check, ready to be instantiated.
pub(super) struct Loaded {
    pub pre: InstancePre<State>,
    /// The file's name, for messages and logs.
    pub name: String,
}

/// Finds, checks and compiles the section's component, and opens the folder that is
/// granted to it, so that a mistake shows, and what takes long is done, before
/// anything else happens.
pub async fn check(engine: &Engine, section: &Section, role: Role) -> Result<()> {
    let loaded = load(engine, section, role).await?;
    State::new(section, &loaded.name, String::new(), None).map(drop)
}

/// Finds, checks and compiles the section's component.
pub(super) async fn load(engine: &Engine, section: &Section, role: Role) -> Result<Loaded> {
    let path = locate(section, engine.search())?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let refuse =
        |reason: String| Error::configure(format!("{}: {}.path: {}: {reason}", section.file.display(), section.name, path.display()));
    let bytes = read(&path).map_err(refuse)?;
    let examination = examine(&bytes).map_err(|reason| refuse(reason.to_string()))?;
    accept(&examination, section, role).map_err(refuse)?;
    let broken = |error: wasmtime::Error| refuse(format!("cannot be loaded: {error:#}; build the plugin again"));
    let component = engine.compile(&name, examination.sha256, bytes).await.map_err(broken)?;
    let pre = engine.linker().instantiate_pre(&component).map_err(broken)?;
    Ok(Loaded { pre, name })
}

fn read(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read the file: {error}");
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > COMPONENT_BYTES_MAX {
        return Err(format!("{size} bytes are too many; a component has at most {COMPONENT_BYTES_MAX}"));
    }
    std::fs::read(path).map_err(unreadable)
}

/// All that can be said of a component from outside. The error is the remedy too.
fn accept(examination: &Examination, section: &Section, role: Role) -> std::result::Result<(), String> {
    if section.sha256.is_some_and(|pinned| pinned != examination.sha256) {
        return Err(format!(
            "the file's SHA-256 is {}, not what `{}.sha256` says; restore the file, or change the configuration if the new one is trusted",
            hex(&examination.sha256),
            section.name
        ));
    }
    if let Some(interface) = examination.wrong_version() {
        let [major, minor, _] = VERSION;
        return Err(format!(
            "built for {interface}, this host serves {major}.{minor}.x; build the plugin again with the WIT of this version of pgshovel"
        ));
    }
    if !examination.roles.contains(&role) {
        return Err(wrong_role(examination, role));
    }
    examination.imports.iter().try_for_each(|import| match offer(import) {
        Offer::Free => Ok(()),
        Offer::Granted(capability) if has(&section.grants, capability) || !examination.needs(role, capability) => Ok(()),
        Offer::Granted(capability) => Err(format!(
            "imports {import}, which section `{}` does not grant; add to it: grants: {{ {} }}",
            section.name,
            example(capability).unwrap_or(capability)
        )),
        Offer::LoaderOnly if role == Role::Loader || !examination.needs(role, "origin") => Ok(()),
        Offer::LoaderOnly => Err(format!("imports {import}, which only a loader may use; use a {} that does without", role.name())),
        Offer::Unknown if import.package == "wasi:http" => Err(format!(
            "imports {import}, which this host does not offer; build the plugin without it (componentize-js: disable the features http and fetch-event)"
        )),
        Offer::Unknown => Err(format!("imports {import}, which this host does not offer; build the plugin without it")),
    })
}

fn wrong_role(examination: &Examination, role: Role) -> String {
    let roles: Vec<String> = examination.roles.iter().map(|role| format!("a {}", role.name())).collect();
    match roles.as_slice() {
        [] => format!(
            "no plugin of pgshovel: it exports none of its interfaces; a {} exports pgshovel:plugin/{}",
            role.name(),
            role.interface()
        ),
        roles => format!("not a {}; it is {}: name it there, or another plugin here", role.name(), roles.join(" and ")),
    }
}

fn has(grants: &Grants, capability: &str) -> bool {
    match capability {
        "postgres" => !grants.postgres.is_none(),
        "kafka" => !grants.kafka.is_none(),
        _ => false,
    }
}

/// A store for one instance, with the section's grants and limits.
pub(super) fn store(
    engine: &Engine,
    loaded: &Loaded,
    section: &Section,
    context: &Context,
    origin: Option<Arc<Snapshot>>,
) -> Result<Store<State>> {
    let application = format!("pgshovel {} {}/{}", section.name, context.cluster, context.set);
    let state = State::new(section, &loaded.name, application, origin)?;
    let mut store = Store::new(engine.wasmtime(), state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(section.limits.memory.saturating_mul(HOST_BYTES_PER_GUEST_BYTE));
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        if Instant::now() >= store.data().deadline {
            return Err(TimeIsUp.into());
        }
        // As a task of tokio yields, so that its timers and sockets are looked at.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    Ok(store)
}
