//! The relay's loop, and the whole way from source to target: relays die at every
//! call, their broker keeps what they sent and brings it when it likes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgshovel::error::{Error, Next};
use pgshovel::memory::{Broker, Drawn, Faults, Log, Rates, Registry, Rows, Source, Store};
use pgshovel::relay::progress::Progress;
use pgshovel::relay::run::Push;
use pgshovel::relay::{self, Assignment};
use pgshovel::stop::{self, Stop};
use pgshovel::supervise::supervise;
use proto::batch::Id;
use proto::batch::step::{Action, Options, Reader, Skip};
use proto::row::{Change, Mutation, Row};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::replication::{CLUSTER, Memory, Publishing, SET, assigned};
use super::worker::Worker;
use super::{SETTLE, check_faults, no_trespass, seeds};

pub const RATES: Rates = Rates { error_before: 15, error_after: 15, crash_before: 15, crash_after: 15, slow: 20 };

/// What happened in one run.
#[derive(Default)]
pub struct Outcome {
    faults: Drawn,
    pub batches: u64,
    rollbacks: u64,
    pub discarded: u64,
    repeated: u64,
    pub fenced: u64,
    late: u64,
    moved: u64,
    restarted: u64,
    reports: u64,
    pub rows: usize,
}

/// A relay's process, started again whenever it dies.
pub struct Relay {
    pub source: Arc<Source>,
    pub broker: Arc<Broker>,
    pub faults: Arc<Faults>,
    pub registry: Arc<Registry>,
    pub stop: Stop,
    pub seed: u64,
}

impl Relay {
    /// How often it had to be started again since its queue was on its way.
    pub async fn run(self) -> Result<u64, Error> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut restarted = 0;
        while !self.stop.requested() {
            let ports = Publishing {
                source: Arc::clone(&self.source),
                broker: Arc::clone(&self.broker),
                faults: Arc::clone(&self.faults),
                registry: Arc::clone(&self.registry),
                random: StdRng::from_rng(&mut random),
                opened: false,
            };
            let (registry, mut stop) = (ports.reach(), self.stop.clone());
            let assignment = Assignment { push: few(&mut random), publisher: incarnation };
            let mut relay = relay::Relay::new(ports, assignment, Progress::new(SET));
            let assigned = assigned();
            let process = supervise(&registry, &mut relay, &assigned, &mut stop, || random.random());
            let result = tokio::select! {
                biased;
                () = self.faults.crashed() => continue,
                result = process => result,
            };
            match result {
                Ok(()) => break,
                // Neither of its databases has it, and the process does not know that it was moved.
                Err(error) if error.next == Next::Configure && !relay.ports.opened => {
                    restarted += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(restarted)
    }
}

/// Batches are small here: they take several calls of the writer.
pub fn few(random: &mut StdRng) -> Push {
    Push { messages: random.random_range(1..6), ..Push::default() }
}

pub fn incarnation(epoch: u64) -> Id {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&epoch.to_be_bytes());
    id
}

/// One world: writers, and relays that die.
pub struct World {
    pub source: Arc<Source>,
    pub log: Arc<Log>,
    pub broker: Arc<Broker>,
    pub faults: Arc<Faults>,
    pub registry: Arc<Registry>,
    pub random: StdRng,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let (source, log) = (Arc::new(Source::new(CLUSTER, SET, [7; 16])), Arc::new(Log::default()));
        let broker = Arc::new(Broker::new(Arc::clone(&log), seed));
        let registry = Arc::new(Registry::new(SET, seed));
        Self { source, log, broker, faults: Arc::new(Faults::new(seed, RATES)), registry, random: StdRng::seed_from_u64(!seed) }
    }

    pub fn relay(&self, seed: u64, stop: &Stop) -> Relay {
        self.relay_with(Arc::clone(&self.faults), seed, stop)
    }

    pub fn relay_with(&self, faults: Arc<Faults>, seed: u64, stop: &Stop) -> Relay {
        let (source, broker, registry) = (Arc::clone(&self.source), Arc::clone(&self.broker), Arc::clone(&self.registry));
        Relay { source, broker, faults, registry, stop: stop.clone(), seed }
    }

    /// A worker's ports, with the registry of the relays.
    pub fn memory(&self, store: &Arc<Store>, faults: Arc<Faults>) -> Memory {
        let (source, log, registry) = (Arc::clone(&self.source), Arc::clone(&self.log), Arc::clone(&self.registry));
        Memory { source, log, store: Arc::clone(store), faults, registry }
    }

    /// An administrator at work beside the rest: returns whether the set was moved.
    pub fn administer(&self, changes: u32, seed: u64) -> impl Future<Output = u64> + use<> {
        let (source, registry) = (Arc::clone(&self.source), Arc::clone(&self.registry));
        administer(source, registry, changes, StdRng::seed_from_u64(seed))
    }

