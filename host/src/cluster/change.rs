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

use prost::Message as _;
use proto::interfaces::configurations::{ClusterConfiguration, ReplicationSetConfiguration};
use uuid::Uuid;

use super::apply::{self, End, Outcome, Task};
use super::pending::{InFlight, NotBegun, Participant, Pending, State, WHOLE_CLUSTER};
use super::znode::Write;
use super::{Cluster, StoredSet};
use crate::error::{Error, Next, Result};
use crate::postgres::connect::explain;
use crate::postgres::{Client, SqlState, literal, schema};

/// How often a connection that broke in the middle of a change is made anew.
const RECONNECTS_MAX: u32 = 5;

/// How often a change begins anew because another one was in its way.
const BEGINNINGS_MAX: u32 = 20;

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
    pub client: Client,
    pub sets: Vec<(String, ReplicationSetConfiguration)>,
}

/// The cluster, and who changes it.
#[derive(Clone, Copy)]
pub struct Changer<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) configuration: &'a ClusterConfiguration,
    pub(super) observer: &'a dyn Observer,
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
        Self { cluster, configuration, observer }
    }

    /// Changes a set in one database, that of `client`: creates, updates or drops it.
    pub async fn change_one(
        &self,
        client: Client,
        dsn: &str,
        name: &str,
        before: Option<&StoredSet>,
        after: Option<&ReplicationSetConfiguration>,
    ) -> Result<()> {
        let participants = vec![Participant { dsn: dsn.to_owned(), gid: String::new() }];
        let change = self.begin(name, State::Intended, before, after, participants).await?;
        self.observer.reached("intended").await;
        self.carry_out(client, &change).await
    }

    /// Moves a set from the database of `old` to that of `new`.
    pub async fn move_set(&self, before: &StoredSet, after: &ReplicationSetConfiguration, old: Client, new: Client) -> Result<()> {
        let dsns = [&after.database.dsn, &before.configuration.database.dsn];
        let participants = dsns.iter().map(|dsn| Participant { dsn: (*dsn).clone(), gid: String::new() }).collect();
        let change = self.begin(&before.name, State::Preparing, Some(before), Some(after), participants).await?;
        self.observer.reached("intended").await;
        let tasks = [(new, Task::Capture(&before.name, after)), (old, Task::Remove(&before.name))];
        self.prepare_and_commit(&change, &tasks, vec![self.last_write(&change)?]).await
    }

    /// Brings the cluster and its sets, grouped by database, to `version`.
    /// `revision` is that of the cluster's node.
    pub async fn upgrade(&self, version: &str, revision: i32, databases: Vec<Database>) -> Result<()> {
        let one = databases.len() == 1;
        let pending = Pending {
            change: Uuid::new_v4().to_string(),
            state: if one { State::Intended } else { State::Preparing }.into(),
            revision: Some(revision),
            upgrade: Some(version.to_owned()),
            participants: databases.iter().map(|database| Participant { dsn: database.dsn.clone(), gid: String::new() }).collect(),
            ..Pending::default()
        };
        let change = self.begin_pending(WHOLE_CLUSTER, pending, None).await?;
        self.observer.reached("intended").await;
        let (clients, sets): (Vec<Client>, Vec<_>) = databases.into_iter().map(|database| (database.client, database.sets)).unzip();
        let mut tasks: Vec<(Client, Task<'_>)> =
            clients.into_iter().zip(&sets).map(|(client, sets)| (client, Task::Refresh(sets))).collect();
        match tasks.pop() {
            Some((client, _)) if one => self.carry_out(client, &change).await,
            last => {
                tasks.extend(last);
                let decision = vec![self.last_write(&change)?];
                self.prepare_and_commit(&change, &tasks, decision).await
            }
        }
    }

    /// Drops a set from ZooKeeper alone, with what is in flight of it: its database
    /// is gone.
    pub(super) async fn forget(&self, name: &str) -> Result<()> {
        let set = self.cluster.find_set(name).await?;
        let change = match self.cluster.find_in_flight(name).await? {
            Some(change) if change.owned => {
                return Err(Error::retry(format!("another command is changing {name:?}; wait for it, or end it, then try again")));
            }
            Some(change) => change,
            None => self.begin(name, State::Intended, set.as_ref(), None, Vec::new()).await?,
        };
        let delete = set.map(|set| Write::Delete(self.cluster.set_path(name), Some(set.revision.version)));
        self.cluster.finish(&change, delete.into_iter().collect()).await
    }

    async fn begin(
        &self,
        name: &str,
        state: State,
        before: Option<&StoredSet>,
        after: Option<&ReplicationSetConfiguration>,
        participants: Vec<Participant>,
    ) -> Result<InFlight> {
        let pending = Pending {
            change: Uuid::new_v4().to_string(),
            state: state.into(),
            after: after.cloned(),
            before: before.map(|set| set.configuration.clone()),
            revision: before.map(|set| set.revision.version),
            participants,
            upgrade: None,
        };
        self.begin_pending(name, pending, before).await
    }

    async fn begin_pending(&self, name: &str, mut pending: Pending, before: Option<&StoredSet>) -> Result<InFlight> {
        let id = self.cluster_id();
        let set = if name == WHOLE_CLUSTER { "" } else { name };
        for (index, participant) in pending.participants.iter_mut().enumerate() {
            participant.gid = format!("{}{set}:{}:{index}", gid_prefix(id), pending.change);
        }
        for _ in 0..BEGINNINGS_MAX {
            match self.cluster.begin(name, &pending, before).await {
                Ok(change) => return Ok(change),
                Err(NotBegun::Busy) => {
                    self.settle(name).await?;
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

    /// Does and confirms a change of one database, and survives a broken connection.
    async fn carry_out(&self, client: Client, change: &InFlight) -> Result<()> {
        let mut client = client;
        for _ in 0..RECONNECTS_MAX {
            match self.finish_one(&client, change).await {
                Err(error) if error.next == Next::Retry && client.is_closed() => {
                    tracing::warn!(%error, "the connection broke in the middle of a change; connecting again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    match apply::connect(first_dsn(change)?).await {
                        Ok(again) => client = again,
                        Err(error) => return Err(self.left_in_flight(change, error)),
                    }
                }
                result => return result,
            }
        }
        Err(self.left_in_flight(change, Error::retry("the connection to the database breaks again and again")))
    }

    fn left_in_flight(&self, change: &InFlight, error: Error) -> Error {
        Error::retry(format!(
            "{error}; the {} of {:?} was begun and will be finished by the next command, or by `cluster recover`, once the database answers",
            change.pending.verb(),
            change.name
        ))
    }

    /// Does a change of one database, and confirms it; or gives it up when the
    /// database refuses it for good. Can be repeated.
    pub(super) async fn finish_one(&self, client: &Client, change: &InFlight) -> Result<()> {
        let pending = &change.pending;
        let sets = if pending.upgrade.is_some() { self.all_sets().await? } else { Vec::new() };
        let task = match &pending.after {
            _ if pending.upgrade.is_some() => Task::Refresh(&sets),
            Some(wanted) => Task::Capture(&change.name, wanted),
            None => Task::Remove(&change.name),
        };
        match apply::apply(client, self.cluster, self.configuration, change, task, End::Commit).await {
            Ok(Outcome::Done) => {
                self.observer.reached("committed").await;
                self.cluster.finish(change, vec![self.last_write(change)?]).await?;
                self.observer.reached("confirmed").await;
                Ok(())
            }
            Ok(Outcome::Over) => self.look_what_became(change).await,
            Err(error) if client.is_closed() => Err(error),
            Err(error) => {
                self.give_up(client, change).await.map_err(|other| error.clone().context(other))?;
                Err(error)
            }
        }
    }

    /// Ends a change that the database refused. Under the lock, so that nobody is
    /// about to do it; and not if somebody did it after all.
    async fn give_up(&self, client: &Client, change: &InFlight) -> Result<()> {
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '10s'; {}", schema::lock(&self.cluster.name));
        client.batch_execute(&begin).await.map_err(|error| explain(&error).context("cannot give the change up"))?;
        let facts = crate::postgres::catalog::read(client, &self.cluster.name, &change.name, None).await;
        let done = match &facts {
            Ok(facts) => {
                facts.managed.as_ref().and_then(|managed| managed.set.as_ref()).is_some_and(|(_, id, _)| *id == change.pending.change)
            }
            Err(error) => {
                tracing::debug!(%error, "nothing is known of the set in the database");
                false
            }
        };
        let also = if done { vec![self.last_write(change)?] } else { Vec::new() };
        let finished = self.cluster.finish(change, also).await;
        client.batch_execute("ROLLBACK").await.map_err(|error| explain(&error))?;
        finished
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

    async fn prepare_and_commit(&self, change: &InFlight, tasks: &[(Client, Task<'_>)], decision: Vec<Write>) -> Result<()> {
        if let Err(error) = self.prepare_all(change, tasks).await {
            self.cluster.decide(change, State::Aborted, Vec::new()).await?;
            self.observer.reached("aborted").await;
            self.finish_several(change).await?;
            return Err(error);
        }
        let decided = self.cluster.decide(change, State::Committed, decision).await?;
        self.observer.reached("decided").await;
        match decided {
            Some(State::Committed) => self.finish_several(change).await,
            // Our write was refused: what it was made from has changed.
            Some(State::Preparing | State::Intended) => {
                self.cluster.decide(change, State::Aborted, Vec::new()).await?;
                self.finish_several(change).await?;
                Err(Error::stop(format!("{:?} was changed by another command meanwhile; nothing was changed by this one", change.name)))
            }
            Some(State::Aborted) | None => {
                // Ours may have been prepared after the others were rolled back.
                self.finish_several(change).await?;
                for (client, _) in tasks {
                    self.roll_back_orphans(client).await?;
                }
                Err(Error::stop("another command took this one for dead and undid it; nothing was changed; try again"))
            }
        }
    }

    async fn prepare_all(&self, change: &InFlight, tasks: &[(Client, Task<'_>)]) -> Result<()> {
        for (index, ((client, task), participant)) in tasks.iter().zip(&change.pending.participants).enumerate() {
            let end = End::Prepare(&participant.gid);
            match apply::apply(client, self.cluster, self.configuration, change, *task, end).await? {
                Outcome::Done => self.observer.reached(&format!("prepared {index}")).await,
                Outcome::Over => return Err(Error::stop("another command took this one for dead and undid it; try again")),
            }
        }
        Ok(())
    }

    /// Ends the prepared transactions of a change as it was decided, then the
    /// change. Can be repeated.
    pub(super) async fn finish_several(&self, change: &InFlight) -> Result<()> {
        let Some(found) = self.cluster.find_in_flight(&change.name).await?.filter(|found| found.epoch == change.epoch) else {
            return Ok(());
        };
        let verb = match found.pending.state() {
            State::Committed => "COMMIT PREPARED",
            State::Aborted => "ROLLBACK PREPARED",
            State::Intended | State::Preparing => return Err(Error::bug(format!("the change of {:?} is not decided", change.name))),
        };
        for (index, participant) in found.pending.participants.iter().enumerate() {
            let client = apply::connect(&participant.dsn).await.map_err(|error| self.left_in_flight(change, error))?;
            end_prepared(&client, verb, &participant.gid).await?;
            self.observer.reached(&format!("ended {index}")).await;
        }
        self.cluster.finish(&found, Vec::new()).await?;
        self.observer.reached("confirmed").await;
        Ok(())
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
    pub(super) async fn roll_back_orphans(&self, client: &Client) -> Result<Vec<String>> {
        let rows = client
            .query("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, $1)", &[&gid_prefix(self.cluster_id())])
            .await
            .map_err(|error| explain(&error).context("cannot look for prepared transactions"))?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.cluster.catch_up().await?;
        let alive: Vec<String> =
            self.cluster.in_flight().await?.into_iter().flat_map(|change| change.pending.participants).map(|one| one.gid).collect();
        let mut rolled_back = Vec::new();
        for gid in rows.iter().map(|row| row.get::<_, String>(0)).filter(|gid| !alive.contains(gid)) {
            end_prepared(client, "ROLLBACK PREPARED", &gid).await?;
            rolled_back.push(gid);
        }
        Ok(rolled_back)
    }
}

/// What the gids of a cluster's prepared transactions begin with.
fn gid_prefix(cluster_id: &str) -> String {
    format!("pgshovel:{cluster_id}:")
}

/// A transaction that is not there was ended before.
async fn end_prepared(client: &Client, verb: &str, gid: &str) -> Result<()> {
    match client.batch_execute(&format!("{verb} {}", literal(gid))).await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
        Err(error) => Err(explain(&error).context(format!("cannot end the prepared transaction {gid}"))),
    }
}

pub(super) fn first_dsn(change: &InFlight) -> Result<&str> {
    let first = change.pending.participants.first();
    first
        .map(|participant| participant.dsn.as_str())
        .ok_or_else(|| Error::bug(format!("the change of {:?} names no database", change.name)))
}
