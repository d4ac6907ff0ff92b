//! What this process itself was told about the servers that it connects to: by its command
//! line, its environment and its files. A set's connection string comes from ZooKeeper,
//! and whoever writes there does not decide who gets to know a password.

use std::sync::{PoisonError, RwLock};

use super::dsn::Dsn;
use super::parameters::{Parameters, Server};
use crate::error::{Code, Error, Result};

/// Set at the start, by the command line; one process has one environment too.
static OWN: RwLock<Own> = RwLock::new(Own { source: None, servers: Vec::new() });

#[derive(Debug)]
struct Own {
    /// `--source-dsn`.
    source: Option<Source>,
    /// Whom PGPASSWORD may be sent to.
    servers: Vec<Server>,
}

#[derive(Clone, Debug)]
struct Source {
    parameters: Parameters,
    /// None: it counts for whatever server a set names.
    servers: Vec<Server>,
}

/// Keywords that say where a server is.
const PLACE: [&str; 3] = ["host", "hostaddr", "port"];

/// Takes over `--source-dsn`.
pub fn set_source(text: &str) -> Result<()> {
    let source = Source::parse(text).map_err(|error| error.context("--source-dsn (PGSHOVEL_SOURCE_DSN)"))?;
    let mut own = OWN.write().unwrap_or_else(PoisonError::into_inner);
    own.servers.extend(source.servers.iter().cloned());
    own.source = Some(source);
    Ok(())
}

/// The servers of a connection string that this process was given by its user: PGPASSWORD
/// may be sent to them. One that is not valid names none.
pub fn name(dsn: &str) {
    if let Ok(dsn) = Dsn::parse(dsn) {
        let mut own = OWN.write().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<Server> = dsn.servers.into_iter().filter(|server| !own.servers.contains(server)).collect();
        own.servers.extend(new);
    }
}

/// Whether this process was told of the server other than by ZooKeeper.
#[must_use]
pub fn names(server: &Server) -> bool {
    let own = OWN.read().unwrap_or_else(PoisonError::into_inner);
    let environment = Dsn::parse("").map(|dsn| dsn.servers).unwrap_or_default();
    own.servers.iter().chain(&environment).any(|named| reaches(named, server))
}

/// The connection string of the one set that a process serves, with `--source-dsn` in it,
/// the place of the server too.
#[must_use]
pub fn of_set(dsn: &str) -> String {
    let own = OWN.read().unwrap_or_else(PoisonError::into_inner);
    own.source.as_ref().and_then(|source| source.over(dsn)).unwrap_or_else(|| dsn.to_owned())
}

/// The connection string of one of several sets, with `--source-dsn` in it if that counts
/// for its servers.
#[must_use]
pub fn of_any(dsn: &str) -> String {
    let own = OWN.read().unwrap_or_else(PoisonError::into_inner);
    own.source.as_ref().and_then(|source| source.beside(dsn)).unwrap_or_else(|| dsn.to_owned())
}

impl Source {
    fn parse(text: &str) -> Result<Self> {
        let dsn = Dsn::parse(text)?;
        let parameters = Parameters::parse(text).map_err(|wrong| Error::configure(Code::DsnInvalid, wrong))?;
        let has_place = parameters.get("host").is_some() || parameters.get("hostaddr").is_some();
        if parameters.get("password").is_some() && !has_place {
            return Err(Error::configure(
                Code::SourceDsnInvalid,
                "it has a password and names no host: add host=, so that the password is sent to nobody else",
            ));
        }
        let servers = if has_place { dsn.servers } else { Vec::new() };
        Ok(Self { parameters, servers })
    }

    fn over(&self, dsn: &str) -> Option<String> {
        let mut merged = Parameters::parse(dsn).ok()?;
        if !self.servers.is_empty() {
            PLACE.iter().for_each(|key| drop(merged.take(key)));
        }
        self.lay(&mut merged, |_| true);
        Some(merged.to_text())
    }

    fn beside(&self, dsn: &str) -> Option<String> {
        let servers = Dsn::parse(dsn).ok()?.servers;
        let counts = self.servers.is_empty() || servers.iter().all(|server| self.servers.iter().any(|own| reaches(own, server)));
        let mut merged = Parameters::parse(dsn).ok().filter(|_| counts)?;
        self.lay(&mut merged, |key| !PLACE.contains(&key));
        Some(merged.to_text())
    }

    /// The database stays the set's.
    fn lay(&self, merged: &mut Parameters, wanted: impl Fn(&str) -> bool) {
        if self.parameters.get("user").is_some() {
            // A database without a name is called like the user.
            if let (None, Some(user)) = (merged.get("dbname"), merged.get("user").map(str::to_owned)) {
                merged.set("dbname", &user);
            }
            // It is the other user's.
            merged.take("password");
        }
        for (key, value) in self.parameters.iter().filter(|(key, _)| *key != "dbname" && wanted(key)) {
            merged.set(key, value);
        }
    }
}

/// Whether whoever names the one means the other.
fn reaches(named: &Server, server: &Server) -> bool {
    let same = |name: Option<String>| name.is_some_and(|name| name.eq_ignore_ascii_case(&server.destination()));
    named.port == server.port && (same(named.host.clone()) || same(Some(named.destination())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = "host=db port=5433 user=owner password=stored dbname=app sslmode=disable";

    fn source(text: &str) -> Source {
        Source::parse(text).unwrap()
    }

    #[test]
    fn what_the_process_was_told_comes_before_what_is_stored() {
        let merged = |own: &str| source(own).over(STORED).unwrap();
        assert_eq!(merged("sslmode=require"), "host='db' port='5433' user='owner' password='stored' dbname='app' sslmode='require'");
        assert_eq!(merged("user=relay"), "host='db' port='5433' dbname='app' sslmode='disable' user='relay'");
        assert_eq!(merged("postgresql://relay:own@near/other"), "dbname='app' sslmode='disable' user='relay' password='own' host='near'");
        assert_eq!(source("user=relay").over("host=db user=app").unwrap(), "host='db' dbname='app' user='relay'");
    }

    #[test]
    fn a_password_is_for_the_hosts_that_stand_beside_it() {
        assert!(Source::parse("user=relay password=secret").unwrap_err().message.contains("host="));
        let own = source("host=db,other port=5433 user=admin password=own");
        assert_eq!(own.beside(STORED).unwrap(), "host='db' port='5433' dbname='app' sslmode='disable' user='admin' password='own'");
        for elsewhere in ["host=db", "host=evil port=5433", "host=db,evil port=5433", "host=db hostaddr=10.0.0.66 port=5433"] {
            assert_eq!(own.beside(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(source("user=admin").beside("host=evil").unwrap(), "host='evil' user='admin'");
    }

    #[test]
    fn a_name_stands_for_where_it_leads() {
        let server = |text: &str| Dsn::parse(text).unwrap().servers.remove(0);
        assert!(reaches(&server("host=DB"), &server("host=db")));
        assert!(reaches(&server("host=db hostaddr=10.0.0.1"), &server("hostaddr=10.0.0.1")));
        assert!(!reaches(&server("host=db"), &server("host=db port=1")));
        assert!(!reaches(&server("host=db"), &server("host=db hostaddr=10.0.0.66")));
    }
}