    pub async fn write(&mut self) {
        for _ in 0..self.random.random_range(40..200) {
            self.source.act(&mut self.random);
            match self.random.random_range(0..4) {
                0 => tokio::time::sleep(Duration::from_millis(self.random.random_range(0..300))).await,
                _ => tokio::task::yield_now().await,
            }
        }
        self.source.settle(&mut self.random);
    }

    /// Waits until the queue has nothing left.
    pub async fn drain(&self) -> Result<(), String> {
        self.faults.set(Rates::NONE);
        let drained = tokio::time::timeout(SETTLE, async {
            while self.source.batch(0).is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        drained.await.map_err(|_| "the relay does not finish the queue's batches".to_owned())
    }
}

/// Where a set is moved to.
const OTHER_PLACE: &str = "dbname=other";

/// Changes the set, and moves it to another database, once: `set update` moves none before its
/// queue is read. Either of database and registry may be the first to change. Returns whether it
/// was moved.
async fn administer(source: Arc<Source>, registry: Arc<Registry>, changes: u32, mut random: StdRng) -> u64 {
    let mut is_moved = false;
    for _ in 0..changes {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..3000))).await;
        match random.random_range(0..4) {
            2 if !is_moved => {
                source.move_to(Some(OTHER_PLACE));
                tokio::time::sleep(Duration::from_millis(random.random_range(0..8_000))).await;
                registry.move_to(OTHER_PLACE);
                is_moved = true;
            }
            3 if !is_moved => {
                registry.move_to(OTHER_PLACE);
                tokio::time::sleep(Duration::from_millis(random.random_range(0..30_000))).await;
                source.move_to(Some(OTHER_PLACE));
                is_moved = true;
            }
            _ => registry.update(),
        }
    }
    u64::from(is_moved)
}

/// Reads a stream from its beginning, as its grammar says, into rows.
pub fn read(log: &Log, outcome: &mut Outcome) -> Result<Rows, String> {
    let mut reader = Reader::new(Options::default());
    let (mut committed, mut open): (Rows, Vec<Mutation>) = (BTreeMap::new(), Vec::new());
    for (position, bytes) in log.read(0, usize::MAX).into_iter().enumerate() {
        let message = proto::codec::decode(&bytes).map_err(|error| format!("message {position}: {error}"))?;
        match reader.step(message).map_err(|violation| format!("message {position}: {violation}"))? {
            Action::Begin { discard, .. } => {
                outcome.discarded += u64::from(discard);
                open.clear();
            }
            Action::Apply(mutation) => open.push(mutation),
            Action::Commit => {
                outcome.batches += 1;
                for mutation in open.drain(..) {
                    apply(&mut committed, mutation)?;
                }
            }
            Action::Rollback => {
                outcome.rollbacks += 1;
                open.clear();
            }
            Action::Skip(Skip::Fenced) => outcome.fenced += 1,
            Action::Skip(Skip::Committed) => outcome.repeated += 1,
            Action::Skip(_) => {}
        }
    }
    Ok(committed)
}

/// Forgives nothing: what was applied twice, or not at all, is found.
fn apply(rows: &mut Rows, mutation: Mutation) -> Result<(), String> {
    let relation = &mutation.relation;
    let key = |row: &Row| -> Vec<String> { relation.identity.iter().map(|column| format!("{:?}", row.get(*column as usize))).collect() };
    let table = rows.entry((relation.schema.clone(), relation.table.clone())).or_default();
    let gone = |found: Option<Row>, before: &Row| match found {
        Some(row) if row == *before => Ok(()),
        found => Err(format!("event {}: found {found:?}, not {before:?}", mutation.id)),
    };
    let (before, after) = match &mutation.change {
        Change::Truncate => {
            table.clear();
            return Ok(());
        }
        Change::Insert(row) => (None, Some(row)),
        Change::Update { before, after } => (Some(before), Some(after)),
        Change::Delete(row) => (Some(row), None),
    };
    if let Some(before) = before {
        gone(table.remove(&key(before)), before)?;
    }
    match after {
        Some(after) if table.insert(key(after), after.clone()).is_some() => Err(format!("event {}: its row is there", mutation.id)),
        _ => Ok(()),
    }
}

/// Tables without rows are no difference.
pub fn filled(rows: Rows) -> Rows {
    rows.into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
}

async fn relayed(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed);
    let (stopper, stop) = stop::channel();
    let relay = tokio::spawn(world.relay(seed, &stop).run());
    let administered = tokio::spawn(world.administer(3, seed));
    world.write().await;
    let moved = administered.await.map_err(|error| error.to_string())?;
    world.drain().await?;
    stopper.stop(Duration::from_secs(10));
    let restarted = relay.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    no_trespass([&world.faults])?;
    let (faults, late, reports) = (world.faults.drawn(), world.broker.arrived_late(), world.registry.reports());
    let mut outcome = Outcome { faults, late, moved, restarted, reports, ..Outcome::default() };
    let rows = filled(read(&world.log, &mut outcome)?);
    outcome.rows = rows.values().map(BTreeMap::len).sum();
    let expected = filled(world.source.rows());
    if outcome.batches + 1 != world.source.last_tick() {
        return Err(format!("{} batches between {} ticks", outcome.batches, world.source.last_tick()));
    }
    if rows == expected { Ok(outcome) } else { Err(format!("source and stream differ:\n{expected:?}\n{rows:?}")) }
}

