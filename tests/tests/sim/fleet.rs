//! Several relays and workers of one set at once: leaders that lost their leadership
//! and do not know it yet, standbys that took over, and all of them dying.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgshovel::error::{Error, Next};
use pgshovel::memory::{Broker, Faults, Queue, Rates, Source, Store, Writer};
use pgshovel::relay;
use pgshovel::relay::run::Push;
use pgshovel::stop::{self, Stop};
use proto::batch::publisher::Publisher;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use super::relay::{Outcome, RATES, World, few, filled, incarnation, read};
use super::replication::{Memory, SET};
use super::worker::Worker;
use super::{SETTLE, seeds};

const RELAYS: u64 = 3;
const WORKERS: u64 = 2;

/// What ZooKeeper keeps: who leads, under which epoch.
struct Leadership {
    /// Passes on in the order of standing in line.
    line: Arc<Mutex<()>>,
    /// The number of the last leader whose session ended; the one after it leads.
    over: watch::Sender<u64>,
    leaders: watch::Sender<u64>,
    /// Of the last leader: grows from one to the next, until ZooKeeper is made anew.
    epoch: AtomicU64,
}

struct Lease {
    number: u64,
    epoch: u64,
    _turn: OwnedMutexGuard<()>,
}

impl Leadership {
    fn new() -> Self {
        Self { line: Arc::default(), over: watch::Sender::new(0), leaders: watch::Sender::new(0), epoch: AtomicU64::new(0) }
    }

    async fn acquire(&self) -> Lease {
        let turn = Arc::clone(&self.line).lock_owned().await;
        self.leaders.send_modify(|number| *number += 1);
        Lease { number: *self.leaders.borrow(), epoch: self.epoch.fetch_add(1, Ordering::Relaxed) + 1, _turn: turn }
    }

    /// The server gives the session of the leader up.
    fn expire(&self) {
        self.over.send_replace(*self.leaders.borrow());
    }

    /// The server forgets all: sessions, and how far epochs had come.
    fn forget(&self) {
        self.epoch.store(0, Ordering::Relaxed);
        self.expire();
    }

    fn is_over(&self, number: u64) -> bool {
        *self.over.borrow() >= number
    }

    async fn lost(&self, number: u64) {
        let mut over = self.over.subscribe();
        // The sender is `self`.
        let _ = over.wait_for(|over| *over >= number).await;
    }
}

/// A relay's process, started again whenever it dies, fails or loses its leadership.
struct Relay {
    source: Arc<Source>,
    broker: Arc<Broker>,
    faults: Arc<Faults>,
    leadership: Arc<Leadership>,
    stop: Stop,
    random: StdRng,
}

impl Relay {
    /// How often it outlived its leadership.
    async fn run(mut self) -> Result<u64, Error> {
        let mut zombies = 0;
        while !self.stop.requested() {
            let mut stop = self.stop.clone();
            let lease = tokio::select! {
                biased;
                () = stop.wait() => break,
                lease = self.leadership.acquire() => lease,
            };
            let (number, epoch) = (lease.number, lease.epoch);
            let leadership = Arc::clone(&self.leadership);
            // How long it takes to notice that its session is over. Its place in line is
            // free at once.
            let unaware = Duration::from_millis(self.random.random_range(0..1500));
            let lost = async {
                leadership.lost(number).await;
                drop(lease);
                tokio::time::sleep(unaware).await;
            };
            let push = few(&mut self.random);
            tokio::select! {
                biased;
                () = self.faults.crashed() => {}
                () = lost => {}
                result = lead(&self.source, &self.broker, &self.faults, epoch, push, &mut stop) => match result {
                    Err(error) if error.next != Next::Retry => return Err(error),
                    _ => {}
                },
            }
            zombies += u64::from(self.leadership.is_over(number));
        }
        Ok(zombies)
    }
}

async fn lead(
    source: &Arc<Source>,
    broker: &Arc<Broker>,
    faults: &Arc<Faults>,
    epoch: u64,
    push: Push,
    stop: &mut Stop,
) -> Result<(), Error> {
    let mut queue = Queue::new(Arc::clone(source), Arc::clone(faults), 10 * epoch, epoch);
    let mut writer = Writer::new(Arc::clone(broker), Arc::clone(faults));
    let mut publisher = Publisher::new(incarnation(queue.epoch()), queue.epoch());
    let mut progress = relay::progress::Progress::new(SET);
    relay::run::run(&mut queue, &mut writer, &mut publisher, push, stop, &mut progress).await
}

/// Ends sessions of leaders, now and then by making ZooKeeper anew, until it is dropped.
async fn expire(leadership: Arc<Leadership>, mut random: StdRng) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1000))).await;
        if random.random_range(0..4) == 0 { leadership.forget() } else { leadership.expire() }
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
    let leadership = Arc::new(Leadership::new());
    let (relay_stopper, relay_stop) = stop::channel();
    let (worker_stopper, worker_stop) = stop::channel();
    let store = Arc::new(Store::default());
    let (mut relays, mut workers, mut all_faults) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=RELAYS {
        let seed = seed ^ (number << 32);
        let faults = Arc::new(Faults::new(seed, RATES));
        all_faults.push(Arc::clone(&faults));
        let (source, broker, leadership) = (Arc::clone(&world.source), Arc::clone(&world.broker), Arc::clone(&leadership));
        let relay = Relay { source, broker, faults, leadership, stop: relay_stop.clone(), random: StdRng::seed_from_u64(seed) };
        relays.push(tokio::spawn(relay.run()));
    }
    for number in 1..=WORKERS {
        let seed = seed ^ (number << 40);
        let faults = Arc::new(Faults::new(seed, RATES));
        all_faults.push(Arc::clone(&faults));
        let (source, log, store) = (Arc::clone(&world.source), Arc::clone(&world.log), Arc::clone(&store));
        let memory = Memory { source, log, store, faults };
        workers.push(tokio::spawn(Worker { memory, stop: worker_stop.clone(), seed, bootstrap: false, part: None }.run()));
    }
    let expiring = tokio::spawn(expire(Arc::clone(&leadership), StdRng::seed_from_u64(seed)));
    world.write().await;
    expiring.abort();
    all_faults.iter().for_each(|faults| faults.set(Rates::NONE));
    world.drain().await?;
    caught_up(&store, &world.source).await;
    relay_stopper.stop(Duration::from_secs(10));
    worker_stopper.stop(Duration::from_secs(10));
    let mut fleet = Fleet::default();
    for relay in relays {
        fleet.zombies += relay.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    }
    for worker in workers {
        fleet.overtaken += worker.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
    }
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
