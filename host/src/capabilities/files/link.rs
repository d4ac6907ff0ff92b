//! The interfaces of `wasi:filesystem`.

use std::fmt;

use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::{Files, Folder, Mode};
use crate::capabilities::capability::{Holds, Linked, Linker, View};

/// The file system that a plugin sees.
pub(super) struct Filesystem(WasiCtx);

impl Filesystem {
    /// With nothing but the folder. The error names the folder that cannot be opened.
    pub fn open(folder: Option<&Folder>) -> Result<Self, (&Folder, wasmtime::Error)> {
        let mut wasi = WasiCtx::builder();
        if let Some(folder) = folder {
            let permissions = match folder.mode {
                Mode::ReadOnly => FsPerms::ReadOnly,
                Mode::ReadWrite => FsPerms::ReadWrite,
            };
            wasi.preopened_dir(&folder.path, "/", permissions).map_err(|error| (folder, error))?;
        }
        Ok(Self(wasi.build()))
    }
}

impl fmt::Debug for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filesystem")
    }
}

pub(super) fn link<T: Holds<Files>>(linker: &mut Linker<T>) -> Linked {
    preopens::add_to_linker::<T, WasiFilesystem>(linker, view)?;
    types::add_to_linker::<T, WasiFilesystem>(linker, view)
}

fn view<T: Holds<Files>>(store: &mut T) -> WasiFilesystemCtxView<'_> {
    let View { state, shared } = store.view();
    WasiFilesystemCtxView { ctx: state.filesystem.0.filesystem(), table: &mut shared.table }
}
