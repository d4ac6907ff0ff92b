//! Keeps a relay or a worker running: it stands in line, leads, makes attempts, judges their
//! errors, waits between them, follows changes of the set's configuration, and ends.
//!
//! What an attempt does is the [`Work`]'s. Who leads is the registry's to say.

mod report;
mod work;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use proto::interfaces::configurations::DatabaseConfiguration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::error::{Code, Error, Next, Result};
use crate::observe::{State, Status};
use crate::patience::Patience;
use crate::ports::registry::{Change, Lease, Registry, Session, StoredSet, Watch};
use crate::stop::{self, Stop};
use report::Shown;
pub use work::{Assignment, Rules, Work};

/// How long a store may take to forget a batch, which is not worth waiting for: the end of the
/// session, or the next attempt, brings it about as well.
pub const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that is under way when the grace period ends may take this much longer: as long as
/// two calls that have a bound of their own, such as a rollback.
const CALL_GRACE: Duration = Duration::from_secs(10);

/// How long leaving may take: a lease that is not given back ends with its session.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an administrator's change may be under way, its database changed and the registry
/// not yet, before a queue that is gone is an error.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long after a set was moved its new database may have nothing of it: whoever moved it
/// may have died in between, and another command or relay ends the change.
pub const MOVE_TIMEOUT: Duration = Duration::from_secs(120);

/// Works until `stop` is requested, or until an error that waiting does not mend; work that
/// follows its set also until the set is dropped. Servers that are away are waited for.
///
/// What may pass (`Retry`) is tried again, with waits that grow while nothing becomes durable;
/// so is what a person has to mend first (`Blocked`). A plugin that breaks off (`Trap`) is tried
/// again once, at once. When leadership is lost the work is dropped at once, before anything else
/// is done, and the process stands in line again.
///
/// Dropping the future ends it where it is. `random` spreads the waits.
pub async fn supervise<R: Registry, W: Work>(
    registry: &R,
    work: &mut W,
    assignment: &Assignment,
    stop: &mut Stop,
    mut random: impl FnMut() -> u32 + Send,
) -> Result<()> {
    let status = work.status().clone();
    let mut patience = Patience::new(work.durable());
    let mut supervisor =
        Supervisor { registry, work, assignment, status: status.clone(), seen: false, served: false, database: None, moved: None };
    let mut post = None;
    while !stop.requested() {
        let error = match supervisor.attempt(&mut post, &mut patience, stop).await {
            Ok(End::Stopped) => break,
            Ok(End::Dropped) => {
                tracing::info!(set = %assignment.set, "the set was dropped: the {} ends", W::RULES.role);
                break;
            }
            Ok(End::Moved) => continue,
            Err(error) if stop.requested() && error.is_tried_again() => {
                tracing::info!(code = %error.code, %error, "stopped inside an attempt that failed");
                break;
            }
            Err(error) => error,
        };
        let wait = match patience.judge(error.clone(), supervisor.work.durable(), random()) {
            Ok(wait) => wait,
            Err(error) => {
                leave(post).await;
                return Err(error);
            }
        };
        status.wait_for(&error);
        tokio::select! {
            biased;
            () = stop.wait() => {}
            () = keep(post.as_mut(), &status) => {}
            () = sleep(wait) => {}
        }
    }
    leave(post).await;
    Ok(())
}

/// How an attempt without an error ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// The set is gone: there is nothing left to do.
    Dropped,
    /// The set is in another database.
    Moved,
}

/// Leadership, and the session that it is of.
struct Post<S: Session> {
    session: S,
    lease: S::Lease,
    /// Of work that follows its set, once that was read.
    place: Option<Place<S>>,
    shown: Shown,
}

/// The set as an attempt found it.
struct Place<S: Session> {
    watch: S::Watch,
    set: StoredSet,
}

/// What is known from attempt to attempt.
struct Supervisor<'a, R, W> {
    registry: &'a R,
    work: &'a mut W,
    assignment: &'a Assignment,
    status: Status,
    /// The set existed when last looked at: if it no longer does, it was dropped.
    seen: bool,
    /// An attempt had all open.
    served: bool,
    /// Where the set was when it was last read.
    database: Option<DatabaseConfiguration>,
    /// When it was found to be in another database, until all is open there.
    moved: Option<Instant>,
}

