//! Whatever becomes of the source, the versions of a row grow from write to write.
//!
//! A model of a source with rows and a queue, relays that die, a worker that dies, and an
//! operator. The source fails over to a copy that is behind, its queue is made anew, its
//! rows move to another database, and its clock is set back. Where the reader refuses what
//! follows, the operator bootstraps. The store forgets nothing: what was rolled back counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proto::batch::publisher::Publisher;
use proto::batch::step::{Action, Options, Reader};
use proto::batch::{Batch, Id, version};
use proto::codec;
use proto::interfaces::common::{Snapshot, Source, Tick};
use proto::interfaces::replication::{BootstrapState, State};
use proto::row::{Change, Mutation, Relation, Row, Value};
use proto::snapshot::visible;
use proto::timestamp::from_micros;

use crate::samples::{items, now, source};

const KEYS: i64 = 4;
/// 2026, in microseconds.
const START_US: i64 = 1_795_000_000_000_000;

/// Key and the number of the change that wrote it, which no other change has.
fn row(key: i64, change: u64) -> Row {
    vec![Value::Integer(key), Value::Text(change.to_string())]
}

/// The database with its queue, as a backup or a replica has it too.
#[derive(Clone, Debug)]
struct Database {
    source: Source,
    rows: BTreeMap<i64, u64>,
    next_transaction: u64,
    next_event: u64,
    /// Transaction, and what it wrote: key and number of the change, or nothing where it left.
    open: BTreeMap<u64, BTreeMap<i64, Option<u64>>>,
    events: Vec<Mutation>,
    ticks: Vec<Tick>,
    /// Index of the tick at which the consumer's next batch starts.
    finished: usize,
}

impl Database {
    fn new(number: u8, next_transaction: u64, rows: BTreeMap<i64, u64>, now_us: i64) -> Self {
        let source = Source { node: vec![number; 16], system_identifier: number.into(), ..source() };
        let (open, events, ticks) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut database = Self { source, rows, next_transaction, next_event: 1, open, events, ticks, finished: 0 };
        database.tick(now_us);
        database
    }

    fn node(&self) -> Id {
        self.source.node.as_slice().try_into().unwrap()
    }

    fn snapshot(&self) -> Snapshot {
        let min = self.open.keys().next().copied().unwrap_or(self.next_transaction);
        Snapshot { min, max: self.next_transaction, active: self.open.keys().copied().collect() }
    }

    fn tick(&mut self, now_us: i64) {
        let id = self.ticks.last().map_or(1, |tick| tick.id + 1);
        self.ticks.push(Tick { id, snapshot: self.snapshot(), timestamp: from_micros(now_us) });
    }

    fn begin(&mut self) {
        if self.open.len() < 3 {
            self.open.insert(self.next_transaction, BTreeMap::new());
            self.next_transaction += 1;
        }
    }

    /// A transaction writes the row of `key`, or moves it to another key. It waits, that is
    /// does nothing, where another one has the row.
    fn write(&mut self, relation: &Arc<Relation>, which: usize, key: i64, to: i64, change: u64) {
        let Some(transaction) = self.open.keys().nth(which % self.open.len().max(1)).copied() else { return };
        let locked = |key| self.open.iter().any(|(other, wrote)| *other != transaction && wrote.contains_key(&key));
        if locked(key) || locked(to) {
            return;
        }
        let own = &self.open[&transaction];
        let seen = |key| own.get(&key).copied().unwrap_or_else(|| self.rows.get(&key).copied());
        let written = match (seen(key), seen(to)) {
            (None, _) => Change::Insert(row(key, change)),
            (Some(before), None) => Change::Update { before: row(key, before), after: row(to, change) },
            (Some(before), Some(_)) => Change::Update { before: row(key, before), after: row(key, change) },
        };
        let moved = matches!((seen(key), seen(to)), (Some(_), None));
        let own = self.open.get_mut(&transaction).unwrap();
        own.insert(key, (!moved).then_some(change));
        if moved {
            own.insert(to, Some(change));
        }
        let (id, relation) = (self.next_event, Arc::clone(relation));
        self.next_event += 1;
        self.events.push(Mutation { id, relation, change: written, transaction, timestamp_us: 0, version: 0 });
    }

