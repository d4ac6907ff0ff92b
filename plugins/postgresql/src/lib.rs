//! The plugin `postgresql`: a loader over the set's database, and a transactional
//! target. This file is glue; what is decided is decided in the modules beside it.

pub mod apply;
pub mod catalog;
pub mod copy;
pub mod database;
pub mod fit;
pub mod load;
pub mod net;
pub mod origin;
pub mod part;
pub mod plan;
pub mod session;
pub mod settings;
mod snapshot;
pub mod text;

use std::cell::RefCell;

mod bindings {
    #![allow(unsafe_code, missing_debug_implementations, clippy::all)]

    wit_bindgen::generate!({
        path: "../../wit",
        world: "loader-target-plugin",
        additional_derives: [PartialEq],
    });
}

pub use bindings::pgshovel;

use bindings::exports::pgshovel::plugin::{loader, target};
use database::Database;
use pgshovel::plugin::log::emit;
use pgshovel::plugin::postgres::{Connection, DatabaseError, Failure};
use pgshovel::plugin::types::{Batch, Context, Error, Mutation, Relation, Row, Value};

struct Plugin;

#[cfg(target_family = "wasm")]
mod export {
    #![allow(unsafe_code)]

    crate::bindings::export!(Plugin with_types_in crate::bindings);

    use super::Plugin;
}

impl loader::Guest for Plugin {
    type Session = Loader;
}

struct Loader(RefCell<snapshot::Snapshot>);

impl loader::GuestSession for Loader {
    fn open(context: Context, configuration: String) -> Result<loader::Session, Error> {
        if !matches!(configuration.trim(), "" | "{}" | "null") {
            return Err(Error::Configure(format!(
                "the loader postgresql takes no configuration: leave {}.configuration out",
                context.section
            )));
        }
        Ok(loader::Session::new(Self(RefCell::new(snapshot::Snapshot::open()?))))
    }

    fn next(&self, max_rows: u32) -> Result<Option<loader::Chunk>, Error> {
        let next = self.0.borrow_mut().next(max_rows)?;
        Ok(next.map(|(table, rows)| loader::Chunk { relation: table.relation, rows, estimated_rows: table.estimated_rows }))
    }
}

impl target::Guest for Plugin {
    type Session = Target;
}

struct Target(RefCell<session::Session<Granted>>);

/// The database that the section's `grants.postgres` names.
struct Granted(Connection);

impl Database for Granted {
    fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, Failure> {
        self.0.execute(sql, parameters)
    }

    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        self.0.query(sql, parameters)
    }

    fn submit(&self, sql: &str, columns: &[Vec<Option<String>>]) -> Result<(), Failure> {
        self.0.submit(sql, columns)
    }

    fn submit_copy(&self, sql: &str, data: &[u8]) -> Result<(), Failure> {
        self.0.submit_copy(sql, data)
    }

    fn settle(&self) -> Result<Vec<Result<u64, DatabaseError>>, Failure> {
        self.0.settle()
    }
}

impl target::GuestSession for Target {
    fn open(context: Context, configuration: String) -> Result<target::Session, Error> {
        let doing = format!("cannot open the database of the section {}", context.section);
        let connection = Connection::open(None).map_err(|failure| database::failed(&doing, failure))?;
        let session = session::Session::open(Granted(connection), context, &configuration, emit)?;
        Ok(target::Session::new(Self(RefCell::new(session))))
    }

    fn guarantee(&self) -> target::Guarantee {
        target::Guarantee::Transactional
    }

    fn load_state(&self) -> Result<Option<Vec<u8>>, Error> {
        self.0.borrow_mut().load_state()
    }

    fn set_source(&self, source: target::Source) -> Result<(), Error> {
        let target::Source { system_identifier, database_oid, tables, transformed } = source;
        self.0.borrow_mut().set_source(system_identifier, database_oid, tables, transformed)
    }

    /// The version is for stores without transactions.
    fn load(&self, relation: Relation, rows: Vec<Row>, _version: u64) -> Result<(), Error> {
        self.0.borrow_mut().load(&relation, rows)
    }

    fn begin(&self, _: Batch) -> Result<(), Error> {
        self.0.borrow_mut().begin()
    }

    fn apply(&self, relations: Vec<Relation>, mutations: Vec<Mutation>) -> Result<(), Error> {
        self.0.borrow_mut().apply(&relations, mutations)
    }

    fn commit(&self, expected: Option<Vec<u8>>, state: Vec<u8>) -> Result<(), Error> {
        self.0.borrow_mut().commit(expected, state)
    }

    fn rollback(&self) -> Result<(), Error> {
        self.0.borrow_mut().rollback()
    }
}
