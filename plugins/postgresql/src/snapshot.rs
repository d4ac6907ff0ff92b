//! The loader: every table of the set, one after the other.

use std::collections::VecDeque;

use crate::pgshovel::plugin::origin::{Cursor, Table, tables};
use crate::pgshovel::plugin::types::{Error, Row};

/// How many tables are read at once: the host reads ahead, so the next table's first
/// rows are there when the last one ends.
const CURSORS_OPEN: usize = 2;

/// The tables still to be read; those in front have a cursor.
pub struct Snapshot {
    tables: VecDeque<Reading>,
}

struct Reading {
    table: Table,
    cursor: Option<Cursor>,
    /// Whether a chunk of it was given.
    has_appeared: bool,
}

impl Snapshot {
    pub fn open() -> Result<Self, Error> {
        let tables = tables()?.into_iter().map(|table| Reading { table, cursor: None, has_appeared: false });
        Ok(Self { tables: tables.collect() })
    }

    /// The next rows and their table; `None` is the end.
    pub fn next(&mut self, max_rows: u32) -> Result<Option<(Table, Vec<Row>)>, Error> {
        loop {
            for reading in self.tables.iter_mut().take(CURSORS_OPEN).filter(|reading| reading.cursor.is_none()) {
                reading.cursor = Some(Cursor::open(&reading.table.relation)?);
            }
            let Some(first) = self.tables.front_mut() else { return Ok(None) };
            let Some(cursor) = &first.cursor else { return Ok(None) };
            let rows = cursor.fetch(max_rows)?;
            let is_end = rows.is_empty();
            let is_news = !is_end || !first.has_appeared;
            first.has_appeared = true;
            let chunk = is_news.then(|| (first.table.clone(), rows));
            if is_end {
                self.tables.pop_front();
            }
            if chunk.is_some() {
                return Ok(chunk);
            }
        }
    }
}
