//! A database with transactions, and a queue with ticks, as PgQ sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::batch::{Batch, Id};
use proto::interfaces::common::{self, Snapshot, Tick};
use proto::row::{Change, Column, Mutation, Relation, Row, Value};
use proto::timestamp;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::error::{Code, Error, Result};

/// Schema and name.
pub type Table = (String, String);

/// `Value` has no order; its debug form does, and tells all values apart.
pub type Key = Vec<String>;

/// As [`Store`](super::target::Store) keeps them too.
pub type Rows = BTreeMap<Table, BTreeMap<Key, Row>>;

pub(super) fn key(relation: &Relation, row: &Row) -> Key {
    relation.identity.iter().map(|column| format!("{:?}", row.get(*column as usize))).collect()
}

pub(super) fn name(relation: &Relation) -> Table {
    (relation.schema.clone(), relation.table.clone())
}

/// Two tables that a simulator writes to, and the events of their changes.
#[derive(Debug)]
pub struct Source {
    node: Id,
    source: common::Source,
    inner: Mutex<Inner>,
}

/// See [`Source::copy`].
#[derive(Clone, Debug)]
pub struct Copy(Inner);

#[derive(Clone, Debug)]
struct Inner {
    relations: Vec<Arc<Relation>>,
    /// Rows of transactions that are committed.
    rows: Rows,
    next_transaction: u64,
    next_event: u64,
    open: BTreeMap<u64, Open>,
    aborted: BTreeSet<u64>,
    /// The clock, in microseconds since 1970.
    now_us: i64,
    /// Each promotion begins another one.
    timeline: u32,
    /// In the order of their ids, those of open and aborted transactions too.
    events: Vec<Mutation>,
    ticks: Vec<Tick>,
    /// Index of the tick that the consumer has finished.
    finished: usize,
    /// The epoch of the session that may end batches; the ones before it are gone.
    epoch: u64,
    /// Where its queue is: the connection string that leads to it. `None`: it was dropped.
    place: Option<String>,
}

/// A transaction under way.
#[derive(Clone, Debug, Default)]
struct Open {
    /// What it wrote, by table and identity; `None` where it deleted. These rows are locked.
    wrote: BTreeMap<(Table, Key), Option<Row>>,
}

fn relation(table: &str, columns: &[(&str, &str, u32)], identity: &[u32]) -> Arc<Relation> {
    let column = |(name, kind, oid): &(&str, &str, u32)| Column { name: (*name).into(), type_name: (*kind).into(), type_oid: *oid };
    Arc::new(Relation {
        schema: "public".into(),
        table: table.into(),
        columns: columns.iter().map(column).collect(),
        identity: identity.to_vec(),
        version: "1".into(),
    })
}

/// Where a queue is at first.
pub const PLACE: &str = "dbname=source";

const START_US: i64 = 1_000_000_000_000_000;

/// Small, so that transactions meet on the same keys.
const KEYS: i64 = 6;
const OPEN_MAX: usize = 4;

impl Source {
    /// Two empty tables, and a consumer registered at the first tick.
    #[must_use]
    pub fn new(cluster: &str, set: &str, node: Id) -> Self {
        let relations = vec![
            relation("accounts", &[("id", "bigint", 20), ("name", "text", 25), ("active", "boolean", 16)], &[0]),
            relation("entries", &[("value", "double precision", 701), ("a", "integer", 23), ("b", "text", 25)], &[1, 2]),
        ];
        let rows = relations.iter().map(|relation| (name(relation), BTreeMap::new())).collect();
        let mut inner = Inner {
            relations,
            rows,
            next_transaction: 100,
            next_event: 1,
            open: BTreeMap::new(),
            aborted: BTreeSet::new(),
            now_us: START_US,
            timeline: 1,
            events: Vec::new(),
            ticks: Vec::new(),
            finished: 0,
            epoch: 0,
            place: Some(PLACE.to_owned()),
        };
        inner.tick();
        let source = common::Source {
            cluster: cluster.into(),
            set: set.into(),
            node: node.to_vec(),
            system_identifier: 1,
            timeline: 1,
            database_oid: 1,
        };
        Self { node, source, inner: Mutex::new(inner) }
    }

    /// One step of a writer, or a tick.
    pub fn act(&self, random: &mut StdRng) {
        let mut inner = self.lock();
        match random.random_range(0..10) {
            0 | 1 => inner.begin(),
            2..=5 => inner.write(random),
            6 | 7 => inner.end(random, true),
            8 => inner.end(random, false),
            _ => inner.tick(),
        }
    }

    /// Ends all transactions and puts what they did before a tick, and another
    /// tick behind it.
    pub fn settle(&self, random: &mut StdRng) {
        let mut inner = self.lock();
        while !inner.open.is_empty() {
            inner.end(random, true);
        }
        inner.tick();
        inner.tick();
    }

    /// What a reader sees now.
    #[must_use]
    pub fn rows(&self) -> Rows {
        self.lock().rows.clone()
    }

