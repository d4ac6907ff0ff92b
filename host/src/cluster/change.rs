//! Changes of databases and ZooKeeper together, or not at all.
//!
//! A change of one database: intent, commit, confirm. The intent in ZooKeeper
//! says what will be; one ordinary transaction does it; ZooKeeper then takes it
//! over. Whoever finds the intent of a command that died finishes it.
//!
//! A change of several databases: a transaction is prepared in each of them, one
//! write to ZooKeeper decides, and then they are committed, or rolled back. Whoever
//! finds it undecided decides to roll back.

use std::time::Duration;

use futures_util::future::join_all;
use prost::Message as _;
use proto::interfaces::configurations::{ClusterConfiguration, ReplicationSetConfiguration};
use uuid::Uuid;

use super::apply::{self, Attempts, End, Outcome, Task, attempt};
use super::pending::{InFlight, NotBegun, Participant, Pending, State, WHOLE_CLUSTER};
use super::znode::Write;
use super::{Cluster, StoredSet, name};
use crate::error::{Error, Next, Result};
use crate::postgres::catalog::{self, Facts};
use crate::postgres::connect::{Session, explain};
use crate::postgres::{DriverError, SqlState, literal, schema};

/// How often a connection that broke in the middle of a change is made anew.
const RECONNECTS_MAX: u32 = 5;

/// How often a change begins anew because another one was in its way.
const BEGINNINGS_MAX: u32 = 20;

/// How often the lock of a command is asked for that may still be preparing what is
/// undone, `UNDO_LOCK_TIMEOUT` each time: longer than the server lets it be idle.
const UNDO_ATTEMPTS_MAX: u32 = 8;
const UNDO_LOCK_TIMEOUT: &str = "2s";

/// Is told of every point at which a change may die: for tests.
pub trait Observer: Send + Sync {
    fn reached(&self, point: &str) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Nobody looks.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn reached(&self, point: &str) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        tracing::debug!(point, "change");
        Box::pin(std::future::ready(()))
    }
}

/// A database of an upgrade, and the sets in it.
#[derive(Debug)]
pub struct Database {
    pub dsn: String,
    pub(super) session: Session,
    pub sets: Vec<(String, ReplicationSetConfiguration)>,
}

/// What an upgrade was made from. See [`Changer::basis`].
#[derive(Clone, Copy, Debug)]
pub struct Basis {
    /// The version of the cluster's node.
    revision: i32,
    beginnings: i32,
}

/// The cluster, and who changes it.
#[derive(Clone, Copy)]
pub struct Changer<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) configuration: &'a ClusterConfiguration,
    pub(super) observer: &'a dyn Observer,
    /// How it attempts what locks are in the way of.
    pub(super) attempts: fn() -> Attempts,
    /// Databases, or their places, that whoever runs the command names.
    pub(super) named: &'a [String],
}

impl std::fmt::Debug for Changer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changer").field("cluster", &self.cluster.name).finish_non_exhaustive()
    }
}

impl<'a> Changer<'a> {
    /// `configuration` is that of `cluster`, and has an id.
    #[must_use]
    pub fn new(cluster: &'a Cluster, configuration: &'a ClusterConfiguration, observer: &'a dyn Observer) -> Self {
        Self { cluster, configuration, observer, attempts: Attempts::patient, named: &[] }
    }

    /// As this one, and whoever runs the command names these databases: connection
    /// strings, or places as messages show them. See [`Self::check_places`].
    #[must_use]
    pub fn naming<'b>(&'b self, named: &'b [String]) -> Changer<'b> {
        Changer { named, ..*self }
    }

    /// Changes a set in one database, that of `session`: creates, updates or drops it.
    pub(super) async fn change_one(
        &self,
        session: Session,
        dsn: &str,
        name: &str,
        before: Option<&StoredSet>,
        after: Option<&ReplicationSetConfiguration>,
    ) -> Result<()> {
        let participants = vec![Participant { dsn: dsn.to_owned(), gid: String::new() }];
        let change = self.begin(name, State::Intended, before, after, participants).await?;
        self.observer.reached("intended").await;
        self.carry_out(session, &change).await
    }

