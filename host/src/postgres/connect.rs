//! Connections to PostgreSQL: one way to make them, one way to name their errors.

use std::error::Error as _;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::passfile;
use crate::error::{Error, Next, Result};

/// How long a server may take until a connection is ready for use, unless the DSN
/// says otherwise; of several, each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Names of tables and types are compared as text, so they have to be written in one way.
/// A session that waits for something to do is not ended for it.
const SETTINGS: &str = "SET quote_all_identifiers = off; SET idle_session_timeout = 0";

/// What to do when `lock_timeout` has passed.
const LOCK_REMEDY: &str = "; another session holds the lock: pg_locks and pg_stat_activity say which";

/// What to do when policies would hide rows.
const ROWS_REMEDY: &str =
    "; the role would not be shown all rows: ALTER ROLE … BYPASSRLS, or let it own the table, which then is not FORCE ROW LEVEL SECURITY";

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
/// replica, however old, unless `target_session_attrs` says so. A password that the DSN leaves out comes from
/// PGPASSWORD or the password file, as with libpq.
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
                Err(Error::retry(format!("PostgreSQL at {} has not answered for {} s", self.place, ANSWER_TIMEOUT.as_secs())))
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
    let mut config = parse(dsn)?;
    config.application_name(application);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_password().is_none()
        && let Some(password) = passfile::password(&config)
    {
        config.password(password);
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    notice_silence(&mut config);
    let place = describe(&config);
    // What the driver bounds is the TCP connection: a server that takes it and says nothing would be waited for.
    let each = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
    let at_most = each.saturating_mul(u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX));
    let silent = || Error::retry(format!("no answer within {} s", at_most.as_secs()));
    let opened = timeout(at_most, handshake(&config, &place)).await.unwrap_or_else(|_| Err(silent()));
    opened.map_err(|error| error.context(format!("cannot connect to PostgreSQL at {place}")))
}

async fn handshake(config: &Config, place: &str) -> Result<(Client, JoinHandle<()>)> {
    let explain = |error| explain(&error);
    let (client, driver) = if config.get_ssl_mode() == SslMode::Disable || only_sockets(config) {
        let (client, connection) = config.connect(NoTls).await.map_err(explain)?;
        (client, drive(connection, place.to_owned()))
    } else {
        let (client, connection) = config.connect(tls()?).await.map_err(explain)?;
        (client, drive(connection, place.to_owned()))
    };
    client.batch_execute(SETTINGS).await.map_err(explain)?;
    Ok((client, driver))
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
pub fn parse(dsn: &str) -> Result<Config> {
    let config = Config::from_str(dsn).map_err(|error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Error::configure(format!("the connection string of the database is not valid: {cause}; it takes libpq's form, such as host=localhost port=5432 dbname=app user=app, or postgresql://app@localhost:5432/app"))
    })?;
    // Of a URI, the host begins behind the first @.
    if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
        return Err(Error::configure(
            "the connection string of the database has an @ in its user name or password: in a URI write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25",
        ));
    }
    Ok(config)
}

/// Where a DSN leads, for messages: no user, no password.
#[must_use]
pub fn describe(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let hosts = if hosts.is_empty() { "localhost:5432".to_owned() } else { hosts.join(",") };
    match config.get_dbname().or(config.get_user()) {
        Some(database) => format!("{hosts}/{database}"),
        None => hosts,
    }
}

/// Names a PostgreSQL error by what to do next. Never holds a row's values: the
/// server's DETAIL, which may, is left out.
#[must_use]
pub fn explain(error: &tokio_postgres::Error) -> Error {
    if let Some(refusal) = error.as_db_error() {
        let code = refusal.code().code();
        let remedy = match code {
            "55P03" => LOCK_REMEDY,
            // Its message may be in any language.
            "42501" if refusal.routine() == Some("check_enable_rls") => ROWS_REMEDY,
            _ => "",
        };
        let text = format!("{} (SQLSTATE {code}){remedy}", refusal.message());
        return Error { next: next(code), message: text };
    }
    // Without an answer of the server: the connection broke, or was never made.
    let cause = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    if cause.contains("invalid configuration") {
        return Error::configure(cause);
    }
    if cause.contains("does not allow writes") {
        return Error::retry("the server takes no writes: it is a replica that is not promoted, or default_transaction_read_only is on");
    }
    Error::retry(cause)
}

/// See PostgreSQL's appendix A, "PostgreSQL Error Codes".
fn next(code: &str) -> Next {
    match code {
        // Wrong password, no such role, no such database, no entry in pg_hba.conf.
        "28P01" | "28000" | "3D000" => Next::Configure,
        // Lock not available, statement timeout, idle-session and in-transaction timeouts,
        // transactions that are read-only for now, as hosting services make them when a disk fills.
        "55P03" | "57014" | "25P03" | "25P04" | "57P05" | "25006" => Next::Retry,
        _ => match code.get(..2) {
            // Connection exception, resources, operator intervention, transaction rollback, system error.
            Some("08" | "53" | "57" | "40" | "58") => Next::Retry,
            _ => Next::Stop,
        },
    }
}

fn only_sockets(config: &Config) -> bool {
    !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
}

/// TLS with the system's certificates, as libpq's `sslmode=verify-full`.
fn tls() -> Result<MakeRustlsConnect> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug(format!("cannot set up TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn drive<S, T>(connection: tokio_postgres::Connection<S, T>, place: String) -> JoinHandle<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // Whoever uses the client sees the same failure and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%place, %error, "connection to PostgreSQL ended");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_dsn_is_not_repeated() {
        let error = parse("host=a password=secret port=x").unwrap_err();
        assert_eq!(error.next, Next::Configure);
        assert!(!error.message.contains("secret"), "{error}");
        let error = parse("postgresql://u:sec@ret@a/app").unwrap_err();
        assert!(error.message.contains("%40") && !error.message.contains("ret@"), "{error}");
    }

    #[test]
    fn a_place_has_neither_user_nor_password() {
        let place = |dsn| describe(&parse(dsn).unwrap());
        assert_eq!(place("postgresql://u:secret@a:1,b:2/app"), "a:1,b:2/app");
        assert_eq!(place("host=/run/pg user=u password=secret"), "/run/pg:5432/u");
    }
}