impl<R: Registry, W: Work> Supervisor<'_, R, W> {
    /// One attempt, under the leadership in `post`, or else under a new one. Leaves it there
    /// where the next attempt is to have it.
    async fn attempt(&mut self, post: &mut Option<Post<R::Session>>, patience: &mut Patience, stop: &mut Stop) -> Result<End> {
        let mut led = match post.take() {
            Some(led) => led,
            None => {
                let taken = tokio::select! {
                    biased;
                    () = stop.wait() => return Ok(End::Stopped),
                    taken = self.take_post() => taken?,
                };
                let Some(led) = taken else { return Ok(End::Dropped) };
                self.status.take_over();
                if W::RULES.keeps_leading {
                    // What failed before was the registry.
                    *patience = Patience::new(self.work.durable());
                }
                led
            }
        };
        let served = self.serve(&mut led, stop).await;
        let keeps = W::RULES.keeps_leading && led.lease.is_held() && served.as_ref().is_err_and(may_pass);
        let end = match served {
            Err(error) => self.settle(&mut led, error).await,
            end => end,
        };
        if keeps {
            *post = Some(led);
        } else {
            leave(Some(led)).await;
        }
        end
    }

    /// Waits for leadership; `None` if the set was dropped.
    async fn take_post(&mut self) -> Result<Option<Post<R::Session>>> {
        let Assignment { cluster, set: name, .. } = self.assignment;
        let session = self.registry.connect(cluster).await?;
        let mut set = if self.seen { session.find_set(name).await? } else { Some(session.set(name).await?) };
        if !std::mem::replace(&mut self.seen, true) {
            session.tell_if_open().await?;
        }
        if let Some(set) = &set {
            note(&mut self.database, &mut self.moved, set);
        }
        let mut watch = match (&set, W::RULES.follows_set) {
            (None, true) => return Ok(None),
            (Some(set), true) => Some(session.watch(set.clone())),
            (_, false) => None,
        };
        let lease = {
            let (sender, mut stands_by) = watch::channel(false);
            let status = self.status.clone();
            let mut acquire = pin!(session.acquire(name, W::RULES.role, || {
                status.enter(State::Standby);
                sender.send_replace(true);
            }));
            loop {
                let standing_by = async {
                    if stands_by.wait_for(|stands_by| *stands_by).await.is_err() {
                        // Nobody else leads.
                        std::future::pending::<()>().await;
                    }
                    stand_by(self.work, set.as_ref()).await
                };
                tokio::select! {
                    lease = &mut acquire => break lease?,
                    change = changed(watch.as_mut()) => match change? {
                        Change::Dropped => return Ok(None),
                        Change::Changed(now) => {
                            note(&mut self.database, &mut self.moved, &now);
                            set = Some(now);
                        }
                    },
                    failed = standing_by => match failed? {},
                }
            }
        };
        Ok(Some(Post { session, lease, place: None, shown: Shown::default() }))
    }

    /// Works for as long as leadership lasts and the set stays where it is.
    async fn serve(&mut self, post: &mut Post<R::Session>, stop: &mut Stop) -> Result<End> {
        let Post { session, lease, place, shown } = post;
        let lease = &*lease;
        let open = async {
            let set = session.find_set(&self.assignment.set).await?;
            if let Some(set) = &set {
                note(&mut self.database, &mut self.moved, set);
            }
            if W::RULES.follows_set {
                let Some(set) = &set else { return Ok(None) };
                *place = Some(Place { watch: session.watch(set.clone()), set: set.clone() });
            }
            self.work.open(set.as_ref(), lease).await.map(Some)
        };
        let opened = tokio::select! {
            biased;
            () = lease.lost() => return Err(no_longer_leads()),
            () = stop.wait() => return Ok(End::Stopped),
            opened = open => opened?,
            never = shown.follow(lease, &self.status) => match never {},
        };
        let Some(open) = opened else { return Ok(End::Dropped) };
        (self.served, self.moved) = (true, None);
        let (stopper, mut inner) = stop::channel();
        let mut overdue = inner.clone();
        let mut running = pin!(self.work.run(open, &mut inner));
        let mut end = None;
        loop {
            tokio::select! {
                biased;
                // Dropping the work ends it before anything else happens.
                () = lease.lost() => return Err(no_longer_leads()),
                ran = &mut running => return ran.map(|()| end.unwrap_or(End::Stopped)),
                () = overdue.wait_overdue(CALL_GRACE) => {
                    tracing::warn!("a call did not return within the grace period and is given up");
                    return Ok(end.unwrap_or(End::Stopped));
                }
                () = stop.wait(), if end != Some(End::Stopped) => {
                    end = Some(End::Stopped);
                    stopper.stop_by(stop.deadline().unwrap_or_else(Instant::now));
                }
                elsewhere = elsewhere(place.as_mut()), if end.is_none() => {
                    end = Some(elsewhere?);
                    stopper.stop(self.assignment.grace);
                }
                never = shown.follow(lease, &self.status) => match never {},
            }
        }
    }

    /// An error that another leader or an administrator's change explains is no error.
    async fn settle(&self, post: &mut Post<R::Session>, error: Error) -> Result<End> {
        let error = post.lease.judge(error).await;
        let Some(place) = &mut post.place else { return Err(error) };
        match error.next {
            Next::Retry | Next::Blocked | Next::Trap => return Err(error),
            // The registry may have changed first: the database follows.
            Next::Configure if self.moved.is_some_and(|moved| moved.elapsed() < MOVE_TIMEOUT) => {
                let moved = "the set was moved to this database a moment ago, and is not captured there yet";
                return Err(error.context(moved).but(Next::Retry));
            }
            // The database may have changed first: the registry follows.
            Next::Configure if self.served => match timeout(CHANGE_TIMEOUT, elsewhere(Some(&mut *place))).await {
                Ok(Err(untold)) if may_pass(&untold) => return Err(cannot_tell(error, &untold)),
                Ok(Ok(end)) => return Ok(end),
                Ok(Err(_)) | Err(_) => {}
            },
            Next::Usage | Next::Configure | Next::Stop | Next::Bug => {}
        }
        match timeout(CHANGE_TIMEOUT, post.session.find_set(&place.set.name)).await {
            Ok(Ok(None)) => Ok(End::Dropped),
            Ok(Ok(Some(now))) if now.configuration.database != place.set.configuration.database => Ok(End::Moved),
            Ok(Err(untold)) if may_pass(&untold) => Err(cannot_tell(error, &untold)),
            _ => Err(error),
        }
    }
}

