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

use std::sync::Arc;

use tracing::Level;

use super::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup};
use super::grants::Resources;
use super::shared::Shared;
use crate::error::Result;
use crate::yaml::{Field, Problem, Sources};

use client::Client;
pub use grant::Grant;
pub use link::Requests;
use report::Reports;
use resolve::{Resolve, System};

/// The capability.
#[derive(Debug)]
pub struct Http;

impl Capability for Http {
    const NAME: &'static str = "http";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::wasi("wasi:http", &["types", "outgoing-handler"])];
    const ACCESS: Access = Access::Granted { example: "http: { origins: [\"https://search.example:9200/index/\"] }" };
    type Grant = Resources<Grant>;
    type State = Requests;

    fn grant(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Self::Grant, Problem> {
        grant::read(field, sources)
    }

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        link::link(linker)
    }

    fn state(grant: &Self::Grant, setup: &Setup<'_>, shared: &Shared) -> Result<Self::State> {
        let log = shared.log.clone();
        let reports = Reports::new(shared.place.clone(), move |text| log.emit(Level::WARN, text));
        let resolver: Arc<dyn Resolve> = Arc::new(System);
        let client = Client::new(grant, &resolver, &shared.budget, reports)
            .map_err(|error| error.context(format_args!("{}: {}.grants.http", setup.file.display(), setup.section)))?;
        Ok(Requests::new(client))
    }
}
