//! Tests of the protocol, from outside of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod damaged;
mod epochs;
mod exactly_once;
mod independent;
mod samples;
mod snapshots;
mod strict;
mod text;
mod transitions;
mod versions;
mod wire;

/// The folder of the package that is tested. What cargo says when compiling may be
/// a checkout that was built into the same folder.
fn package() -> std::path::PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it to a test").into()
}
