//! `grants.files`: the folder that a plugin sees.

use std::path::PathBuf;

use crate::yaml::{Field, Problem, Sources};

type Result<T> = std::result::Result<T, Problem>;

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

pub(super) fn read(field: &Field<'_>, sources: &Sources<'_>) -> Result<Folder> {
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
