//! What a plugin may ask of servers by HTTP: `wasi:http` 0.2, so that ordinary clients work.
//!
//! A request is checked twice. By name: its scheme, host, port and path have to be those of
//! a grant (`origin.rs`, `host.rs`, `path.rs`). By number: each address of the host is looked
//! at before it is dialled, and what was looked at is what is dialled (`resolve.rs`,
//! `address.rs`). Redirects are answers like others: where a plugin follows one, its new
//! request is checked as the first was.
//!
//! What authenticates is added behind the plugin (`auth`). All that a plugin keeps under way
//! counts against its budget, and ends within the time of the call that began it (`client.rs`).

pub mod address;
mod auth;
mod body;
mod client;
mod connection;
mod fetch;
mod grant;
mod headers;
pub mod host;
mod link;
pub mod origin;
pub mod path;
mod pool;
mod refusal;
mod report;
mod resolve;
mod tls;

#[cfg(test)]
mod tests;

pub use grant::Grant;
pub use link::{Http, Requests};
