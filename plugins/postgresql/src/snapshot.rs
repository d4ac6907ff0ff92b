//! The loader: every table of the set, one after the other, in the order that foreign
//! keys want. Before that each is named without rows, in the reverse order, in which a
//! target can empty its tables.

use std::collections::VecDeque;

use crate::pgshovel::plugin::origin::{Cursor, Table, tables};
use crate::pgshovel::plugin::types::{Error, Row};

/// How many tables are read at once: the host reads ahead, so the next table's first
/// rows are there when the last one ends.
const CURSORS_OPEN: usize = 2;

/// The tables still to be named, and those to be read; those in front have a cursor.
pub struct Snapshot {
    named: Vec<Table>,
    tables: VecDeque<Reading>,
}

struct Reading {
    table: Table,
    cursor: Option<Cursor>,
}

impl Snapshot {
    pub fn open() -> Result<Self, Error> {
        let named = tables()?;
        let tables = named.iter().map(|table| Reading { table: table.clone(), cursor: None });
        Ok(Self { tables: tables.collect(), named })
    }

    /// The next rows and their table; `None` is the end.
    pub fn next(&mut self, max_rows: u32) -> Result<Option<(Table, Vec<Row>)>, Error> {
        if let Some(table) = self.named.pop() {
            return Ok(Some((table, Vec::new())));
        }
        loop {
            for reading in self.tables.iter_mut().take(CURSORS_OPEN).filter(|reading| reading.cursor.is_none()) {
                reading.cursor = Some(Cursor::open(&reading.table.relation)?);
            }
            let Some(first) = self.tables.front_mut() else { return Ok(None) };
            let Some(cursor) = &first.cursor else { return Ok(None) };
            let rows = cursor.fetch(max_rows)?;
            if !rows.is_empty() {
                return Ok(Some((first.table.clone(), rows)));
            }
            self.tables.pop_front();
        }
    }
}
