//! `grants.http`: the servers that a plugin may ask, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::address::Network;
use super::headers;
use super::origin::{Origin, Server};
use crate::capabilities::grants::{Resources, Secret, named};
use crate::yaml::{Field, Problem, Sources, Step, Value};

type Result<T> = std::result::Result<T, Problem>;

const KEYS: [&str; 13] = [
    "origins",
    "addresses",
    "ca",
    "certificate",
    "key",
    "headers",
    "basic",
    "bearer",
    "oauth2",
    "aws",
    "connect",
    "first_byte",
    "between_bytes",
];
const ORIGINS: &str = "write a list of the servers that it may ask, such as origins: [\"https://search.example:9200/index/\"]";
const ORIGIN: &str = "write a scheme, a host and what else bounds it, such as https://search.example:9200/index/";
const WAIT_MIN: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);
const CONNECT: Duration = Duration::from_secs(10);

/// Some servers, and how they are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub origins: Vec<Origin>,
    /// Addresses that may be dialled although they are not on the public internet.
    pub addresses: Vec<Network>,
    /// The authorities to trust; the system's if there is none.
    pub ca: Option<PathBuf>,
    pub certificate: Option<Certificate>,
    pub headers: Vec<(HeaderName, Secret)>,
    pub authentication: Option<Authentication>,
    pub waits: Waits,
}

/// What is shown to servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// As whom the servers are asked. No plugin sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Authentication {
    Basic { user: String, password: Secret },
    Bearer(Bearer),
    OAuth2(OAuth2),
    Aws(Aws),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Bearer {
    Value(Secret),
    /// Read again when it changes.
    File(PathBuf),
}

/// Client credentials: RFC 6749, section 4.4.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    pub server: Server,
    /// With its query.
    pub path: String,
    pub client: String,
    pub secret: Secret,
    pub scope: Option<String>,
}

/// Signature version 4.
#[derive(Clone, Debug, PartialEq)]
pub struct Aws {
    pub service: String,
    pub region: String,
    pub credentials: Credentials,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Credentials {
    /// `AWS_ACCESS_KEY_ID` and so on, of this process.
    Environment,
    /// A section of a file such as `~/.aws/credentials`.
    Profile {
        name: String,
        file: PathBuf,
    },
    Keys {
        id: Secret,
        secret: Secret,
        token: Option<Secret>,
    },
    /// Of the instance's role, from the metadata service.
    Instance,
}

/// How long to wait for what. The time of the plugin's call bounds all of it together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    pub connect: Duration,
    pub first_byte: Option<Duration>,
    pub between_bytes: Option<Duration>,
}

impl Default for Waits {
    fn default() -> Self {
        Self { connect: CONNECT, first_byte: None, between_bytes: None }
    }
}

pub(super) fn read(field: &Field<'_>, sources: &Sources<'_>) -> Result<Resources<Grant>> {
    let known = |key: &Value| key.as_str().is_some_and(|key| KEYS.contains(&key));
    match field.value {
        // The servers of each name are asked in its own way.
        Value::Mapping(map) if !map.is_empty() && !map.keys().any(known) && map.values().all(Value::is_mapping) => {
            let grants = named(field, |field| grant(field, sources))?;
            no_two_alike(field, &grants)?;
            Ok(grants)
        }
        _ => Ok(Resources::One(grant(field, sources)?)),
    }
}

/// A request has to find one way of asking.
fn no_two_alike(field: &Field<'_>, grants: &Resources<Grant>) -> Result<()> {
    let Resources::Named(grants) = grants else { return Ok(()) };
    let mut seen: Vec<(&Origin, &String)> = Vec::new();
    for (name, grant) in grants {
        for origin in &grant.origins {
            if let Some((_, other)) = seen.iter().find(|(known, other)| *known == origin && *other != name) {
                return Err(
                    field.problem(format!("`{other}` and `{name}` grant {origin} both; name it in one of them, or with different paths"))
                );
            }
            seen.push((origin, name));
        }
    }
    Ok(())
}

