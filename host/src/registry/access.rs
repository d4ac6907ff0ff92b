//! Who a process is to ZooKeeper, and whom the nodes of a cluster let in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zookeeper_client as zookeeper;

use super::tls::Tls;
use crate::error::{Code, Error, Result};

/// What to do where the credentials are not those that a node wants.
pub(super) const REMEDY: &str = "give the credentials that the cluster was made with: --zookeeper-auth-file or PGSHOVEL_ZOOKEEPER_AUTH";

/// How a process shows ZooKeeper who it is, and is shown that ZooKeeper is who it should be.
#[derive(Clone, Default)]
pub struct Access {
    credentials: Arc<[Credentials]>,
    tls: Option<Tls>,
}

struct Credentials {
    scheme: Scheme,
    user: String,
    password: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// The password goes to the server, so the connection has to be trusted.
    Digest,
    /// DIGEST-MD5: a challenge, and users that the servers know.
    Sasl,
}

impl Access {
    /// `credentials` are lines `digest:USER:PASSWORD` or `sasl:USER:PASSWORD`; `place`
    /// is where they stand, for messages.
    pub fn new(credentials: &str, place: &str, tls: Option<Tls>) -> Result<Self> {
        let mut found = Vec::new();
        for (index, line) in credentials.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason: &str| Error::configure(Code::CredentialsUnreadable, format!("{place}, line {}: {reason}", index + 1));
            let one = Credentials::parse(line).map_err(wrong)?;
            if one.scheme == Scheme::Sasl && found.iter().any(|other: &Credentials| other.scheme == Scheme::Sasl) {
                return Err(wrong("a session has one user by SASL: leave one line with sasl:"));
            }
            found.push(one);
        }
        Ok(Self { credentials: found.into(), tls })
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(crate) fn connector(&self, session_timeout: Duration) -> zookeeper::Connector {
        let mut connector = zookeeper::Client::connector().with_session_timeout(session_timeout);
        if let Some(tls) = &self.tls {
            connector = connector.with_tls(tls.options());
        }
        for Credentials { scheme, user, password } in self.credentials.iter() {
            connector = match scheme {
                Scheme::Digest => connector.with_auth("digest", format!("{user}:{password}").as_bytes()),
                Scheme::Sasl => connector.with_sasl(zookeeper::SaslOptions::digest_md5(user.clone(), password.clone())),
            };
        }
        connector
    }

    /// Whether ZooKeeper can tell this process from others.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.credentials.is_empty() || self.certificate().is_some()
    }

    fn certificate(&self) -> Option<&std::path::Path> {
        self.tls.as_ref().and_then(Tls::certificate)
    }

    /// Of nodes that this process creates.
    pub(crate) fn acls(&self) -> zookeeper::Acls<'static> {
        if self.is_known() { zookeeper::Acls::creator_all() } else { zookeeper::Acls::anyone_all() }
    }

    /// What ZooKeeper has to have taken the process for: words for messages, and the scheme.
    pub(super) fn identities(&self) -> impl Iterator<Item = (String, &'static str)> {
        let users = self.credentials.iter().map(|Credentials { scheme, user, .. }| match scheme {
            Scheme::Digest => (format!("digest user {user:?}"), "digest"),
            Scheme::Sasl => (format!("SASL user {user:?}"), "sasl"),
        });
        users.chain(self.certificate().map(|file| (format!("the certificate in {}", file.display()), "x509")))
    }
}

/// Names the users, and no password.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identities: Vec<String> = self.identities().map(|(words, _)| words).collect();
        if identities.is_empty() { f.write_str("a process without credentials") } else { f.write_str(&identities.join(" and ")) }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({self})")
    }
}

impl Credentials {
    /// What is wrong never holds the line: it may be a password.
    fn parse(line: &str) -> std::result::Result<Self, &'static str> {
        const FORM: &str = "it is not digest:USER:PASSWORD or sasl:USER:PASSWORD";
        let (scheme, rest) = line.split_once(':').ok_or(FORM)?;
        let scheme = match scheme {
            "digest" => Scheme::Digest,
            "sasl" => Scheme::Sasl,
            _ => return Err(FORM),
        };
        let (user, password) = rest.split_once(':').ok_or(FORM)?;
        if user.is_empty() || password.is_empty() {
            return Err("the user or the password is empty: it is digest:USER:PASSWORD or sasl:USER:PASSWORD");
        }
        Ok(Self { scheme, user: user.to_owned(), password: password.to_owned() })
    }
}

/// Of a connection that was refused.
pub(crate) fn refused(hosts: &str, access: &Access) -> String {
    format!("ZooKeeper at {hosts:?} refuses {access}: the password is not the user's, or the servers demand SASL of everybody; {REMEDY}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_and_not_shown() {
        let access = Access::new("# ours\ndigest:alice:hunter:2\n\nsasl:bob:hunter2\n", "file", None).unwrap();
        assert_eq!(access.to_string(), "digest user \"alice\" and SASL user \"bob\"");
        assert_eq!(access.credentials[0].password, "hunter:2");
        assert!(!format!("{access:?}").contains("hunter"));
        assert_eq!(Access::default().to_string(), "a process without credentials");
    }

    #[test]
    fn wrong_credentials_are_named_by_line_and_not_shown() {
        for text in ["hunter2", "hunter2:a:b", "digest:hunter2", "sasl::hunter2", "sasl:hunter2:", "sasl:a:b\nsasl:hunter2:c"] {
            let error = Access::new(text, "auth.txt", None).unwrap_err();
            assert!(error.message.starts_with("auth.txt, line ") && !error.message.contains("hunter2"), "{error}");
        }
    }
}
