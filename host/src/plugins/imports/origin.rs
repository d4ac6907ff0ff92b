//! The interface `origin`.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::capabilities::origin::{Cursor, Snapshot};
use crate::error::{Error as HostError, Next};
use crate::plugins::bindings::pgshovel::plugin::origin::{Host, HostCursor, Table};
use crate::plugins::bindings::pgshovel::plugin::types::{Error, Relation, Row};
use crate::plugins::convert::{to_relation, to_rows};
use crate::plugins::state::State;

type Outcome<T> = wasmtime::Result<Result<T, Error>>;

fn failed(error: HostError) -> Error {
    match error.next {
        Next::Retry => Error::Retry(error.message),
        Next::Blocked => Error::Blocked(error.message),
        _ => Error::Stop(error.message),
    }
}

impl State {
    fn snapshot(&self) -> Result<&Arc<Snapshot>, Error> {
        self.origin.as_ref().ok_or_else(|| Error::Stop(format!("only a loader may read the set's database ({})", self.place)))
    }
}

impl Host for State {
    async fn tables(&mut self) -> Outcome<Vec<Table>> {
        Ok(self.snapshot().map(|snapshot| {
            let tables = snapshot.tables().iter().zip(0..);
            tables.map(|(table, id)| Table { relation: to_relation(id, &table.relation), estimated_rows: table.estimated_rows }).collect()
        }))
    }
}

impl HostCursor for State {
    async fn open(&mut self, relation: Relation) -> Outcome<Resource<Cursor>> {
        let cursor = match self.snapshot() {
            Ok(snapshot) => snapshot.cursor(&relation.schema, &relation.table, self.lock_timeout, &self.budget).map_err(failed),
            Err(error) => Err(error),
        };
        match cursor {
            Ok(cursor) => Ok(Ok(self.table.push(cursor)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn fetch(&mut self, cursor: Resource<Cursor>, max_rows: u32) -> Outcome<Vec<Row>> {
        let cursor = self.table.get_mut(&cursor)?;
        let max_rows = usize::try_from(max_rows).unwrap_or(usize::MAX);
        Ok(cursor.fetch(max_rows).await.map(to_rows).map_err(failed))
    }

    async fn drop(&mut self, cursor: Resource<Cursor>) -> wasmtime::Result<()> {
        self.table.delete(cursor)?;
        Ok(())
    }
}
