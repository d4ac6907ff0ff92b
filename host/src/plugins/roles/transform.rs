//! The role `transform`.

use std::time::Duration;

use proto::row::Mutation;
use tokio::time::timeout;
use wasmtime::component::ResourceAny;

use super::mutation;
use crate::capabilities::role::Role;
use crate::capabilities::types::convert::{from_mutations, to_mutations};
use crate::config::Section;
use crate::error::Result;
use crate::plugins::bindings::exports::pgshovel::plugin::transform::{Guest, GuestIndices};
use crate::plugins::context::Context;
use crate::plugins::engine::Engine;
use crate::plugins::session::{Session, nothing};
use crate::ports;

/// An open transform.
pub struct Transform {
    session: Session,
    guest: Guest,
    resource: ResourceAny,
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.fmt(f)
    }
}

/// Opens the section's component as a transform.
pub async fn open(engine: &Engine, section: &Section, context: &Context) -> Result<Transform> {
    let (mut session, instance, pre) = Session::start(engine, section, Role::Transform, context, None).await?;
    let guest = GuestIndices::new(&pre).and_then(|indices| indices.load(&mut session.store, &instance));
    let guest = guest.map_err(|error| session.mismatch(&error))?;
    let limit = session.begin(Duration::ZERO)?;
    let opened = timeout(limit, guest.session().call_open(&mut session.store, &session.context, &session.configuration)).await;
    let resource = session.end("open", opened, nothing)?;
    Ok(Transform { session, guest, resource })
}

impl ports::Transform for Transform {
    async fn transform(&mut self, mutations: Vec<Mutation>) -> Result<Vec<Mutation>> {
        if mutations.is_empty() {
            return Ok(mutations);
        }
        let (passed, relations, mutations) = to_mutations(mutations);
        let limit = self.session.begin(Duration::ZERO)?;
        let output =
            timeout(limit, self.guest.session().call_transform(&mut self.session.store, self.resource, &relations, &mutations)).await;
        let output = self.session.end("transform", output, |index| mutation(index, &relations, &mutations))?;
        from_mutations(output.relations, output.mutations, &passed, &mutations).map_err(|reason| self.session.invalid("transform", reason))
    }
}
