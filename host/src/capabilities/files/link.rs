//! The interfaces of `wasi:filesystem`.

use std::fmt;

use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::grant::{self, Folder, Mode};
use super::quota::Quota;
use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View};
use crate::capabilities::shared::Shared;
use crate::error::Result;
use crate::yaml::{Field, Problem, Sources};

/// The capability.
#[derive(Debug)]
pub struct Files;

/// The file system that an instance sees.
pub struct Filesystem {
    wasi: WasiCtx,
    /// How full the folder may be, if that is limited.
    quota: Option<Quota>,
}

impl Capability for Files {
    const NAME: &'static str = "files";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::wasi("wasi:filesystem", &["preopens", "types"])];
    const ACCESS: Access = Access::Extended { finds: "an empty folder", example: "files: { path: ./data, mode: read-write }" };
    type Grant = Option<Folder>;
    type State = Filesystem;

    fn grant(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Self::Grant, Problem> {
        grant::read(field, sources).map(Some)
    }

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        preopens::add_to_linker::<T, WasiFilesystem>(linker, view)?;
        types::add_to_linker::<T, WasiFilesystem>(linker, view)
    }

    fn state(grant: &Option<Folder>, setup: &Setup<'_>, _: &Shared) -> Result<Filesystem> {
        let mut wasi = WasiCtx::builder();
        let mut quota = None;
        if let Some(folder) = grant {
            grant::prepare(folder, setup)?;
            grant::keep_apart(folder, setup)?;
            let permissions = match folder.mode {
                Mode::ReadOnly => FsPerms::ReadOnly,
                Mode::ReadWrite => FsPerms::ReadWrite,
            };
            wasi.preopened_dir(&folder.path, "/", permissions).map_err(|error| grant::unusable(folder, setup, &error))?;
            quota = folder.size.map(|size| Quota::new(folder.path.clone(), size));
        }
        Ok(Filesystem { wasi: wasi.build(), quota })
    }

    fn check(view: View<'_, Self>) -> Result<()> {
        view.state.quota.as_mut().map_or(Ok(()), |quota| quota.check(&view.shared.place))
    }
}

fn view<T: Holds<Files>>(store: &mut T) -> WasiFilesystemCtxView<'_> {
    let View { state, shared } = store.view();
    WasiFilesystemCtxView { ctx: state.wasi.filesystem(), table: &mut shared.table }
}

impl fmt::Debug for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filesystem").field("quota", &self.quota).finish_non_exhaustive()
    }
}
