//! Whether what a stream says can have happened, event by event.
//!
//! [`Checker::step`] takes the actions that [`crate::batch::step::Reader`] decides
//! on, so that it sees what a worker would apply, and nothing else. It finds an
//! insert whose key is taken, an update or a delete of a row that is not there or
//! is another one, and an update that moves to a key that is taken.
//!
//! What it knows of a table is what the stream showed: the rows that events left or
//! took away, and all of them after a TRUNCATE. What the stream never showed may be
//! so or otherwise, and is no reason to object.
//!
//! Invariants:
//!
//! - Of a row it keeps two digests, one of the key and one of the values. No value
//!   is kept, and no value is in a text.
//! - Memory is bounded by the number of keys, whatever the rows hold. Beyond that it
//!   forgets the keys that no event touched for longest; a table of which a row
//!   is forgotten is no longer known as a whole.
//! - A batch that does not commit leaves no trace. What it changed is noted, and
//!   put back. A batch that changed too much for that costs all knowledge.
//! - An event that cannot have happened changes nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::batch::Id;
use crate::batch::step::Action;
use crate::row::{Change, Mutation, Relation, Value};

/// How many keys are known at most, if nothing else is said. Each takes less than
/// 150 bytes.
pub const KEYS_MAX: usize = 4_000_000;

/// An event that cannot have happened after those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "event {event} {problem} (table {table}, digest of the key {key}): events are missing, doubled or misplaced before it, or rows were \
     changed without an event, by a session without triggers, ALTER TABLE … USING, or a partition that came or went; run \
     `pgshovel set check`, and bootstrap again"
)]
pub struct Impossible {
    pub event: u64,
    /// With its schema.
    pub table: String,
    pub problem: Problem,
    /// The first 8 digits.
    pub key: String,
}

/// What cannot have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An insert, of a row that is there.
    Taken,
    /// An update or delete.
    Missing(Verb),
    /// An update or delete whose old values are not those that the row was left with.
    Differs(Verb),
    /// An update to a key that another row has.
    Moved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Updates,
    Deletes,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |verb: &Verb| if *verb == Verb::Updates { "updates" } else { "deletes" };
        match self {
            Self::Taken => f.write_str("inserts a row whose key another row has"),
            Self::Missing(of) => write!(f, "{} a row that is not there", verb(of)),
            Self::Differs(of) => write!(f, "{} a row whose values before it are not those that the last event left", verb(of)),
            Self::Moved => f.write_str("moves a row to a key that another row has"),
        }
    }
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of rows of which everything was known.
    pub checked: u64,
    /// Events of rows of which something was not known.
    pub unchecked: u64,
    /// Keys that were known, and forgotten to stay within the bound.
    pub forgotten: u64,
}

type Digest = [u8; 16];

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Absent,
    Row {
        values: Digest,
        /// The table's, when the row was seen.
        shape: u32,
    },
}

#[derive(Debug)]
struct Table {
    relation: Arc<Relation>,
    /// Where the identity and the compared values are in a row, by the columns' names: a
    /// partition may have them in another order.
    identity: Vec<usize>,
    values: Vec<usize>,
    /// How often its columns changed: digests of another shape say nothing of the values.
    shape: u32,
    /// A key that is not among the known ones is not in the table. While this holds,
    /// [`Known::Absent`] is not kept.
    whole: bool,
    /// Touched since the older keys were last forgotten.
    young: HashMap<Digest, Known>,
    old: HashMap<Digest, Known>,
}

impl Table {
    fn new(relation: Arc<Relation>, whole: bool) -> Self {
        let (identity, values) = order(&relation);
        Self { relation, identity, values, shape: 0, whole, young: HashMap::new(), old: HashMap::new() }
    }

    fn get(&self, key: &Digest) -> Option<Known> {
        self.young.get(key).or_else(|| self.old.get(key)).copied().or_else(|| self.whole.then_some(Known::Absent))
    }
}

/// What a batch changed, as it was before.
#[derive(Debug)]
enum Undo {
    Key(usize, Digest, Option<Known>),
    /// The relation and the shape.
    Columns(usize, Arc<Relation>, u32),
    Table(usize, Box<Table>),
}

/// What a stream has shown so far.
#[derive(Debug)]
pub struct Checker {
    keys_max: usize,
    tables: Vec<Table>,
    /// By schema and name.
    names: HashMap<String, HashMap<String, usize>>,
    /// In `Table::young` of all tables.
    young: usize,
    /// Of the batch that is open; `None`: it changed more than is noted.
    undo: Option<Vec<Undo>>,
    /// Keys in `undo`.
    noted: usize,
    node: Option<Id>,
    counts: Counts,
}

