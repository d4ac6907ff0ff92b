//! The plugin's target, run outside of WebAssembly, over the host's capability.

use std::cell::RefCell;
use std::time::Duration;

use pgshovel::budget::Budget;
use pgshovel::capabilities::postgres::{self as backend, Connection};
use pgshovel::config::Limits;
use pgshovel_plugin_postgresql::database::Database as Port;
use pgshovel_plugin_postgresql::pgshovel::plugin::postgres::{DatabaseError, Failure};
use pgshovel_plugin_postgresql::pgshovel::plugin::types::{self, Change, Context, Error, Mutation, Relation, Row, Value};
use pgshovel_plugin_postgresql::session::Session;
use proto::row;
use tests::harness::Database;
use tokio::runtime::Handle;

/// The capability, as the plugin sees it. Needs a runtime with several threads.
pub struct Native(RefCell<Connection>);

pub type Target = Session<Native>;

/// As a plugin gets it by default.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

pub const CONFIGURATION: &str = "{}";

/// What the host holds for a plugin by default.
pub fn budget() -> Budget {
    let limits = Limits::default();
    Budget::new(limits.memory, limits.connections, "section `test`".into())
}

pub async fn open(database: &Database) -> Target {
    open_with(database, CONFIGURATION).await.unwrap()
}

pub async fn open_with(database: &Database, configuration: &str) -> Result<Target, Error> {
    open_as(&database.dsn(), configuration).await
}

pub async fn open_as(dsn: &str, configuration: &str) -> Result<Target, Error> {
    let connection = Connection::open(dsn, "test", LOCK_TIMEOUT, &budget()).await.unwrap();
    let context = Context { cluster: "c".to_owned(), set: "s".to_owned(), section: "target".to_owned() };
    Session::open(Native(RefCell::new(connection)), context, configuration, |_, _| {})
}

impl Native {
    fn call<T>(&self, call: impl AsyncFnOnce(&mut Connection) -> Result<T, backend::Failure>) -> Result<T, Failure> {
        let mut connection = self.0.borrow_mut();
        tokio::task::block_in_place(|| Handle::current().block_on(call(&mut connection))).map_err(failure)
    }
}

impl Port for Native {
    fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, Failure> {
        let parameters: row::Row = parameters.iter().map(to_host).collect();
        self.call(async |connection| connection.execute(sql, &parameters).await)
    }

    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let parameters: row::Row = parameters.iter().map(to_host).collect();
        let rows = self.call(async |connection| connection.query(sql, &parameters).await)?;
        Ok(rows.iter().map(|row| row.iter().map(to_plugin).collect()).collect())
    }

    fn submit(&self, sql: &str, columns: &[Vec<Option<String>>]) -> Result<(), Failure> {
        self.call(async |connection| connection.submit(sql, columns.to_vec()).await)
    }

    fn submit_copy(&self, sql: &str, data: &[u8]) -> Result<(), Failure> {
        self.call(async |connection| connection.submit_copy(sql, data.to_vec().into()).await)
    }

    fn settle(&self) -> Result<Vec<Result<u64, DatabaseError>>, Failure> {
        let answers = self.call(async |connection| connection.settle().await)?;
        Ok(answers.into_iter().map(|answer| answer.map_err(error)).collect())
    }
}

fn failure(failure: backend::Failure) -> Failure {
    match failure {
        backend::Failure::Unavailable(text) => Failure::Unavailable(text),
        backend::Failure::Refused(refusal) => Failure::Refused(error(refusal)),
        backend::Failure::Misuse(text) | backend::Failure::Misconfigured(text) => Failure::Misuse(text),
    }
}

fn error(error: backend::DatabaseError) -> DatabaseError {
    let backend::DatabaseError { sqlstate, message, detail, hint, passing } = error;
    DatabaseError { sqlstate, message, detail, hint, passing }
}

pub fn to_host(value: &Value) -> row::Value {
    match value {
        Value::Null => row::Value::Null,
        Value::Boolean(value) => row::Value::Boolean(*value),
        Value::Integer(value) => row::Value::Integer(*value),
        Value::Float(value) => row::Value::Float(*value),
        Value::Text(value) => row::Value::Text(value.clone()),
        Value::Bytes(value) => row::Value::Bytes(value.clone()),
    }
}

pub fn to_plugin(value: &row::Value) -> Value {
    match value {
        row::Value::Null => Value::Null,
        row::Value::Boolean(value) => Value::Boolean(*value),
        row::Value::Integer(value) => Value::Integer(*value),
        row::Value::Float(value) => Value::Float(*value),
        row::Value::Text(value) => Value::Text(value.clone()),
        row::Value::Bytes(value) => Value::Bytes(value.clone()),
    }
}

pub fn relation_of(relation: &row::Relation) -> Relation {
    let column =
        |column: &row::Column| types::Column { name: column.name.clone(), type_name: column.type_name.clone(), type_oid: column.type_oid };
    Relation {
        id: 1,
        schema: relation.schema.clone(),
        table: relation.table.clone(),
        columns: relation.columns.iter().map(column).collect(),
        identity: relation.identity.clone(),
        version: relation.version.clone(),
    }
}

/// A relation whose columns are of no known type: the target's are what counts.
pub fn relation(table: &str, columns: &[&str], identity: &[u32]) -> Relation {
    let column = |name: &&str| types::Column { name: (*name).to_owned(), type_name: String::new(), type_oid: 25 };
    Relation {
        id: 1,
        schema: "public".to_owned(),
        table: table.to_owned(),
        columns: columns.iter().map(column).collect(),
        identity: identity.to_vec(),
        version: "1".to_owned(),
    }
}

/// A row of texts; `None` is NULL.
pub fn texts<const N: usize>(values: [Option<&str>; N]) -> Row {
    values.into_iter().map(|value| value.map_or(Value::Null, |text| Value::Text(text.to_owned()))).collect()
}

/// Numbers them as events of the relation with the id 1.
pub fn mutations(changes: impl IntoIterator<Item = Change>) -> Vec<Mutation> {
    let number = |(id, change)| Mutation { id, relation: 1, change, transaction: 7, timestamp_us: 0, version: 0 };
    (1..).zip(changes).map(number).collect()
}

pub fn update(before: Row, after: Row) -> Change {
    Change::Update(types::Replacement { before, after })
}

/// One batch, from the state `expected` to `state`.
pub fn run(target: &mut Target, relation: &Relation, changes: Vec<Change>, expected: Option<&str>, state: &str) -> Result<(), Error> {
    target.begin()?;
    target.apply(std::slice::from_ref(relation), mutations(changes))?;
    target.commit(expected.map(|state| state.as_bytes().to_vec()), state.as_bytes().to_vec())
}

pub fn stop(result: Result<(), Error>) -> String {
    match result {
        Err(Error::Stop(text)) => text,
        other => panic!("not a stop: {other:?}"),
    }
}

/// What a person has to mend in the target.
pub fn blocked(result: Result<(), Error>) -> String {
    match result {
        Err(Error::Blocked(text)) => text,
        other => panic!("not blocked: {other:?}"),
    }
}
