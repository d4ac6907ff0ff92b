//! One server after the other, in the clear or by TLS, until one takes the connection.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{LazyLock, Mutex, PoisonError};

use rand::seq::SliceRandom as _;
use tokio::time::timeout;
use tokio_postgres::config::{LoadBalanceHosts, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, NoTls, Socket};

use super::bounded::{self, Bounds};
use super::driver::{self, Said};
use super::dsn::Dsn;
use super::failure::explain;
use super::opened::{CONNECT_TIMEOUT, Opened, drive};
use super::parameters::Server;
use super::tls::{self, Mode, SslVersion};
use super::{own, passfile};
use crate::error::{Code, Error, Next, Result, Sqlstate};

/// How a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Clear,
    Tls,
}

/// Why one way did not lead to a connection.
struct Failed {
    error: Error,
    /// It is TLS that failed.
    tls: Option<tls::Failure>,
}

impl Failed {
    /// The connection ended before the server said why.
    fn broke(&self) -> bool {
        self.error.sqlstate.is_none() && self.tls.is_none() && self.error.next == Next::Retry
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, tls: None }
    }
}

/// The first server that takes the connection.
pub(super) async fn open_any(dsn: &Dsn, bounds: Option<&Bounds>) -> Result<Opened> {
    let mut servers: Vec<&Server> = dsn.servers.iter().collect();
    if servers.is_empty() {
        return Err(Error::configure(Code::DsnInvalid, "the connection string names no host: write host=, or set PGHOST"));
    }
    if dsn.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        servers.shuffle(&mut rand::rng());
    }
    // What the driver bounds is the TCP connection: a server that takes it and says nothing would be waited for.
    let at_most = dsn.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
    let mut errors = Vec::new();
    for server in servers {
        let silent = || Err(Error::retry(Code::DatabaseAway, format!("no answer within {} s", at_most.as_secs())));
        match timeout(at_most, open(dsn, server, bounds)).await.unwrap_or_else(|_| silent()) {
            Ok(opened) => return Ok(opened),
            Err(error) => errors.push((server, error)),
        }
    }
    Err(joined(errors))
}

/// The errors of all servers as one. What may pass is waited for; but not for a replica to
/// be promoted, if nothing but a person can mend the rest.
fn joined(mut errors: Vec<(&Server, Error)>) -> Error {
    if errors.iter().any(|(_, error)| error.next != Next::Retry) {
        errors.retain(|(_, error)| error.code != Code::DatabaseReadOnly);
    }
    let message = match errors.as_slice() {
        [(_, error)] => error.message.clone(),
        _ => errors.iter().map(|(server, error)| format!("{server}: {error}")).collect::<Vec<_>>().join("; "),
    };
    let passing = errors.iter().find(|(_, error)| error.next == Next::Retry);
    match passing.or(errors.last()) {
        Some((_, error)) => Error { message, ..error.clone() },
        None => Error::retry(Code::DatabaseAway, message),
    }
}

