//! Running a transaction at the source.

use futures_util::SinkExt as _;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::statement::{Mode, Statement, Transaction};

/// How a transaction went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// `None`: nothing was written.
    pub xid: Option<u64>,
    pub committed: bool,
    /// Of each statement, whether PostgreSQL took it.
    pub taken: Vec<bool>,
}

const XID: &str = "SELECT pg_current_xact_id_if_assigned()";

/// No statement may hold up the others for long, whatever its triggers set off.
pub const SETTINGS: &str =
    "SET deadlock_timeout = '5ms'; SET lock_timeout = '200ms'; SET statement_timeout = '2s'; SET client_min_messages = error";

pub async fn run(client: &Client, transaction: &Transaction) -> Outcome {
    let mut outcome = Outcome::default();
    if let (Mode::Alone, [statement @ Statement { copied: None, .. }]) = (transaction.mode, &transaction.statements[..]) {
        // One message is one transaction.
        let result = client.simple_query(&format!("{}; {XID}", statement.sql)).await;
        outcome.taken.push(result.is_ok());
        if let Ok(messages) = result {
            outcome.xid = xid(&messages);
            outcome.committed = true;
        }
        return outcome;
    }
    let begin = if transaction.repeatable_read { "BEGIN ISOLATION LEVEL REPEATABLE READ" } else { "BEGIN" };
    client.batch_execute(begin).await.unwrap();
    for statement in &transaction.statements {
        let taken = take(client, statement, transaction.mode == Mode::Savepoints).await;
        outcome.taken.push(taken);
        if !taken && transaction.mode != Mode::Savepoints {
            break;
        }
    }
    let failed = transaction.mode != Mode::Savepoints && outcome.taken.contains(&false);
    if failed || !transaction.commits {
        client.batch_execute("ROLLBACK").await.unwrap();
        return outcome;
    }
    // A constraint that is deferred may refuse it yet.
    if let Ok(messages) = client.simple_query(&format!("{XID}; COMMIT")).await {
        outcome.xid = xid(&messages);
        outcome.committed = true;
    }
    outcome
}

/// Whether PostgreSQL took the statement; with a savepoint, the transaction goes on if not.
pub async fn take(client: &Client, statement: &Statement, savepoint: bool) -> bool {
    let taken = match (&statement.copied, savepoint) {
        (None, false) => client.batch_execute(&statement.sql).await.is_ok(),
        (None, true) => client.batch_execute(&format!("SAVEPOINT s; {}; RELEASE s", statement.sql)).await.is_ok(),
        (Some(rows), false) => copy(client, &statement.sql, rows).await,
        (Some(rows), true) => {
            client.batch_execute("SAVEPOINT s").await.unwrap();
            copy(client, &statement.sql, rows).await && client.batch_execute("RELEASE s").await.is_ok()
        }
    };
    if !taken && savepoint {
        client.batch_execute("ROLLBACK TO s; RELEASE s").await.unwrap();
    }
    taken
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
