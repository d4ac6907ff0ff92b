//! The interfaces that plugins import, served by `capabilities`. Nothing is
//! decided here but whether the section grants what is asked for.

mod kafka;
mod log;
mod origin;
mod postgres;

use wasmtime::component::{HasSelf, Linker};

use super::bindings::{Host_, pgshovel::plugin::types};
use super::state::State;
use crate::capabilities::grants::Resources;

/// Everything that a plugin may import, WASI 0.2 included.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    Host_::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl types::Host for State {}

/// The resource that a plugin asks for; else what its author, or its operator, has to do.
fn granted<'a, T>(resources: &'a Resources<T>, kind: &str, name: Option<&str>, place: &str) -> Result<&'a T, String> {
    resources.pick(kind, name).map_err(|reason| match example(kind) {
        Some(grant) if resources.is_none() => format!("{reason}; add to the {place}: grants: {{ {grant} }}"),
        _ => format!("{reason} ({place})"),
    })
}

/// What to write under `grants` to grant a capability.
#[must_use]
pub fn example(kind: &str) -> Option<&'static str> {
    match kind {
        "postgres" => Some("postgres: \"postgresql://app@localhost:5432/app\""),
        "kafka" => Some("kafka: localhost:9092"),
        "files" => Some("files: { path: ./data, mode: read-write }"),
        _ => None,
    }
}
