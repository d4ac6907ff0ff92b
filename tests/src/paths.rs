//! Where the build put things.

use std::path::{Path, PathBuf};

use pgshovel::error::{Error, Result};

/// The folder that cargo builds into, found from where this program lies in it.
pub fn build() -> Result<PathBuf> {
    let program = program()?;
    program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .map(Path::to_path_buf)
        .ok_or_else(|| Error::stop(format!("{} does not lie in a folder that cargo builds into; run it by `make`", program.display())))
}

/// The `pgshovel` that was built beside this program, or `PGSHOVEL_BINARY`.
pub fn pgshovel() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PGSHOVEL_BINARY") {
        return Ok(path.into());
    }
    let program = program()?;
    let path = program
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("pgshovel"))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::stop(format!("there is no pgshovel beside {}; run `make build`", program.display())))?;
    fresh(&path)?;
    Ok(path)
}

/// The folder with the components that `make plugins` builds.
pub fn plugins() -> Result<PathBuf> {
    Ok(build()?.join("plugins"))
}

/// The Python of the virtual environment that the install script makes, or
/// `PGSHOVEL_TEST_PYTHON`.
pub fn python() -> Result<PathBuf> {
    match std::env::var_os("PGSHOVEL_TEST_PYTHON") {
        Some(path) => Ok(path.into()),
        None => Ok(build()?.join("python/bin/python")),
    }
}

/// The root of the repository this program was built from.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::stop(format!("cannot find this program's own file: {error}")))
}

/// Cargo does not build another package's binary for a test: one that is older
/// than its sources would be tested in their place.
fn fresh(binary: &Path) -> Result<()> {
    let built = modified(binary)?;
    for folder in ["host/src", "proto/src"] {
        let mut folders = vec![repository().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if modified(&path)? > built {
                    return Err(Error::stop(format!("{} is older than {}; run `make build`", binary.display(), path.display())));
                }
            }
        }
    }
    Ok(())
}

fn modified(path: &Path) -> Result<std::time::SystemTime> {
    path.metadata().and_then(|data| data.modified()).map_err(|error| Error::stop(format!("cannot read {}: {error}", path.display())))
}
