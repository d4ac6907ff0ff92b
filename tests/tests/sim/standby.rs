//! Who stands by, and who follows: a standby that cannot lead says so at once, one that can
//! leads as soon as it may, and all relays end with their set.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgshovel::error::{Code, Error, Next, Result};
use pgshovel::memory::{Faults, PLACE, Queue, Rates, Store, Stream, Target, Transform, Writer};
use pgshovel::observe::{State, Status};
use pgshovel::ports::opening::{Origin, RelayPorts, WorkerPorts};
use pgshovel::ports::registry::{Condition, Role, StoredSet};
use pgshovel::relay::{self, Assignment};
use pgshovel::stop::{self, Stop};
use pgshovel::supervise::supervise;
use pgshovel::{memory, replicate};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::relay::{World, few, filled, incarnation};
use super::replication::{Memory, Publishing, SET, assigned, assignment};
use super::{SETTLE, no_trespass, seeds};

/// Ports that refuse what a test wants refused.
struct Refusing<P> {
    ports: P,
    /// Of what is opened once the process leads.
    opening: fn() -> Result<()>,
    /// Of what is opened while it stands by, too.
    checking: fn() -> Result<()>,
    /// Whether it looks at the queue that another relay has.
    looks: Arc<AtomicBool>,
}

impl RelayPorts for Refusing<Publishing> {
    type Queue = Queue;
    type Writer = Writer;

    async fn queue(&mut self, set: &StoredSet, epoch_min: u64, leads: impl Future<Output = bool> + Send) -> Result<Queue> {
        self.ports.queue(set, epoch_min, leads).await
    }

    async fn writer(&mut self) -> Result<Writer> {
        (self.opening)()?;
        self.ports.writer().await
    }

    async fn check_writer(&mut self) -> Result<()> {
        (self.checking)()
    }

    async fn check_queue(&mut self, set: &StoredSet) -> Result<()> {
        self.ports.check_queue(set).await
    }

    fn look(&self, _set: &StoredSet) -> impl Future<Output = Infallible> + Send + use<> {
        let looks = Arc::clone(&self.looks);
        async move {
            looks.store(true, Ordering::Relaxed);
            std::future::pending().await
        }
    }
}

impl WorkerPorts for Refusing<Memory> {
    type Stream = Stream;
    type Loader = memory::Loader;
    type Target = Target;
    type Transform = Transform;

    async fn stream(&mut self) -> Result<Stream> {
        (self.checking)()?;
        self.ports.stream().await
    }

    async fn target(&mut self) -> Result<Target> {
        self.ports.target().await
    }

    async fn transforms(&mut self) -> Result<Vec<Transform>> {
        self.ports.transforms().await
    }

    async fn loader(&mut self, set: &StoredSet) -> Result<(Origin, memory::Loader)> {
        (self.opening)()?;
        self.ports.loader(set).await
    }
}

/// One process, and how it is.
struct Running {
    process: JoinHandle<Result<()>>,
    status: Status,
    faults: Arc<Faults>,
    looks: Arc<AtomicBool>,
}

fn fine() -> Result<()> {
    Ok(())
}

fn relay(world: &mut World, stop: &Stop, opening: fn() -> Result<()>, checking: fn() -> Result<()>) -> Running {
    let looks = Arc::default();
    let faults = Arc::new(Faults::new(world.random.random(), Rates::NONE));
    let publishing = Publishing {
        source: Arc::clone(&world.source),
        broker: Arc::clone(&world.broker),
        faults: Arc::clone(&faults),
        registry: Arc::clone(&world.registry),
        random: StdRng::from_rng(&mut world.random),
        opened: false,
    };
    let registry = publishing.reach();
    let progress = relay::progress::Progress::new(SET);
    let status = progress.status().clone();
    let mut relay = relay::Relay::new(
        Refusing { ports: publishing, opening, checking, looks: Arc::clone(&looks) },
        Assignment { push: few(&mut world.random), publisher: incarnation },
        progress,
    );
    let (mut stop, mut random) = (stop.clone(), StdRng::from_rng(&mut world.random));
    let process = tokio::spawn(async move { supervise(&registry, &mut relay, &assigned(), &mut stop, || random.random()).await });
    Running { process, status, faults, looks }
}

