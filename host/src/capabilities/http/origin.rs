//! Where requests may go: a scheme, a host, a port and the beginning of a path.

use std::fmt;

use http::uri::{PathAndQuery, Scheme};

use super::host::Host;
use super::path::Prefix;
use super::refusal::{Code, Refusal};

/// A server, as it is dialled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Server {
    /// By TLS.
    pub secure: bool,
    pub host: Host,
    pub port: u16,
}

/// What a grant names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub server: Server,
    pub path: Prefix,
}

impl Server {
    /// Reads a scheme and what stands behind `//`.
    pub fn parse(scheme: &str, authority: &str) -> Result<Self, String> {
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("has another scheme than https and http".to_owned()),
        };
        if authority.contains('@') {
            return Err("has a user in front of the host; only the host's own authentication is sent".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address end with a bracket.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host = Host::parse(host).map_err(|reason| format!("has a host that {reason}"))?;
        let digits = |port: &str| (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then(|| port.parse::<u16>().ok())?;
        let port = match port {
            None if secure => 443,
            None => 80,
            Some(port) => digits(port).filter(|port| *port != 0).ok_or("has a port that is no number from 1 to 65535")?,
        };
        Ok(Self { secure, host, port })
    }

    fn is_usual_port(&self) -> bool {
        self.port == if self.secure { 443 } else { 80 }
    }

    /// For the header `host`.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.is_usual_port() { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Of one path with its query, for HTTP/2 and for signatures.
    pub fn uri(&self, path: Option<&PathAndQuery>) -> Result<http::Uri, Refusal> {
        let path = path.map_or("/", PathAndQuery::as_str);
        let scheme = if self.secure { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = http::Uri::builder().scheme(scheme).authority(self.authority()).path_and_query(path).build();
        uri.map_err(|_| Refusal::new(Code::RequestUri, format!("a request to {self} has a path that no request may have")))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.server, self.path)
    }
}

impl Origin {
    /// Reads `https://search.example:9200/index/`. The error says what is wrong with it, and
    /// shows nothing of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
        if rest.contains(['?', '#']) {
            return Err("has a query or a fragment, and only a scheme, a host, a port and a path are granted".to_owned());
        }
        let at = rest.find(['/', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let server = Server::parse(scheme, authority)?;
        let path = Prefix::parse(path).map_err(|reason| format!("has a path that {reason}"))?;
        Ok(Self { server, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_form() {
        for (text, expected) in [
            ("https://search.example:9200/index/", "https://search.example:9200/index/"),
            ("HTTPS://Search.Example.:443", "https://search.example/"),
            ("http://127.0.0.1:80/a", "http://127.0.0.1/a/"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
            ("http://[::1]", "http://[::1]/"),
        ] {
            assert_eq!(Origin::parse(text).map(|origin| origin.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "search.example",
            "/index/",
            "https:///index/",
            "https://",
            "ftp://a",
            "https://user:pw@a",
            "https://a:",
            "https://a:0",
            "https://a:+1",
            "https://a:65536",
            "https://a/../b",
            "https://a\\b",
            "https://a?x",
            "https://a/#x",
            "https://2130706433/",
            "https://*.example",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