    fn end(&mut self, which: usize, commit: bool) {
        let Some(transaction) = self.open.keys().nth(which % self.open.len().max(1)).copied() else { return };
        let wrote = self.open.remove(&transaction).unwrap();
        if !commit {
            self.events.retain(|event| event.transaction != transaction);
            return;
        }
        for (key, change) in wrote {
            match change {
                Some(change) => self.rows.insert(key, change),
                None => self.rows.remove(&key),
            };
        }
    }

    /// The next batch, over one tick or two.
    fn batch(&self, reach: usize) -> Option<Batch> {
        let last = self.ticks.len() - 1;
        let end = (self.finished + 1 + reach % 2).min(last);
        let (start, end) = (self.ticks[self.finished].clone(), self.ticks[end].clone());
        (start.id < end.id).then(|| Batch { id: end.id, node: self.node(), start, end, source: Some(self.source.clone()) })
    }

    fn events_of(&self, batch: &Batch) -> Vec<Mutation> {
        let of = |event: &&Mutation| visible(&batch.end.snapshot, event.transaction) && !visible(&batch.start.snapshot, event.transaction);
        self.events.iter().filter(of).cloned().collect()
    }
}

/// A store that keeps, of two writes of a row, the one with the higher version.
#[derive(Debug, Default)]
struct Store {
    /// By key, all writes there ever were, rolled back or not: version and content.
    writes: BTreeMap<i64, BTreeMap<u64, String>>,
    /// By key, the version and the content that the store shows. A row that is gone is kept.
    live: BTreeMap<i64, (u64, Option<u64>)>,
    /// Writes of batches that were not committed, by key and version; those of the open one.
    uncommitted: BTreeSet<(i64, u64)>,
    open: Vec<(i64, u64)>,
    /// Writes that came once more, as after a crash.
    again: usize,
}

impl Store {
    /// A write that did not come before has to be above all that did.
    fn write(&mut self, key: i64, content: Option<u64>, version: u64, what: &str) -> Result<(), String> {
        let (writes, text) = (self.writes.entry(key).or_default(), format!("{what} {content:?}"));
        if version > i64::MAX.unsigned_abs() {
            return Err(format!("{version} does not fit into 63 bits"));
        }
        if writes.get(&version) == Some(&text) {
            self.again += 1;
        } else if let Some((highest, last)) = writes.last_key_value().filter(|(highest, _)| **highest >= version) {
            return Err(format!("key {key}: {text} has version {version}, after {last} with {highest}"));
        }
        writes.insert(version, text);
        self.open.push((key, version));
        self.uncommitted.insert((key, version));
        let live = self.live.entry(key).or_insert((version, content));
        if version >= live.0 {
            *live = (version, content);
        }
        Ok(())
    }

    fn apply(&mut self, mutation: &Mutation) -> Result<(), String> {
        let (before, after) = match &mutation.change {
            Change::Insert(after) => (None, Some(after)),
            Change::Update { before, after } => (Some(before), Some(after)),
            Change::Delete(before) => (Some(before), None),
            Change::Truncate => (None, None),
        };
        let read = |row: &Row| match row.as_slice() {
            [Value::Integer(key), Value::Text(change)] => (*key, change.parse().unwrap()),
            _ => panic!("{row:?}"),
        };
        let (before, after) = (before.map(read), after.map(read));
        if let Some((key, change)) = before.filter(|(key, _)| after.is_none_or(|(to, _)| to != *key)) {
            self.write(key, None, mutation.version, &format!("the end of {change}"))?;
        }
        after.map_or(Ok(()), |(key, change)| self.write(key, Some(change), mutation.version, "change"))
    }

