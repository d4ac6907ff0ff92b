//! The folder of compiled plugins. What lies in it runs in the host without a check, so
//! nobody else may write there.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wasmtime::{Cache, CacheConfig};

/// wasmtime keeps its folder below a size by removing from it whatever it finds,
/// its own or not: it gets one of its own, inside the one that was named.
const COMPILED: &str = "compiled-plugins";

const OWNER_ONLY: u32 = 0o700;
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// In such a folder only its owner removes or renames a file.
const STICKY: u32 = 0o1000;

/// Without its cache the host only starts slower.
pub(super) fn open(folder: &Path) -> Option<Cache> {
    let opened = prepare(&folder.join(COMPILED)).and_then(|folder| {
        let mut config = CacheConfig::new();
        config.with_directory(folder);
        Cache::new(config).map_err(|error| format!("{error:#}"))
    });
    opened
        .inspect_err(|reason| {
            tracing::warn!(folder = %folder.display(), "cannot keep compiled plugins, so each start compiles them: {reason}; name another folder with --cache-dir");
        })
        .ok()
}

/// Makes the folder if it is missing, and its own user's alone.
fn prepare(folder: &Path) -> std::result::Result<PathBuf, String> {
    let failed = |error: io::Error| error.to_string();
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(folder).map_err(failed)?;
    // wasmtime wants an absolute path.
    let folder = folder.canonicalize().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    for (place, at) in folder.ancestors().zip(0..) {
        let found = fs::metadata(place).map_err(failed)?;
        if found.uid() != own && (at == 0 || found.uid() != 0) {
            return Err(format!("{} belongs to another user", place.display()));
        }
        if found.mode() & WRITABLE_BY_OTHERS != 0 && (at == 0 || found.mode() & STICKY == 0) {
            return Err(format!("others may write in {}", place.display()));
        }
    }
    fs::set_permissions(&folder, Permissions::from_mode(OWNER_ONLY)).map_err(failed)?;
    Ok(folder)
}
