//! Keeps the relay running: leadership, the queue's epoch, and a new publisher
//! for every attempt.
//!
//! An attempt that fails, for whatever passes, gives its leadership back: the
//! next one has a higher epoch, so that readers of the stream know what is left
//! of the one before for what it is.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use proto::batch::publisher::Publisher;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::progress::Progress;
use super::run::{Push, run};
use crate::admin::recover::keep_watch;
use crate::error::{Error, Next, Result};
use crate::observe::{State, Status};
use crate::patience::Patience;
use crate::ports::Writer;
use crate::postgres::own;
use crate::postgres::queue::{Queue, Settings, backlog};
use crate::registry::lease::{Lease, Role};
use crate::registry::watch::{Change, Watch};
use crate::registry::{Cluster, Ensemble, StoredSet};
use crate::stop::{self, Stop};

/// A call that is under way when the grace period ends may take this much longer.
const CALL_GRACE: Duration = Duration::from_secs(5);

/// How long an administrator's change may be under way, its database changed and
/// ZooKeeper not yet, before a queue that is gone is an error.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long leaving may take: a lease that is not given back ends with its session.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a relay is to do.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub ensemble: Ensemble,
    pub cluster: String,
    pub set: String,
    pub consumer: String,
    /// How long a batch may take to end once a stop is requested.
    pub grace: Duration,
    /// See [`Settings::rotation_period`].
    pub rotation_period: Duration,
    /// See [`Settings::queue_bytes_max`].
    pub queue_bytes_max: Option<u64>,
}

/// Opens the writer that the configuration names, anew for every attempt.
pub trait Plugins: Send {
    type Writer: Writer;

    fn writer(&mut self) -> impl Future<Output = Result<Self::Writer>> + Send;
}

/// How long after a set was moved its new database may have nothing of it: whoever moved it
/// may have died in between, and another command or relay ends the change.
const MOVE_TIMEOUT: Duration = Duration::from_secs(120);

/// How an attempt without an error ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// The set is gone: there is nothing left to relay.
    Dropped,
    /// The set is in another database.
    Moved,
}

/// Relays until `stop` is requested or the set is dropped, or until an error that
/// waiting does not mend. Servers that are away are waited for.
///
/// Dropping the future ends it where it is, and leaves the open batch to the next
/// relay. `random` spreads the waits.
pub async fn supervise(
    plugins: &mut impl Plugins,
    assignment: &Assignment,
    stop: &mut Stop,
    progress: &mut Progress,
    mut random: impl FnMut() -> u32 + Send,
) -> Result<()> {
    let mut patience = Patience::new(progress.batches());
    let status = progress.status().clone();
    let mut relay = Relay { assignment, status, seen: false, served: false, moved: None, epoch: 0 };
    let (ensemble, cluster) = (assignment.ensemble.clone(), assignment.cluster.clone());
    // Beside the work, since it may be what the work waits for. Ends with this.
    let mut watch = JoinSet::new();
    watch.spawn(async move { keep_watch(&ensemble, &cluster).await });
    while !stop.requested() {
        let error = match relay.attempt(plugins, stop, progress).await {
            Ok(End::Moved) => {
                relay.moved = Some(Instant::now());
                continue;
            }
            Ok(End::Dropped) => {
                tracing::info!(set = %assignment.set, "the set was dropped: the relay ends");
                return Ok(());
            }
            Ok(End::Stopped) => return Ok(()),
            Err(error) if stop.requested() && error.is_tried_again() => return Ok(()),
            Err(error) => error,
        };
        let text = error.to_string();
        let wait = patience.judge(error, progress.batches(), random())?;
        relay.status.wait_for(&text);
        tokio::select! {
            biased;
            () = stop.wait() => {}
            () = sleep(wait) => {}
        }
    }
    Ok(())
}

/// What is known from attempt to attempt.
struct Relay<'a> {
    assignment: &'a Assignment,
    status: Status,
    /// The set existed when last looked at: if it no longer does, it was dropped.
    seen: bool,
    /// Its queue was open.
    served: bool,
    /// When the set was found to be in another database, until its queue is open there.
    moved: Option<Instant>,
    /// The last that it published under, or 0.
    epoch: u64,
}

/// Leadership of an existing set.
struct Post {
    cluster: Cluster,
    set: StoredSet,
    watch: Watch,
    lease: Lease,
}

