//! The worker, under a stream that relays wrote while they died.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pgshovel::error::Error;
use pgshovel::memory::{Drawn, Faults, Log, Rates, Registry, Source, Store};
use pgshovel::replicate::progress::Progress;
use pgshovel::replicate::{self, Part, state};
use pgshovel::stop::{self, Stop, Stopper};
use pgshovel::supervise::supervise;
use proto::codec::{self, Operation};
use proto::interfaces::replication::transaction_state::State as Ended;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::publisher::Relay;
use super::replication::{CLUSTER, Memory, SET, assigned, assignment};
use super::{SETTLE, check_faults, no_trespass, seeds};

const RATES: Rates = Rates { error_before: 15, error_after: 15, crash_before: 15, crash_after: 15, slow: 20 };

const CALLS: [&str; 20] = [
    "loader.next",
    "loader.open",
    "registry.acquire",
    "registry.connect",
    "registry.report",
    "registry.set",
    "stream.next",
    "stream.open",
    "stream.seek",
    "target.apply",
    "target.begin",
    "target.commit",
    "target.guarantee",
    "target.load",
    "target.load-state",
    "target.open",
    "target.rollback",
    "target.set-source",
    "transform",
    "transform.open",
];

/// What happened in one run.
#[derive(Default)]
struct Outcome {
    faults: Vec<Drawn>,
    commits: u64,
    fenced: u64,
    rows: usize,
}

/// A worker process, started again whenever it dies.
pub struct Worker {
    pub memory: Memory,
    pub stop: Stop,
    pub seed: u64,
    pub bootstrap: bool,
    /// `None`: small ones, of random size.
    pub part: Option<Part>,
}