/// Notes that the set is in another database than before.
fn note(database: &mut Option<DatabaseConfiguration>, moved: &mut Option<Instant>, set: &StoredSet) {
    let now = &set.configuration.database;
    if database.as_ref().is_some_and(|before| before != now) {
        *moved = Some(Instant::now());
    }
    *database = Some(now.clone());
}

/// The registry, which may explain the error, does not answer: the next attempt asks it again.
fn cannot_tell(error: Error, untold: &Error) -> Error {
    error.and(format!("whether the set was changed cannot be told: {untold}")).but(Next::Retry)
}

/// Beside waiting in line: makes sure that this process could lead, and does what there is to do.
async fn stand_by<W: Work>(work: &mut W, set: Option<&StoredSet>) -> Result<Infallible> {
    let standing_by = work.stand_by(set);
    let checked = async {
        check(work, set).await?;
        std::future::pending().await
    };
    tokio::select! {
        failed = checked => failed,
        never = standing_by => match never {},
    }
}

/// Whether this process could lead, once that can be told.
async fn check<W: Work>(work: &mut W, set: Option<&StoredSet>) -> Result<()> {
    let mut backoff = Backoff::DEFAULT;
    while let Err(error) = work.check(set).await {
        if !may_pass(&error) {
            return Err(error.context("this process stands by, and could not lead"));
        }
        // Whoever leads may do without what is away from here.
        tracing::info!(code = %error.code, %error, "whether this process could lead cannot be told yet");
        sleep(backoff.wait(u32::MAX)).await;
    }
    tracing::info!("this process could lead");
    Ok(())
}

/// Waits until the set is dropped, or is in another database; for ever where it is not
/// followed. Any other change is picked up as it is: events name the version of the
/// configuration that they belong to.
async fn elsewhere<S: Session>(place: Option<&mut Place<S>>) -> Result<End> {
    let Some(Place { watch, set }) = place else { return std::future::pending().await };
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

async fn changed(watch: Option<&mut impl Watch>) -> Result<Change> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Between attempts: returns when the leadership that is kept for the next one is lost.
async fn keep<S: Session>(post: Option<&mut Post<S>>, status: &Status) {
    let Some(Post { lease, shown, .. }) = post else { return std::future::pending().await };
    tokio::select! {
        biased;
        () = lease.lost() => {}
        never = shown.follow(lease, status) => match never {},
    }
}

/// Gives leadership back, so that a standby need not wait; if that fails, it waits.
async fn leave<S: Session>(post: Option<Post<S>>) {
    if let Some(post) = post {
        let _ = timeout(LEAVE_TIMEOUT, post.lease.release()).await;
    }
}

/// Whether another attempt may succeed.
const fn may_pass(error: &Error) -> bool {
    matches!(error.next, Next::Retry | Next::Blocked | Next::Trap)
}

fn no_longer_leads() -> Error {
    Error::retry(
        Code::LeadershipLost,
        "leadership of the set was lost, since ZooKeeper was out of reach or another process leads, and the work has ended",
    )
}
