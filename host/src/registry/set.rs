//! A replication set as ZooKeeper holds it, and the version of a configuration.

use prost::Message as _;
use proto::interfaces::configurations::{ReplicationSetConfiguration, TableConfiguration};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Error, Result};
use crate::ports::registry::{Revision, StoredSet};

/// How many hexadecimal digits a version has.
const VERSION_DIGITS: usize = 16;

/// Decodes what `/CLUSTER/sets/NAME` holds.
pub(super) fn decode(name: &str, data: &[u8], revision: Revision) -> Result<StoredSet> {
    let configuration = ReplicationSetConfiguration::decode(data).map_err(|error| {
        Error::configure(
            Code::SetUnreadable,
            format!("what ZooKeeper holds of the set {name:?} is no configuration of a replication set: {error}"),
        )
    })?;
    Ok(StoredSet { name: name.to_owned(), version: version(&configuration), configuration, revision })
}

/// Names what a configuration captures: the same for the same tables, identity
/// columns and columns, in whatever order tables and columns are written and
/// wherever the database is. 16 hexadecimal digits.
#[must_use]
pub fn version(configuration: &ReplicationSetConfiguration) -> String {
    let mut tables: Vec<&TableConfiguration> = configuration.tables.iter().collect();
    tables.sort_by_key(|table| (table.schema(), table.name.as_str()));
    let mut digest = Sha256::new();
    for table in tables {
        let mut columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        columns.sort_unstable();
        feed(&mut digest, [table.schema(), table.name.as_str()]);
        feed(&mut digest, table.primary_keys.iter().map(String::as_str));
        feed(&mut digest, columns);
    }
    let mut text: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(VERSION_DIGITS);
    text
}

/// What `after` captures and `before` does not, for a person: tables, and columns of
/// tables.
#[must_use]
pub fn additions(before: &ReplicationSetConfiguration, after: &ReplicationSetConfiguration) -> Vec<String> {
    let mut additions = Vec::new();
    for table in &after.tables {
        let shown = format!("{}.{}", table.schema(), table.name);
        let Some(known) = before.tables.iter().find(|known| known.schema() == table.schema() && known.name == table.name) else {
            additions.push(shown);
            continue;
        };
        let is_new = |column: &&String| !known.columns.contains(column) && !known.primary_keys.contains(column);
        let columns: Vec<&str> = table.columns.iter().filter(is_new).map(String::as_str).collect();
        match (known.columns.is_empty(), table.columns.is_empty()) {
            (true, _) => {}
            (false, true) => additions.push(format!("{shown} (all of its columns)")),
            (false, false) if columns.is_empty() => {}
            (false, false) => additions.push(format!("{shown} ({})", columns.join(", "))),
        }
    }
    additions
}

/// Lengths stand in front, so that no two lists look the same.
fn feed<'a, I>(digest: &mut Sha256, words: I)
where
    I: IntoIterator<Item = &'a str>,
    I::IntoIter: ExactSizeIterator,
{
    let words = words.into_iter();
    digest.update((words.len() as u64).to_be_bytes());
    for word in words {
        digest.update((word.len() as u64).to_be_bytes());
        digest.update(word);
    }
}

#[cfg(test)]
mod tests {
    use proto::interfaces::configurations::DatabaseConfiguration;

    use super::*;

    fn table(name: &str, keys: &[&str], columns: &[&str]) -> TableConfiguration {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        TableConfiguration { name: name.to_owned(), primary_keys: owned(keys), columns: owned(columns), schema: None }
    }

    fn of(dsn: &str, tables: Vec<TableConfiguration>) -> String {
        version(&ReplicationSetConfiguration { database: DatabaseConfiguration { dsn: dsn.to_owned() }, tables })
    }

    #[test]
    fn a_version_is_of_what_is_captured() {
        let a = || table("a", &["id"], &["x", "y"]);
        let b = || table("b", &["id"], &[]);
        let version = of("host=one", vec![a(), b()]);
        assert_eq!(version.len(), VERSION_DIGITS);
        assert_eq!(version, of("host=two password=secret", vec![b(), table("a", &["id"], &["y", "x"])]));
        let mut public = a();
        public.schema = Some("public".to_owned());
        assert_eq!(version, of("host=one", vec![public, b()]));
        for other in [vec![a()], vec![a(), table("b", &["id"], &["x"])], vec![table("a", &["id", "x"], &["y"]), b()]] {
            assert_ne!(version, of("host=one", other));
        }
    }
}