impl Checker {
    /// One that knows `keys_max` keys at most.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            keys_max: keys_max.max(2),
            tables: Vec::new(),
            names: HashMap::new(),
            young: 0,
            undo: Some(Vec::new()),
            noted: 0,
            node: None,
            counts: Counts::default(),
        }
    }

    /// What was checked of all batches, those that did not commit included.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many keys are known.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.tables.iter().map(|table| table.young.len() + table.old.len()).sum()
    }

    /// Follows what a worker does. The event of an error is one of a batch that may still
    /// be rolled back, or discarded.
    pub fn step(&mut self, action: &Action) -> Result<(), Impossible> {
        match action {
            Action::Begin { batch, discard } => {
                if *discard {
                    self.roll_back();
                }
                // The operator vouches for another node: what its tables hold is not known.
                if self.node.replace(batch.node).is_some_and(|node| node != batch.node) {
                    self.forget();
                }
            }
            Action::Apply(mutation) => return self.check(mutation),
            Action::Commit => self.end(),
            Action::Rollback => self.roll_back(),
            Action::Skip(_) => {}
        }
        Ok(())
    }

    fn check(&mut self, mutation: &Mutation) -> Result<(), Impossible> {
        let relation = &mutation.relation;
        let table = self.table(relation);
        let fail = |problem, key: Digest| {
            Err(Impossible {
                event: mutation.id,
                table: format!("{}.{}", relation.schema, relation.table),
                problem,
                key: key[..4].iter().map(|byte| format!("{byte:02x}")).collect(),
            })
        };
        let known = match &mutation.change {
            Change::Truncate => {
                self.replace(table, Table::new(Arc::clone(relation), true));
                true
            }
            Change::Insert(row) => {
                let key = self.key(table, row);
                let Some(free) = self.is_free(table, &key) else { return fail(Problem::Taken, key) };
                self.left(table, key, row);
                free
            }
            Change::Delete(row) => {
                let key = self.key(table, row);
                match self.was(table, &key, row) {
                    Was::Missing => return fail(Problem::Missing(Verb::Deletes), key),
                    Was::Other => return fail(Problem::Differs(Verb::Deletes), key),
                    was => {
                        self.gone(table, key);
                        was == Was::Same
                    }
                }
            }
            Change::Update { before, after } => {
                let (from, to) = (self.key(table, before), self.key(table, after));
                let was = match self.was(table, &from, before) {
                    Was::Missing => return fail(Problem::Missing(Verb::Updates), from),
                    Was::Other => return fail(Problem::Differs(Verb::Updates), from),
                    was => was == Was::Same,
                };
                let free = if from == to { Some(true) } else { self.is_free(table, &to) };
                let Some(free) = free else { return fail(Problem::Moved, to) };
                if from != to {
                    self.gone(table, from);
                }
                self.left(table, to, after);
                was && free
            }
        };
        if known {
            self.counts.checked += 1;
        } else {
            self.counts.unchecked += 1;
        }
        Ok(())
    }

    /// The table, as the mutation describes it.
    fn table(&mut self, relation: &Arc<Relation>) -> usize {
        let Some(index) = self.names.get(&relation.schema).and_then(|tables| tables.get(&relation.table)).copied() else {
            self.tables.push(Table::new(Arc::clone(relation), false));
            let index = self.tables.len() - 1;
            self.names.entry(relation.schema.clone()).or_default().insert(relation.table.clone(), index);
            return index;
        };
        let table = &mut self.tables[index];
        if Arc::ptr_eq(&table.relation, relation) {
            return index;
        }
        let (identity, values) = order(relation);
        let same = |before: &[usize], after: &[usize]| {
            let columns = |relation: &Relation, indexes: &[usize]| {
                indexes.iter().map(|index| relation.columns.get(*index).cloned()).collect::<Vec<_>>()
            };
            columns(&table.relation, before) == columns(relation, after)
        };
        // Between two versions of the set the table may not have been captured.
        if table.relation.version != relation.version || !same(&table.identity, &identity) {
            self.replace(index, Table::new(Arc::clone(relation), false));
            return index;
        }
        let shape = if same(&table.values, &values) { table.shape } else { table.shape.wrapping_add(1) };
        let before = std::mem::replace(&mut table.shape, shape);
        let relation = std::mem::replace(&mut table.relation, Arc::clone(relation));
        (table.identity, table.values) = (identity, values);
        if shape != before {
            self.note(Undo::Columns(index, relation, before), 1);
        }
        index
    }

    fn key(&self, table: usize, row: &[Value]) -> Digest {
        digest(&self.tables[table].identity, row)
    }

    /// Whether the key is known to be free; `None`: it is known to be taken.
    fn is_free(&self, table: usize, key: &Digest) -> Option<bool> {
        match self.tables[table].get(key) {
            None => Some(false),
            Some(Known::Absent) => Some(true),
            Some(Known::Row { .. }) => None,
        }
    }

    fn was(&self, table: usize, key: &Digest, row: &[Value]) -> Was {
        let table = &self.tables[table];
        match table.get(key) {
            Some(Known::Absent) => Was::Missing,
            Some(Known::Row { values, shape }) if shape == table.shape => {
                if values == digest(&table.values, row) {
                    Was::Same
                } else {
                    Was::Other
                }
            }
            None | Some(Known::Row { .. }) => Was::Unknown,
        }
    }

    fn left(&mut self, table: usize, key: Digest, row: &[Value]) {
        let Table { values, shape, .. } = &self.tables[table];
        let known = Known::Row { values: digest(values, row), shape: *shape };
        self.set(table, key, Some(known));
    }

    fn gone(&mut self, table: usize, key: Digest) {
        let known = if self.tables[table].whole { None } else { Some(Known::Absent) };
        self.set(table, key, known);
    }

    fn set(&mut self, table: usize, key: Digest, known: Option<Known>) {
        let before = self.put(table, key, known);
        self.note(Undo::Key(table, key, before), 1);
        self.bound();
    }

    /// Puts in place what is known of a key, and returns what was.
    fn put(&mut self, table: usize, key: Digest, known: Option<Known>) -> Option<Known> {
        let table = &mut self.tables[table];
        let old = table.old.remove(&key);
        let young = match known {
            Some(known) => table.young.insert(key, known),
            None => table.young.remove(&key),
        };
        self.young = self.young + usize::from(known.is_some()) - usize::from(young.is_some());
        young.or(old)
    }

    fn replace(&mut self, index: usize, table: Table) {
        let before = self.swap(index, table);
        let keys = before.young.len() + before.old.len() + 1;
        self.note(Undo::Table(index, Box::new(before)), keys);
    }

    fn swap(&mut self, index: usize, table: Table) -> Table {
        self.young += table.young.len();
        let before = std::mem::replace(&mut self.tables[index], table);
        self.young -= before.young.len();
        before
    }

    fn note(&mut self, undo: Undo, keys: usize) {
        self.noted += keys;
        if self.noted > self.keys_max / 4 {
            self.undo = None;
        }
        if let Some(noted) = &mut self.undo {
            noted.push(undo);
        }
    }

    fn end(&mut self) {
        self.undo = Some(Vec::new());
        self.noted = 0;
    }

    fn roll_back(&mut self) {
        match self.undo.take() {
            None => self.forget(),
            Some(noted) => {
                for undo in noted.into_iter().rev() {
                    match undo {
                        Undo::Key(table, key, known) => drop(self.put(table, key, known)),
                        Undo::Columns(table, relation, shape) => {
                            let table = &mut self.tables[table];
                            (table.identity, table.values) = order(&relation);
                            (table.relation, table.shape) = (relation, shape);
                        }
                        Undo::Table(index, table) => drop(self.swap(index, *table)),
                    }
                }
                self.bound();
            }
        }
        self.end();
    }

    /// Keeps the younger half of the keys, if there are too many.
    fn bound(&mut self) {
        if self.young < self.keys_max / 2 {
            return;
        }
        for table in &mut self.tables {
            self.counts.forgotten += table.old.len() as u64;
            table.whole &= table.old.is_empty();
            table.old = std::mem::take(&mut table.young);
        }
        self.young = 0;
    }

    fn forget(&mut self) {
        self.counts.forgotten += self.keys() as u64;
        self.tables.clear();
        self.names.clear();
        self.young = 0;
        self.end();
    }
}