    /// Moves a set from the database of `old` to that of `new`.
    pub(super) async fn move_set(&self, before: &StoredSet, after: &ReplicationSetConfiguration, old: Session, new: Session) -> Result<()> {
        let dsns = [&before.configuration.database.dsn, &after.database.dsn];
        let participants = dsns.iter().map(|dsn| Participant { dsn: (*dsn).clone(), gid: String::new() }).collect();
        let change = self.begin(&before.name, State::Preparing, Some(before), Some(after), participants).await?;
        self.observer.reached("intended").await;
        let tasks = [(old, Task::Leave(&before.name)), (new, Task::Capture(&before.name, after))];
        self.prepare_and_commit(&change, &tasks).await
    }

    /// To be taken before the databases of an upgrade are looked up, when all that was
    /// in flight is settled: the upgrade is refused if any set changed since.
    pub async fn basis(&self) -> Result<Basis> {
        let (revision, beginnings) = (self.cluster.cluster_revision().await?, self.cluster.beginnings().await?);
        match self.cluster.in_flight().await?.first() {
            None => Ok(Basis { revision, beginnings }),
            Some(change) => Err(Error::retry(format!("another command is changing {:?}; wait for it, then try again", change.name))),
        }
    }

    /// Brings the cluster and its sets, grouped by database, to `version`.
    pub async fn upgrade(&self, version: &str, basis: Basis, databases: Vec<Database>) -> Result<()> {
        let one = databases.len() == 1;
        for database in &databases {
            apply::create_role(&database.session, self.cluster.name()).await?;
        }
        let mut pending = Pending {
            change: Uuid::new_v4().to_string(),
            state: if one { State::Intended } else { State::Preparing }.into(),
            revision: Some(basis.revision),
            upgrade: Some(version.to_owned()),
            participants: databases.iter().map(|database| Participant { dsn: database.dsn.clone(), gid: String::new() }).collect(),
            ..Pending::default()
        };
        self.name_participants(WHOLE_CLUSTER, &mut pending);
        let change = match self.cluster.begin_whole(&pending, basis.revision, basis.beginnings).await {
            Ok(change) => change,
            Err(NotBegun::Failed(error)) => return Err(error),
            Err(NotBegun::Busy | NotBegun::Moved) => {
                return Err(Error::retry("the cluster was changed by another command meanwhile; try again"));
            }
        };
        self.observer.reached("intended").await;
        let (sessions, sets): (Vec<Session>, Vec<_>) = databases.into_iter().map(|database| (database.session, database.sets)).unzip();
        let mut tasks: Vec<(Session, Task<'_>)> =
            sessions.into_iter().zip(&sets).map(|(session, sets)| (session, Task::Refresh(sets))).collect();
        match tasks.pop() {
            Some((session, _)) if one => self.carry_out(session, &change).await,
            last => {
                tasks.extend(last);
                self.prepare_and_commit(&change, &tasks).await
            }
        }
    }

    /// Drops a set from ZooKeeper alone, with what is in flight of it: its database
    /// is gone.
    pub(super) async fn forget(&self, name: &str) -> Result<()> {
        let set = self.cluster.find_set(name).await?;
        let change = match self.cluster.find_in_flight(name).await? {
            Some(change) if change.owned => return Err(busy(name)),
            Some(change) => change,
            None => self.begin(name, State::Intended, set.as_ref(), None, Vec::new()).await?,
        };
        self.observer.reached("intended").await;
        let delete = set.map(|set| Write::Delete(self.cluster.set_path(name), Some(set.revision.version)));
        self.cluster.finish(&change, delete.as_slice()).await
    }

    /// Ends what is in flight of `name`, or of the whole cluster, in databases that
    /// answer: the others are gone. What one database was to change is left to
    /// [`Self::forget`].
    pub(super) async fn abandon(&self, name: &str) -> Result<()> {
        for change in [self.cluster.find_in_flight(WHOLE_CLUSTER).await?, self.cluster.find_in_flight(name).await?].into_iter().flatten() {
            if change.owned {
                return Err(busy(&change.name));
            }
            match change.pending.state() {
                State::Intended if change.name == WHOLE_CLUSTER => {}
                State::Intended => continue,
                State::Preparing => drop(self.cluster.decide(&change, State::Aborted, &[]).await?),
                State::Committed | State::Aborted => {}
            }
            let Some(change) = self.cluster.find_again(&change).await? else { continue };
            if let Err(error) = self.check_places(&change).await {
                tracing::warn!(%error, "its databases are left as they are");
            } else if change.pending.state() != State::Intended {
                for error in self.end_all(&change).await? {
                    tracing::warn!(%error, "a database is left as it is");
                }
            }
            self.cluster.finish(&change, &[]).await?;
        }
        Ok(())
    }

    async fn begin(
        &self,
        name: &str,
        state: State,
        before: Option<&StoredSet>,
        after: Option<&ReplicationSetConfiguration>,
        participants: Vec<Participant>,
    ) -> Result<InFlight> {
        let mut pending = Pending {
            change: Uuid::new_v4().to_string(),
            state: state.into(),
            after: after.cloned(),
            // That there is something is all that is asked of it, and a node has its limit.
            before: before.map(|_| ReplicationSetConfiguration::default()),
            revision: before.map(|set| set.revision.version),
            participants,
            upgrade: None,
        };
        self.name_participants(name, &mut pending);
        for _ in 0..BEGINNINGS_MAX {
            match self.cluster.begin(name, &pending, before).await {
                Ok(change) => return Ok(change),
                Err(NotBegun::Busy) => {
                    let named: Vec<String> =
                        after.iter().map(|after| after.database.dsn.clone()).chain(self.named.iter().cloned()).collect();
                    drop(self.naming(&named).settle(name).await?);
                }
                Err(NotBegun::Moved) => {
                    return Err(Error::stop(format!(
                        "{name:?} was changed by another command meanwhile; look at it again with `set inspect`"
                    )));
                }
                Err(NotBegun::Failed(error)) => return Err(error),
            }
        }
        Err(Error::retry(format!("other changes of {name:?} keep coming first; try again later")))
    }

    fn name_participants(&self, name: &str, pending: &mut Pending) {
        let set = if name == WHOLE_CLUSTER { "" } else { name };
        for (index, participant) in pending.participants.iter_mut().enumerate() {
            participant.gid = name::gid(self.cluster_id(), set, &pending.change, index);
        }
    }

    /// Does and confirms a change of one database, and survives a broken connection.
    async fn carry_out(&self, session: Session, change: &InFlight) -> Result<()> {
        let mut session = session;
        for _ in 0..RECONNECTS_MAX {
            let error = match self.finish_one(&session, change).await {
                Err(error) if error.next == Next::Retry => error,
                result => return result,
            };
            if !session.is_closed() {
                // Something is in the way: nobody is to wait for it any longer.
                return match self.give_up(&session, change).await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(error),
                    Err(_) => Err(self.left_in_flight(change, error)),
                };
            }
            tracing::warn!(%error, "the connection broke in the middle of a change; connecting again");
            tokio::time::sleep(Duration::from_millis(500)).await;
            session = apply::connect(first_dsn(change)?).await.map_err(|error| self.left_in_flight(change, error))?;
        }
        Err(self.left_in_flight(change, Error::retry("the connection to the database breaks again and again")))
    }

