//! Connection strings: what libpq's two forms say, keyword by keyword.

use tokio_postgres::Config;

use super::parameters::{Parameters, Server};
use super::tls;
use crate::error::{Code, Error, Result};

/// Where PostgreSQL listens unless it is told otherwise.
pub const PORT: u16 = 5432;

/// A connection string that was understood, with what the environment adds to it.
#[derive(Clone, Debug)]
pub struct Dsn {
    /// All but servers and TLS. The user is always set.
    pub config: Config,
    pub servers: Vec<Server>,
    pub tls: tls::Settings,
}

impl Dsn {
    /// PGHOST and PGPORT say where to connect to if the text does not; PGUSER, PGDATABASE,
    /// PGSSLMODE, PGSSLROOTCERT, PGSSLCERT, PGSSLKEY and PGCHANNELBINDING stand for the
    /// keywords that it leaves out. The error does not repeat it, since it may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, &|name| std::env::var(name).ok())
    }

    fn parse_with(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let invalid = |cause: String| {
            Error::configure(
                Code::DsnInvalid,
                format!(
                    "the connection string of the database is not valid: {cause}; it takes libpq's form, such as host=localhost port=5432 dbname=app user=app, or postgresql://app@localhost:5432/app"
                ),
            )
        };
        let mut parameters = Parameters::parse(text).map_err(&invalid)?;
        if parameters.get("host").is_some_and(|host| !host.starts_with('/') && host.contains('@')) {
            // Of a URI, the host begins behind the first @.
            return Err(Error::configure(
                Code::DsnInvalid,
                "the connection string of the database has an @ in its user name or password: in a URI write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25",
            ));
        }
        if parameters.get("host").is_none() && parameters.get("hostaddr").is_none() {
            for (key, variable) in [("host", "PGHOST"), ("port", "PGPORT")] {
                parameters.set(key, &env(variable).unwrap_or_default());
            }
        }
        for (key, variable) in [("user", "PGUSER"), ("dbname", "PGDATABASE"), ("channel_binding", "PGCHANNELBINDING")] {
            if parameters.get(key).is_none() {
                parameters.set(key, &env(variable).unwrap_or_default());
            }
        }
        let servers = servers(&mut parameters).map_err(&invalid)?;
        let tls = tls::Settings::take(&mut parameters, env).map_err(&invalid)?;
        // What libpq calls it, and the driver.
        if let Some(count) = parameters.take("keepalives_count") {
            parameters.set("keepalives_retries", &count);
        }
        let mut config: Config = parameters.to_text().parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            invalid(cause)
        })?;
        if config.get_user().is_none()
            && let Ok(user) = whoami::username()
        {
            config.user(user);
        }
        Ok(Self { config, servers, tls })
    }

    /// Where it leads, for messages: no user, no password.
    #[must_use]
    pub fn place(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        let servers = if servers.is_empty() { format!("localhost:{PORT}") } else { servers.join(",") };
        match self.config.get_dbname().or(self.config.get_user()) {
            Some(database) => format!("{servers}/{database}"),
            None => servers,
        }
    }
}

/// Takes the servers out: one port counts for all of them.
fn servers(parameters: &mut Parameters) -> std::result::Result<Vec<Server>, String> {
    let mut list = |key| parameters.take(key).map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default();
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = hosts.len().max(addresses.len());
    let differs = |given: usize| given > 0 && given != count;
    if differs(hosts.len()) || differs(addresses.len()) || (ports.len() > 1 && differs(ports.len())) {
        return Err(format!("host, hostaddr and port list {}, {} and {} servers", hosts.len(), addresses.len(), ports.len()));
    }
    let some = |list: &[String], index: usize| list.get(index).filter(|text| !text.is_empty()).cloned();
    (0..count)
        .map(|index| {
            let address =
                some(&addresses, index).map(|text| text.parse().map_err(|_| "hostaddr takes addresses such as 10.0.0.5".to_owned()));
            let port = some(&ports, index.min(ports.len().saturating_sub(1)));
            let port = port.map_or(Ok(PORT), |text| text.parse().map_err(|_| "invalid value for option `port`".to_owned()))?;
            let server = Server { host: some(&hosts, index), address: address.transpose()?, port };
            if server.destination().is_empty() { Err("a name in the list of hosts is empty".to_owned()) } else { Ok(server) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Next;

    fn parse(text: &str) -> Result<Dsn> {
        Dsn::parse_with(text, &|_| None)
    }

    #[test]
    fn both_forms_say_the_same() {
        for (uri, words) in [
            ("postgresql://u:p%40s@a:1,b/app", r"host=a,b port=1, user=u password=p@s dbname=app"),
            ("postgres:///app?host=/run/pg&user=u", "host=/run/pg user=u dbname=app"),
            ("postgresql://u@[::1]:6432/app?sslmode=verify-full", "host=::1 port = 6432 user=u dbname='app' sslmode=verify-full"),
            ("postgresql://%2Frun%2Fpg/it%27s?ssl=true", r"host=/run/pg dbname='it\'s' sslmode=require"),
            ("postgresql://u:a/b", "host=u port=a dbname=b"),
        ] {
            let sorted = |text: &str| {
                let mut list = Parameters::parse(text).unwrap().0;
                list.sort();
                list
            };
            assert_eq!(sorted(uri), sorted(words), "{uri}");
            assert_eq!(sorted(&Parameters::parse(uri).unwrap().to_text()), sorted(uri), "{uri}");
        }
    }

    #[test]
    fn a_wrong_dsn_is_named_and_not_repeated() {
        for (text, said) in [
            ("host=a password=secret port=x", "`port`"),
            ("host=a secret", "no value"),
            ("host=a password='secret", "a quote is not closed"),
            ("host=a password=secret nonsense=1", "unknown option `nonsense`"),
            ("host=a password=secret sslmode=verify", "sslmode"),
            ("host=a,b port=1,2,3 password=secret", "list 2, 0 and 3 servers"),
            ("host=a hostaddr=secret", "hostaddr"),
            ("postgresql://u:secret%@a/app", "%25"),
            ("postgresql://u:secret@a/app?x", "has no ="),
            ("postgresql://u:x@secret@a/app", "%40"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.next, Next::Configure);
            assert!(error.message.contains(said) && !error.message.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_has_neither_user_nor_password() {
        let place = |dsn| parse(dsn).unwrap().place();
        assert_eq!(place("postgresql://u:secret@a:1,b:2/app"), "a:1,b:2/app");
        assert_eq!(place("host=/run/pg user=u password=secret"), "/run/pg:5432/u");
    }

    #[test]
    fn the_environment_fills_what_is_left_out() {
        let env = |name: &str| match name {
            "PGHOST" => Some("db".to_owned()),
            "PGPORT" => Some("6432".to_owned()),
            "PGUSER" => Some("ann".to_owned()),
            _ => None,
        };
        let place = |text| {
            let dsn = Dsn::parse_with(text, &env).unwrap();
            (dsn.place(), dsn.config.get_user().unwrap().to_owned())
        };
        assert_eq!(place("dbname=app"), ("db:6432/app".to_owned(), "ann".to_owned()));
        assert_eq!(place("host=a dbname=app user=bob"), ("a:5432/app".to_owned(), "bob".to_owned()));
    }
}