    fn commit(&mut self) {
        for write in self.open.drain(..) {
            self.uncommitted.remove(&write);
        }
    }

    /// Replaces what there is. `forgets`: also what no batch that was committed has written.
    fn load(&mut self, rows: &BTreeMap<i64, u64>, version: u64, bootstraps: usize, forgets: bool) -> Result<(), String> {
        self.live.clear();
        self.open.clear();
        if forgets {
            for (key, version) in std::mem::take(&mut self.uncommitted) {
                self.writes.entry(key).or_default().remove(&version);
            }
        }
        rows.iter().try_for_each(|(key, change)| self.write(*key, Some(*change), version, &format!("bootstrap {bootstraps}")))?;
        self.commit();
        Ok(())
    }

    fn rows(&self) -> BTreeMap<i64, u64> {
        self.live.iter().filter_map(|(key, (_, change))| Some((*key, (*change)?))).collect()
    }
}

/// A batch on its way to the stream.
struct Work {
    batch: Batch,
    events: std::vec::IntoIter<Mutation>,
    committed: bool,
}

struct World {
    relation: Arc<Relation>,
    database: Database,
    /// A backup, or a replica that is behind.
    copy: Database,
    now_us: i64,
    changes: u64,
    stream: Vec<Vec<u8>>,
    publisher: Publisher,
    publishers: u8,
    work: Option<Work>,
    reader: Reader,
    state: State,
    next: usize,
    store: Store,
    bootstraps: usize,
    databases: u8,
    /// The source is another one, and the target was not bootstrapped since.
    is_other: bool,
    /// When ticks were made: no two of them at the same microsecond, in whatever history.
    ticked: BTreeSet<i64>,
    /// The source's clock goes forward, and faster than changes come.
    steady: bool,
}

impl World {
    fn new(steady: bool) -> Result<Self, String> {
        let database = Database::new(1, 10, BTreeMap::new(), START_US);
        let mut world = Self {
            relation: items(),
            copy: database.clone(),
            database,
            now_us: START_US,
            changes: 0,
            stream: Vec::new(),
            publisher: Publisher::new([0; 16], 1),
            publishers: 0,
            work: None,
            reader: Reader::new(Options::default()),
            state: State::default(),
            next: 0,
            store: Store::default(),
            bootstraps: 0,
            databases: 1,
            is_other: false,
            ticked: BTreeSet::from([START_US]),
            steady,
        };
        world.bootstrap()?;
        Ok(world)
    }

    /// A time at which no tick was made.
    fn time_of_tick(&mut self) -> i64 {
        while !self.ticked.insert(self.now_us) {
            self.now_us += 1;
        }
        self.now_us
    }

    /// The operator begins the target, and a stream, anew.
    fn bootstrap(&mut self) -> Result<(), String> {
        let database = &self.database;
        let version = version::of_bootstrap(self.now_us, Some(&self.state));
        self.bootstraps += 1;
        self.is_other = false;
        self.store.load(&database.rows, version, self.bootstraps, !self.steady)?;
        let bootstrap_state = Some(BootstrapState { node: database.source.node.clone(), snapshot: database.snapshot() });
        self.state = State { bootstrap_state, stream_state: None, source: Some(database.source.clone()), version: Some(version) };
        self.stream.clear();
        self.replace_relay();
        self.restart_worker();
        Ok(())
    }

    /// The relay dies with all it had in hand.
    fn replace_relay(&mut self) {
        self.publishers += 1;
        self.publisher = Publisher::new([self.publishers; 16], self.publishers.into());
        self.work = None;
    }

    fn restart_worker(&mut self) {
        self.reader = Reader::resume(self.state.clone(), Options::default()).unwrap();
        let stream = self.state.stream_state.as_ref();
        let position = stream.and_then(|stream| stream.consumer_state.position.clone());
        self.next = position.map_or(0, |position| usize::from_le_bytes(position.try_into().unwrap()));
    }

