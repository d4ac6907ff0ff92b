//! The YAML files of `relay` and `replicate`, read into typed sections.
//!
//! Every problem is one message: file, line, column, the field's path, what is
//! wrong, and what to write instead. Values that may be secret are never shown.

mod section;

use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::yaml::{self, Field, Problem, join, position};

pub use section::{Limits, Section};

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
        return Err(Error::configure(
            Code::YamlInvalid,
            format!("{}: the file is empty; it takes a section `stream`, such as stream: {{ path: file.wasm }}", path.display()),
        ));
    }
    let root = Field::root(&root);
    root.map(&SECTIONS).and_then(|()| interpret(&root)).map_err(|problem| {
        let place = position::find(text, &problem.path, problem.at_key).map(|(line, column)| format!(":{line}:{column}"));
        let field = join(&problem.path);
        let field = if field.is_empty() { field } else { format!("{field}: ") };
        Error::configure(Code::FieldInvalid, format!("{}{}: {field}{}", path.display(), place.unwrap_or_default(), problem.message))
    })
}

fn syntax(path: &Path, error: &yaml::Error) -> Error {
    let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
    let text = error.to_string();
    // The location is in front already.
    let cause = text.split_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
    Error::configure(
        Code::YamlInvalid,
        format!("{}{place}: not valid YAML: {cause}; check the indentation, the colons and the quotes around it", path.display()),
    )
}

fn text(path: &Path) -> Result<String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| {
        Error::configure(Code::FileUnreadable, format!("{shown}: cannot read the configuration: {error}; give the path of a YAML file"))
    })?;
    if !size.is_file() {
        return Err(Error::configure(Code::FileUnreadable, format!("{shown}: not a file; give the path of a YAML file")));
    }
    if size.len() > FILE_BYTES_MAX {
        return Err(Error::configure(
            Code::FileUnreadable,
            format!("{shown}: {} bytes is too large for a configuration, which has at most {FILE_BYTES_MAX}", size.len()),
        ));
    }
    let bytes = std::fs::read(path)
        .map_err(|error| Error::configure(Code::FileUnreadable, format!("{shown}: cannot read the configuration: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::configure(Code::FileUnreadable, format!("{shown}:{line}: not UTF-8; save the file as UTF-8 text"))
    })
}

#[cfg(test)]
mod tests;
