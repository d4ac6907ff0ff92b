//! One session of a plugin with a database.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use proto::row::{Row, Value};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::failure::{DatabaseError, Failure, of};
use super::parameter::{Parameter, TextArray};
use super::pipeline::Pipeline;
use super::statements::Statements;
use super::{query, rights, weight};
use crate::budget::{Budget, Handle};
use crate::postgres::lent::Session;
use crate::postgres::{own, pool};

/// How long the server may take for one statement; longer than any statement of a
/// target should need, short enough that a server that hangs is noticed.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long the host waits for an answer: the server gives up first, unless it is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(16 * 60);

/// `CopyData` messages are cut to this size.
const COPY_MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// One session. After [`Failure::Unavailable`] it is of no more use. Dropping it ends
/// what the server does for it.
pub struct Connection {
    pipeline: Pipeline,
    statements: Statements,
    session: Session,
    budget: Budget,
    _handle: Handle,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and pins the session's settings. `application` shows in `pg_stat_activity`;
    /// a statement that waits for one lock for longer than `lock_timeout` is refused. What
    /// the host holds for the connection takes its share of `budget`.
    pub async fn open(dsn: &str, application: &str, lock_timeout: Duration, budget: &Budget) -> Result<Self, Failure> {
        let handle = budget.handle()?;
        // A section of the process's own file names it.
        own::name(dsn);
        let session = Session::connect(dsn, application, budget).await.map_err(of)?;
        let client = session.client();
        pool::refuse_transaction_mode(&client, dsn).await.map_err(of)?;
        let mut connection =
            Self { pipeline: Pipeline::new(budget), statements: Statements::new(budget), session, budget: budget.clone(), _handle: handle };
        connection.answered(client.batch_execute(&settings(lock_timeout))).await?;
        rights::warn(&client, application).await;
        Ok(connection)
    }

    /// One statement with `$1…$n`; returns the rows affected, 0 for statements that have none.
    pub async fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Failure> {
        let _share = self.budget.take(sql.len() + weight::of_row(parameters))?;
        let client = self.session.client();
        if parameters.is_empty() {
            // Nothing to prepare, and the server reads one message: BEGIN, SAVEPOINT, COMMIT.
            let statement: &[(&(dyn ToSql + Sync), tokio_postgres::types::Type)] = &[];
            return self.answered(client.execute_typed(sql, statement)).await;
        }
        let parameters: Vec<Parameter<'_>> = parameters.iter().map(Parameter).collect();
        let statement = self.prepare(sql).await?;
        expect_parameters(&statement, parameters.len())?;
        self.answered(client.execute_raw(&statement, parameters)).await
    }

    /// One statement over a set of rows: `$n` is the n-th column as `text[]`. Columns
    /// have the same length. Returns the rows affected.
    pub async fn execute_set(&mut self, sql: &str, columns: &[Vec<Option<String>>]) -> Result<u64, Failure> {
        let _share = self.budget.take(weight::of_columns(columns))?;
        let statement = self.prepare(sql).await?;
        expect_parameters(&statement, columns.len())?;
        let client = self.session.client();
        self.answered(client.execute_raw(&statement, columns.iter().map(|column| TextArray(column)))).await
    }

    /// Sends a statement as [`Self::execute_set`] takes it, and does not wait for its result.
    pub async fn submit(&mut self, sql: &str, columns: Vec<Vec<Option<String>>>) -> Result<(), Failure> {
        let Some(statement) = self.prepare_submitted(sql).await? else { return Ok(()) };
        expect_parameters(&statement, columns.len())?;
        let bytes = weight::of_columns(&columns);
        let client = self.session.client();
        let answer = async move { client.execute_raw(&statement, columns.iter().map(|column| TextArray(column))).await };
        let submitted = self.pipeline.submit(bytes, answered(answer)).await;
        self.explained(submitted)
    }

    /// Waits for all that was submitted since the last call: the rows that each affected,
    /// in the order sent. An error other than `Refused` ends the session.
    pub async fn settle(&mut self) -> Result<Vec<Result<u64, DatabaseError>>, Failure> {
        let settled = self.pipeline.settle().await;
        self.explained(settled)
    }

    /// All rows of a query, as far as the budget holds them.
    pub async fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let share = self.budget.take(weight::of_row(parameters))?;
        let statement = self.prepare(sql).await?;
        expect_parameters(&statement, parameters.len())?;
        let statement = match query::readable(sql, statement.columns()) {
            None => statement,
            Some(sql) => self.prepare(&sql).await?,
        };
        let client = self.session.client();
        let results = self.budget.share();
        self.asked(within(async move {
            let rows = client.query_raw(&statement, parameters.iter().map(Parameter)).await?;
            drop(share);
            query::collect(rows, results).await
        }))
        .await
    }

    /// `COPY … FROM STDIN` with `data` as its whole input. Returns the rows.
    pub async fn copy_in(&mut self, sql: &str, data: Bytes) -> Result<u64, Failure> {
        let _share = self.budget.take(data.len())?;
        let statement = self.prepare(sql).await?;
        self.answered(copy(self.session.client(), statement, data)).await
    }

    /// Sends a `COPY … FROM STDIN` as [`Self::copy_in`] takes it, and does not wait for its result.
    pub async fn submit_copy(&mut self, sql: &str, data: Bytes) -> Result<(), Failure> {
        let Some(statement) = self.prepare_submitted(sql).await? else { return Ok(()) };
        let bytes = data.len();
        let submitted = self.pipeline.submit(bytes, answered(copy(self.session.client(), statement, data))).await;
        self.explained(submitted)
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
        let client = self.session.client();
        let statement = self.answered(client.prepare(sql)).await?;
        self.statements.put(sql, statement.clone())?;
        Ok(statement)
    }

    /// The server's answer, or `Unavailable` when it does not come.
    async fn answered<T>(&mut self, call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
        self.asked(answered(call)).await
    }

    /// Notes that the server is at work until `call` has its answer.
    async fn asked<T>(&mut self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.session.is_busy = true;
        let answer = call.await;
        self.session.is_busy = answer.as_ref().is_err_and(|failure| !matches!(failure, Failure::Refused(_)));
        self.explained(answer)
    }

    /// A session that was broken off for what the server sent is the plugin's doing.
    fn explained<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        answer.map_err(|failure| match (failure, self.session.refusal()) {
            (Failure::Unavailable(_), Some(reason)) => Failure::Misuse(reason),
            (failure, _) => failure,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.is_busy |= self.pipeline.give_up();
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
