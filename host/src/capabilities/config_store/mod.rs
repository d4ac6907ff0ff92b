//! The capability `config-store`: `wasi:config/store`, for plugins whose language reads its
//! settings by it. It shows the section's `configuration`, and nothing else: no grant, so none
//! of the host's credentials, and no other section.

mod link;
mod settings;

pub use link::ConfigStore;