/// The first of a server's addresses that takes the connection.
async fn open(dsn: &Dsn, server: &Server, bounds: Option<&Bounds>) -> Result<Opened> {
    let config = with_password(dsn, server);
    if server.is_socket() {
        return attempt(dsn, &config, server, None, Way::Clear, bounds).await.map_err(|failed| failed.error);
    }
    let mut addresses = match server.address {
        Some(address) => vec![SocketAddr::new(address, server.port)],
        None => {
            let name = server.name();
            let found = tokio::net::lookup_host((name.as_str(), server.port)).await;
            found.map_err(|error| Error::retry(Code::AddressUnknown, format!("cannot find the address of {name:?}: {error}")))?.collect()
        }
    };
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        addresses.shuffle(&mut rand::rng());
    }
    let mut last = Error::retry(Code::AddressUnknown, format!("the name {:?} has no address", server.name()));
    for address in addresses {
        match by_mode(dsn, &config, server, address.ip(), bounds).await {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// By TLS and in the clear in the order of `sslmode`, as libpq has it: `allow` turns to TLS
/// when the server refuses; `prefer` to the clear when TLS fails, or when the server has no
/// entry in pg_hba.conf for it. A wrong password is not sent again in the clear.
async fn by_mode(dsn: &Dsn, config: &Config, server: &Server, address: IpAddr, bounds: Option<&Bounds>) -> Result<Opened> {
    let (first, second) = match dsn.tls.mode {
        Mode::Disable => (Way::Clear, None),
        Mode::Allow => (Way::Clear, Some(Way::Tls)),
        Mode::Prefer => (Way::Tls, Some(Way::Clear)),
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => (Way::Tls, None),
    };
    let attempt = |way| attempt(dsn, config, server, Some(address), way, bounds);
    let failed = match attempt(first).await {
        Ok(opened) => return Ok(told(opened, server, address, first)),
        Err(failed) => failed,
    };
    let turns = match first {
        Way::Clear => failed.error.sqlstate.is_some(),
        Way::Tls => failed.tls.is_some() || failed.error.sqlstate == Some(Sqlstate::INVALID_AUTHORIZATION),
    };
    match second.filter(|_| turns) {
        None => Err(failed.error),
        Some(way) => match attempt(way).await {
            Ok(opened) => Ok(told(opened, server, address, way)),
            // What the server said first is the cause where it speaks no TLS at all.
            Err(again) if again.tls.is_some() => Err(failed.error),
            Err(again) => Err(again.error),
        },
    }
}

/// One attempt; `address` is `None` for a socket.
async fn attempt(
    dsn: &Dsn,
    config: &Config,
    server: &Server,
    address: Option<IpAddr>,
    way: Way,
    bounds: Option<&Bounds>,
) -> std::result::Result<Opened, Failed> {
    let mut config = config.clone();
    // Also the name that a certificate has to have.
    config.host(server.name());
    config.port(server.port);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    match way {
        Way::Clear => {
            config.ssl_mode(SslMode::Disable);
            connect(&config, NoTls, server, bounds).await.map_err(|failed| match failed {
                bounded::Failed::Driver(error) => explained(&error, server, dsn, &config).into(),
                bounded::Failed::Other(error) => error.into(),
            })
        }
        Way::Tls => {
            config.ssl_mode(SslMode::Require);
            match by_tls(dsn, &config, server, None, bounds).await {
                // In TLS 1.3 our certificate is looked at when we take the connection for made; what
                // the server says of it may get lost behind what we said meanwhile. TLS 1.2 waits for it.
                Err(failed) if failed.broke() && dsn.tls.shows_certificate() => {
                    match by_tls(dsn, &config, server, Some(SslVersion::TLS1_2), bounds).await {
                        Err(again) if again.tls == Some(tls::Failure::Other) => Err(again),
                        _ => Err(failed),
                    }
                }
                result => result,
            }
        }
    }
}

async fn by_tls(
    dsn: &Dsn,
    config: &Config,
    server: &Server,
    newest: Option<SslVersion>,
    bounds: Option<&Bounds>,
) -> std::result::Result<Opened, Failed> {
    let (connector, refusals) = dsn.tls.connector(newest)?;
    connect(config, connector, server, bounds).await.map_err(|failed| match failed {
        bounded::Failed::Other(error) => error.into(),
        bounded::Failed::Driver(error) => match tls::explain(&error, &dsn.tls, server, &refusals) {
            Some((error, failure)) => Failed { error, tls: Some(failure) },
            None => explained(&error, server, dsn, config).into(),
        },
    })
}

/// By the driver, with bounds on what the server may send, if there are any.
async fn connect<T>(config: &Config, tls: T, server: &Server, bounds: Option<&Bounds>) -> std::result::Result<Opened, bounded::Failed>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::TlsConnect: Send + 'static,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    if let Some(bounds) = bounds {
        return bounded::connect(config, tls, bounds, &server.to_string()).await;
    }
    let (client, connection) = config.connect(tls).await.map_err(bounded::Failed::Driver)?;
    Ok(Opened { client, driver: drive(connection, server.to_string()), cancel: None })
}