    fn relay(&mut self, reach: usize) {
        let message = match &mut self.work {
            Some(work) if work.committed => {
                let end = work.batch.end.id;
                self.database.finished = self.database.ticks.iter().position(|tick| tick.id == end).unwrap();
                self.work = None;
                return;
            }
            Some(work) => match work.events.next() {
                Some(event) => self.publisher.mutation(&event, now()).unwrap(),
                None => {
                    work.committed = true;
                    self.publisher.commit(now()).unwrap()
                }
            },
            None => {
                let Some(batch) = self.database.batch(reach) else { return };
                let begin = self.publisher.begin(&batch, now()).unwrap();
                self.work = Some(Work { events: self.database.events_of(&batch).into_iter(), batch, committed: false });
                begin
            }
        };
        self.stream.push(message.to_vec());
    }

    /// The worker's next message. What it refuses is for the operator.
    fn read(&mut self) -> Result<(), String> {
        let Some(message) = self.stream.get(self.next) else { return Ok(()) };
        self.next += 1;
        match self.reader.step(codec::decode(message).unwrap()) {
            Ok(Action::Apply(mutation)) => self.store.apply(&mutation),
            Ok(Action::Begin { .. }) => {
                self.store.open.clear();
                Ok(())
            }
            Ok(Action::Commit) => {
                self.store.commit();
                self.state = self.reader.state(&self.next.to_le_bytes()).expect("no batch is open");
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(_) => self.bootstrap(),
        }
    }

    fn change_database(&mut self, mut database: Database) {
        database.source.timeline = self.database.source.timeline + 1;
        while !database.open.is_empty() {
            database.end(0, false);
        }
        self.database = database;
        self.replace_relay();
    }

    /// The rows go on with a new queue, whose events and ticks begin anew.
    fn change_queue(&mut self, number: u8, next_transaction: u64) {
        while !self.database.open.is_empty() {
            self.database.end(0, true);
        }
        let time = self.time_of_tick();
        self.is_other = true;
        self.change_database(Database::new(number, next_transaction, self.database.rows.clone(), time));
    }

    fn step(&mut self, what: u8, how: usize) -> Result<(), String> {
        let number = how as i64;
        if self.steady {
            self.now_us += 100;
        }
        match what % 32 {
            0..=2 => self.database.begin(),
            3..=8 => {
                self.changes += 1;
                self.database.write(&self.relation, how / 16, number % KEYS, number / 4 % KEYS, self.changes);
            }
            9..=11 => self.database.end(how, how % 8 != 7),
            12..=15 => {
                // So little that a batch may have more mutations than microseconds pass.
                self.now_us += number % 8;
                let time = self.time_of_tick();
                self.database.tick(time);
            }
            16..=21 => (0..=how % 4).for_each(|_| self.relay(how)),
            22..=26 => (0..=how % 4).try_for_each(|_| self.read())?,
            27 => self.replace_relay(),
            28 => self.restart_worker(),
            29 if self.steady => {}
            29 => self.now_us += (number - 128) * [1, 1000, 1_000_000, 3_600_000_000][how % 4],
            30 => self.copy = self.database.clone(),
            _ => match how % 8 {
                0 | 1 => {
                    self.change_database(self.copy.clone());
                    self.is_other = true;
                }
                2 | 3 => self.change_database(self.database.clone()),
                4 => {
                    let (number, transaction) = (self.database.source.node[0], self.database.next_transaction);
                    self.change_queue(number, transaction);
                }
                5 => {
                    self.databases += 1;
                    self.change_queue(self.databases, 10 + how as u64);
                }
                _ => self.bootstrap()?,
            },
        }
        Ok(())
    }

    /// All that was written arrives.
    fn finish(&mut self) -> Result<(), String> {
        while !self.database.open.is_empty() {
            self.database.end(0, true);
        }
        let time = self.time_of_tick();
        self.database.tick(time);
        while self.work.is_some() || self.database.batch(0).is_some() || self.next < self.stream.len() {
            self.relay(0);
            self.read()?;
        }
        // Whether the reader sees that the source is another one is for other tests.
        match self.is_other || self.store.rows() == self.database.rows {
            true => Ok(()),
            false => Err(format!("the source has {:?}, the store {:?}", self.database.rows, self.store.rows())),
        }
    }
}

fn run(steps: &[(u8, u8)], steady: bool) -> Result<World, String> {
    let mut world = World::new(steady)?;
    for (what, how) in steps {
        world.step(*what, usize::from(*how))?;
    }
    world.finish()?;
    Ok(world)
}

fn steps() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec(any::<(u8, u8)>(), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// Where a worker died inside a batch and a bootstrap follows, the target forgets the
    /// half batch, as the bootstrap replaces what its tables held.
    #[test]
    fn versions_of_a_row_grow_whatever_the_clock_does(steps in steps()) {
        run(&steps, false).map_err(TestCaseError::fail)?;
    }

    /// Here a bootstrap is also above a half batch that nobody remembers.
    #[test]
    fn versions_of_a_row_grow_and_need_no_memory_of_half_batches(steps in steps()) {
        run(&steps, true).map_err(TestCaseError::fail)?;
    }
}

/// The properties are worth something only if all of this happens.
#[test]
fn the_histories_meet_what_they_are_about() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut bootstraps, mut again, mut ahead, mut compared) = (0, 0, 0, 0);
    for _ in 0..500 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let world = run(&steps, false).unwrap();
        bootstraps += world.bootstraps;
        again += world.store.again;
        compared += usize::from(!world.is_other);
        let highest = world.store.writes.values().filter_map(|writes| writes.last_key_value()).map(|(version, _)| *version).max();
        ahead += usize::from(highest > Some(world.now_us.unsigned_abs()));
    }
    assert!(bootstraps > 1000, "{bootstraps} bootstraps");
    assert!(again > 500, "{again} writes came again");
    assert!(compared > 100, "{compared} stores were compared with their source");
    assert!(ahead > 50, "in {ahead} histories versions are ahead of the clock");
}

