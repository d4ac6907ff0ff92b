//! The role `target`.

use std::time::Duration;

use proto::batch::Batch;
use proto::row::Mutation;
use tokio::time::timeout;
use wasmtime::component::ResourceAny;

use super::{mutation, to_batch};
use crate::capabilities::role::Role;
use crate::capabilities::types::convert::{to_mutations, to_relation, to_rows};
use crate::config::Section;
use crate::error::{Rejected, Result};
use crate::plugins::bindings::exports::pgshovel::plugin::target::{Guarantee, Guest, GuestIndices, Source};
use crate::plugins::context::Context;
use crate::plugins::engine::Engine;
use crate::plugins::session::{Session, nothing};
use crate::ports;

/// An open target.
pub struct Target {
    session: Session,
    guest: Guest,
    resource: ResourceAny,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.fmt(f)
    }
}

/// Opens the section's component as a target.
pub async fn open(engine: &Engine, section: &Section, context: &Context) -> Result<Target> {
    let (mut session, instance, pre) = Session::start(engine, section, Role::Target, context, None).await?;
    let guest = GuestIndices::new(&pre).and_then(|indices| indices.load(&mut session.store, &instance));
    let guest = guest.map_err(|error| session.mismatch(&error))?;
    let limit = session.begin(Duration::ZERO)?;
    let opened = timeout(limit, guest.session().call_open(&mut session.store, &session.context, &session.configuration)).await;
    let resource = session.end("open", opened, nothing)?;
    Ok(Target { session, guest, resource })
}

impl ports::Target for Target {
    async fn guarantee(&mut self) -> Result<ports::Guarantee> {
        let limit = self.session.begin(Duration::ZERO)?;
        let guarantee = timeout(limit, self.guest.session().call_guarantee(&mut self.session.store, self.resource)).await;
        let guarantee = self.session.end("guarantee", guarantee.map(|guarantee| guarantee.map(Ok)), nothing)?;
        Ok(match guarantee {
            Guarantee::Transactional => ports::Guarantee::Transactional,
            Guarantee::Idempotent => ports::Guarantee::Idempotent,
            Guarantee::AtLeastOnce => ports::Guarantee::AtLeastOnce,
        })
    }

    async fn load_state(&mut self) -> Result<Option<Vec<u8>>> {
        let limit = self.session.begin(Duration::ZERO)?;
        let state = timeout(limit, self.guest.session().call_load_state(&mut self.session.store, self.resource)).await;
        self.session.end("load-state", state, nothing)
    }

    async fn set_source(&mut self, source: &ports::Provenance) -> Result<()> {
        let ports::Provenance { system_identifier, database_oid, tables, transformed } = source.clone();
        let source = Source { system_identifier, database_oid, tables, transformed };
        let limit = self.session.begin(Duration::ZERO)?;
        let told = timeout(limit, self.guest.session().call_set_source(&mut self.session.store, self.resource, &source)).await;
        self.session.end("set-source", told, nothing)
    }

    async fn load(&mut self, chunk: ports::Chunk, version: u64) -> Result<()> {
        let relation = to_relation(0, &chunk.relation);
        let rows = to_rows(chunk.rows);
        let limit = self.session.begin(Duration::ZERO)?;
        let loaded =
            timeout(limit, self.guest.session().call_load(&mut self.session.store, self.resource, &relation, &rows, version)).await;
        let row = |index| {
            let row = Rejected::Row { schema: relation.schema.clone(), table: relation.table.clone() };
            (index as usize).lt(&rows.len()).then_some(row)
        };
        self.session.end("load", loaded, row)
    }

    async fn begin(&mut self, batch: &Batch) -> Result<()> {
        let batch = to_batch(batch);
        let limit = self.session.begin(Duration::ZERO)?;
        let begun = timeout(limit, self.guest.session().call_begin(&mut self.session.store, self.resource, &batch)).await;
        self.session.end("begin", begun, nothing)
    }

    async fn apply(&mut self, mutations: Vec<Mutation>) -> Result<()> {
        let (_, relations, mutations) = to_mutations(mutations);
        let limit = self.session.begin(Duration::ZERO)?;
        let applied = timeout(limit, self.guest.session().call_apply(&mut self.session.store, self.resource, &relations, &mutations)).await;
        self.session.end("apply", applied, |index| mutation(index, &relations, &mutations))
    }

    async fn commit(&mut self, expected: Option<&[u8]>, state: &[u8]) -> Result<()> {
        let limit = self.session.begin(Duration::ZERO)?;
        let committed = timeout(limit, self.guest.session().call_commit(&mut self.session.store, self.resource, expected, state)).await;
        self.session.end("commit", committed, nothing)
    }

    async fn rollback(&mut self) -> Result<()> {
        let limit = self.session.begin(Duration::ZERO)?;
        let undone = timeout(limit, self.guest.session().call_rollback(&mut self.session.store, self.resource)).await;
        self.session.end("rollback", undone, nothing)
    }
}
