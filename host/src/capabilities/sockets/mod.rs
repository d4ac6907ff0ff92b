//! The capability `sockets`: `wasi:sockets` as language runtimes import it. No address can
//! be reached, and no name is looked up.

mod link;

pub use link::Sockets;
