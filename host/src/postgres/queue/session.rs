//! The sessions of a relay, and what they share.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::sql;
use crate::error::{Code, Error, Result};
use crate::names;
use crate::observe::Status;
use crate::postgres::connect::{self, Session};

/// How long the server may take to answer one of the short statements.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Which queue, and who reads it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dsn: String,
    pub cluster: String,
    pub set: String,
    pub consumer: String,
    /// How often to rotate the queue's tables; never if zero.
    pub rotation_period: Duration,
    /// What the queue's tables may take on disk before it is reported, in bytes.
    pub queue_bytes_max: Option<u64>,
    /// Told of the queue and its ticker.
    pub status: Status,
}

impl Settings {
    pub(super) fn queue(&self) -> String {
        names::queue(&self.cluster, &self.set)
    }

    pub(super) fn application(&self, role: &str) -> String {
        format!("{} {} {role}", sql::APPLICATION, self.set).trim_end().to_owned()
    }
}

/// What the queue and its keeper tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The consumer has a new batch.
    pub(super) ticked: Notify,
    /// The consumer has finished a batch.
    pub(super) finished: Notify,
}

/// A task that ends with its handle.
#[derive(Debug)]
pub(super) struct Abort<T>(pub(super) JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A session with the settings that every session of a relay has.
pub(super) async fn session(settings: &Settings, role: &str) -> Result<Session> {
    prepared(Session::connect(&settings.dsn, &settings.application(role)).await?).await
}

pub(super) async fn prepared(session: Session) -> Result<Session> {
    answer(session.query(sql::SETTINGS, &[])).await?;
    Ok(session)
}

/// Waits for a statement's answer, within [`ANSWER_TIMEOUT`].
pub(super) async fn answer<T>(statement: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>) -> Result<T> {
    match timeout(ANSWER_TIMEOUT, statement).await {
        Ok(answer) => answer.map_err(|error| connect::explain(&error)),
        Err(_) => Err(unanswered()),
    }
}

pub(super) fn unanswered() -> Error {
    Error::retry(Code::DatabaseAway, format!("PostgreSQL has not answered for {} seconds", ANSWER_TIMEOUT.as_secs()))
}