fn worker(world: &mut World, store: &Arc<Store>, stop: &Stop, opening: fn() -> Result<()>, checking: fn() -> Result<()>) -> Running {
    let looks = Arc::default();
    let faults = Arc::new(Faults::new(world.random.random(), Rates::NONE));
    let ports = world.memory(store, Arc::clone(&faults));
    let (registry, progress) = (ports.reach(), replicate::progress::Progress::new(SET));
    let status = progress.status().clone();
    let assignment = assignment(false, &mut world.random);
    let mut worker = replicate::Worker { ports: Refusing { ports, opening, checking, looks: Arc::clone(&looks) }, assignment, progress };
    let (mut stop, mut random) = (stop.clone(), StdRng::from_rng(&mut world.random));
    let process = tokio::spawn(async move { supervise(&registry, &mut worker, &assigned(), &mut stop, || random.random()).await });
    Running { process, status, faults, looks }
}

impl Running {
    /// How long it took to come into this state.
    async fn is(&self, state: &str, at_most: Duration) -> std::result::Result<Duration, String> {
        let since = Instant::now();
        while self.status.facts().state().name() != state {
            if since.elapsed() > at_most {
                return Err(format!("not {state} after {at_most:?} but {:?}", self.status.facts().state()));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(since.elapsed())
    }

    async fn ends(self, at_most: Duration) -> std::result::Result<Result<()>, String> {
        let ended = timeout(at_most, self.process).await.map_err(|_| format!("it does not end within {at_most:?}"))?;
        ended.map_err(|error| error.to_string())
    }
}

const SOON: Duration = Duration::from_millis(200);

/// A wrong setting shows when a process starts, not when the leader has died.
async fn wrong(seed: u64) -> std::result::Result<(), String> {
    let mut world = World::new(seed);
    let (stopper, stop) = stop::channel();
    let store = Arc::new(Store::default());
    let leaders = [relay(&mut world, &stop, fine, fine), worker(&mut world, &store, &stop, fine, fine)];
    for leader in &leaders {
        leader.is("leading", SOON).await?;
    }
    let refuse = || Err(Error::configure(Code::DatabaseAbsent, "the database \"tpyo\" does not exist"));
    for standby in [relay(&mut world, &stop, fine, refuse), worker(&mut world, &store, &stop, fine, refuse)] {
        match standby.ends(SOON).await? {
            Err(error) if error.next == Next::Configure && error.message.contains("tpyo") => {}
            ended => return Err(format!("{ended:?}")),
        }
    }
    // A set whose database has nothing of it may be on its way there, for a while.
    world.registry.move_to("dbname=nowhere");
    let standby = relay(&mut world, &stop, fine, fine);
    match standby.ends(Duration::from_secs(20)).await? {
        Err(error) if error.next == Next::Configure && error.message.contains("nowhere") => {}
        ended => return Err(format!("{ended:?}")),
    }
    world.registry.move_to(PLACE);
    sleep(SETTLE).await;
    // What passes is waited for.
    let away = || Err(Error::retry(Code::DatabaseAway, "away"));
    let standbys = [relay(&mut world, &stop, fine, away), worker(&mut world, &store, &stop, fine, away)];
    sleep(SETTLE).await;
    for standby in &standbys {
        standby.is("standby", Duration::ZERO).await?;
    }
    if !standbys[0].looks.load(Ordering::Relaxed) {
        return Err("nobody looks at the queue while it cannot be told whether the standby could lead".to_owned());
    }
    world.write().await;
    world.drain().await?;
    sleep(SETTLE).await;
    if filled(store.rows()) != filled(world.source.rows()) {
        return Err("the leaders did not work".to_owned());
    }
    stopper.stop(Duration::from_secs(10));
    for process in standbys.into_iter().chain(leaders) {
        no_trespass([&process.faults])?;
        process.ends(SETTLE).await?.map_err(|error| error.message)?;
    }
    Ok(())
}

#[test]
fn a_standby_that_cannot_lead_says_so_at_once() {
    seeds(20, wrong);
}

/// A relay that cannot work gives its leadership to one that may be able to; a worker keeps it.
async fn given_back(seed: u64) -> std::result::Result<(), String> {
    let mut world = World::new(seed);
    let (stopper, stop) = stop::channel();
    let store = Arc::new(Store::default());
    let refuse = || Err(Error::blocked(Code::TargetBlocked, "a person has to mend it"));
    let (relays, workers) = (
        [relay(&mut world, &stop, refuse, fine), relay(&mut world, &stop, fine, fine)],
        [worker(&mut world, &store, &stop, refuse, fine), worker(&mut world, &store, &stop, fine, fine)],
    );
    // Whichever was the first: the one that can work, works.
    relays[1].is("leading", SOON).await?;
    sleep(SETTLE).await;
    relays[1].is("leading", Duration::ZERO).await?;
    let blocked = matches!(workers[0].status.facts().state(), State::Waiting(..));
    let shown = world.registry.report(Role::Worker).map(|report| report.state);
    let expected = if blocked { Condition::Blocked } else { Condition::Working };
    if shown != Some(expected) || world.registry.report(Role::Relay).map(|report| report.state) != Some(Condition::Working) {
        return Err(format!("the registry shows {shown:?} of a worker that is blocked: {blocked}"));
    }
    let standby = &workers[usize::from(blocked)];
    standby.is("standby", Duration::ZERO).await?;
    stopper.stop(Duration::from_secs(10));
    for process in relays.into_iter().chain(workers) {
        no_trespass([&process.faults])?;
        process.ends(SETTLE).await?.map_err(|error| error.message)?;
    }
    Ok(())
}

#[test]
fn a_relay_that_cannot_work_gives_its_leadership_back_and_a_worker_shows_that_it_is_blocked() {
    seeds(100, given_back);
}

/// The first relay's attempt fails after it led: a standby must not wait for a session to end.
async fn passed_on(seed: u64) -> std::result::Result<(), String> {
    let mut world = World::new(seed);
    let (stopper, stop) = stop::channel();
    let refuse = || Err(Error::retry(Code::DatabaseAway, "away"));
    let first = relay(&mut world, &stop, refuse, fine);
    let waited = first.is("waiting", SOON).await?;
    let second = relay(&mut world, &stop, fine, fine);
    let took = second.is("leading", SOON).await?;
    stopper.stop(Duration::from_secs(10));
    for process in [first, second] {
        process.ends(SETTLE).await?.map_err(|error| error.message)?;
    }
    if waited + took < SOON { Ok(()) } else { Err(format!("{waited:?} {took:?}")) }
}

#[test]
fn a_standby_follows_a_failed_attempt_at_once() {
    seeds(50, passed_on);
}

/// Relays end with their set, whichever of database and registry forgets it first. The worker
/// goes on: the stream may hold more.
async fn dropped(seed: u64) -> std::result::Result<(), String> {
    let mut world = World::new(seed);
    let (stopper, stop) = stop::channel();
    let store = Arc::new(Store::default());
    let relays = [relay(&mut world, &stop, fine, fine), relay(&mut world, &stop, fine, fine), relay(&mut world, &stop, fine, fine)];
    let worker = worker(&mut world, &store, &stop, fine, fine);
    world.write().await;
    world.drain().await?;
    let late = Duration::from_millis(world.random.random_range(0..8000));
    if seed.is_multiple_of(2) {
        world.source.move_to(None);
        sleep(late).await;
        world.registry.remove();
    } else {
        world.registry.remove();
        sleep(late).await;
        world.source.move_to(None);
    }
    for relay in relays {
        no_trespass([&relay.faults])?;
        relay.ends(SETTLE).await?.map_err(|error| error.message)?;
    }
    sleep(SETTLE).await;
    worker.is("leading", Duration::ZERO).await?;
    if filled(store.rows()) != filled(world.source.rows()) {
        return Err("source and target differ".to_owned());
    }
    stopper.stop(Duration::from_secs(10));
    worker.ends(SETTLE).await?.map_err(|error| error.message)
}

#[test]
fn relays_end_with_their_set_and_the_worker_goes_on() {
    seeds(100, dropped);
}
