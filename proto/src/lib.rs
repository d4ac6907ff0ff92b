//! The language on the stream: its messages, their codec and their grammar.
//!
//! Pure: no async, clock, randomness, file or socket. What time it is and who
//! one is are arguments; what to do is a value that is returned.
//!
//! | where | what |
//! |---|---|
//! | [`interfaces`] | the messages of `pgshovel/interfaces/*.proto`, as pgshovel 2015 had them and newer, optional fields |
//! | [`row`] | typed rows and mutations, as the rest of the program sees them |
//! | [`batch::publisher`] | the sending half: mutations to messages, written straight to bytes |
//! | [`codec`] | bytes to messages, everything checked that one message shows |
//! | [`batch::step`] | the receiving half: messages to actions, or a violation of the grammar |
//! | [`strict`] | whether the actions can have happened, in bounded memory |
//! | [`batch::bootstrap`], [`snapshot`] | which transactions the loaded rows contain |
//! | [`stored`], [`text`] | messages at rest, and configurations as people write them |
//!
//! Invariants, each held by a property test: what a publisher writes is what prost
//! would; what it writes comes out of a reader unchanged; whatever dies, is resent,
//! repeated or fenced, the source's rows come out once; no input panics.

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
pub mod strict;
pub mod text;
pub mod timestamp;
mod wire;
