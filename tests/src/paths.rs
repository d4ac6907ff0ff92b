//! Where the build put things.

use std::path::{Path, PathBuf};

use pgshovel::error::{Code, Error, Result};

/// The folder that cargo builds into, found from where this program lies in it:
/// `FOLDER/PROFILE/program`, or for a test `FOLDER/PROFILE/deps/program`.
pub fn build() -> Result<PathBuf> {
    let program = program()?;
    above(&program).map(Path::to_path_buf).ok_or_else(|| {
        Error::stop(Code::ToolFailed, format!("{} does not lie in a folder that cargo builds into; run it by `make`", program.display()))
    })
}

fn above(program: &Path) -> Option<&Path> {
    let folder = program.parent()?;
    let profile = if folder.ends_with("deps") { folder.parent()? } else { folder };
    profile.parent()
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
        .ok_or_else(|| Error::stop(Code::ToolFailed, format!("there is no pgshovel beside {}; run `make build`", program.display())))?;
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

/// The root of the repository that is tested: cargo says it to a test that it runs.
/// What it says when compiling may be a checkout that was built into the same folder.
#[must_use]
pub fn repository() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::stop(Code::ToolFailed, format!("cannot find this program's own file: {error}")))
}

/// Cargo does not build another package's binary for a test: one that is older
/// than its sources, which cargo lists beside it, would be tested in their place.
fn fresh(binary: &Path) -> Result<()> {
    let list = binary.with_extension("d");
    let text = std::fs::read_to_string(&list)
        .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {}: {error}; run `make build`", list.display())))?;
    let built = modified(binary)?;
    for source in sources(&text) {
        if modified(&source).is_ok_and(|modified| modified > built) {
            return Err(Error::stop(
                Code::ToolFailed,
                format!("{} is older than {}; run `make build`", binary.display(), source.display()),
            ));
        }
    }
    Ok(())
}

/// What stands behind the colon of `program: source source`, a space in a name as `\ `.
fn sources(list: &str) -> Vec<PathBuf> {
    let (_, sources) = list.split_once(": ").unwrap_or_default();
    let spaced = sources.trim_end().replace("\\ ", "\0");
    spaced.split_ascii_whitespace().map(|source| source.replace('\0', " ").into()).collect()
}

fn modified(path: &Path) -> Result<std::time::SystemTime> {
    path.metadata()
        .and_then(|data| data.modified())
        .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_found_from_programs_and_tests() {
        assert_eq!(above(Path::new("/t/debug/bench")), Some(Path::new("/t")));
        assert_eq!(above(Path::new("/t/release/deps/real-1a2b")), Some(Path::new("/t")));
        assert_eq!(above(Path::new("/bench")), None);
    }

    #[test]
    fn sources_are_read_from_cargos_list() {
        assert_eq!(sources("/t/p: /a/b.rs /with\\ space/c.rs\n"), [Path::new("/a/b.rs"), Path::new("/with space/c.rs")]);
    }
}
