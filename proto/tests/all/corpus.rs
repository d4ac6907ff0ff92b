//! The properties of the fuzz targets, on their corpus and on what is near it.

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../../../tests/fuzz/corpus.rs"]
mod files;
#[path = "../../../tests/fuzz/properties.rs"]
mod properties;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    files::corpus(&crate::package().join("../tests/fuzz"), target)
}

/// One of the corpus, some bytes of it changed, cut out or doubled.
fn near(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let changes = prop::collection::vec((any::<Index>(), any::<u8>(), 0..4), 0..8);
    (prop::sample::select(corpus(target)), changes).prop_map(|(mut bytes, changes)| {
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 => bytes.extend_from_within(at..),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|old| *old ^= byte),
            }
        }
        bytes.truncate(1 << 16);
        bytes
    })
}

#[test]
fn the_corpus_itself() {
    corpus("decode").iter().for_each(|bytes| properties::decode(bytes));
    corpus("step").iter().for_each(|bytes| properties::step(bytes));
    corpus("state").iter().for_each(|bytes| properties::state(bytes));
    corpus("text").iter().for_each(|bytes| properties::text(std::str::from_utf8(bytes).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn messages_near_the_corpus(bytes in near("decode")) {
        properties::decode(&bytes);
    }

    #[test]
    fn streams_near_the_corpus(bytes in near("step")) {
        properties::step(&bytes);
    }

    #[test]
    fn states_near_the_corpus(bytes in near("state")) {
        properties::state(&bytes);
    }

    #[test]
    fn texts_near_the_corpus(bytes in near("text")) {
        properties::text(&String::from_utf8_lossy(&bytes));
    }
}
