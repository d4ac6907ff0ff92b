//! A transactional store that forgives nothing: a row that is inserted twice,
//! or changed without being there, is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::batch::Batch;
use proto::row::{Change, Mutation, Relation, Row};

use super::faults::Faults;
use super::source::{Key, Rows, Table, key, name};
use crate::error::{Code, Error, Result};
use crate::ports::{self, Chunk, Guarantee, Provenance};

/// What is durable.
#[derive(Debug, Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    rows: Rows,
    state: Option<Vec<u8>>,
    commits: u64,
}

impl Store {
    #[must_use]
    pub fn rows(&self) -> Rows {
        self.lock().rows.clone()
    }

    #[must_use]
    pub fn state(&self) -> Option<Vec<u8>> {
        self.lock().state.clone()
    }

    /// Commits so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session.
#[derive(Debug)]
pub struct Target {
    store: Arc<Store>,
    faults: Arc<Faults>,
    /// What the open transaction made of the rows.
    open: Option<Rows>,
    /// The state that this session saw or stored last.
    state: Option<Vec<u8>>,
    loaded: BTreeSet<Table>,
}

impl Target {
    #[must_use]
    pub fn new(store: Arc<Store>, faults: Arc<Faults>) -> Self {
        Self { store, faults, open: None, state: None, loaded: BTreeSet::new() }
    }

    /// The rows that the next transaction starts from.
    fn begin_transaction(&self) -> Result<Rows> {
        // As the lock on the state that a transaction takes first.
        if self.store.state() == self.state { Ok(self.store.rows()) } else { Err(overtaken()) }
    }

    fn begin_batch(&mut self) -> Result<()> {
        let rows = self.begin_transaction()?;
        match self.open.replace(rows) {
            None => Ok(()),
            Some(_) => Err(Error::bug("begin inside a batch")),
        }
    }

    fn put_rows(&mut self, chunk: Chunk) -> Result<()> {
        let rows = match self.open.take() {
            Some(rows) => rows,
            None => self.begin_transaction()?,
        };
        let open = self.open.insert(rows);
        let table = name(&chunk.relation);
        let rows = open.entry(table.clone()).or_default();
        if self.loaded.insert(table) {
            if self.state.is_none() && !rows.is_empty() {
                return Err(Error::stop(Code::TargetTaken, "the target holds rows and no state"));
            }
            rows.clear();
        }
        chunk.rows.into_iter().try_for_each(|row| insert(rows, &chunk.relation, row))
    }

    fn put_mutations(&mut self, mutations: Vec<Mutation>) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(|| Error::bug("apply without begin"))?;
        mutations.into_iter().try_for_each(|mutation| apply(open, mutation))
    }

    fn put_state(&mut self, expected: Option<&[u8]>, state: &[u8]) -> Result<()> {
        let rows = match self.open.take() {
            None if self.state.is_some() => return Err(Error::bug("commit without begin or load")),
            open => open.unwrap_or_else(|| self.store.rows()),
        };
        let mut inner = self.store.lock();
        if inner.state.as_deref() != expected {
            return Err(overtaken());
        }
        self.state = Some(state.to_vec());
        self.loaded.clear();
        *inner = Inner { rows, state: Some(state.to_vec()), commits: inner.commits + 1 };
        Ok(())
    }
}

fn overtaken() -> Error {
    Error::stop(Code::TargetTaken, "the stored state is not the expected one: another worker is at work")
}

fn insert(rows: &mut BTreeMap<Key, Row>, relation: &Relation, row: Row) -> Result<()> {
    match rows.insert(key(relation, &row), row) {
        None => Ok(()),
        Some(_) => Err(Error::stop(Code::TargetRefused, format!("a row of {} is inserted twice", relation.table))),
    }
}

fn apply(open: &mut Rows, mutation: Mutation) -> Result<()> {
    let relation = &mutation.relation;
    let rows = open
        .get_mut(&name(relation))
        .ok_or_else(|| Error::stop(Code::TargetRefused, format!("table {} was never loaded", relation.table)))?;
    let missing =
        || Error::stop(Code::TargetRefused, format!("event {} changes a row of {} that is not there", mutation.id, relation.table));
    match mutation.change {
        Change::Insert(row) => insert(rows, relation, row),
        Change::Update { before, after } => {
            // The whole row: a stale one shows an event that is out of order.
            rows.remove(&key(relation, &before)).filter(|row| *row == before).ok_or_else(missing)?;
            insert(rows, relation, after)
        }
        Change::Delete(before) => rows.remove(&key(relation, &before)).filter(|row| *row == before).map(drop).ok_or_else(missing),
        Change::Truncate => {
            rows.clear();
            Ok(())
        }
    }
}

impl ports::Target for Target {
    async fn guarantee(&mut self) -> Result<Guarantee> {
        let faults = Arc::clone(&self.faults);
        faults.around("target.guarantee", || Ok(Guarantee::Transactional)).await
    }

    async fn load_state(&mut self) -> Result<Option<Vec<u8>>> {
        let faults = Arc::clone(&self.faults);
        faults
            .around("target.load-state", || {
                self.state = self.store.state();
                Ok(self.state.clone())
            })
            .await
    }

    async fn set_source(&mut self, _source: &Provenance) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults.around("target.set-source", || Ok(())).await
    }

    async fn load(&mut self, chunk: Chunk) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults.around("target.load", || self.put_rows(chunk)).await
    }

    async fn begin(&mut self, _batch: &Batch) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults.around("target.begin", || self.begin_batch()).await
    }

    async fn apply(&mut self, mutations: Vec<Mutation>) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults.around("target.apply", || self.put_mutations(mutations)).await
    }

    async fn commit(&mut self, expected: Option<&[u8]>, state: &[u8]) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults.around("target.commit", || self.put_state(expected, state)).await
    }

    async fn rollback(&mut self) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults
            .around("target.rollback", || {
                self.open = None;
                self.loaded.clear();
                Ok(())
            })
            .await
    }
}