fn grant(field: &Field<'_>, sources: &Sources<'_>) -> Result<Grant> {
    field.map(&KEYS)?;
    let origins = list(&field.required("origins", ORIGINS)?, ORIGINS, |field| {
        let text = field.expand(field.text(ORIGIN)?, sources)?;
        Origin::parse(&text).map_err(|reason| field.problem(format!("{reason}; {ORIGIN}")))
    })?;
    let network = "write addresses or networks by number, such as addresses: [127.0.0.1, 10.0.0.0/8]";
    let addresses = field.get("addresses").map(|field| {
        list(&field, network, |field| {
            let text = field.expand(field.text(network)?, sources)?;
            Network::parse(&text).map_err(|reason| field.problem(reason))
        })
    });
    let file = |name: &str| {
        let remedy = format!("write the path of a file in PEM form, such as {name}: ./{name}.pem");
        field.get(name).map(|field| Ok(sources.folder.join(field.expand(field.text(&remedy)?, sources)?))).transpose()
    };
    let certificate = match (file("certificate")?, file("key")?) {
        (Some(certificate), Some(key)) => Some(Certificate { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return Err(field.problem("has a certificate and no key; write key: FILE too")),
        (None, Some(_)) => return Err(field.problem("has a key and no certificate; write certificate: FILE too")),
    };
    let wait = |name: &str| field.get(name).map(|field| field.duration(WAIT_MIN, WAIT_MAX)).transpose();
    let waits =
        Waits { connect: wait("connect")?.unwrap_or(CONNECT), first_byte: wait("first_byte")?, between_bytes: wait("between_bytes")? };
    let headers = field.get("headers").map(|field| fixed(&field, sources)).transpose()?.unwrap_or_default();
    let authentication = authentication(field, sources)?;
    if authentication.is_some() && headers.iter().any(|(name, _)| *name == http::header::AUTHORIZATION) {
        return Err(
            field.problem("sets the header authorization in two ways; write it under headers, or one of basic, bearer, oauth2 and aws")
        );
    }
    let addresses = addresses.transpose()?.unwrap_or_default();
    Ok(Grant { origins, addresses, ca: file("ca")?, certificate, headers, authentication, waits })
}

fn list<'a, T>(field: &Field<'a>, remedy: &str, read: impl Fn(&Field<'a>) -> Result<T>) -> Result<Vec<T>> {
    match field.value {
        Value::Sequence(items) if !items.is_empty() => {
            items.iter().enumerate().map(|(index, item)| read(&field.below(Step::Index(index), item))).collect()
        }
        Value::Sequence(_) => Err(field.problem(format!("names nothing; {remedy}"))),
        _ => Err(field.wrong(remedy)),
    }
}

fn fixed(field: &Field<'_>, sources: &Sources<'_>) -> Result<Vec<(HeaderName, Secret)>> {
    let remedy = "write a map from names of headers to their values, such as headers: { x-api-key: \"${env:KEY}\" }";
    let header = |(name, field): (&str, Field<'_>)| {
        let at_key = |message: String| Problem { at_key: true, ..field.problem(message) };
        let header: HeaderName = name.parse().map_err(|_| at_key("is no name of a header".to_owned()))?;
        if headers::is_hosts(&header) || header == http::header::CONTENT_LENGTH {
            return Err(at_key("is a header that belongs to the connection; remove it".to_owned()));
        }
        Ok((header, value(&field, sources, remedy)?))
    };
    field.entries(remedy)?.into_iter().map(header).collect()
}

/// A text that can be sent in a header. Nothing of it is shown.
fn value(field: &Field<'_>, sources: &Sources<'_>, remedy: &str) -> Result<Secret> {
    let text = field.expand(field.text(remedy)?, sources)?;
    match HeaderValue::from_str(&text) {
        Ok(_) => Ok(Secret::new(text)),
        Err(_) => Err(field.problem("has a character that no header may have, such as the end of a line; remove it")),
    }
}

fn authentication(field: &Field<'_>, sources: &Sources<'_>) -> Result<Option<Authentication>> {
    let ways = ["basic", "bearer", "oauth2", "aws"].into_iter().filter_map(|name| Some((name, field.get(name)?)));
    let mut ways = ways.collect::<Vec<_>>().into_iter();
    let Some((name, way)) = ways.next() else { return Ok(None) };
    if let Some((other, _)) = ways.next() {
        return Err(field.problem(format!("has two ways of authentication, `{name}` and `{other}`; keep one of them")));
    }
    Ok(Some(match name {
        "basic" => basic(&way, sources)?,
        "bearer" => Authentication::Bearer(bearer(&way, sources)?),
        "oauth2" => Authentication::OAuth2(oauth2(&way, sources)?),
        _ => Authentication::Aws(aws(&way, sources)?),
    }))
}

fn basic(field: &Field<'_>, sources: &Sources<'_>) -> Result<Authentication> {
    field.map(&["user", "password"])?;
    let remedy = "write basic: { user: app, password: \"${env:PASSWORD}\" }";
    let user = field.required("user", remedy)?;
    let user = user.expand(user.text(remedy)?, sources)?;
    if user.contains(':') {
        return Err(field.problem("has a user with a colon, which basic authentication cannot send; use another user"));
    }
    let password = field.required("password", remedy)?;
    Ok(Authentication::Basic { user, password: Secret::new(password.expand(password.text(remedy)?, sources)?) })
}

fn bearer(field: &Field<'_>, sources: &Sources<'_>) -> Result<Bearer> {
    let remedy = "write bearer: \"${env:TOKEN}\", or bearer: { file: /run/secrets/token }, which is read again when it changes";
    if !field.value.is_mapping() {
        return Ok(Bearer::Value(value(field, sources, remedy)?));
    }
    field.map(&["file"])?;
    let file = field.required("file", remedy)?;
    Ok(Bearer::File(sources.folder.join(file.expand(file.text(remedy)?, sources)?)))
}

fn oauth2(field: &Field<'_>, sources: &Sources<'_>) -> Result<OAuth2> {
    field.map(&["token_url", "client_id", "client_secret", "scope"])?;
    let remedy = "write oauth2: { token_url: \"https://id.example/token\", client_id: app, client_secret: \"${env:SECRET}\" }";
    let text = |name: &str| field.required(name, remedy).and_then(|field| field.expand(field.text(remedy)?, sources));
    let at = field.required("token_url", remedy)?;
    let url = text("token_url")?;
    let wrong = |reason: &str| at.problem(format!("{reason}; {remedy}"));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let server = Server::parse(scheme, authority).map_err(|reason| wrong(&reason))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if path.contains('#') || path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(wrong("has a path that no request may have"));
    }
    let scope = field.get("scope").map(|field| field.expand(field.text(remedy)?, sources)).transpose()?;
    Ok(OAuth2 { server, path, client: text("client_id")?, secret: Secret::new(text("client_secret")?), scope })
}

fn aws(field: &Field<'_>, sources: &Sources<'_>) -> Result<Aws> {
    field.map(&["service", "region", "credentials"])?;
    let remedy = "write aws: { service: s3, region: eu-central-1, credentials: environment }";
    let text = |name: &str| field.required(name, remedy).and_then(|field| field.expand(field.text(remedy)?, sources));
    let credentials = field.required("credentials", remedy)?;
    Ok(Aws { service: text("service")?, region: text("region")?, credentials: self::credentials(&credentials, sources)? })
}

fn credentials(field: &Field<'_>, sources: &Sources<'_>) -> Result<Credentials> {
    let remedy = "write environment, instance, { profile: NAME, file: FILE }, or { access_key_id: ID, secret_access_key: SECRET }";
    if !field.value.is_mapping() {
        return match field.text(remedy)? {
            "environment" => Ok(Credentials::Environment),
            "instance" => Ok(Credentials::Instance),
            other => Err(field.problem(format!("{other:?} is no source of credentials; {remedy}"))),
        };
    }
    let text = |name: &str| field.required(name, remedy).and_then(|field| field.expand(field.text(remedy)?, sources));
    if field.get("profile").is_some() {
        field.map(&["profile", "file"])?;
        let file = match field.get("file") {
            Some(_) => sources.folder.join(text("file")?),
            None => (sources.env)("HOME")
                .map(|home| PathBuf::from(home).join(".aws/credentials"))
                .ok_or_else(|| field.problem("names no file, and the environment has no HOME; write file: FILE"))?,
        };
        return Ok(Credentials::Profile { name: text("profile")?, file });
    }
    field.map(&["access_key_id", "secret_access_key", "session_token"])?;
    let token = field.get("session_token").map(|_| text("session_token").map(Secret::new)).transpose()?;
    Ok(Credentials::Keys { id: Secret::new(text("access_key_id")?), secret: Secret::new(text("secret_access_key")?), token })
}
