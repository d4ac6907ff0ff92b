//! Where a component is looked for.

use std::path::{Path, PathBuf};

use crate::config::Section;
use crate::error::{Code, Error, Result};

/// The file that `section.path` means: beside the configuration file, then in the
/// folders of `search`, in their order. An absolute path means itself.
pub fn locate(section: &Section, search: &[PathBuf]) -> Result<PathBuf> {
    let candidates = candidates(section, search);
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let places: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    let remedy = match candidates.iter().find(|path| path.is_dir()) {
        Some(folder) => format!("{} is a folder, name the component in it", folder.display()),
        None => "correct the path, or add the folder that holds it to --plugin-path".to_owned(),
    };
    Err(Error::configure(
        Code::PluginAbsent,
        format!(
            "{}: {}.path: no component {}; looked for {}; {remedy}",
            section.file.display(),
            section.name,
            section.path,
            places.join(", ")
        ),
    ))
}

fn candidates(section: &Section, search: &[PathBuf]) -> Vec<PathBuf> {
    let path = Path::new(&section.path);
    if path.is_absolute() {
        return vec![path.to_owned()];
    }
    let mut candidates = vec![section.folder().join(path)];
    for folder in search {
        let candidate = folder.join(path);
        if !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    candidates
}
