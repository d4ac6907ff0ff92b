//! The keywords of a connection string, in libpq's two forms, and its servers.

use std::fmt;
use std::net::IpAddr;

/// Keywords and their values. None is empty, and none is there twice.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(pub(super) Vec<(String, String)>);

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
