//! Whether a connection string leads to a pool that gives each transaction another
//! session of the server.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::connect;
use crate::error::{Code, Error, Result};

/// How long a second connection is waited for: a pool in session mode may have none left.
const SECOND_TIMEOUT: Duration = Duration::from_secs(3);

/// What the second connection is called, which ends a moment after it was asked.
const APPLICATION: &str = "pgshovel pool check";

/// How often to look: other clients of a pool take sessions too.
const ROUNDS: u32 = 3;

/// Which session of the server answers. Process ids are used again, and by other servers. It is
/// asked before the session's `search_path` is ours: an operator without its schema would be
/// that of whoever may create one, and run as our role.
const SESSION: &str = "SELECT pg_catalog.concat(pid, ' ', backend_start) FROM pg_catalog.pg_stat_activity \
     WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()";

/// `Configure` where `client`, which `dsn` led to, does not keep its session between
/// transactions: locks, settings, prepared statements and notifications would be lost
/// without a word. What cannot be told is not refused.
pub async fn refuse_transaction_mode(client: &Client, dsn: &str) -> Result<()> {
    let Ok(Ok(second)) = timeout(SECOND_TIMEOUT, connect::connect(dsn, APPLICATION)).await else { return Ok(()) };
    match timeout(connect::ANSWER_TIMEOUT, shares(client, &second)).await {
        Ok(Ok(true)) => Err(Error::configure(
            Code::PoolRefused,
            format!(
                "PostgreSQL at {} is reached through a pool in transaction mode, such as pgbouncer with pool_mode=transaction, and pgshovel keeps \
             locks and settings in its sessions: connect to the server, or to a pool in session mode",
                connect::describe(&connect::parse(dsn)?)
            ),
        )),
        Ok(Ok(false) | Err(_)) | Err(_) => Ok(()),
    }
}

/// Whether the two get the same session, or one gets different ones. While `second` holds
/// one in a transaction, `first` has either another one or none.
async fn shares(first: &Client, second: &Client) -> std::result::Result<bool, tokio_postgres::Error> {
    // A role that is not the one that connected is not shown its own session.
    let Some(own) = session(first).await? else { return Ok(false) };
    for _ in 0..ROUNDS {
        second.batch_execute("BEGIN").await?;
        if session(second).await?.as_ref() == Some(&own) || session(first).await?.as_ref() != Some(&own) {
            return Ok(true);
        }
        second.batch_execute("ROLLBACK").await?;
    }
    Ok(false)
}

/// The server's process that serves the session, and since when. By the simple protocol,
/// which no pool refuses.
pub(super) async fn session(client: &Client) -> std::result::Result<Option<String>, tokio_postgres::Error> {
    let answer = client.simple_query(SESSION).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
