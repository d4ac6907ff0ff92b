//! The interface `postgres`.

use wasmtime::component::Resource;

use super::connection::Connection;
use super::{failure as backend, grant};
use crate::capabilities::capability::{Access, Capability, Holds, Interfaces, Linked, Linker, Setup, View, Views};
use crate::capabilities::grants::{Resources, Secret, granted};
use crate::capabilities::role::Role;
use crate::capabilities::shared::Shared;
use crate::capabilities::types::Row;
use crate::capabilities::types::convert::{from_row, to_rows};
use crate::yaml::{Field, Problem, Sources};
use generated::pgshovel::plugin::postgres::{self, DatabaseError, Failure, Host, HostConnection};

#[allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#[allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package pgshovel:host;

            world host {
                import pgshovel:plugin/postgres@0.2.0;
            }
        ",
        imports: { default: async | trappable },
        with: {
            "pgshovel:plugin/types": crate::capabilities::types,
            "pgshovel:plugin/postgres.connection": crate::capabilities::postgres::connection::Connection,
        },
    });
}

/// The capability.
#[derive(Debug)]
pub struct Postgres;

impl Capability for Postgres {
    const NAME: &'static str = "postgres";
    const INTERFACES: &'static [Interfaces] = &[Interfaces::own(&["postgres"])];
    const ACCESS: Access = Access::Granted { example: "postgres: \"postgresql://app@localhost:5432/app\"" };
    const ROLES: &'static [Role] = &[Role::Writer, Role::Stream, Role::Target];
    type Grant = Resources<Secret>;
    type State = Resources<Secret>;

    fn grant(field: &Field<'_>, sources: &Sources<'_>) -> std::result::Result<Self::Grant, Problem> {
        grant::read(field, sources)
    }

    fn link<T: Holds<Self>>(linker: &mut Linker<T>) -> Linked {
        postgres::add_to_linker::<_, Views<Postgres>>(linker, T::view)
    }

    fn state(grant: &Self::Grant, _: &Setup<'_>, _: &Shared) -> crate::error::Result<Self::State> {
        Ok(grant.clone())
    }
}

type Outcome<T> = wasmtime::Result<Result<T, Failure>>;

impl From<backend::DatabaseError> for DatabaseError {
    fn from(error: backend::DatabaseError) -> Self {
        let backend::DatabaseError { sqlstate, message, detail, hint, passing } = error;
        Self { sqlstate, message, detail, hint, passing }
    }
}

impl From<backend::Failure> for Failure {
    fn from(failure: backend::Failure) -> Self {
        match failure {
            backend::Failure::Unavailable(text) => Self::Unavailable(text),
            backend::Failure::Refused(error) => Self::Refused(error.into()),
            backend::Failure::Misuse(text) | backend::Failure::Misconfigured(text) => Self::Misuse(text),
        }
    }
}

impl Host for View<'_, Postgres> {}

impl HostConnection for View<'_, Postgres> {
    async fn open(&mut self, grant: Option<String>) -> Outcome<Resource<Connection>> {
        let dsn = match granted::<Postgres, _>(self.state, grant.as_deref(), &self.shared.place) {
            Ok(dsn) => dsn,
            Err(reason) => return Ok(Err(Failure::Misuse(reason))),
        };
        match Connection::open(dsn.expose(), &self.shared.application, self.shared.lock_timeout, &self.shared.budget).await {
            Ok(connection) => Ok(Ok(self.shared.table.push(connection)?)),
            Err(failure) => {
                self.shared.misconfigured |= matches!(failure, backend::Failure::Misconfigured(_));
                Ok(Err(failure.into()))
            }
        }
    }

    async fn execute(&mut self, connection: Resource<Connection>, sql: String, parameters: Row) -> Outcome<u64> {
        let connection = self.shared.table.get_mut(&connection)?;
        Ok(connection.execute(&sql, &from_row(parameters)).await.map_err(Failure::from))
    }

    async fn execute_set(&mut self, connection: Resource<Connection>, sql: String, columns: Vec<Vec<Option<String>>>) -> Outcome<u64> {
        let connection = self.shared.table.get_mut(&connection)?;
        Ok(connection.execute_set(&sql, &columns).await.map_err(Failure::from))
    }

    async fn submit(&mut self, connection: Resource<Connection>, sql: String, columns: Vec<Vec<Option<String>>>) -> Outcome<()> {
        let connection = self.shared.table.get_mut(&connection)?;
        Ok(connection.submit(&sql, columns).await.map_err(Failure::from))
    }

    async fn submit_copy(&mut self, connection: Resource<Connection>, sql: String, data: Vec<u8>) -> Outcome<()> {
        let connection = self.shared.table.get_mut(&connection)?;
        Ok(connection.submit_copy(&sql, data.into()).await.map_err(Failure::from))
    }

    async fn settle(&mut self, connection: Resource<Connection>) -> Outcome<Vec<Result<u64, DatabaseError>>> {
        let connection = self.shared.table.get_mut(&connection)?;
        let settled = connection.settle().await.map_err(Failure::from);
        Ok(settled.map(|results| results.into_iter().map(|result| result.map_err(DatabaseError::from)).collect()))
    }

    async fn query(&mut self, connection: Resource<Connection>, sql: String, parameters: Row) -> Outcome<Vec<Row>> {
        let connection = self.shared.table.get_mut(&connection)?;
        Ok(connection.query(&sql, &from_row(parameters)).await.map(to_rows).map_err(Failure::from))
    }

    async fn copy_in(&mut self, connection: Resource<Connection>, sql: String, data: Vec<u8>) -> Outcome<u64> {
        let connection = self.shared.table.get_mut(&connection)?;
        Ok(connection.copy_in(&sql, data.into()).await.map_err(Failure::from))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.shared.table.delete(connection)?;
        Ok(())
    }
}
