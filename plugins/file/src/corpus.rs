//! The property of the fuzz target `segment`, on its corpus and on what is near it.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::property;

#[path = "../../../tests/fuzz/corpus.rs"]
mod files;

fn corpus() -> Vec<Vec<u8>> {
    files::corpus(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz"), "segment")
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