/// Whoever sends a change again, and whenever.
#[test]
fn a_change_that_is_sent_again_has_the_version_that_it_had() {
    let mut reader = Reader::new(Options::default());
    let relation = items();
    let mut versions = |publisher: &mut Publisher, batch: &Batch, count: u64| -> Vec<u64> {
        let mut messages = vec![publisher.begin(batch, now()).unwrap()];
        messages.extend((1..=count).map(|id| publisher.mutation(&crate::samples::insert(&relation, id, 15), now()).unwrap()));
        let actions = messages.iter().map(|message| reader.step(codec::decode(message).unwrap()).unwrap());
        let applied = actions.filter_map(|action| if let Action::Apply(mutation) = action { Some(mutation.version) } else { None });
        applied.collect()
    };
    let batch = crate::samples::batch(1, 2);
    let (mut dead, mut next) = (Publisher::new([1; 16], 1), Publisher::new([2; 16], 2));
    let first = versions(&mut dead, &batch, 2);
    assert_eq!(first[0], 1_795_000_000_123_456);
    assert_eq!(versions(&mut next, &batch, 3), [first[0], first[1], first[1] + 1]);
    // A batch that reaches further is another one.
    let further = crate::samples::batch(1, 3);
    assert_eq!(versions(&mut Publisher::new([3; 16], 3), &further, 1), [first[1] + 2]);
}

/// A state may be damaged, or somebody else's: a bootstrap is what mends it.
#[test]
fn a_version_that_no_state_of_ours_holds_does_not_outlive_a_bootstrap() {
    for version in [1 << 62, (1 << 62) + 1, u64::MAX] {
        let damaged = State { version: Some(version), ..State::default() };
        let loaded = version::of_bootstrap(5, Some(&damaged));
        assert_eq!(loaded, 5, "{version}");
    }
    let last = State { version: Some((1 << 62) - 1), ..State::default() };
    assert_eq!(version::of_bootstrap(5, Some(&last)), 1 << 62);
}
