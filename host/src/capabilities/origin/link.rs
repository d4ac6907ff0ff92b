//! The interface `origin`.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::cursor::Cursor;
use super::snapshot::Snapshot;
use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View, Views};
use crate::capabilities::role::Role;
use crate::capabilities::shared::Shared;
use crate::capabilities::types::convert::{to_relation, to_rows};
use crate::capabilities::types::{Error, Relation, Row};
use crate::error::{Error as HostError, Next};
use generated::pgshovel::plugin::origin::{self, Host, HostCursor, Table};

#[allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package pgshovel:host;

            world host {
                import pgshovel:plugin/origin@0.2.0;
            }
        ",
        imports: { default: async | trappable },
        with: {
            "pgshovel:plugin/types": crate::capabilities::types,
            "pgshovel:plugin/origin.cursor": crate::capabilities::origin::cursor::Cursor,
        },
    });
}

/// The capability.
#[derive(Debug)]
pub struct Origin;

impl Capability for Origin {
    const NAME: &'static str = "origin";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::own(&["origin"])];
    const ACCESS: Access = Access::LoaderOnly;
    const ROLES: &'static [Role] = &[Role::Loader];
    type Grant = ();
    /// Whoever starts a loader lends it a snapshot.
    type State = Option<Arc<Snapshot>>;

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        origin::add_to_linker::<_, Views<Origin>>(linker, T::view)
    }

    fn state(_: &(), _: &Setup<'_>, _: &Shared) -> crate::error::Result<Self::State> {
        Ok(None)
    }
}

type Outcome<T> = wasmtime::Result<Result<T, Error>>;

fn failed(error: HostError) -> Error {
    match error.next {
        Next::Retry => Error::Retry(error.message),
        Next::Blocked => Error::Blocked(error.message),
        Next::Configure => Error::Configure(error.message),
        _ => Error::Stop(error.message),
    }
}

impl View<'_, Origin> {
    fn snapshot(&self) -> Result<&Arc<Snapshot>, Error> {
        self.state.as_ref().ok_or_else(|| Error::Stop(format!("only a loader may read the set's database ({})", self.shared.place)))
    }
}

impl Host for View<'_, Origin> {
    async fn tables(&mut self) -> Outcome<Vec<Table>> {
        Ok(self.snapshot().map(|snapshot| {
            let tables = snapshot.tables().iter().zip(0..);
            tables.map(|(table, id)| Table { relation: to_relation(id, &table.relation), estimated_rows: table.estimated_rows }).collect()
        }))
    }
}

impl HostCursor for View<'_, Origin> {
    async fn open(&mut self, relation: Relation) -> Outcome<Resource<Cursor>> {
        let cursor = match self.snapshot() {
            Ok(snapshot) => {
                snapshot.cursor(&relation.schema, &relation.table, self.shared.lock_timeout, &self.shared.budget).map_err(failed)
            }
            Err(error) => Err(error),
        };
        match cursor {
            Ok(cursor) => Ok(Ok(self.shared.table.push(cursor)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn fetch(&mut self, cursor: Resource<Cursor>, max_rows: u32) -> Outcome<Vec<Row>> {
        let cursor = self.shared.table.get_mut(&cursor)?;
        let max_rows = usize::try_from(max_rows).unwrap_or(usize::MAX);
        Ok(cursor.fetch(max_rows).await.map(to_rows).map_err(failed))
    }

    async fn drop(&mut self, cursor: Resource<Cursor>) -> wasmtime::Result<()> {
        self.shared.table.delete(cursor)?;
        Ok(())
    }
}
