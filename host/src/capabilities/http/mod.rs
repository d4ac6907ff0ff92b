//! Requests to servers that the section grants: the interfaces of `wasi:http`.

pub mod address;
pub mod host;
pub mod origin;
pub mod path;
