//! Tests of the protocol, from outside of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod corpus;
mod damaged;
mod exactly_once;
mod independent;
mod samples;
mod snapshots;
mod text;
mod transitions;
mod wire;
