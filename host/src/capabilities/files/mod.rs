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
    const INTERFACES: &'static [Interfaces] = &[Interfaces::wasi("wasi:filesystem", &["preopens", "types"])];
    const ACCESS: Access = Access::Extended { finds: "an empty folder", example: "files: { path: ./data, mode: read-write }" };
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
            prepare(folder, setup)?;
        }
        let filesystem = link::Filesystem::open(grant.as_ref()).map_err(|(folder, error)| unusable(folder, setup, &error))?;
        let quota = grant.as_ref().and_then(|folder| Some(Quota::new(folder.path.clone(), folder.size?)));
        Ok(Open { filesystem, quota })
    }
}

/// A folder to write in is made if it is missing; one to read has to be there.
fn prepare(files: &Folder, setup: &Setup<'_>) -> Result<()> {
    match files.mode {
        Mode::ReadOnly => Ok(()),
        Mode::ReadWrite => std::fs::create_dir_all(&files.path).map_err(|error| unusable(files, setup, &error)),
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
