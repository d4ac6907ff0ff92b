//! Connections to PostgreSQL: one way to make them, one way to name their errors.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config};

use super::bounded::Bounds;
use super::dsn::Dsn;
pub use super::failure::{explain, is_passing};
use super::opened::{CONNECT_TIMEOUT, Opened};
use super::server;
use crate::error::{Code, Error, Result};

/// Names of tables and types are compared as text, so they have to be written in one way.
/// A session that waits for something to do is not ended for it.
const SETTINGS: &str = "SET quote_all_identifiers = off; SET idle_session_timeout = 0";

/// How long a server may take for what takes it a moment.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// After this long without traffic the server is asked for a sign of life, up to
/// `SILENCE_PROBES` times, `SILENCE_INTERVAL` apart.
const SILENCE_IDLE: Duration = Duration::from_secs(10);
const SILENCE_INTERVAL: Duration = Duration::from_secs(5);
const SILENCE_PROBES: u32 = 4;

/// Connects to `dsn`, a libpq connection string or URI. `application` shows in
/// `pg_stat_activity`. The connection is driven by a task of its own and ends
/// when the client is dropped. Of several hosts it is the first that takes writes: not a
/// replica, however old, unless `target_session_attrs` says so. A password that the DSN
/// leaves out comes from PGPASSWORD, if this process was told of the server (see
/// [`super::own`]), or from the password file.
pub async fn connect(dsn: &str, application: &str) -> Result<Client> {
    // Dropping the handle leaves the task to end with its client.
    open(dsn, application).await.map(|(client, _)| client)
}

/// A connection that breaks when it is dropped, whatever it is doing: the server
/// does not go on with a query that nobody reads.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: JoinHandle<()>,
    place: String,
}

impl Session {
    /// See [`connect`].
    pub async fn connect(dsn: &str, application: &str) -> Result<Self> {
        let (client, driver) = open(dsn, application).await?;
        Ok(Self { client, driver, place: describe(&parse(dsn)?) })
    }

    /// Does `work` on this session, within [`ANSWER_TIMEOUT`]. A server that takes
    /// longer is taken for gone: the session breaks, and the error is `Retry`.
    pub async fn answered<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match timeout(ANSWER_TIMEOUT, work).await {
            Ok(Err(error)) if self.client.is_closed() => Err(error.context(format!("PostgreSQL at {}", self.place))),
            Ok(result) => result,
            Err(_) => {
                self.driver.abort();
                Err(Error::retry(
                    Code::DatabaseAway,
                    format!("PostgreSQL at {} has not answered for {} s", self.place, ANSWER_TIMEOUT.as_secs()),
                ))
            }
        }
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn open(dsn: &str, application: &str) -> Result<(Client, JoinHandle<()>)> {
    open_with(dsn, application, None).await.map(|Opened { client, driver, .. }| (client, driver))
}

/// The same, with bounds on what the server may send.
pub(super) async fn open_bounded(dsn: &str, application: &str, bounds: &Bounds) -> Result<Opened> {
    open_with(dsn, application, Some(bounds)).await
}

async fn open_with(dsn: &str, application: &str, bounds: Option<&Bounds>) -> Result<Opened> {
    let mut dsn = parse(dsn)?;
    dsn.config.application_name(application);
    if dsn.config.get_connect_timeout().is_none() {
        dsn.config.connect_timeout(CONNECT_TIMEOUT);
    }
    if dsn.config.get_target_session_attrs() == TargetSessionAttrs::Any {
        dsn.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    notice_silence(&mut dsn.config);
    let opened = server::open_any(&dsn, bounds).await;
    let opened = opened.map_err(|error| error.context(format!("cannot connect to PostgreSQL at {}", dsn.place())))?;
    opened.client.batch_execute(SETTINGS).await.map_err(|error| explain(&error))?;
    Ok(opened)
}

/// A server that vanished without a word is noticed in half a minute, whatever waits
/// for it; what the DSN says comes first.
fn notice_silence(config: &mut Config) {
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(SILENCE_IDLE.min(config.get_keepalives_idle()));
        config.keepalives_interval(SILENCE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(SILENCE_PROBES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_IDLE + SILENCE_INTERVAL * SILENCE_PROBES);
    }
}

/// Parses a DSN; the error does not repeat it, since it may hold a password.
pub fn parse(dsn: &str) -> Result<Dsn> {
    Dsn::parse(dsn)
}

/// Where a DSN leads, for messages: no user, no password.
#[must_use]
pub fn describe(dsn: &Dsn) -> String {
    dsn.place()
}
