//! A change of several databases: a transaction is prepared in each of them, one
//! write to ZooKeeper decides, and then they are committed, or rolled back. Whoever
//! finds it undecided decides to roll back.

use futures_util::future::join_all;
use proto::interfaces::configurations::ReplicationSetConfiguration;
use uuid::Uuid;

use super::attempt::{self, End, Outcome, Task, attempt};
use super::changer::{Changer, busy};
use crate::error::{Code, Error, Next, Result};
use crate::names;
use crate::postgres::connect::{Session, explain};
use crate::postgres::{DriverError, SqlState, literal, schema};
use crate::registry::StoredSet;
use crate::registry::pending::{InFlight, NotBegun, Participant, Pending, State, WHOLE_CLUSTER};

/// How often the lock of a command is asked for that may still be preparing what is
/// undone, `UNDO_LOCK_TIMEOUT` each time: longer than the server lets it be idle.
const UNDO_ATTEMPTS_MAX: u32 = 8;
const UNDO_LOCK_TIMEOUT: &str = "2s";

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

impl Changer<'_> {
    /// To be taken before the databases of an upgrade are looked up, when all that was
    /// in flight is settled: the upgrade is refused if any set changed since.
    pub async fn basis(&self) -> Result<Basis> {
        let (revision, beginnings) = (self.cluster.cluster_revision().await?, self.cluster.beginnings().await?);
        match self.cluster.in_flight().await?.first() {
            None => Ok(Basis { revision, beginnings }),
            Some(change) => Err(Error::retry(
                Code::ChangeUnderWay,
                format!("another command is changing {:?}; wait for it, then try again", change.name),
            )),
        }
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

    /// Brings the cluster and its sets, grouped by database, to `version`.
    pub async fn upgrade(&self, version: &str, basis: Basis, databases: Vec<Database>) -> Result<()> {
        let one = databases.len() == 1;
        for database in &databases {
            attempt::create_role(&database.session, self.cluster.name()).await?;
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
                return Err(Error::retry(Code::ChangedMeanwhile, "the cluster was changed by another command meanwhile; try again"));
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
                    refused = Some(Error::stop(
                        Code::ChangedMeanwhile,
                        format!("{:?} was changed by another command meanwhile; nothing was changed", change.name),
                    ));
                    continue;
                }
                Some(State::Aborted) => self.finish_several(change).await,
                None => Ok(()),
            };
            let error = refused.unwrap_or_else(taken_for_dead);
            return match undone {
                Ok(()) => Err(error),
                Err(other) => Err(error.and(&other).but(other.next)),
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
            return Err(self.left_in_flight(&found, Error::retry(Code::ChangeUnfinished, errors.join("; "))));
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
        let session = attempt::connect(&participant.dsn).await?;
        if commit {
            return end_prepared(&session, "COMMIT PREPARED", &participant.gid).await.map(drop);
        }
        // A command that was taken for dead may be about to prepare. It holds the lock
        // while it does, and so does what it has prepared.
        let lock = format!("BEGIN; SET LOCAL lock_timeout = '{UNDO_LOCK_TIMEOUT}'; {} ROLLBACK", schema::lock(self.cluster.name()));
        for _ in 0..UNDO_ATTEMPTS_MAX {
            end_prepared(&session, "ROLLBACK PREPARED", &participant.gid).await?;
            let locked =
                session.answered(async { session.batch_execute(&lock).await.map(|()| true).or_else(|error| lock_is_taken(&error)) }).await;
            if locked? {
                return Ok(());
            }
            session.answered(async { session.batch_execute("ROLLBACK").await.map_err(|error| explain(&error)) }).await?;
        }
        Err(Error::retry(Code::ChangeUnderWay, "another command holds the cluster's lock in the database; wait for it, or end it"))
    }

    /// Rolls back what was prepared for changes that are over. Returns their gids.
    pub(super) async fn roll_back_orphans(&self, session: &Session) -> Result<Vec<String>> {
        let prefix = names::gid_prefix(self.cluster_id());
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
                tracing::warn!(code = %error.code, %error, "its databases are left as they are");
            } else if change.pending.state() != State::Intended {
                for error in self.end_all(&change).await? {
                    tracing::warn!(code = %error.code, %error, "a database is left as it is");
                }
            }
            self.cluster.finish(&change, &[]).await?;
        }
        Ok(())
    }
}

const ORPHANS: &str =
    "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, $1)";

fn taken_for_dead() -> Error {
    Error::stop(Code::ChangedMeanwhile, "another command took this one for dead and undid it; nothing was changed; try again")
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
