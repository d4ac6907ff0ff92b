//! From a section to a component that may run: every reason to refuse it is found
//! here, before any of its code runs.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use wasmtime::component::InstancePre;

use super::accept::accept;
use super::engine::Engine;
use super::examine::{Examination, examine};
use super::limits::INSTANCES_MAX;
use super::locate::locate;
use super::state::{State, budget, place};
use super::store;
use crate::capabilities::role::Role;
use crate::config::Section;
use crate::error::{Code, Error, Result};

/// A component with all of a language's runtime in it stays well below.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Compiling takes more than running, and is over before anything runs.
const COMPILE_BYTES_PER_BYTE: usize = 4;

/// A component that passed every check, ready to be instantiated.
pub(super) struct Loaded {
    pub pre: InstancePre<State>,
    /// The file's name, for messages and logs.
    pub name: String,
    /// How many core instances it may have.
    pub instances_max: usize,
}

/// Finds, checks and compiles the section's component, and opens the folder that is
/// granted to it, so that a mistake shows, and what takes long is done, before
/// anything else happens.
pub async fn check(engine: &Engine, section: &Section, role: Role) -> Result<()> {
    let loaded = load(engine, section, role).await?;
    store::state(engine, section, &loaded.name, String::new(), loaded.instances_max, None).map(drop)
}

/// Finds, checks and compiles the section's component.
pub(super) async fn load(engine: &Engine, section: &Section, role: Role) -> Result<Loaded> {
    let path = locate(section, engine.search())?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let refuse = |reason: String| {
        Error::configure(Code::PluginUnfit, format!("{}: {}.path: {}: {reason}", section.file.display(), section.name, path.display()))
    };
    let bytes = read(&path).map_err(refuse)?;
    let examination = examine(&bytes).map_err(|reason| refuse(reason.to_string()))?;
    accept(&examination, section, role).map_err(refuse)?;
    let broken = |error: wasmtime::Error| refuse(format!("cannot be loaded: {error:#}; build the plugin again"));
    let instances_max = afford(&examination, section).map_err(refuse)?;
    let host = engine.host(section);
    let compiled = tokio::time::timeout(section.limits.compile, engine.compile(host, &name, examination.sha256, bytes)).await;
    let component = compiled.map_err(|_| refuse(too_long(section)))?.map_err(broken)?;
    let pre = host.linker.instantiate_pre(&component).map_err(broken)?;
    Ok(Loaded { pre, name, instances_max })
}

fn too_long(section: &Section) -> String {
    let limit = section.limits.compile;
    format!("compiling it takes more than {limit:?}; raise limits.compile in the {} if it deserves more", place(section))
}

/// How many core instances the host has room for. What one takes is the module's to
/// choose: it holds each function and global.
fn afford(examination: &Examination, section: &Section) -> std::result::Result<usize, String> {
    let room = budget(section).bytes_max();
    let (compiling, compiling_max) = (examination.cost.compile_bytes(), room.saturating_mul(COMPILE_BYTES_PER_BYTE));
    if compiling > compiling_max {
        return Err(format!(
            "compiling it takes about {} MiB, and {} MiB are allowed for it, which is four times limits.memory, and at least four times 64 MiB; \
             raise limits.memory in the {} if it deserves more",
            compiling >> 20,
            compiling_max >> 20,
            place(section)
        ));
    }
    Ok((room / examination.cost.instance_bytes().max(1)).min(INSTANCES_MAX))
}

/// The whole file, which is small enough for a component.
pub fn read(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read the file: {error}");
    let mut bytes = Vec::new();
    // What is no regular file has no length to look at first, and may have no end.
    File::open(path).and_then(|file| file.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(format!("the file is too large; a component has at most {COMPONENT_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}
