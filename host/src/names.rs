//! Which names clusters and sets may have: those that fit ZooKeeper's paths,
//! PgQ's queue names and PostgreSQL's identifiers. Pure.

use crate::error::{Code, Error, Result};

/// PostgreSQL cuts identifiers off after this many bytes (NAMEDATALEN - 1).
pub const IDENTIFIER_BYTES_MAX: usize = 63;

const SCHEMA_PREFIX: &str = "pgshovel_";

/// As long as [`SCHEMA_PREFIX`], and no cluster's name holds a colon.
const CAPTURE_SCHEMA_PREFIX: &str = "pgshovel:";

/// The schema of a cluster's own tables and functions, in each of its databases.
#[must_use]
pub fn schema(cluster: &str) -> String {
    format!("{SCHEMA_PREFIX}{cluster}")
}

/// The schema of what captures changes, in each of a cluster's databases.
#[must_use]
pub fn capture_schema(cluster: &str) -> String {
    format!("{CAPTURE_SCHEMA_PREFIX}{cluster}")
}

/// The role that the functions run as that capture changes. It has no login and can insert
/// events; it is of all databases of a server that the cluster captures.
#[must_use]
pub fn capture_role(cluster: &str) -> String {
    capture_schema(cluster)
}

/// The PgQ queue of a set.
#[must_use]
pub fn queue(cluster: &str, set: &str) -> String {
    format!("pgshovel:{cluster}:{set}")
}

/// What names a prepared transaction may have, in bytes: PostgreSQL's GIDSIZE - 1.
pub const GID_BYTES_MAX: usize = 199;

/// The prepared transaction of a change in one of its databases, which `index` tells
/// apart. Unique on a server, whatever clusters have databases there.
#[must_use]
pub fn gid(cluster_id: &str, set: &str, change: &str, index: usize) -> String {
    format!("{}{set}:{change}:{index}", gid_prefix(cluster_id))
}

/// What the gids of a cluster begin with.
#[must_use]
pub fn gid_prefix(cluster_id: &str) -> String {
    format!("pgshovel:{cluster_id}:")
}

/// Checks the name of a cluster: it becomes a path and a schema.
pub fn check_cluster(name: &str) -> Result<()> {
    let bytes_max = IDENTIFIER_BYTES_MAX - SCHEMA_PREFIX.len();
    check("cluster", name, bytes_max)?;
    if name == "zookeeper" {
        return Err(Error::usage(Code::NameInvalid, "the cluster name \"zookeeper\" belongs to ZooKeeper itself; choose another one"));
    }
    Ok(())
}

/// Checks the name of a replication set: it becomes a path and a part of names in PostgreSQL.
pub fn check_set(name: &str) -> Result<()> {
    check("set", name, IDENTIFIER_BYTES_MAX)
}

fn check(kind: &str, name: &str, bytes_max: usize) -> Result<()> {
    let wrong = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > bytes_max {
        format!("has {} bytes, {bytes_max} are allowed", name.len())
    } else if name == "." || name == ".." {
        "is a relative path".to_owned()
    } else if let Some(character) = name.chars().find(|character| forbidden(*character)) {
        format!("contains {character:?}; '/', '@', ':', control characters and private-use characters are not allowed")
    } else if name.trim() != name {
        "begins or ends with a blank".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::usage(Code::NameInvalid, format!("the {kind} name {name:?} {wrong}")))
}

/// '/' separates ZooKeeper's paths, '@' a set from its version, ':' the parts of
/// a queue's name; the ranges are those that ZooKeeper's documentation of its
/// data model rules out.
fn forbidden(character: char) -> bool {
    matches!(character, '/' | '@' | ':' | '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gids_fit() {
        let uuid = uuid::Uuid::nil().to_string();
        let longest = gid(&uuid, &"x".repeat(IDENTIFIER_BYTES_MAX), &uuid, usize::MAX);
        assert!(longest.len() <= GID_BYTES_MAX && longest.starts_with(&gid_prefix(&uuid)), "{longest}: {}", longest.len());
    }

    #[test]
    fn names_fit_every_system() {
        for name in ["default", "a", "große tabelle", "a.b-c_d", "…"] {
            check_set(name).unwrap();
            check_cluster(name).unwrap();
        }
        for name in ["", ".", "..", "a/b", "a@1", "a:b", "a\nb", "a\u{0}", "\u{e000}", " a", "zookeeper"] {
            assert!(check_cluster(name).is_err(), "{name:?}");
        }
        check_cluster(&"x".repeat(54)).unwrap();
        assert!(check_cluster(&"x".repeat(55)).is_err());
        check_set(&"x".repeat(63)).unwrap();
        assert_eq!(
            check_set(&"ü".repeat(32)).unwrap_err().message,
            format!("the set name {:?} has 64 bytes, 63 are allowed", "ü".repeat(32))
        );
    }
}
