//! The capability `log`: what a plugin says goes to the host's log. See `wit/log.wit`,
//! which is its contract.

mod link;

pub use link::Logs;