impl Relay<'_> {
    async fn attempt<P: Plugins>(&mut self, plugins: &mut P, stop: &mut Stop, progress: &mut Progress) -> Result<End> {
        let post = tokio::select! {
            biased;
            () = stop.wait() => return Ok(End::Stopped),
            post = self.take_post() => post?,
        };
        let Some(mut post) = post else { return Ok(End::Dropped) };
        self.status.take_over();
        let served = self.serve(&mut post, plugins, stop, progress).await;
        let end = match served {
            Err(error) => self.settle(&mut post, error).await,
            end => end,
        };
        // Said so that a standby need not wait; if it fails, it waits.
        let _ = timeout(LEAVE_TIMEOUT, post.lease.release()).await;
        end
    }

    /// Waits for leadership; `None` if the set was dropped.
    async fn take_post(&mut self) -> Result<Option<Post>> {
        let Assignment { ensemble, cluster, set, .. } = self.assignment;
        let cluster = ensemble.connect(cluster).await?;
        cluster.configuration().await?;
        let stored = if self.seen { cluster.find_set(set).await? } else { Some(cluster.set(set).await?) };
        let Some(stored) = stored else { return Ok(None) };
        if !self.seen {
            cluster.tell_if_open().await?;
        }
        self.seen = true;
        let mut watch = cluster.watch(stored.clone());
        let lease = {
            let mut acquire = pin!(cluster.acquire(set, Role::Relay, || self.status.enter(State::Standby)));
            let mut looking = pin!(self.look(&stored));
            loop {
                tokio::select! {
                    lease = &mut acquire => break lease?,
                    change = watch.changed() => match change? {
                        Change::Dropped => return Ok(None),
                        Change::Changed(now) => looking.set(self.look(&now)),
                    },
                    never = &mut looking => match never {},
                }
            }
        };
        let Some(stored) = cluster.find_set(set).await? else { return Ok(None) };
        let watch = cluster.watch(stored.clone());
        Ok(Some(Post { cluster, set: stored, watch, lease }))
    }

    /// Relays for as long as leadership lasts and the set stays where it is.
    async fn serve<P: Plugins>(&mut self, post: &mut Post, plugins: &mut P, stop: &mut Stop, progress: &mut Progress) -> Result<End> {
        let Post { set, watch, lease, .. } = post;
        let settings = self.settings(set, lease.epoch().max(self.epoch + 1));
        let open = async {
            let queue = Queue::open(settings, lease.is_confirmed()).await?;
            let writer = plugins.writer().await?;
            Ok::<_, Error>((queue, writer))
        };
        let (mut queue, mut writer) = tokio::select! {
            biased;
            () = lease.lost() => return Err(lost()),
            () = stop.wait() => return Ok(End::Stopped),
            opened = open => opened?,
        };
        self.served = true;
        self.moved = None;
        self.status.enter(State::Leading);
        self.epoch = queue.epoch();
        self.status.update(|facts| facts.epoch = Some(self.epoch));
        tracing::info!(set = %set.name, epoch = self.epoch, "publishing");
        let mut publisher = Publisher::new(Uuid::new_v4().into_bytes(), self.epoch);
        let (stopper, mut inner) = stop::channel();
        let mut overdue = inner.clone();
        let mut running = pin!(run(&mut queue, &mut writer, &mut publisher, Push::default(), &mut inner, progress));
        let mut end = None;
        loop {
            tokio::select! {
                biased;
                // Dropping the loop ends its publishing before anything else happens.
                () = lease.lost() => return Err(lost()),
                ran = &mut running => return ran.map(|()| end.unwrap_or(End::Stopped)),
                () = overdue.wait_overdue(CALL_GRACE) => {
                    tracing::warn!("a call did not return within the grace period and is given up");
                    return Ok(end.unwrap_or(End::Stopped));
                }
                () = stop.wait(), if end != Some(End::Stopped) => {
                    end = Some(End::Stopped);
                    stopper.stop(self.assignment.grace);
                }
                elsewhere = elsewhere(watch, set), if end.is_none() => {
                    end = Some(elsewhere?);
                    stopper.stop(self.assignment.grace);
                }
            }
        }
    }

    /// While another relay leads: it may be stuck.
    fn look(&self, set: &StoredSet) -> impl Future<Output = Infallible> + use<> {
        backlog::follow(Arc::new(self.settings(set, 0)), backlog::STANDBY_EVERY)
    }

    fn settings(&self, set: &StoredSet, epoch_min: u64) -> Settings {
        let Assignment { cluster, set: name, consumer, rotation_period, queue_bytes_max, .. } = self.assignment.clone();
        let (dsn, status) = (own::of_set(&set.configuration.database.dsn), self.status.clone());
        Settings { dsn, cluster, set: name, consumer, epoch_min, rotation_period, queue_bytes_max, status }
    }

    /// An error that another leader or an administrator's change explains is no error.
    async fn settle(&self, post: &mut Post, error: Error) -> Result<End> {
        let Post { cluster, set, watch, lease } = post;
        let error = lease.judge(error).await;
        match error.next {
            Next::Retry | Next::Blocked | Next::Trap => return Err(error),
            // ZooKeeper may have changed first: the database follows.
            Next::Configure if self.moved.is_some_and(|moved| moved.elapsed() < MOVE_TIMEOUT) => {
                return Err(Error::retry(format!(
                    "the set was moved to this database a moment ago, and is not captured there yet: {error}"
                )));
            }
            // The database may have changed first: ZooKeeper follows.
            Next::Configure if self.served => {
                if let Ok(Ok(end)) = timeout(CHANGE_TIMEOUT, elsewhere(watch, set)).await {
                    return Ok(end);
                }
            }
            Next::Usage | Next::Configure | Next::Stop | Next::Bug => {}
        }
        match timeout(CHANGE_TIMEOUT, cluster.find_set(&set.name)).await {
            Ok(Ok(None)) => Ok(End::Dropped),
            Ok(Ok(Some(now))) if now.configuration.database != set.configuration.database => Ok(End::Moved),
            _ => Err(error),
        }
    }
}

/// Waits until the set is dropped, or is in another database. Any other change is
/// picked up as it is: events name the version of the configuration they belong to.
async fn elsewhere(watch: &mut Watch, set: &StoredSet) -> Result<End> {
    loop {
        match watch.changed().await? {
            Change::Dropped => return Ok(End::Dropped),
            Change::Changed(now) if now.configuration.database != set.configuration.database => {
                tracing::info!(set = %set.name, "the set's database changed: connecting to the new one");
                return Ok(End::Moved);
            }
            Change::Changed(now) => tracing::info!(set = %set.name, version = %now.version, "the set's configuration changed"),
        }
    }
}

fn lost() -> Error {
    Error::retry("leadership of the set was lost, since ZooKeeper was out of reach or another relay leads, and publishing has ended")
}