impl Worker {
    /// How often it was fenced.
    pub async fn run(self) -> Result<u64, Error> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut fenced = 0;
        loop {
            let mut assignment = assignment(self.bootstrap && fenced == 0, &mut random);
            assignment.part = self.part.unwrap_or(assignment.part);
            let (registry, ports, mut stop) = (self.memory.reach(), self.memory.clone(), self.stop.clone());
            let mut worker = replicate::Worker { ports, assignment, progress: Progress::new(SET) };
            let assigned = assigned();
            let process = supervise(&registry, &mut worker, &assigned, &mut stop, || random.random());
            let result = tokio::select! {
                biased;
                () = self.memory.faults.crashed() => continue,
                result = process => result,
            };
            match result {
                Ok(()) => return Ok(fenced),
                // Fenced by the other one: an operator would start it again.
                Err(error) if error.message.contains("another worker is at work") => fenced += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// One world: writers, a relay that dies, and one or two workers that die.
struct World {
    source: Arc<Source>,
    log: Arc<Log>,
    store: Arc<Store>,
    relay: Relay,
    random: StdRng,
    seed: u64,
    stopper: Stopper,
    stop: Stop,
}

impl World {
    fn new(seed: u64) -> Self {
        let (source, log, store) = (Arc::new(Source::new(CLUSTER, SET, [7; 16])), Arc::new(Log::default()), Arc::new(Store::default()));
        let relay = Relay::new(Arc::clone(&source), Arc::clone(&log), seed);
        let (stopper, stop) = stop::channel();
        Self { source, log, store, relay, random: StdRng::seed_from_u64(!seed), seed, stopper, stop }
    }

    fn worker(&self, number: u64, rates: Rates) -> (Worker, Arc<Faults>) {
        let seed = self.seed ^ (number << 32);
        let faults = Arc::new(Faults::new(seed, rates));
        let memory = Memory {
            source: Arc::clone(&self.source),
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            faults: Arc::clone(&faults),
            // Its own: all workers believe that they lead.
            registry: Arc::new(Registry::new(SET, seed)),
        };
        (Worker { memory, stop: self.stop.clone(), seed, bootstrap: false, part: None }, faults)
    }

    /// Writers write and relays relay, for a while.
    async fn write(&mut self, actions: u32) {
        for _ in 0..actions {
            self.source.act(&mut self.random);
            match self.random.random_range(0..12) {
                0 => self.relay.live().await,
                1 => tokio::time::sleep(Duration::from_millis(self.random.random_range(0..3000))).await,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Everything that was written is on the stream.
    async fn finish(&mut self) {
        self.source.settle(&mut self.random);
        while self.source.batch(0).is_some() {
            self.relay.deaths /= 2;
            self.relay.live().await;
        }
    }

    fn check(&self) -> Result<(), String> {
        let bytes = self.store.state().ok_or("the target has no state")?;
        let state = state::decode(&bytes).map_err(|error| error.message)?;
        let ended = state.stream_state.and_then(|stream| stream.transaction_state.state);
        let last = self.source.last_tick();
        match ended {
            Some(Ended::Committed(ended)) if ended.end_tick == Some(last) => {}
            ended => return Err(format!("the state does not end with tick {last} but with {ended:?}")),
        }
        match self.store.rows() == self.source.rows() {
            true => Ok(()),
            false => Err(format!("source and target differ:\n{:?}\n{:?}", self.source.rows(), self.store.rows())),
        }
    }
}

async fn replicate(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed);
    let workers = if seed.is_multiple_of(4) { 2 } else { 1 };
    let before = world.random.random_range(0..40);
    world.write(before).await;
    let (mut tasks, mut all_faults) = (Vec::new(), Vec::new());
    for number in 1..=workers {
        let (mut worker, faults) = world.worker(number, RATES);
        worker.bootstrap = workers == 1 && seed.is_multiple_of(5);
        tasks.push(tokio::spawn(worker.run()));
        all_faults.push(faults);
    }
    let during = world.random.random_range(20..150);
    world.write(during).await;
    world.finish().await;
    // The first worker is spared from now on; a second one ends.
    for faults in &all_faults {
        faults.set(Rates::NONE);
    }
    tokio::time::sleep(SETTLE).await;
    world.stopper.stop(Duration::from_secs(10));
    let mut outcome = Outcome::default();
    for task in tasks {
        outcome.fenced += task.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    }
    world.check()?;
    no_trespass(&all_faults)?;
    outcome.faults = all_faults.iter().map(|faults| faults.drawn()).collect();
    outcome.commits = world.store.commits();
    outcome.rows = world.source.rows().values().map(|rows| rows.len()).sum();
    Ok(outcome)
}

#[test]
fn whatever_dies_the_target_has_the_rows_of_the_source() {
    let outcomes = seeds(2000, replicate);
    if outcomes.len() == 1 {
        return;
    }
    // The simulation is worth something only if all of this did happen.
    let sum = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    check_faults(outcomes.iter().flat_map(|outcome| &outcome.faults), &CALLS);
    assert!(sum(&|outcome| outcome.commits) > 10_000);
    assert!(sum(&|outcome| outcome.rows as u64) > 10_000);
    assert!(sum(&|outcome| outcome.fenced) > 10, "no worker was fenced");
}

/// How many batches with mutations end among `messages`.
fn changing(messages: &[Bytes]) -> u64 {
    let (mut batches, mut changes) = (0, false);
    for message in messages {
        match codec::decode(message).map(|message| message.operation) {
            Ok(Operation::Begin(_)) => changes = false,
            Ok(Operation::Mutation(_)) => changes = true,
            Ok(Operation::Commit) => batches += u64::from(changes),
            _ => {}
        }
    }
    batches
}

/// A worker that was away takes what has gathered with few commits, of a store that takes
/// rows and state in one: batches, and commits.
async fn gather(seed: u64) -> Result<(u64, u64), String> {
    let mut world = World::new(seed);
    let (mut read, mut commits) = (0, 0);
    for actions in [20, 300] {
        world.relay.deaths = 0;
        (read, commits) = (world.log.len(), world.store.commits());
        world.write(actions).await;
        world.finish().await;
        let (mut worker, _) = world.worker(1, Rates::NONE);
        worker.part = Some(Part::default());
        let worker = tokio::spawn(worker.run());
        tokio::time::sleep(SETTLE).await;
        let (stopper, stop) = stop::channel();
        std::mem::replace(&mut world.stopper, stopper).stop(Duration::from_secs(10));
        world.stop = stop;
        worker.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
        world.check()?;
    }
    Ok((changing(&world.log.read(read, usize::MAX)), world.store.commits() - commits))
}

#[test]
fn batches_that_have_gathered_are_joined() {
    let all = seeds(50, gather);
    if all.len() == 1 {
        return;
    }
    let (batches, commits) = all.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(batches > 20 * all.len() as u64 / 2 && commits * 4 < batches, "{batches} batches, {commits} commits");
}