/// What the old row of an event is to what is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Was {
    Same,
    Other,
    Missing,
    Unknown,
}

/// Where the identity and the values to compare are, in the order of the columns' names.
fn order(relation: &Relation) -> (Vec<usize>, Vec<usize>) {
    let name = |index: &usize| relation.columns.get(*index).map(|column| &column.name);
    let mut identity: Vec<usize> = relation.identity.iter().map(|index| *index as usize).collect();
    identity.sort_by_key(name);
    let compared = relation.columns.iter().enumerate().filter(|(_, column)| !follows_the_catalog(column.type_oid));
    let mut values: Vec<usize> = compared.map(|(index, _)| index).collect();
    values.sort_by_key(name);
    (identity, values)
}

/// Whether the text of a value may change where no event says so, since it names what may
/// be renamed: types of the user's own (labels of enums), and those of names and roles.
fn follows_the_catalog(type_oid: u32) -> bool {
    /// `FirstNormalObjectId`, below which are PostgreSQL's own objects.
    const OWN: u32 = 16_384;
    /// aclitem, regproc, regprocedure, regoper, regoperator, regclass, regtype, regconfig,
    /// regdictionary, regnamespace, regrole, regcollation, and arrays of these.
    const NAMES: [u32; 24] = [
        1033, 24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 1034, 1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090,
        4097, 4192,
    ];
    type_oid >= OWN || NAMES.contains(&type_oid)
}

/// Of the values of the row that are at `indexes`.
fn digest(indexes: &[usize], row: &[Value]) -> Digest {
    let mut hash = Sha256::new();
    let mut add = |kind: u8, bytes: &[u8]| {
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for value in indexes.iter().filter_map(|index| row.get(*index)) {
        match value {
            Value::Null => add(0, &[]),
            Value::Boolean(boolean) => add(1, &[u8::from(*boolean)]),
            Value::Integer(integer) => add(2, &integer.to_le_bytes()),
            Value::Float(float) => add(3, &float.to_bits().to_le_bytes()),
            Value::Text(text) => add(4, text.as_bytes()),
            Value::Bytes(bytes) => add(5, bytes),
        }
    }
    let mut digest = Digest::default();
    digest.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    digest
}
