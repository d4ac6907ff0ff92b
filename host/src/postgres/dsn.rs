//! Connection strings: what libpq's two forms say, keyword by keyword.

use std::fmt;
use std::net::IpAddr;

use tokio_postgres::Config;

use super::tls;
use crate::error::{Error, Result};

/// Where PostgreSQL listens unless it is told otherwise.
pub const PORT: u16 = 5432;

/// Keywords and their values. None is empty, and none is there twice.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

/// The values are secret, or may be.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

impl Parameters {
    /// Takes `host=a user=b`, and `postgresql://b@a`. The error never holds a value.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => uri(rest),
            None => keywords(text),
        }
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// The last value of a keyword counts; an empty one stands for none, as with libpq.
    pub fn set(&mut self, key: &str, value: &str) {
        self.take(key);
        if !value.is_empty() {
            self.0.push((key.to_owned(), value.to_owned()));
        }
    }

    pub fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| found == key)?;
        Some(self.0.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// As keywords and values; holds the password.
    #[must_use]
    pub fn to_text(&self) -> String {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let words: Vec<String> = self.iter().map(|(key, value)| format!("{key}='{}'", quoted(value))).collect();
        words.join(" ")
    }
}

/// A server of a connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, its address, or the folder of its socket.
    pub host: Option<String>,
    /// What is connected to in place of what the name stands for.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl Server {
    /// Whom the connection reaches.
    #[must_use]
    pub fn destination(&self) -> String {
        self.address.map_or_else(|| self.host.clone().unwrap_or_default(), |address| address.to_string())
    }

    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.address.is_none() && self.host.as_deref().is_some_and(|host| host.starts_with('/'))
    }

    /// What it is called: in certificates, in the password file, in messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.destination())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name(), self.port)
    }
}

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
            Error::configure(format!(
                "the connection string of the database is not valid: {cause}; it takes libpq's form, such as host=localhost port=5432 dbname=app user=app, or postgresql://app@localhost:5432/app"
            ))
        };
        let mut parameters = Parameters::parse(text).map_err(&invalid)?;
        if parameters.get("host").is_some_and(|host| !host.starts_with('/') && host.contains('@')) {
            // Of a URI, the host begins behind the first @.
            return Err(Error::configure(
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

/// `key=value`, `key = 'value with blanks'`; a backslash takes the next character as it is.
fn keywords(text: &str) -> std::result::Result<Parameters, String> {
    let mut parameters = Parameters::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').ok_or("a keyword has no value")?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err("a keyword has no value, or no =".to_owned());
        }
        let (value, after) = value_of(value.trim_start())?;
        parameters.set(key, &value);
        rest = after.trim_start();
    }
    Ok(parameters)
}

/// A value, and what stands behind it.
fn value_of(text: &str) -> std::result::Result<(String, &str), String> {
    let inside = text.strip_prefix('\'');
    let mut value = String::new();
    let mut characters = inside.unwrap_or(text).chars();
    loop {
        let before = characters.as_str();
        match (characters.next(), inside) {
            (Some('\\'), _) => value.extend(characters.next()),
            (Some('\''), Some(_)) => {
                let after = characters.as_str();
                return if after.is_empty() || after.starts_with(char::is_whitespace) {
                    Ok((value, after))
                } else {
                    Err("a quoted value is followed by something other than a blank".to_owned())
                };
            }
            (Some(character), None) if character.is_whitespace() => return Ok((value, before)),
            (Some(character), _) => value.push(character),
            (None, Some(_)) => return Err("a quote is not closed".to_owned()),
            (None, None) => return Ok((value, "")),
        }
    }
}

/// `[user[:password]@][host[:port],…][/dbname][?key=value&…]`, each part percent-encoded.
fn uri(rest: &str) -> std::result::Result<Parameters, String> {
    let mut parameters = Parameters::default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, rest) = rest.split_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        parameters.set("user", &decode(user)?);
        parameters.set("password", &decode(password)?);
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for server in authority.split(',') {
        let (host, port) = match server.strip_prefix('[') {
            Some(server) => {
                let (host, after) = server.split_once(']').ok_or("a [ of an address is not closed")?;
                (
                    host,
                    after
                        .strip_prefix(':')
                        .or(after.is_empty().then_some(""))
                        .ok_or("an address in [] is followed by something other than a port")?,
                )
            }
            None => server.split_once(':').unwrap_or((server, "")),
        };
        hosts.push(decode(host)?);
        ports.push(decode(port)?);
    }
    let list = |texts: &[String]| if texts.iter().all(String::is_empty) { String::new() } else { texts.join(",") };
    parameters.set("host", &list(&hosts));
    parameters.set("port", &list(&ports));
    parameters.set("dbname", &decode(database)?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a parameter of the URI has no =")?;
        match (decode(key)?.as_str(), decode(value)?.as_str()) {
            // As libpq takes it for the sake of JDBC.
            ("ssl", "true") => parameters.set("sslmode", "require"),
            (key, value) => parameters.set(key, value),
        }
    }
    Ok(parameters)
}

/// The text that `%40` and the like stand for.
fn decode(text: &str) -> std::result::Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit(), digit());
        let (high, low) = high.zip(low).ok_or("a % of the URI is not followed by two hexadecimal digits; write % itself as %25")?;
        bytes.push(high * 16 + low);
    }
    String::from_utf8(bytes).map_err(|_| "a part of the URI is not UTF-8".to_owned())
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
