//! The capability `postgres`: see `wit/postgres.wit`, which is its contract.

mod parameter;
mod pipeline;
mod query;
mod rights;
mod statements;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use proto::row::{Row, Value};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use self::parameter::{Parameter, TextArray};
use self::pipeline::Pipeline;
use self::statements::Statements;
use crate::error::Next;
use crate::postgres::{connect, own, pool};

/// How long the server may take for one statement; longer than any statement of a
/// target should need, short enough that a server that hangs is noticed.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long the host waits for an answer: the server gives up first, unless it is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(16 * 60);

/// `CopyData` messages are cut to this size.
const COPY_MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// An error of the server. `message`, `detail` and `hint` may hold values of rows:
/// they are for decisions, and for an operator only where the code says they do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseError {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// Why a call failed. See `failure` in `wit/postgres.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Unavailable(String),
    Refused(DatabaseError),
    Misuse(String),
    /// The grant is wrong, and a person has to change it. To a plugin it is a misuse.
    Misconfigured(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(text) | Self::Misuse(text) | Self::Misconfigured(text) => f.write_str(text),
            Self::Refused(error) => write!(f, "{} (SQLSTATE {})", error.message, error.sqlstate),
        }
    }
}

impl std::error::Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<parameter::Unsuitable>()) {
                Some(unsuitable) => Self::Misuse(unsuitable.to_string()),
                None => of(connect::explain(&error)),
            };
        };
        // Shutdown, crash and lost sessions end the connection although the server still answers.
        if matches!(refusal.code().code(), "57P01" | "57P02" | "57P03" | "57P05" | "25P03") {
            return of(connect::explain(&error));
        }
        Self::Refused(DatabaseError {
            sqlstate: refusal.code().code().to_owned(),
            message: refusal.message().to_owned(),
            detail: refusal.detail().map(str::to_owned),
            hint: refusal.hint().map(str::to_owned),
        })
    }
}

fn of(error: crate::error::Error) -> Failure {
    match error.next {
        Next::Retry => Failure::Unavailable(error.message),
        Next::Configure => Failure::Misconfigured(error.message),
        _ => Failure::Misuse(error.message),
    }
}

/// One session. After [`Failure::Unavailable`] it is of no more use.
pub struct Connection {
    client: Arc<Client>,
    statements: Statements,
    pipeline: Pipeline,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and pins the session's settings. `application` shows in `pg_stat_activity`;
    /// a statement that waits for one lock for longer than `lock_timeout` is refused.
    pub async fn open(dsn: &str, application: &str, lock_timeout: Duration) -> Result<Self, Failure> {
        // A section of the process's own file names it.
        own::name(dsn);
        let client = connect::connect(dsn, application).await.map_err(of)?;
        pool::refuse_transaction_mode(&client, dsn).await.map_err(of)?;
        rights::warn(&client, application).await;
        let connection = Self { client: Arc::new(client), statements: Statements::default(), pipeline: Pipeline::default() };
        answered(connection.client.batch_execute(&settings(lock_timeout))).await?;
        Ok(connection)
    }

    /// One statement with `$1…$n`; returns the rows affected, 0 for statements that have none.
    pub async fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Failure> {
        let parameters: Vec<Parameter<'_>> = parameters.iter().map(Parameter).collect();
        if parameters.is_empty() {
            // Nothing to prepare, and the server reads one message: BEGIN, SAVEPOINT, COMMIT.
            let statement: &[(&(dyn ToSql + Sync), tokio_postgres::types::Type)] = &[];
            return answered(self.client.execute_typed(sql, statement)).await;
        }
        let statement = self.prepare(sql).await?;
        expect_parameters(&statement, parameters.len())?;
        answered(self.client.execute_raw(&statement, parameters)).await
    }

    /// One statement over a set of rows: `$n` is the n-th column as `text[]`. Columns
    /// have the same length. Returns the rows affected.
    pub async fn execute_set(&mut self, sql: &str, columns: &[Vec<Option<String>>]) -> Result<u64, Failure> {
        let statement = self.prepare(sql).await?;
        expect_parameters(&statement, columns.len())?;
        answered(self.client.execute_raw(&statement, columns.iter().map(|column| TextArray(column)))).await
    }