    fn left_in_flight(&self, change: &InFlight, error: Error) -> Error {
        let (verb, name) = (change.pending.verb(), &change.name);
        let ending = match change.pending.state() {
            State::Intended | State::Committed => "was begun and will be finished",
            State::Preparing => "was begun and will be finished or undone",
            State::Aborted => "is given up and will be undone where it is not yet",
        };
        Error::retry(format!(
            "{error}; the {verb} of {name:?} {ending} by the next command, by a relay or by `cluster recover`, once what is away answers"
        ))
    }

    /// Does a change of one database, and confirms it; or gives it up when the
    /// database refuses it for good. Can be repeated after `Retry`.
    pub(super) async fn finish_one(&self, session: &Session, change: &InFlight) -> Result<()> {
        let pending = &change.pending;
        let sets = if pending.upgrade.is_some() { self.all_sets().await? } else { Vec::new() };
        let task = match &pending.after {
            _ if pending.upgrade.is_some() => Task::Refresh(&sets),
            Some(wanted) => Task::Capture(&change.name, wanted),
            None => Task::Remove(&change.name),
        };
        match self.apply(session, change, task).await {
            Ok(Outcome::Done) => {
                self.observer.reached("committed").await;
                self.cluster.finish(change, &[self.last_write(change)?]).await?;
                self.observer.reached("confirmed").await;
                Ok(())
            }
            Ok(Outcome::Over) => self.look_what_became(change).await,
            Err(error) if error.next == Next::Retry => Err(error),
            Err(error) => match self.give_up(session, change).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(error),
                Err(other) => Err(Error { next: other.next, message: format!("{error}; and it could not be given up: {other}") }),
            },
        }
    }

    async fn apply(&self, session: &Session, change: &InFlight, task: Task<'_>) -> Result<Outcome> {
        let mut attempts = (self.attempts)();
        loop {
            match attempt(self, session, change, task, End::Commit).await {
                Err(error) if error.next == Next::Retry && !session.is_closed() => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    /// Ends a change that its database does not take. Under the lock, so that nobody
    /// is about to make it. If it was made after all it is confirmed: true.
    async fn give_up(&self, session: &Session, change: &InFlight) -> Result<bool> {
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '10s'; {}", schema::lock(&self.cluster.name));
        let execute =
            async |sql: &str| session.batch_execute(sql).await.map_err(|error| explain(&error).context("cannot give the change up"));
        session.answered(execute(&begin)).await?;
        let facts = session.answered(catalog::read(session, &self.cluster.name, &change.name, None)).await;
        let made = facts.as_ref().is_ok_and(|facts| self.is_made(change, facts));
        let also = if made { vec![self.last_write(change)?] } else { Vec::new() };
        let finished = self.cluster.finish(change, &also).await;
        session.answered(execute("ROLLBACK")).await?;
        finished.map(|()| made)
    }

    /// Whether the database is as the change of it was to leave it.
    fn is_made(&self, change: &InFlight, facts: &Facts) -> bool {
        let managed = facts.managed.as_ref();
        match (&change.pending.upgrade, &change.pending.after) {
            (Some(version), _) => {
                let stored = managed.and_then(|managed| managed.node.as_ref()).map(|(_, _, version)| version);
                *version != self.configuration.version && stored == Some(version)
            }
            (None, Some(_)) => managed.and_then(|managed| managed.set.as_ref()).is_some_and(|(_, id, _)| *id == change.pending.change),
            (None, None) => managed.is_none_or(|managed| managed.may_use && managed.set.is_none()),
        }
    }

    /// Another command finished our change, or gave it up.
    async fn look_what_became(&self, change: &InFlight) -> Result<()> {
        if let Some(version) = &change.pending.upgrade
            && self.cluster.configuration_of_any_version().await?.version == *version
        {
            return Ok(());
        }
        let now = self.cluster.find_set(&change.name).await?.map(|set| set.configuration);
        if now == change.pending.after {
            return Ok(());
        }
        Err(Error::stop(format!(
            "the {} of {:?} was given up by another command; see `set inspect`, and try again",
            change.pending.verb(),
            change.name
        )))
    }

    async fn prepare_and_commit(&self, change: &InFlight, tasks: &[(Session, Task<'_>)]) -> Result<()> {
        let left = |error| self.left_in_flight(change, error);
        let commit = [self.last_write(change)?];
        let mut refused = self.prepare_all(change, tasks).await.err();
        loop {
            let (wanted, also) = if refused.is_none() { (State::Committed, commit.as_slice()) } else { (State::Aborted, [].as_slice()) };
            let decided = self.cluster.decide(change, wanted, also).await.map_err(left)?;
            self.observer.reached(if wanted == State::Committed { "decided" } else { "aborted" }).await;
            let undone = match decided {
                Some(State::Committed) => return self.finish_several(change).await,
                Some(State::Preparing | State::Intended) => {
                    // The write was refused: what it was made from has changed.
                    refused = Some(Error::stop(format!("{:?} was changed by another command meanwhile; nothing was changed", change.name)));
                    continue;
                }
                Some(State::Aborted) => self.finish_several(change).await,
                None => Ok(()),
            };
            let error = refused.unwrap_or_else(taken_for_dead);
            return match undone {
                Ok(()) => Err(error),
                Err(other) => Err(Error { next: other.next, message: format!("{error}; {other}") }),
            };
        }
    }

    /// Prepares a transaction in each database. While one is waited for, no other
    /// holds locks: all are tried again together.
    async fn prepare_all(&self, change: &InFlight, tasks: &[(Session, Task<'_>)]) -> Result<()> {
        let mut attempts = (self.attempts)();
        loop {
            let error = match self.try_prepare(change, tasks).await {
                Err(error) if error.next == Next::Retry && tasks.iter().all(|(session, _)| !session.is_closed()) => error,
                result => return result,
            };
            for ((session, _), participant) in tasks.iter().zip(&change.pending.participants) {
                end_prepared(session, "ROLLBACK PREPARED", &participant.gid).await?;
            }
            attempts.after(error).await?;
        }
    }

    async fn try_prepare(&self, change: &InFlight, tasks: &[(Session, Task<'_>)]) -> Result<()> {
        for (index, ((session, task), participant)) in tasks.iter().zip(&change.pending.participants).enumerate() {
            match attempt(self, session, change, *task, End::Prepare(&participant.gid)).await? {
                Outcome::Done => self.observer.reached(&format!("prepared {index}")).await,
                Outcome::Over => return Err(taken_for_dead()),
            }
        }
        Ok(())
    }

    /// Ends the prepared transactions of a change as it was decided, then the
    /// change. Those of databases that answer are ended whether all do or not. Can be
    /// repeated.
    pub(super) async fn finish_several(&self, change: &InFlight) -> Result<()> {
        let Some(mut found) = self.cluster.find_again(change).await? else { return Ok(()) };
        // Its state may have changed; its databases are those that were looked at.
        found.pending.participants.clone_from(&change.pending.participants);
        let errors: Vec<String> = self.end_all(&found).await?.into_iter().map(|error| error.message).collect();
        if !errors.is_empty() {
            return Err(self.left_in_flight(&found, Error::retry(errors.join("; "))));
        }
        self.cluster
            .finish(&found, &[])
            .await
            .map_err(|error| if error.next == Next::Retry { self.left_in_flight(&found, error) } else { error })?;
        self.observer.reached("confirmed").await;
        Ok(())
    }

    /// Ends the prepared transactions of a decided change, in all databases at the
    /// same time. Returns why it did not end in those where it did not.
    async fn end_all(&self, change: &InFlight) -> Result<Vec<Error>> {
        let commit = match change.pending.state() {
            State::Committed => true,
            State::Aborted => false,
            State::Intended | State::Preparing => return Err(Error::bug(format!("the change of {:?} is not decided", change.name))),
        };
        let ends = change.pending.participants.iter().enumerate().map(|(index, participant)| async move {
            self.end_one(participant, commit).await?;
            self.observer.reached(&format!("ended {index}")).await;
            Ok::<(), Error>(())
        });
        Ok(join_all(ends).await.into_iter().filter_map(Result::err).collect())
    }

    async fn end_one(&self, participant: &Participant, commit: bool) -> Result<()> {
        let session = apply::connect(&participant.dsn).await?;
        if commit {
            return end_prepared(&session, "COMMIT PREPARED", &participant.gid).await.map(drop);
        }
        // A command that was taken for dead may be about to prepare. It holds the lock
        // while it does, and so does what it has prepared.
        let lock = format!("BEGIN; SET LOCAL lock_timeout = '{UNDO_LOCK_TIMEOUT}'; {} ROLLBACK", schema::lock(&self.cluster.name));
        for _ in 0..UNDO_ATTEMPTS_MAX {
            end_prepared(&session, "ROLLBACK PREPARED", &participant.gid).await?;
            let locked =
                session.answered(async { session.batch_execute(&lock).await.map(|()| true).or_else(|error| lock_is_taken(&error)) }).await;
            if locked? {
                return Ok(());
            }
            session.answered(async { session.batch_execute("ROLLBACK").await.map_err(|error| explain(&error)) }).await?;
        }
        Err(Error::retry("another command holds the cluster's lock in the database; wait for it, or end it"))
    }

    /// What the end of a change writes into the node of the set, or of the cluster.
    fn last_write(&self, change: &InFlight) -> Result<Write> {
        let pending = &change.pending;
        if let Some(version) = &pending.upgrade {
            let mut configuration = self.configuration.clone();
            version.clone_into(&mut configuration.version);
            return Ok(Write::Set(self.cluster.path(), configuration.encode_to_vec(), pending.revision));
        }
        let path = self.cluster.set_path(&change.name);
        match (&pending.after, pending.revision) {
            (Some(after), None) => Ok(Write::Create(path, after.encode_to_vec())),
            (Some(after), revision) => Ok(Write::Set(path, after.encode_to_vec(), revision)),
            (None, Some(revision)) => Ok(Write::Delete(path, Some(revision))),
            (None, None) => Err(Error::bug(format!("the change of {:?} neither creates nor drops it", change.name))),
        }
    }

    /// Every set of the cluster with its configuration.
    pub async fn all_sets(&self) -> Result<Vec<(String, ReplicationSetConfiguration)>> {
        let mut sets = Vec::new();
        for name in self.cluster.set_names().await? {
            sets.extend(self.cluster.find_set(&name).await?.map(|set| (name, set.configuration)));
        }
        Ok(sets)
    }

    pub(super) fn cluster_id(&self) -> &str {
        self.configuration.id.as_deref().unwrap_or_default()
    }

    /// Rolls back what was prepared for changes that are over. Returns their gids.
    pub(super) async fn roll_back_orphans(&self, session: &Session) -> Result<Vec<String>> {
        let prefix = name::gid_prefix(self.cluster_id());
        let found = async {
            session.query(ORPHANS, &[&prefix]).await.map_err(|error| explain(&error).context("cannot look for prepared transactions"))
        };
        let rows = session.answered(found).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.cluster.catch_up().await?;
        let alive: Vec<String> =
            self.cluster.in_flight().await?.into_iter().flat_map(|change| change.pending.participants).map(|one| one.gid).collect();
        let mut rolled_back = Vec::new();
        for gid in rows.iter().map(|row| row.get::<_, String>(0)).filter(|gid| !alive.contains(gid)) {
            if end_prepared(session, "ROLLBACK PREPARED", &gid).await? {
                rolled_back.push(gid);
            }
        }
        Ok(rolled_back)
    }
}

const ORPHANS: &str =
    "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, $1)";

fn busy(name: &str) -> Error {
    Error::retry(format!("another command is changing {name:?}; wait for it, or end it, then try again"))
}

fn taken_for_dead() -> Error {
    Error::stop("another command took this one for dead and undid it; nothing was changed; try again")
}

fn lock_is_taken(error: &DriverError) -> Result<bool> {
    if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) { Ok(false) } else { Err(explain(error)) }
}

/// Whether it was there: if not, it was ended before.
async fn end_prepared(session: &Session, verb: &str, gid: &str) -> Result<bool> {
    let sql = format!("{verb} {}", literal(gid));
    let end = async {
        match session.batch_execute(&sql).await {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(false),
            Err(error) => Err(explain(&error).context(format!("cannot end the prepared transaction {gid}"))),
        }
    };
    session.answered(end).await
}

pub(super) fn first_dsn(change: &InFlight) -> Result<&str> {
    let first = change.pending.participants.first();
    first
        .map(|participant| participant.dsn.as_str())
        .ok_or_else(|| Error::bug(format!("the change of {:?} names no database", change.name)))
}
