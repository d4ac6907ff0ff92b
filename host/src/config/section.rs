//! One section: a plugin with its configuration, grants and limits.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capabilities::Grants;
use crate::yaml::{Field, Problem, Sources, Step, Value, join};

/// One plugin: which component, what it is told, what it may reach and use.
#[derive(Clone, PartialEq)]
pub struct Section {
    /// `stream`, `target`, `transforms[1]`.
    pub name: String,
    /// The configuration file, for messages, and for what is relative to it.
    pub file: PathBuf,
    /// The component, as the file names it.
    pub path: String,
    /// Opaque to the host; an object. `${…}` is expanded.
    pub configuration: serde_json::Value,
    pub grants: Grants,
    pub limits: Limits,
    /// The only content that `path` may have.
    pub sha256: Option<[u8; 32]>,
}

/// The configuration may hold expanded secrets, so it is left out.
impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, file, path, configuration: _, grants, limits, sha256 } = self;
        f.debug_struct("Section")
            .field("name", name)
            .field("file", file)
            .field("path", path)
            .field("grants", grants)
            .field("limits", limits)
            .field("sha256", sha256)
            .finish_non_exhaustive()
    }
}

impl Section {
    /// The folder that relative paths of the section start from.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self.file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }
}

/// What one plugin may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory and tables, of all its instances together. The host holds
    /// at most as much again for it: see [`crate::budget`].
    pub memory: usize,
    /// How long one call into it may take, what it waits for included.
    pub call: Duration,
    /// How long compiling it may take.
    pub compile: Duration,
    /// Connections to databases that it may hold at one time, the cursors of a loader
    /// included.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 256 << 20, call: Duration::from_secs(60), compile: Duration::from_secs(300), connections: 8 }
    }
}

type Result<T> = std::result::Result<T, Problem>;

const KEYS: [&str; 5] = ["path", "configuration", "grants", "limits", "sha256"];
const MEMORY_MIN: u64 = 1 << 20;
/// What 32 bits of address reach.
const MEMORY_MAX: u64 = 4 << 30;
const COMPILE_MIN: Duration = Duration::from_secs(1);
const COMPILE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const CONNECTIONS_MAX: u64 = 1000;
const CALL_MIN: Duration = Duration::from_millis(10);
const CALL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Deeper, and a plugin's JSON parser may refuse it.
const CONFIGURATION_DEPTH_MAX: usize = 64;

pub(super) fn required(root: &Field<'_>, name: &str, file: &Path) -> Result<Section> {
    let remedy = format!("write {name}: {{ path: {} }}", if name == "stream" { "file.wasm" } else { "postgresql.wasm" });
    read(&root.required(name, &remedy)?, file)
}

pub(super) fn list(root: &Field<'_>, name: &str, file: &Path) -> Result<Vec<Section>> {
    let Some(field) = root.get(name) else { return Ok(Vec::new()) };
    let Value::Sequence(items) = field.value else {
        return Err(field.wrong("write a list, one item per plugin, such as - path: ./redact.wasm"));
    };
    items.iter().enumerate().map(|(index, item)| read(&field.below(Step::Index(index), item), file)).collect()
}

fn read(field: &Field<'_>, file: &Path) -> Result<Section> {
    let env = |name: &str| std::env::var(name).ok();
    let mut section = Section {
        name: join(&field.path),
        file: file.to_owned(),
        path: String::new(),
        configuration: serde_json::Value::Object(serde_json::Map::new()),
        grants: Grants::default(),
        limits: Limits::default(),
        sha256: None,
    };
    field.map(&KEYS)?;
    let component = "write the path of a component, such as path: file.wasm";
    section.path = field.required("path", component)?.text(component)?.to_owned();
    let folder = section.folder().to_owned();
    let sources = Sources { folder: &folder, env: &env };
    if let Some(field) = field.get("configuration") {
        field.entries("write a map, which the plugin gets as JSON")?;
        section.configuration = json(&field, &sources)?;
    }
    if let Some(field) = field.get("grants") {
        section.grants = Grants::read(&field, &sources)?;
    }
    if let Some(field) = field.get("limits") {
        section.limits = limits(&field)?;
    }
    if let Some(field) = field.get("sha256") {
        section.sha256 = Some(sha256(&field)?);
    }
    Ok(section)
}

fn limits(field: &Field<'_>) -> Result<Limits> {
    field.map(&["memory", "call", "compile", "connections"])?;
    let mut limits = Limits::default();
    if let Some(field) = field.get("memory") {
        let bytes = field.bytes(MEMORY_MIN, MEMORY_MAX)?;
        limits.memory = usize::try_from(bytes).map_err(|_| field.problem("is more than this machine can address"))?;
    }
    if let Some(field) = field.get("call") {
        limits.call = field.duration(CALL_MIN, CALL_MAX)?;
    }
    if let Some(field) = field.get("compile") {
        limits.compile = field.duration(COMPILE_MIN, COMPILE_MAX)?;
    }
    if let Some(field) = field.get("connections") {
        let count = field.count(1, CONNECTIONS_MAX)?;
        limits.connections = usize::try_from(count).map_err(|_| field.problem("is more than this machine can count"))?;
    }
    Ok(limits)
}

fn sha256(field: &Field<'_>) -> Result<[u8; 32]> {
    let remedy = "write the 64 hexadecimal digits that `sha256sum` or `pgshovel plugin inspect` prints, in quotes";
    let text = field.text(remedy)?;
    let wrong = || field.problem(format!("{text:?} is not a SHA-256; {remedy}"));
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

/// The plugin's own part, as JSON.
fn json(field: &Field<'_>, sources: &Sources<'_>) -> Result<serde_json::Value> {
    if field.path.len() > CONFIGURATION_DEPTH_MAX {
        return Err(field.problem(format!("is nested too deeply; at most {CONFIGURATION_DEPTH_MAX} levels")));
    }
    Ok(match field.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => serde_json::to_value(number)
            .ok()
            .filter(|number| !number.is_null())
            .ok_or_else(|| field.wrong("JSON has no such number; put it in quotes"))?,
        Value::String(text) => field.expand(text, sources)?.into(),
        Value::Sequence(items) => {
            let item = |(index, value)| json(&field.below(Step::Index(index), value), sources);
            serde_json::Value::Array(items.iter().enumerate().map(item).collect::<Result<_>>()?)
        }
        Value::Mapping(_) => {
            let entry = |(key, field): (&str, Field<'_>)| Ok((key.to_owned(), json(&field, sources)?));
            serde_json::Value::Object(field.entries("write a map")?.into_iter().map(entry).collect::<Result<_>>()?)
        }
        Value::Tagged(_) => return Err(field.wrong("remove the tag, which JSON does not have")),
    })
}