    /// Sends a statement as [`Self::execute_set`] takes it, and does not wait for its result.
    pub async fn submit(&mut self, sql: &str, columns: Vec<Vec<Option<String>>>) -> Result<(), Failure> {
        let Some(statement) = self.prepare_submitted(sql).await? else { return Ok(()) };
        expect_parameters(&statement, columns.len())?;
        let bytes = columns.iter().flatten().flatten().map(String::len).sum();
        let client = Arc::clone(&self.client);
        let answer = async move { client.execute_raw(&statement, columns.iter().map(|column| TextArray(column))).await };
        self.pipeline.submit(bytes, answered(answer)).await
    }

    /// Waits for all that was submitted since the last call: the rows that each affected,
    /// in the order sent. An error other than `Refused` ends the session.
    pub async fn settle(&mut self) -> Result<Vec<Result<u64, DatabaseError>>, Failure> {
        self.pipeline.settle().await
    }

    /// All rows of a query, at most 64 MiB of them.
    pub async fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let statement = self.prepare(sql).await?;
        expect_parameters(&statement, parameters.len())?;
        let statement = match query::readable(sql, statement.columns()) {
            None => statement,
            Some(sql) => self.prepare(&sql).await?,
        };
        let rows = answered(self.client.query_raw(&statement, parameters.iter().map(Parameter))).await?;
        within(query::collect(rows)).await
    }

    /// `COPY … FROM STDIN` with `data` as its whole input. Returns the rows.
    pub async fn copy_in(&mut self, sql: &str, data: Bytes) -> Result<u64, Failure> {
        let statement = self.prepare(sql).await?;
        answered(copy(Arc::clone(&self.client), statement, data)).await
    }

    /// Sends a `COPY … FROM STDIN` as [`Self::copy_in`] takes it, and does not wait for its result.
    pub async fn submit_copy(&mut self, sql: &str, data: Bytes) -> Result<(), Failure> {
        let Some(statement) = self.prepare_submitted(sql).await? else { return Ok(()) };
        let bytes = data.len();
        self.pipeline.submit(bytes, answered(copy(Arc::clone(&self.client), statement, data))).await
    }

    /// Where the server refuses, which it does to everything once a statement before has
    /// failed, that is the statement's answer.
    async fn prepare_submitted(&mut self, sql: &str) -> Result<Option<Statement>, Failure> {
        match self.prepare(sql).await {
            Ok(statement) => Ok(Some(statement)),
            Err(failure @ Failure::Refused(_)) => {
                self.pipeline.submit(0, std::future::ready(Err(failure))).await?;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn prepare(&mut self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement);
        }
        let statement = answered(self.client.prepare(sql)).await?;
        self.statements.put(sql, statement.clone());
        Ok(statement)
    }
}

/// What every session runs with. `force_generic_plan`: a set's plan does not depend on
/// its values, and planning again costs more than the statement. The keepalives are the
/// server's: with the check of the connection (PostgreSQL 14), they end a session, and
/// its locks, whose host vanished.
fn settings(lock_timeout: Duration) -> String {
    format!(
        "SET search_path = pg_catalog, pg_temp; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; \
         SET extra_float_digits = 1; SET bytea_output = hex; SET lc_monetary = 'C'; SET xmloption = content; SET array_nulls = on; SET standard_conforming_strings = on; SET client_encoding = 'UTF8'; \
         SET plan_cache_mode = force_generic_plan; SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = 0; \
         SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'; \
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000",
        STATEMENT_TIMEOUT.as_millis(),
        lock_timeout.as_millis()
    )
}

async fn copy(client: Arc<Client>, statement: Statement, mut data: Bytes) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(&statement).await?;
    let mut sink = std::pin::pin!(sink);
    while !data.is_empty() {
        sink.feed(data.split_to(data.len().min(COPY_MESSAGE_BYTES_MAX))).await?;
    }
    sink.finish().await
}

fn expect_parameters(statement: &Statement, given: usize) -> Result<(), Failure> {
    let wanted = statement.params().len();
    if wanted == given {
        return Ok(());
    }
    Err(Failure::Misuse(format!("the statement takes {wanted} parameters, {given} are given")))
}

/// The server's answer, or `Unavailable` when it does not come.
async fn answered<T>(call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
    within(async { call.await.map_err(Failure::from) }).await
}

async fn within<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::Unavailable(format!("PostgreSQL did not answer within {} s", ANSWER_TIMEOUT.as_secs()))),
    }
}
