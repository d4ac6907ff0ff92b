//! Tests of the protocol, from outside of it.

mod text;