/// With what to do about a password or a certificate that is missing.
fn explained(error: &tokio_postgres::Error, server: &Server, dsn: &Dsn, config: &Config) -> Error {
    let user = config.get_user().unwrap_or_default();
    match driver::said(error) {
        Some(Said::PasswordMissing) => {
            let file = passfile::path().map_or_else(|| "the password file (PGPASSFILE)".to_owned(), |path| path.display().to_string());
            let line = format!("{server}:{}:{user}:PASSWORD", config.get_dbname().unwrap_or(user));
            let instead = match (dsn.config.get_password(), environment()) {
                (None, Some(_)) => format!(
                    "PGPASSWORD is not sent to {server}, which ZooKeeper names and this process's own configuration does not: give --source-dsn with host={} port={}, or write",
                    server.destination(),
                    server.port
                ),
                _ => "set PGPASSWORD, or write".to_owned(),
            };
            Error::configure(
                Code::LoginRefused,
                format!("the server asks {user:?} for a password, and none is given: {instead} the line {line} into {file}"),
            )
        }
        Some(Said::NoChannelBinding) => Error::configure(
            Code::DatabaseTls,
            "channel_binding=require takes TLS and a password that the server keeps as SCRAM-SHA-256: the server asks for something else",
        ),
        _ => {
            let mut explained = explain(error);
            // "connection requires a valid client certificate", in any language.
            let routine = error.as_db_error().and_then(|refusal| refusal.routine());
            if routine == Some("ClientAuthentication") && config.get_ssl_mode() == SslMode::Require && !dsn.tls.shows_certificate() {
                explained.message.push_str("; none was shown, sslcert=FILE and sslkey=FILE name one");
            }
            explained
        }
    }
}

/// With the password that is meant for this server, if the connection string has none.
fn with_password(dsn: &Dsn, server: &Server) -> Config {
    let mut config = dsn.config.clone();
    if config.get_password().is_none() {
        let user = config.get_user().unwrap_or_default();
        let found =
            environment().filter(|_| own::names(server)).or_else(|| passfile::password(server, config.get_dbname().unwrap_or(user), user));
        if let Some(password) = found {
            config.password(password);
        }
    }
    config
}

fn environment() -> Option<String> {
    std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty())
}

/// Warns of a connection that others can read, once for each server.
fn told(opened: Opened, server: &Server, address: IpAddr, way: Way) -> Opened {
    static WARNED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
    if way == Way::Clear
        && !address.to_canonical().is_loopback()
        && WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_string())
    {
        tracing::warn!(
            %server,
            "the connection to PostgreSQL is not encrypted: everybody on the network between can read and change what it carries; \
             write sslmode=verify-full sslrootcert=FILE into the connection string"
        );
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_errors_the_one_that_may_pass_counts() {
        let server = |name: &str| Server { host: Some(name.to_owned()), address: None, port: 1 };
        let (a, b) = (server("a"), server("b"));
        let away = || Error::retry(Code::DatabaseAway, "connection refused");
        let standby = || Error::retry(Code::DatabaseReadOnly, "the server takes no writes");
        let wrong = || Error::configure(Code::DatabaseTls, "the certificate ended");
        let of = |first: Error, second: Error| {
            let error = joined(vec![(&a, first), (&b, second)]);
            (error.next, error.message)
        };
        assert_eq!(of(away(), wrong()), (Next::Retry, "a:1: connection refused; b:1: the certificate ended".to_owned()));
        assert_eq!(of(wrong(), standby()), (Next::Configure, "the certificate ended".to_owned()));
        assert_eq!(of(standby(), away()).0, Next::Retry);
        assert_eq!(of(wrong(), wrong()).0, Next::Configure);
    }
}
