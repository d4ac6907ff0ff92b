//! The role `loader`.

use std::sync::Arc;
use std::time::Duration;

use proto::row::Relation;
use tokio::time::timeout;
use wasmtime::component::ResourceAny;

use crate::capabilities::origin::Snapshot;
use crate::capabilities::role::Role;
use crate::capabilities::types::convert::{from_relation, from_rows};
use crate::config::Section;
use crate::error::Result;
use crate::plugins::bindings::exports::pgshovel::plugin::loader::{Guest, GuestIndices};
use crate::plugins::context::Context;
use crate::plugins::engine::Engine;
use crate::plugins::session::{Session, nothing};
use crate::ports;

/// An open loader.
pub struct Loader {
    session: Session,
    guest: Guest,
    resource: ResourceAny,
    /// Of the last chunk: the next one mostly has the same.
    relation: Option<Arc<Relation>>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.fmt(f)
    }
}

/// Opens the section's component as a loader of the rows of `origin`.
pub async fn open(engine: &Engine, section: &Section, context: &Context, origin: Arc<Snapshot>) -> Result<Loader> {
    let (mut session, instance, pre) = Session::start(engine, section, Role::Loader, context, Some(origin)).await?;
    let guest = GuestIndices::new(&pre).and_then(|indices| indices.load(&mut session.store, &instance));
    let guest = guest.map_err(|error| session.mismatch(&error))?;
    let limit = session.begin(Duration::ZERO)?;
    let opened = timeout(limit, guest.session().call_open(&mut session.store, &session.context, &session.configuration)).await;
    let resource = session.end("open", opened, nothing)?;
    Ok(Loader { session, guest, resource, relation: None })
}

impl ports::Loader for Loader {
    async fn next(&mut self, max_rows: u32) -> Result<Option<ports::Chunk>> {
        let limit = self.session.begin(Duration::ZERO)?;
        let next = timeout(limit, self.guest.session().call_next(&mut self.session.store, self.resource, max_rows)).await;
        let Some(chunk) = self.session.end("next", next, nothing)? else { return Ok(None) };
        if chunk.rows.len() > max_rows as usize {
            return Err(self.session.invalid("next", format_args!("{} rows where at most {max_rows} were asked for", chunk.rows.len())));
        }
        let relation = from_relation(chunk.relation).map_err(|reason| self.session.invalid("next", reason))?;
        let relation = self.relation.take().filter(|known| **known == relation).unwrap_or_else(|| Arc::new(relation));
        let rows = from_rows(chunk.rows, &relation).map_err(|reason| self.session.invalid("next", reason))?;
        self.relation = Some(Arc::clone(&relation));
        Ok(Some(ports::Chunk { relation, rows, estimated_rows: chunk.estimated_rows }))
    }
}
