//! The language on the stream: its messages, their codec and their grammar.
//!
//! Pure: no async, clock, randomness, file or socket.

/// The messages of `pgshovel/interfaces/*.proto`, as prost generates them.
#[allow(clippy::all, missing_debug_implementations)]
pub mod interfaces {
    pub mod common {
        include!(concat!(env!("OUT_DIR"), "/pgshovel.interfaces.common.rs"));
    }
    pub mod configurations {
        include!(concat!(env!("OUT_DIR"), "/pgshovel.interfaces.configurations.rs"));
    }
    pub mod replication {
        include!(concat!(env!("OUT_DIR"), "/pgshovel.interfaces.replication.rs"));
    }
    pub mod streams {
        include!(concat!(env!("OUT_DIR"), "/pgshovel.interfaces.streams.rs"));
    }
}

pub mod batch;
pub mod codec;
mod reflect;
pub mod row;
pub mod snapshot;
pub mod stored;
pub mod text;
pub mod timestamp;
mod wire;
