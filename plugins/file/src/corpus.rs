//! The property of the fuzz target `segment`, on its corpus and on what is near it.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::property;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/fuzz/corpus/segment");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 2, "the corpus is gone");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn the_corpus_itself() {
    corpus().iter().for_each(|input| property::read(input));
}

proptest! {
    #[test]
    fn segments_near_the_corpus(mut input in prop::sample::select(corpus()), at: Index, byte: u8, cut: Index) {
        if !input.is_empty() {
            let at = at.index(input.len());
            input[at] ^= byte;
            input.truncate(1 + cut.index(input.len()));
        }
        property::read(&input);
    }
}
