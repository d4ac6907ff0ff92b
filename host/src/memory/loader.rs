//! Reads a [`Source`] as of one snapshot.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::interfaces::common::Snapshot;
use proto::row::{Relation, Row};

use super::faults::Faults;
use super::source::Source;
use super::source::name;
use crate::error::Result;
use crate::ports::{self, Chunk};

#[derive(Debug)]
pub struct Loader {
    tables: VecDeque<(Arc<Relation>, Vec<Row>)>,
    faults: Arc<Faults>,
}

impl Loader {
    /// What the rows contain, and the rows.
    #[must_use]
    pub fn open(source: &Source, faults: Arc<Faults>) -> (Snapshot, Self) {
        let (snapshot, mut rows) = source.snapshot();
        let table = |relation: Arc<Relation>| {
            let rows = rows.remove(&name(&relation)).unwrap_or_default().into_values().collect();
            (relation, rows)
        };
        let tables = source.relations().into_iter().map(table).collect();
        (snapshot, Self { tables, faults })
    }

    fn take(&mut self, max: usize) -> Option<Chunk> {
        let (relation, rows) = self.tables.front_mut()?;
        let relation = Arc::clone(relation);
        let rest = rows.split_off(rows.len().min(max));
        let estimated_rows = Some((rows.len() + rest.len()) as u64);
        let rows = std::mem::replace(rows, rest);
        if self.tables.front().is_some_and(|(_, rest)| rest.is_empty()) {
            self.tables.pop_front();
        }
        Some(Chunk { relation, rows, estimated_rows })
    }
}

impl ports::Loader for Loader {
    async fn next(&mut self, max_rows: u32) -> Result<Option<Chunk>> {
        let faults = Arc::clone(&self.faults);
        faults.around("loader.next", || Ok(self.take(max_rows as usize))).await
    }
}
