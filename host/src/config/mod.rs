//! The YAML files of `relay` and `replicate`, read into typed sections.
//!
//! Every problem is one message: file, line, column, the field's path, what is
//! wrong, and what to write instead. Values that may be secret are never shown.

mod section;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capabilities::Grants;
use crate::error::{Error, Result};
use crate::yaml::{self, Field, Problem, join, position};

/// A configuration file is written by a person; more than this is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What `pgshovel relay` is told.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayConfiguration {
    pub stream: Section,
}

/// What `pgshovel replicate` is told.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicateConfiguration {
    pub stream: Section,
    pub loader: Section,
    pub target: Section,
    /// In the order in which mutations pass them.
    pub transforms: Vec<Section>,
}

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

/// Reads the file of `pgshovel relay`. Sections that only `replicate` needs may
/// be there: one file can serve both.
pub fn relay(path: &Path) -> Result<RelayConfiguration> {
    read(path, |root| Ok(RelayConfiguration { stream: section::required(root, "stream", path)? }))
}

/// Reads the file of `pgshovel replicate`.
pub fn replicate(path: &Path) -> Result<ReplicateConfiguration> {
    read(path, |root| {
        let stream = section::required(root, "stream", path)?;
        let loader = section::required(root, "loader", path)?;
        let target = section::required(root, "target", path)?;
        let transforms = section::list(root, "transforms", path)?;
        Ok(ReplicateConfiguration { stream, loader, target, transforms })
    })
}

/// The sections that a file may have.
const SECTIONS: [&str; 4] = ["stream", "loader", "target", "transforms"];

fn read<T>(path: &Path, interpret: impl FnOnce(&Field<'_>) -> std::result::Result<T, Problem>) -> Result<T> {
    let text = text(path)?;
    parse(path, &text, interpret)
}

/// The pure half of [`read`], but for the files and variables that `${…}` names.
fn parse<T>(path: &Path, text: &str, interpret: impl FnOnce(&Field<'_>) -> std::result::Result<T, Problem>) -> Result<T> {
    let root: yaml::Value = yaml::from_str(text).map_err(|error| syntax(path, &error))?;
    if root.is_null() {
        return Err(Error::configure(format!(
            "{}: the file is empty; it takes a section `stream`, such as stream: {{ path: file.wasm }}",
            path.display()
        )));
    }
    let root = Field::root(&root);
    root.map(&SECTIONS).and_then(|()| interpret(&root)).map_err(|problem| {
        let place = position::find(text, &problem.path, problem.at_key).map(|(line, column)| format!(":{line}:{column}"));
        let field = join(&problem.path);
        let field = if field.is_empty() { field } else { format!("{field}: ") };
        Error::configure(format!("{}{}: {field}{}", path.display(), place.unwrap_or_default(), problem.message))
    })
}

fn syntax(path: &Path, error: &yaml::Error) -> Error {
    let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
    let text = error.to_string();
    // The location is in front already.
    let cause = text.split_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
    Error::configure(format!(
        "{}{place}: not valid YAML: {cause}; check the indentation, the colons and the quotes around it",
        path.display()
    ))
}

fn text(path: &Path) -> Result<String> {
    let shown = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| Error::configure(format!("{shown}: cannot read the configuration: {error}; give the path of a YAML file")))?;
    if !size.is_file() {
        return Err(Error::configure(format!("{shown}: not a file; give the path of a YAML file")));
    }
    if size.len() > FILE_BYTES_MAX {
        return Err(Error::configure(format!(
            "{shown}: {} bytes is too large for a configuration, which has at most {FILE_BYTES_MAX}",
            size.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::configure(format!("{shown}: cannot read the configuration: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::configure(format!("{shown}:{line}: not UTF-8; save the file as UTF-8 text"))
    })
}

#[cfg(test)]
mod tests;
