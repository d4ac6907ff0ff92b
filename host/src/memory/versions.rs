//! What a store remembers of the versions that its rows were written with.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Key, Table};
use crate::error::{Error, Result};

/// Every write there ever was of each row, rolled back or not.
#[derive(Debug, Default)]
pub(super) struct Versions {
    writes: BTreeMap<(Table, Key), BTreeMap<u64, String>>,
    uncommitted: BTreeSet<(Table, Key, u64)>,
    /// How often a write came once more.
    again: u64,
}

impl Versions {
    /// A write that was not there before has to have a version above all that were. Returns
    /// whether it is new.
    pub(super) fn write(&mut self, table: &Table, key: &Key, version: u64, content: String) -> Result<bool> {
        let writes = self.writes.entry((table.clone(), key.clone())).or_default();
        if writes.get(&version) == Some(&content) {
            self.again += 1;
            return Ok(false);
        }
        if let Some((highest, last)) = writes.last_key_value().filter(|(highest, _)| **highest >= version) {
            let table = &table.1;
            return Err(Error::bug(format!("row {key:?} of {table}: {content} has version {version}, after {last} with {highest}")));
        }
        writes.insert(version, content);
        self.uncommitted.insert((table.clone(), key.clone(), version));
        Ok(true)
    }

    /// A table is emptied. Returns the keys that this writes.
    pub(super) fn empty(&mut self, table: &Table, version: u64, content: &str) -> Result<Vec<Key>> {
        // The table itself is a row without a key. Rows that came after the first time are not
        // emptied when it comes again.
        if self.write(table, &Key::new(), version, content.to_owned())? {
            let keys: Vec<Key> =
                self.writes.keys().filter(|(of, key)| of == table && !key.is_empty()).map(|(_, key)| key.clone()).collect();
            keys.iter().try_for_each(|key| self.write(table, key, version, content.to_owned()).map(drop))?;
        }
        let wrote = |(of, _): &(&(Table, Key), &BTreeMap<u64, String>)| of.0 == *table;
        let same = |(_, writes): &(&(Table, Key), &BTreeMap<u64, String>)| writes.get(&version).is_some_and(|known| known == content);
        Ok(self.writes.iter().filter(wrote).filter(same).map(|((_, key), _)| key.clone()).collect())
    }

    /// What one session wrote is there to stay.
    pub(super) fn commit(&mut self, writes: &[(Table, Key, u64)]) {
        for write in writes {
            self.uncommitted.remove(write);
        }
    }

    /// A bootstrap begins: it replaces also what no commit followed.
    pub(super) fn forget(&mut self) {
        for (table, key, version) in std::mem::take(&mut self.uncommitted) {
            if let Some(writes) = self.writes.get_mut(&(table, key)) {
                writes.remove(&version);
            }
        }
    }

    pub(super) fn again(&self) -> u64 {
        self.again
    }
}
