//! The file stream: a log in a folder, kept by one writer and followed by any
//! number of readers, without a broker.
//!
//! `segment` is the format and `writer` and `reader` are what is done with it, all
//! without a file system of their own: `wasi` gives them the folder that
//! `grants.files` names, the tests one that loses power.

// Without the component, which only wasm has, nothing calls them.
#![cfg_attr(not(any(test, target_family = "wasm")), allow(dead_code))]

mod checksum;
mod failure;
mod reader;
mod segment;
mod settings;
mod storage;
mod writer;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod property;
#[cfg(test)]
mod simulated;

#[cfg(target_family = "wasm")]
mod plugin;
#[cfg(target_family = "wasm")]
mod wasi;
