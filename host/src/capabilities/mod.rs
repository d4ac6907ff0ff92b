//! What a plugin may import: each capability is plain Rust, and knows nothing of WebAssembly.

pub mod grants;
pub mod postgres;
