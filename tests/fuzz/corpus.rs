// Reads the corpus of a fuzz target: the inputs that have a name, and those of `TARGET.inputs`,
// where each stands behind its length (four bytes, little-endian).

use std::path::{Path, PathBuf};

/// `folder` is that of this file.
pub fn corpus(folder: &Path, target: &str) -> Vec<Vec<u8>> {
    let read = |path: &PathBuf| std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let folder = folder.join("corpus");
    let named = folder.join(target);
    let files = std::fs::read_dir(&named).unwrap_or_else(|error| panic!("cannot list {}: {error}", named.display()));
    let mut named: Vec<PathBuf> =
        files.map(|entry| entry.unwrap_or_else(|error| panic!("cannot list the corpus: {error}")).path()).collect();
    named.sort();
    let mut inputs: Vec<Vec<u8>> = named.iter().map(read).collect();
    let packed = read(&folder.join(format!("{target}.inputs")));
    let mut rest = packed.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (input, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = after;
    }
    assert!(inputs.len() >= 2 && rest.is_empty(), "the corpus of the fuzz target {target} is damaged");
    inputs
}
