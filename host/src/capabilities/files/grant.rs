//! `grants.files`: the folder that a plugin sees.

use std::fmt;
use std::path::PathBuf;

use crate::capabilities::capability::Setup;
use crate::error::{Code, Error, Result};
use crate::yaml::{Field, Problem, Sources};

const SIZE_MIN: u64 = 1 << 20;
const SIZE_MAX: u64 = 1 << 60;

/// A folder, which the plugin sees as `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Absolute, or relative to the process's working directory.
    pub path: PathBuf,
    pub mode: Mode,
    /// What may lie in it; `None`: as much as the disk holds.
    pub size: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    ReadOnly,
    ReadWrite,
}

pub(super) fn read(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Folder, Problem> {
    field.map(&["path", "mode", "size"])?;
    let remedy = "write a folder, such as path: ./stream";
    let path = field.required("path", remedy)?;
    let path = sources.folder.join(path.expand(path.text(remedy)?, sources)?);
    let modes = "write mode: read-only or mode: read-write";
    let mode = field.required("mode", modes)?;
    let mode = match mode.text(modes)? {
        "read-only" => Mode::ReadOnly,
        "read-write" => Mode::ReadWrite,
        other => return Err(mode.problem(format!("{other:?} is not a mode; {modes}"))),
    };
    let size = field.get("size").map(|field| field.bytes(SIZE_MIN, SIZE_MAX)).transpose()?;
    Ok(Folder { path, mode, size })
}

/// A folder that is missing is not made: where its name is misspelt, a new stream would begin
/// in it, and nobody would know.
pub(super) fn prepare(files: &Folder, setup: &Setup<'_>) -> Result<()> {
    match std::fs::metadata(&files.path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(unusable(files, setup, &"it is no folder")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(unusable(
            files,
            setup,
            &format_args!("it does not exist; if the name is right, make it: mkdir -m 700 {}", files.path.display()),
        )),
        Err(error) => Err(unusable(files, setup, &error)),
    }
}

pub(super) fn unusable(files: &Folder, setup: &Setup<'_>, cause: &dyn fmt::Display) -> Error {
    Error::configure(
        Code::FolderRefused,
        format!(
            "{}: {}.grants.files: cannot open the folder {}: {cause}; name a folder that this user may {}",
            setup.file.display(),
            setup.section,
            files.path.display(),
            match files.mode {
                Mode::ReadOnly => "read",
                Mode::ReadWrite => "write in",
            }
        ),
    )
}

/// Refuses a folder that would let the plugin change what runs in the host. It exists.
pub(super) fn keep_apart(files: &Folder, setup: &Setup<'_>) -> Result<()> {
    let Some(compiled) = setup.compiled else { return Ok(()) };
    let real = files.path.canonicalize().unwrap_or_else(|_| files.path.clone());
    if !compiled.starts_with(&real) && !real.starts_with(compiled) {
        return Ok(());
    }
    Err(Error::configure(
        Code::FolderRefused,
        format!(
            "{}: {}.grants.files: the folder {} and that of compiled plugins, {}, lie one in the other: a plugin could change what runs in the host; \
         grant another folder, or name another one with --cache-dir",
            setup.file.display(),
            setup.section,
            files.path.display(),
            compiled.display()
        ),
    ))
}
