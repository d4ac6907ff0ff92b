//! A source that fails over, to a replica that has all and to one that is behind, whose
//! clock goes differently: versions of a row grow all the same. Every target of every
//! simulation checks that (`pgshovel::memory`); here is what the others do not meet.

use std::sync::Arc;
use std::time::Duration;

use pgshovel::memory::{Faults, Log, Rates, Registry, Source, Store};
use pgshovel::replicate::state;
use pgshovel::stop;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::publisher::Relay;
use super::replication::{CLUSTER, Memory, SET};
use super::worker::Worker;
use super::{SETTLE, seeds};

const RATES: Rates = Rates { error_before: 10, error_after: 10, crash_before: 10, crash_after: 10, slow: 0 };
const FAILOVERS: u32 = 3;

#[derive(Default)]
struct Outcome {
    bootstraps: u64,
    again: u64,
    /// The last version is ahead of the source's clock.
    ahead: bool,
}

async fn failed_over(seed: u64) -> Result<Outcome, String> {
    let mut random = StdRng::seed_from_u64(!seed);
    let (source, log, store) = (Arc::new(Source::new(CLUSTER, SET, [7; 16])), Arc::new(Log::default()), Arc::new(Store::default()));
    let mut relay = Relay::new(Arc::clone(&source), Arc::clone(&log), seed);
    let mut outcome = Outcome::default();
    let mut bootstrap = false;
    for round in 0..=FAILOVERS {
        let (stopper, stop) = stop::channel();
        let faults = Arc::new(Faults::new(seed ^ u64::from(round), RATES));
        let registry = Arc::new(Registry::new(SET, seed ^ u64::from(round)));
        let (from, to) = (Arc::clone(&log), Arc::clone(&store));
        let memory = Memory { source: Arc::clone(&source), log: from, store: to, faults: Arc::clone(&faults), registry };
        let worker = tokio::spawn(Worker { memory, stop, seed, bootstrap, part: None }.run());
        outcome.bootstraps += u64::from(bootstrap);
        let mut replica = source.copy();
        for _ in 0..random.random_range(20..80) {
            source.act(&mut random);
            match random.random_range(0..12) {
                0 => relay.live().await,
                1 => tokio::time::sleep(Duration::from_millis(random.random_range(0..2000))).await,
                2 => replica = source.copy(),
                _ => tokio::task::yield_now().await,
            }
        }
        if round == FAILOVERS {
            source.settle(&mut random);
            relay.deaths = 0;
            relay.live().await;
        }
        faults.set(Rates::NONE);
        tokio::time::sleep(SETTLE).await;
        stopper.stop(Duration::from_secs(10));
        let ended = worker.await.map_err(|error| error.to_string())?;
        // Of a source that is another one the reader says so, and the operator bootstraps.
        match ended {
            Ok(_) => {}
            Err(error) if error.message.contains("has version") => return Err(error.message),
            Err(_) if round < FAILOVERS => {}
            Err(error) => return Err(error.message),
        }
        if round < FAILOVERS {
            let is_behind: bool = random.random();
            let copy = if is_behind { replica } else { source.copy() };
            source.fail_over(copy, random.random_range(-1000..1000));
            // What a replica that was behind has lost the target may have; and while it catches up
            // with loaded rows, it cannot be told whether the replica was.
            let state = store.state().and_then(|bytes| state::decode(&bytes).ok());
            bootstrap = is_behind || state.is_some_and(|state| state.bootstrap_state.is_some());
        }
    }
    outcome.again = store.again();
    let state = state::decode(&store.state().ok_or("no state")?).map_err(|error| error.message)?;
    outcome.ahead = state.version > Some(source.now_us().unsigned_abs());
    match store.rows() == source.rows() {
        true => Ok(outcome),
        false => Err(format!("source and target differ:\n{:?}\n{:?}", source.rows(), store.rows())),
    }
}

#[test]
fn versions_grow_through_failovers() {
    let outcomes = seeds(400, failed_over);
    if outcomes.len() == 1 {
        return;
    }
    let count = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(count(&|outcome| outcome.bootstraps) > 200, "few bootstraps");
    assert!(count(&|outcome| outcome.again) > 200, "few changes came again");
    assert!(count(&|outcome| u64::from(outcome.ahead)) > 20, "versions are hardly ever ahead of the clock");
}
