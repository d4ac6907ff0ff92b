//! Several relays and workers of one set at once: leaders that lost their leadership
//! and do not know it yet, standbys that took over, and all of them dying.

use std::sync::Arc;
use std::time::Duration;

use pgshovel::memory::{Faults, Rates, Registry, Source, Store};
use pgshovel::ports::registry::Role;
use pgshovel::stop;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::relay::{Outcome, RATES, World, filled, read};
use super::worker::Worker;
use super::{SETTLE, no_trespass, seeds};

const RELAYS: u64 = 3;
const WORKERS: u64 = 2;

/// Leadership is lost in the middle of a call.
const SLOW_RATES: Rates = Rates { slow: 80, ..RATES };

/// Ends sessions of leaders, now and then by making the registry anew, until it is dropped.
async fn expire(registry: Arc<Registry>, mut random: StdRng) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
        match random.random_range(0..4) {
            0 => registry.forget(),
            1 => registry.expire(Role::Worker),
            _ => registry.expire(Role::Relay),
        }
    }
}

#[derive(Default)]
struct Fleet {
    outcome: Outcome,
    zombies: u64,
    /// Workers that the other one overtook.
    overtaken: u64,
}

async fn crowded(seed: u64) -> Result<Fleet, String> {
    let mut world = World::new(seed);
    let (relay_stopper, relay_stop) = stop::channel();
    let (worker_stopper, worker_stop) = stop::channel();
    let store = Arc::new(Store::default());
    let (mut relays, mut workers, mut all_faults) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=RELAYS {
        let seed = seed ^ (number << 32);
        let faults = Arc::new(Faults::new(seed, SLOW_RATES));
        all_faults.push(Arc::clone(&faults));
        relays.push(tokio::spawn(world.relay_with(faults, seed, &relay_stop).run()));
    }
    for number in 1..=WORKERS {
        let seed = seed ^ (number << 40);
        let faults = Arc::new(Faults::new(seed, SLOW_RATES));
        all_faults.push(Arc::clone(&faults));
        let memory = world.memory(&store, faults);
        workers.push(tokio::spawn(Worker { memory, stop: worker_stop.clone(), seed, bootstrap: false, part: None }.run()));
    }
    let expiring = tokio::spawn(expire(Arc::clone(&world.registry), StdRng::seed_from_u64(seed)));
    let administered = tokio::spawn(world.administer(2, seed));
    world.write().await;
    administered.await.map_err(|error| error.to_string())?;
    expiring.abort();
    all_faults.iter().for_each(|faults| faults.set(Rates::NONE));
    world.drain().await?;
    caught_up(&store, &world.source).await;
    relay_stopper.stop(Duration::from_secs(10));
    worker_stopper.stop(Duration::from_secs(10));
    let mut fleet = Fleet { zombies: world.registry.expired(), ..Fleet::default() };
    for relay in relays {
        relay.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    }
    for worker in workers {
        fleet.overtaken += worker.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    }
    no_trespass(&all_faults)?;
    let streamed = filled(read(&world.log, &mut fleet.outcome)?);
    let (expected, rows) = (filled(world.source.rows()), filled(store.rows()));
    fleet.outcome.rows = rows.values().map(|rows| rows.len()).sum();
    match (streamed == expected, rows == expected) {
        (true, true) => Ok(fleet),
        (false, _) => Err(format!("source and stream differ:\n{expected:?}\n{streamed:?}")),
        (true, false) => Err(format!("source and target differ:\n{expected:?}\n{rows:?}")),
    }
}

/// Waits until the target has the source's rows; that it keeps them is for later.
async fn caught_up(store: &Store, source: &Source) {
    let waits = async {
        while filled(store.rows()) != filled(source.rows()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Whatever is still on its way.
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    // If it does not, the comparison shows the difference.
    let _ = tokio::time::timeout(SETTLE, waits).await;
}

#[test]
fn whoever_believes_to_lead_the_target_has_the_rows_of_the_source() {
    let fleets = seeds(500, crowded);
    if fleets.len() == 1 {
        return;
    }
    let sum = |of: &dyn Fn(&Fleet) -> u64| fleets.iter().map(of).sum::<u64>();
    assert!(sum(&|fleet| fleet.zombies) > 1000, "no leadership was lost");
    assert!(sum(&|fleet| fleet.outcome.fenced) > 100, "no message of a zombie was skipped");
    assert!(sum(&|fleet| fleet.outcome.discarded) > 100, "no half batch was discarded");
    assert!(sum(&|fleet| fleet.overtaken) > 10, "no worker overtook another");
    assert!(sum(&|fleet| fleet.outcome.rows as u64) > 1000);
}
