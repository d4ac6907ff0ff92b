//! What a plugin may import: each capability is plain Rust, and knows nothing of WebAssembly.

pub mod grants;
pub mod kafka;
pub mod origin;
pub mod postgres;
