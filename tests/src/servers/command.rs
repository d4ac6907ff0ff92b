//! Commands that are run to their end, and the files that servers are given.

use std::path::Path;
use std::process::Command;

use pgshovel::error::{Code, Error, Result};

/// Runs a command to its end.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output =
        command.output().map_err(|error| Error::stop(Code::ToolFailed, format!("cannot run {shown}: {error}; run `make install`")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    Err(Error::stop(Code::ToolFailed, format!("{shown} failed ({}): {}", output.status, words.trim())))
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot write {}: {error}", path.display())))
}

pub(super) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot create {}: {error}", path.display())))
}
