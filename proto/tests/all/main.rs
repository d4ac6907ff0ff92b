//! Tests of the protocol, from outside of it.

mod damaged;
mod exactly_once;
mod independent;
mod samples;
mod snapshots;
mod text;
mod transitions;
mod wire;