#[test]
fn whatever_dies_the_stream_has_every_batch_once() {
    let outcomes = seeds(1500, relayed);
    if outcomes.len() == 1 {
        return;
    }
    // The simulation is worth something only if all of this did happen.
    let sum = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let calls = [
        "queue.finish",
        "queue.holder",
        "queue.next",
        "queue.read",
        "queue.take",
        "queue.wait",
        "registry.acquire",
        "registry.confirm",
        "registry.connect",
        "registry.release",
        "registry.report",
        "registry.set",
        "registry.watch",
        "writer.flush",
        "writer.open",
        "writer.push",
    ];
    check_faults(outcomes.iter().map(|outcome| &outcome.faults), &calls);
    assert!(sum(&|outcome| outcome.batches) > 5000);
    assert!(sum(&|outcome| outcome.rows as u64) > 3000);
    assert!(sum(&|outcome| outcome.discarded) > 200, "no half batch was discarded");
    assert!(sum(&|outcome| outcome.repeated) > 200, "no batch was repeated after its commit");
    assert!(sum(&|outcome| outcome.fenced) > 50, "no message of a dead relay was skipped");
    assert!(sum(&|outcome| outcome.late) > 50, "no message arrived late");
    assert!(sum(&|outcome| outcome.moved) > 1000, "no set was moved");
    assert!(sum(&|outcome| outcome.restarted) > 50, "no relay was started while its set was on its way");
    assert!(sum(&|outcome| outcome.reports) > 5000, "no relay said how it is");
}

/// A stop in the middle: a batch ends whole, or with a rollback.
async fn stopped(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed);
    world.faults.set(Rates::NONE);
    world.write().await;
    for grace in [Duration::ZERO, Duration::from_secs(10)] {
        let (stopper, stop) = stop::channel();
        let relay = tokio::spawn(world.relay(seed, &stop).run());
        for _ in 0..world.random.random_range(0..90) {
            tokio::task::yield_now().await;
        }
        stopper.stop(grace);
        relay.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
        let mut outcome = Outcome::default();
        read(&world.log, &mut outcome)?;
        let last = world.log.read(world.log.len().saturating_sub(1), 1);
        if let Some(last) = last.first() {
            let message = proto::codec::decode(last).map_err(|error| error.to_string())?;
            let ended = format!("{message:?}");
            if !(ended.contains("Commit") || ended.contains("Rollback")) {
                return Err(format!("the stream ends inside a batch: {ended}"));
            }
        }
        if grace.is_zero() {
            continue;
        }
        return Ok(outcome);
    }
    Err("not reached".to_owned())
}

#[test]
fn a_relay_that_is_stopped_ends_its_batch() {
    let outcomes = seeds(500, stopped);
    assert!(outcomes.len() == 1 || outcomes.iter().map(|outcome| outcome.rollbacks).sum::<u64>() > 50);
}

/// Both loops, and whatever may happen to both.
async fn replicated(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed);
    let (relay_stopper, relay_stop) = stop::channel();
    let (worker_stopper, worker_stop) = stop::channel();
    let relay = tokio::spawn(world.relay(seed, &relay_stop).run());
    let (store, faults) = (Arc::new(Store::default()), Arc::new(Faults::new(!seed, RATES)));
    let worker = Worker { memory: world.memory(&store, Arc::clone(&faults)), stop: worker_stop, seed, bootstrap: false, part: None };
    let worker = tokio::spawn(worker.run());
    let administered = tokio::spawn(world.administer(2, seed));
    world.write().await;
    administered.await.map_err(|error| error.to_string())?;
    faults.set(Rates::NONE);
    world.drain().await?;
    tokio::time::sleep(SETTLE).await;
    relay_stopper.stop(Duration::from_secs(10));
    worker_stopper.stop(Duration::from_secs(10));
    for task in [relay, worker] {
        task.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    }
    no_trespass([&world.faults, &faults])?;
    let (expected, rows) = (filled(world.source.rows()), filled(store.rows()));
    match rows == expected {
        true => Ok(Outcome { rows: rows.values().map(BTreeMap::len).sum(), ..Outcome::default() }),
        false => Err(format!("source and target differ:\n{expected:?}\n{rows:?}")),
    }
}

#[test]
fn whatever_dies_on_the_whole_way_the_target_has_the_rows_of_the_source() {
    let outcomes = seeds(400, replicated);
    assert!(outcomes.len() == 1 || outcomes.iter().map(|outcome| outcome.rows).sum::<usize>() > 500);
}
