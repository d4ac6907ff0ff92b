//! The capability `files`: `wasi:filesystem` with one folder, which the plugin sees as `/`,
//! or with none.

mod grant;
mod link;
mod quota;

pub use grant::{Folder, Mode};
pub use link::Files;
