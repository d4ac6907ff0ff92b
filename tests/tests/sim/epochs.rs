//! A stream that holds a higher epoch than its relays have: the worker passes over what
//! they send, until it is certain that they are no zombies; then it waits for the
//! operator, and nothing is missing in the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pgshovel::error::Error;
use pgshovel::memory::{Faults, Rates, Source, Store};
use pgshovel::observe::State;
use pgshovel::replicate::Worker;
use pgshovel::replicate::progress::Progress;
use pgshovel::stop::{self, Stop};
use pgshovel::supervise::supervise;
use proto::batch::Batch;
use proto::batch::publisher::Publisher;
use proto::interfaces::common::{Snapshot, Tick, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::sleep;

use super::relay::{RATES, World, filled};
use super::replication::{Memory, SET, assigned, assignment};
use super::{SETTLE, no_trespass, seeds};

/// Far above those of the relays.
const FORGED: u64 = 1 << 40;

/// A batch from before all others, as of a relay of that epoch.
fn forged(source: &Source) -> Vec<Bytes> {
    let made = Timestamp { seconds: 999_999_999, nanos: 0 };
    let tick = |id| Tick { id, snapshot: Snapshot { min: 1, max: 1, active: Vec::new() }, timestamp: made };
    let batch = Batch { id: 1, node: [7; 16], start: tick(0), end: tick(1), source: Some(source.source()) };
    let mut publisher = Publisher::new([0xff; 16], FORGED);
    vec![publisher.begin(&batch, made).unwrap(), publisher.commit(made).unwrap()]
}

/// What the operator does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    None,
    AllowEpoch(u64),
    Bootstrap,
}

/// A worker's process, started again whenever it dies. `blocked` gets what it waits for,
/// if that is the operator.
async fn work(memory: Memory, mut stop: Stop, seed: u64, remedy: Remedy, blocked: watch::Sender<String>) -> Result<(), Error> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bootstrap = remedy == Remedy::Bootstrap;
    loop {
        let mut assignment = assignment(bootstrap, &mut random);
        if let Remedy::AllowEpoch(epoch) = remedy {
            assignment.reader.epoch_change = Some(epoch);
        }
        let mut worker = Worker { ports: memory.clone(), assignment, progress: Progress::new(SET) };
        let status = worker.progress.status().clone();
        let look = async {
            loop {
                sleep(Duration::from_millis(50)).await;
                if let State::Waiting(_, text) = status.facts().state()
                    && text.contains("epochs went back")
                {
                    blocked.send_replace(text.clone());
                }
            }
        };
        let (registry, assigned) = (memory.reach(), assigned());
        let process = supervise(&registry, &mut worker, &assigned, &mut stop, || random.random());
        tokio::select! {
            biased;
            () = memory.faults.crashed() => {}
            () = look => {}
            result = process => return result,
        }
        bootstrap = worker.assignment.bootstrap;
    }
}

#[derive(Default)]
struct Outcome {
    allowed: u64,
    bootstrapped: u64,
    rows: usize,
}

async fn higher(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed);
    let store = Arc::new(Store::default());
    let faults = Arc::new(Faults::new(!seed, RATES));
    let memory = world.memory(&store, Arc::clone(&faults));
    let mut outcome = Outcome::default();
    let mut remedy = Remedy::None;
    let started = |remedy, seed| {
        let (stopper, stop) = stop::channel();
        let (sender, blocked) = watch::channel(String::new());
        (tokio::spawn(work(memory.clone(), stop, seed, remedy, sender)), stopper, blocked)
    };
    let (mut worker, mut stopper, mut blocked) = started(remedy, seed);
    // Relays of epochs from 1 on, and then, behind a higher one, more of them.
    for part in 0..2 {
        let (relays_stopper, stop) = stop::channel();
        world.faults.set(RATES);
        let relay = tokio::spawn(world.relay(seed ^ part, &stop).run());
        world.write().await;
        world.drain().await?;
        relays_stopper.stop(Duration::from_secs(10));
        relay.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
        if part == 0 {
            sleep(if world.random.random() { SETTLE } else { Duration::ZERO }).await;
            world.log.append(forged(&world.source));
        }
    }
    faults.set(Rates::NONE);
    let expected = filled(world.source.rows());
    for _ in 0..3 {
        sleep(2 * SETTLE).await;
        if filled(store.rows()) == expected {
            break;
        }
        let said = blocked.borrow_and_update().clone();
        if said.is_empty() {
            return Err(format!("rows are missing, and nobody says so: {remedy:?}"));
        }
        stopper.stop(Duration::from_secs(10));
        worker.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
        let epoch = said.split_once("--allow-epoch ").and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
        remedy = match (seed.is_multiple_of(2), epoch) {
            (true, Some(epoch)) => Remedy::AllowEpoch(epoch),
            (false, Some(_)) => Remedy::Bootstrap,
            (_, None) => return Err(format!("no epoch is named: {said}")),
        };
        outcome.allowed += u64::from(seed.is_multiple_of(2));
        outcome.bootstrapped += u64::from(!seed.is_multiple_of(2));
        (worker, stopper, blocked) = started(remedy, seed);
    }
    stopper.stop(Duration::from_secs(10));
    worker.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    no_trespass([&world.faults, &faults])?;
    outcome.rows = expected.values().map(|rows| rows.len()).sum();
    match filled(store.rows()) == expected {
        true => Ok(outcome),
        false => Err(format!("source and target differ: {remedy:?}")),
    }
}

#[test]
fn a_stream_of_higher_epochs_loses_nothing_without_a_word() {
    let outcomes = seeds(400, higher);
    if outcomes.len() == 1 {
        return;
    }
    let sum = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(sum(&|outcome| outcome.allowed) > 50, "no epoch was let fall");
    assert!(sum(&|outcome| outcome.bootstrapped) > 50, "nothing was bootstrapped again");
    assert!(sum(&|outcome| outcome.rows as u64) > 500);
}
