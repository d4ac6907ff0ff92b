//! The capability `files`: `wasi:filesystem` with one folder, which the plugin sees as `/`,
//! or with none.

mod grant;
mod link;
mod quota;

use std::fmt;

use super::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::yaml::{Field, Problem, Sources};

pub use grant::{Folder, Mode};
pub(crate) use quota::{Full, Quota};

/// What an instance has open.
#[derive(Debug)]
pub struct Open {
    filesystem: link::Filesystem,
    /// How full the folder may be, if that is limited.
    pub(crate) quota: Option<Quota>,
}

/// The capability.
#[derive(Debug)]
pub struct Files;

impl Capability for Files {
    const NAME: &'static str = "files";
    const INTERFACES: Interfaces = Interfaces::wasi(&["wasi:filesystem"]);
    const ACCESS: Access = Access::Extended { without: "an empty folder", example: "files: { path: ./data, mode: read-write }" };
    type Grant = Option<Folder>;
    type State = Open;

    fn grant(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Self::Grant, Problem> {
        grant::read(field, sources).map(Some)
    }

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        link::link(linker)
    }

    fn state(grant: &Option<Folder>, setup: &Setup<'_>, _: &Shared) -> Result<Self::State> {
        if let Some(folder) = grant {
            check(folder, setup)?;
        }
        let filesystem = link::Filesystem::open(grant.as_ref()).map_err(|(folder, error)| unusable(folder, setup, &error))?;
        let quota = grant.as_ref().and_then(|folder| Some(Quota::new(folder.path.clone(), folder.size?)));
        Ok(Open { filesystem, quota })
    }
}

/// A folder that is missing is not made: where its name is misspelt, a new stream would begin
/// in it, and nobody would know.
fn check(files: &Folder, setup: &Setup<'_>) -> Result<()> {
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

fn unusable(files: &Folder, setup: &Setup<'_>, cause: &dyn fmt::Display) -> Error {
    Error::configure(format!(
        "{}: {}.grants.files: cannot open the folder {}: {cause}; name a folder that this user may {}",
        setup.file.display(),
        setup.section,
        files.path.display(),
        match files.mode {
            Mode::ReadOnly => "read",
            Mode::ReadWrite => "write in",
        }
    ))
}
