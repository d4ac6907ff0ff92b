//! Tests of the protocol, from outside of it.

mod exactly_once;
mod independent;
mod samples;
mod text;
mod transitions;
mod wire;
