//! A transactional store that forgives nothing: a row that is inserted twice,
//! or changed without being there, is an error, and so is a version that does not grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::batch::Batch;
use proto::row::{Change, Mutation, Relation, Row};

use super::faults::Faults;
use super::source::{Key, Rows, Table, key, name};
use super::versions::Versions;
use crate::error::{Code, Error, Result};
use crate::ports::{self, Chunk, Guarantee, Provenance};

/// What is durable.
#[derive(Debug, Default)]
pub struct Store {
    inner: Mutex<Inner>,
    versions: Mutex<Versions>,
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

    /// How often a change came again after a crash.
    #[must_use]
    pub fn again(&self) -> u64 {
        self.versions().again()
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Rows of a bootstrap, which leaves nothing behind before its commit.
    loads: Vec<(Table, Key, u64, String)>,
    /// What was written since the last commit, by table, key and version.
    wrote: Vec<(Table, Key, u64)>,
}

impl Target {
    #[must_use]
    pub fn new(store: Arc<Store>, faults: Arc<Faults>) -> Self {
        Self { store, faults, open: None, state: None, loaded: BTreeSet::new(), loads: Vec::new(), wrote: Vec::new() }
    }

    /// The rows that the next transaction starts from.
    fn begin_transaction(&self) -> Result<Rows> {
        // As the lock on the state that a transaction takes first.
        if self.store.state() == self.state { Ok(self.store.rows()) } else { Err(overtaken()) }
    }

    fn begin_batch(&mut self) -> Result<()> {
        let rows = self.begin_transaction()?;
        // What was rolled back is not committed with what comes now.
        self.wrote.clear();
        match self.open.replace(rows) {
            None => Ok(()),
            Some(_) => Err(Error::bug("begin inside a batch")),
        }
    }

    fn put_rows(&mut self, chunk: Chunk, version: u64) -> Result<()> {
        let rows = match self.open.take() {
            Some(rows) => rows,
            None => self.begin_transaction()?,
        };
        let open = self.open.insert(rows);
        let table = name(&chunk.relation);
        for row in &chunk.rows {
            self.loads.push((table.clone(), key(&chunk.relation, row), version, format!("loaded {row:?}")));
        }
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
        // Of one that was overtaken the versions may be lower: its writes lose.
        let leads = self.store.state() == self.state;
        let mut versions = self.store.versions();
        for mutation in mutations {
            if leads {
                self.wrote.extend(record(&mut versions, &mutation)?);
            }
            apply(open, mutation)?;
        }
        Ok(())
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
        let mut versions = self.store.versions();
        if !self.loaded.is_empty() {
            versions.forget();
        }
        for (table, key, version, content) in self.loads.drain(..) {
            versions.write(&table, &key, version, content)?;
            self.wrote.push((table, key, version));
        }
        versions.commit(&self.wrote);
        self.wrote.clear();
        self.state = Some(state.to_vec());
        self.loaded.clear();
        *inner = Inner { rows, state: Some(state.to_vec()), commits: inner.commits + 1 };
        Ok(())
    }
}

/// A change writes the row that goes, and the one that comes. Returns what it wrote.
fn record(versions: &mut Versions, mutation: &Mutation) -> Result<Vec<(Table, Key, u64)>> {
    let (table, version) = (name(&mutation.relation), mutation.version);
    let key = |row: &Row| key(&mutation.relation, row);
    let (before, after) = match &mutation.change {
        Change::Insert(after) => (None, Some(after)),
        Change::Update { before, after } => (Some(before), Some(after)),
        Change::Delete(before) => (Some(before), None),
        Change::Truncate => {
            let keys = versions.empty(&table, version, &format!("emptied by event {}", mutation.id))?;
            return Ok(keys.into_iter().map(|key| (table.clone(), key, version)).collect());
        }
    };
    let content = format!("event {}: {:?}", mutation.id, mutation.change);
    let gone = before.filter(|before| after.is_none_or(|after| key(after) != key(before)));
    let mut wrote = Vec::new();
    for row in gone.into_iter().chain(after) {
        versions.write(&table, &key(row), version, content.clone())?;
        wrote.push((table.clone(), key(row), version));
    }
    Ok(wrote)
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

    async fn load(&mut self, chunk: Chunk, version: u64) -> Result<()> {
        let faults = Arc::clone(&self.faults);
        faults.around("target.load", || self.put_rows(chunk, version)).await
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
                self.loads.clear();
                self.loaded.clear();
                Ok(())
            })
            .await
    }
}