    /// How messages and states name it.
    #[must_use]
    pub fn source(&self) -> common::Source {
        self.named(&self.lock())
    }

    fn named(&self, inner: &Inner) -> common::Source {
        common::Source { timeline: inner.timeline, ..self.source.clone() }
    }

    /// What time it is, in microseconds since 1970. It is later each time.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        let mut inner = self.lock();
        inner.now_us += 1;
        inner.now_us
    }

    /// A copy, as a replica is that stays behind from now on.
    #[must_use]
    pub fn copy(&self) -> Copy {
        Copy(self.lock().clone())
    }

    /// The copy takes over: what it does not have is lost. Its clock goes differently by
    /// `skew_us`.
    pub fn fail_over(&self, Copy(mut copy): Copy, skew_us: i64) {
        let mut inner = self.lock();
        copy.aborted.extend(std::mem::take(&mut copy.open).into_keys());
        copy.timeline = inner.timeline + 1;
        copy.now_us = inner.now_us + skew_us;
        // Whatever gives epochs out does not go back.
        copy.epoch = inner.epoch;
        *inner = copy;
    }

    #[must_use]
    pub fn relations(&self) -> Vec<Arc<Relation>> {
        self.lock().relations.clone()
    }

    /// A consistent reading: what is visible, and the rows that are.
    #[must_use]
    pub fn snapshot(&self) -> (Snapshot, Rows) {
        let inner = self.lock();
        (inner.snapshot(), inner.rows.clone())
    }

    /// The id of the last tick.
    #[must_use]
    pub fn last_tick(&self) -> u64 {
        self.lock().ticks.last().map_or(0, |tick| tick.id)
    }

    /// Moves the queue, with all that it holds, or drops it.
    pub fn move_to(&self, place: Option<&str>) {
        self.lock().place = place.map(str::to_owned);
    }

    /// `Configure` if the queue is not there.
    pub fn check_place(&self, place: &str) -> Result<()> {
        match self.lock().place.as_deref() == Some(place) {
            true => Ok(()),
            false => Err(Error::configure(Code::QueueAbsent, format!("the queue does not exist in {place}"))),
        }
    }

    /// The epoch of whoever has the consumer.
    pub fn holder(&self, place: &str) -> Result<u64> {
        self.check_place(place)?;
        Ok(self.lock().epoch)
    }

    /// Takes the consumer from `holder`, under an epoch not below this one: whoever had it is
    /// gone. `None` if somebody else has it.
    #[must_use]
    pub fn take(&self, holder: u64, epoch_min: u64) -> Option<u64> {
        let mut inner = self.lock();
        (inner.epoch == holder).then(|| {
            inner.epoch = epoch_min.max(inner.epoch + 1);
            inner.epoch
        })
    }

    #[must_use]
    pub fn is_taken(&self, epoch: u64) -> bool {
        self.lock().epoch == epoch
    }

    /// The batch after the last finished one; the same until it is finished,
    /// under a new batch id each time, as after a transaction rolled back.
    #[must_use]
    pub fn batch(&self, id: u64) -> Option<Batch> {
        let inner = self.lock();
        let start = inner.ticks.get(inner.finished)?.clone();
        let end = inner.ticks.get(inner.finished + 1)?.clone();
        Some(Batch { id, node: self.node, start, end, source: Some(self.named(&inner)) })
    }

    /// The events of a batch, in their order.
    #[must_use]
    pub fn events(&self, batch: &Batch) -> Vec<Mutation> {
        let inner = self.lock();
        let visible = |event: &&Mutation| {
            !inner.aborted.contains(&event.transaction)
                && sees(&batch.end.snapshot, event.transaction)
                && !sees(&batch.start.snapshot, event.transaction)
        };
        inner.events.iter().filter(visible).cloned().collect()
    }

    /// Ends the batch; `false` if another one was open.
    pub fn finish(&self, batch: &Batch) -> bool {
        let mut inner = self.lock();
        let open = inner.ticks.get(inner.finished + 1).is_some_and(|tick| tick.id == batch.end.id);
        if open {
            inner.finished += 1;
        }
        open
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// PostgreSQL's rule, written here a second time so that the simulator does not
/// take the word of the code it tests.
fn sees(snapshot: &Snapshot, transaction: u64) -> bool {
    transaction < snapshot.min || (transaction < snapshot.max && !snapshot.active.contains(&transaction))
}

impl Inner {
    fn snapshot(&self) -> Snapshot {
        let min = self.open.keys().next().copied().unwrap_or(self.next_transaction);
        Snapshot { min, max: self.next_transaction, active: self.open.keys().copied().collect() }
    }

    fn tick(&mut self) {
        let id = self.ticks.len() as u64 + 1;
        // So little time that a batch has more changes than microseconds pass.
        self.now_us += 1;
        let timestamp = timestamp::from_micros(self.now_us);
        self.ticks.push(Tick { id, snapshot: self.snapshot(), timestamp });
    }

    fn begin(&mut self) {
        if self.open.len() < OPEN_MAX {
            self.open.insert(self.next_transaction, Open::default());
            self.next_transaction += 1;
        }
    }

    fn pick(&self, random: &mut StdRng) -> Option<u64> {
        let at = random.random_range(0..self.open.len().max(1));
        self.open.keys().nth(at).copied()
    }

    fn end(&mut self, random: &mut StdRng, commit: bool) {
        let Some((transaction, open)) = self.pick(random).and_then(|id| Some((id, self.open.remove(&id)?))) else { return };
        if !commit {
            self.aborted.insert(transaction);
            return;
        }
        for ((table, key), row) in open.wrote {
            let rows = self.rows.entry(table).or_default();
            match row {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
    }

    fn write(&mut self, random: &mut StdRng) {
        let Some(transaction) = self.pick(random) else { return };
        let Some(relation) = self.relations.choose(random).cloned() else { return };
        if random.random_range(0..40) == 0 {
            self.truncate(transaction, &relation);
            return;
        }
        let row = random_row(random, &relation);
        let Some(found) = self.visible(transaction, &relation, &row) else { return };
        let change = match found {
            None => Change::Insert(row.clone()),
            Some(before) => match random.random_range(0..4) {
                0 => Change::Delete(before),
                1 => {
                    let after = random_row(random, &relation);
                    let taken = self.visible(transaction, &relation, &after).is_none_or(|row| row.is_some());
                    if taken && key(&relation, &after) != key(&relation, &before) {
                        return;
                    }
                    Change::Update { before, after }
                }
                _ => Change::Update { before, after: row },
            },
        };
        self.record(transaction, &relation, change);
    }

    /// `None`: another transaction has the row locked. Otherwise the row that
    /// this transaction sees under that identity.
    fn visible(&self, transaction: u64, relation: &Relation, row: &Row) -> Option<Option<Row>> {
        let at = (name(relation), key(relation, row));
        if self.open.iter().any(|(id, open)| *id != transaction && open.wrote.contains_key(&at)) {
            return None;
        }
        let own = self.open.get(&transaction).and_then(|open| open.wrote.get(&at));
        Some(own.cloned().unwrap_or_else(|| self.rows.get(&at.0).and_then(|rows| rows.get(&at.1)).cloned()))
    }

    /// Takes an exclusive lock on the table: it waits while others have rows in it.
    fn truncate(&mut self, transaction: u64, relation: &Arc<Relation>) {
        let table = name(relation);
        if self.open.iter().any(|(id, open)| *id != transaction && open.wrote.keys().any(|(name, _)| *name == table)) {
            return;
        }
        // The lock is modelled by writing every key there can be.
        let keys: Vec<_> = all_rows(relation).iter().map(|row| key(relation, row)).collect();
        if let Some(open) = self.open.get_mut(&transaction) {
            open.wrote.extend(keys.into_iter().map(|key| ((table.clone(), key), None)));
        }
        self.event(transaction, relation, Change::Truncate);
    }

    fn record(&mut self, transaction: u64, relation: &Arc<Relation>, change: Change) {
        let table = name(relation);
        if let Some(open) = self.open.get_mut(&transaction) {
            let (before, after) = match &change {
                Change::Insert(after) => (None, Some(after)),
                Change::Update { before, after } => (Some(before), Some(after)),
                Change::Delete(before) => (Some(before), None),
                Change::Truncate => (None, None),
            };
            if let Some(row) = before {
                open.wrote.insert((table.clone(), key(relation, row)), None);
            }
            if let Some(row) = after {
                open.wrote.insert((table.clone(), key(relation, row)), Some(row.clone()));
            }
        }
        self.event(transaction, relation, change);
    }

    fn event(&mut self, transaction: u64, relation: &Arc<Relation>, change: Change) {
        let id = self.next_event;
        self.next_event += 1;
        let timestamp_us = 1_000_000_000_000_000 + id.cast_signed();
        self.events.push(Mutation { id, relation: Arc::clone(relation), change, transaction, timestamp_us, version: 0 });
    }
}

fn random_row(random: &mut StdRng, relation: &Relation) -> Row {
    let number = random.random_range(0..1_000_000_i64);
    let mut row = all_rows(relation).choose(random).cloned().unwrap_or_default();
    for ((value, column), index) in row.iter_mut().zip(&relation.columns).zip(0..) {
        *value = match column.type_oid {
            _ if relation.identity.contains(&index) => continue,
            _ if number % 5 == 0 => Value::Null,
            16 => Value::Boolean(number % 2 == 0),
            701 => Value::Float(number as f64 / 8.0),
            _ => Value::Text(number.to_string()),
        };
    }
    row
}

/// One row for every identity there can be.
fn all_rows(relation: &Relation) -> Vec<Row> {
    (0..KEYS)
        .map(|number| match relation.table.as_str() {
            "accounts" => vec![Value::Integer(number), Value::Null, Value::Null],
            _ => vec![Value::Null, Value::Integer(number / 2), Value::Text((number % 2).to_string())],
        })
        .collect()
}
