//! Running a transaction at the source.

use futures_util::SinkExt as _;
use tests::harness::Database;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::statement::{Mode, Statement, Transaction};

/// How a transaction went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// `None`: nothing was written.
    pub xid: Option<u64>,
    pub committed: bool,
    /// Of each statement that was run, whether PostgreSQL took it.
    pub taken: Vec<bool>,
}

/// The connection is gone, and the transaction with it: tokio-postgres gives up where COPY is
/// refused before its first row is read, since it sends Sync twice.
#[derive(Debug)]
pub struct Lost;

type Result<T> = std::result::Result<T, Lost>;

const XID: &str = "SELECT pg_current_xact_id_if_assigned()";

/// No statement may hold up the others for long, whatever its triggers set off.
const SETTINGS: &str =
    "SET deadlock_timeout = '5ms'; SET lock_timeout = '200ms'; SET statement_timeout = '2s'; SET client_min_messages = error";

pub async fn connect(source: &Database) -> Client {
    let client = source.connect().await;
    client.batch_execute(SETTINGS).await.unwrap();
    client
}

pub async fn run(client: &Client, transaction: &Transaction) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if let (Mode::Alone, [statement @ Statement { copied: None, .. }]) = (transaction.mode, &transaction.statements[..]) {
        // One message is one transaction.
        let messages = accepted(client.simple_query(&format!("{}; {XID}", statement.sql)).await)?;
        outcome.taken.push(messages.is_some());
        outcome.committed = messages.is_some();
        outcome.xid = messages.as_deref().and_then(xid);
        return Ok(outcome);
    }
    execute(client, if transaction.repeatable_read { "BEGIN ISOLATION LEVEL REPEATABLE READ" } else { "BEGIN" }).await?;
    let savepoints = transaction.mode == Mode::Savepoints;
    for statement in &transaction.statements {
        let taken = take(client, statement, savepoints).await?;
        outcome.taken.push(taken);
        if !taken && !savepoints {
            break;
        }
    }
    let failed = !savepoints && outcome.taken.contains(&false);
    if failed || !transaction.commits {
        execute(client, "ROLLBACK").await?;
        return Ok(outcome);
    }
    // A constraint that is deferred may refuse it yet.
    if let Some(messages) = accepted(client.simple_query(&format!("{XID}; COMMIT")).await)? {
        outcome.xid = xid(&messages);
        outcome.committed = true;
    }
    Ok(outcome)
}

/// Whether PostgreSQL took the statement; with a savepoint, the transaction goes on if not.
pub async fn take(client: &Client, statement: &Statement, savepoint: bool) -> Result<bool> {
    let taken = match (&statement.copied, savepoint) {
        (None, false) => execute(client, &statement.sql).await?,
        (None, true) => execute(client, &format!("SAVEPOINT s; {}; RELEASE s", statement.sql)).await?,
        (Some(rows), false) => copy(client, &statement.sql, rows).await,
        (Some(rows), true) => {
            execute(client, "SAVEPOINT s").await?;
            copy(client, &statement.sql, rows).await && execute(client, "RELEASE s").await?
        }
    };
    if !taken && savepoint && !execute(client, "ROLLBACK TO s; RELEASE s").await? {
        return Err(Lost);
    }
    Ok(taken)
}

async fn execute(client: &Client, sql: &str) -> Result<bool> {
    Ok(accepted(client.batch_execute(sql).await)?.is_some())
}

/// `None`: PostgreSQL refused.
fn accepted<T>(result: std::result::Result<T, tokio_postgres::Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.as_db_error().is_some() => Ok(None),
        Err(_) => Err(Lost),
    }
}

async fn copy(client: &Client, sql: &str, rows: &str) -> bool {
    let Ok(sink) = client.copy_in::<_, bytes::Bytes>(sql).await else { return false };
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::copy_from_slice(rows.as_bytes())).await.is_ok() && sink.close().await.is_ok()
}

fn xid(messages: &[SimpleQueryMessage]) -> Option<u64> {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0)),
        _ => None,
    });
    rows.last()??.parse().ok()
}
