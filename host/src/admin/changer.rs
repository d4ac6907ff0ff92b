//! What all changes of the cluster have in common: who makes them, how they begin,
//! and what their end writes into ZooKeeper.
//!
//! A change alters databases and ZooKeeper together, or neither: [`super::one`] has the
//! protocol for one database, [`super::several`] for several.

use std::time::Duration;

use prost::Message as _;
use proto::interfaces::configurations::{ClusterConfiguration, ReplicationSetConfiguration};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::error::{Code, Error, Result};
use crate::names;
use crate::registry::pending::{InFlight, NotBegun, Participant, Pending, State, WHOLE_CLUSTER};
use crate::registry::znode::Write;
use crate::registry::{Cluster, StoredSet};

/// How often a change begins anew because another one was in its way.
const BEGINNINGS_MAX: u32 = 20;

/// How often a change is tried while locks are in its way: for half a minute.
const ATTEMPTS_MAX: u32 = 16;

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

/// How often a change is still tried, and the waits between.
#[derive(Debug)]
pub(super) struct Attempts {
    backoff: Backoff,
    max: u32,
}

impl Attempts {
    /// As often as a person waits for.
    pub(super) const fn patient() -> Self {
        Self::new(ATTEMPTS_MAX)
    }

    /// One: somebody comes back later.
    pub(super) const fn one() -> Self {
        Self::new(1)
    }

    const fn new(max: u32) -> Self {
        Self { backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)), max }
    }

    /// Waits before the next attempt, after `error`; the error, if that was the last.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        if self.backoff.attempts() + 1 >= self.max {
            return Err(error);
        }
        tracing::info!(code = %error.code, %error, "waiting to try again");
        tokio::time::sleep(self.backoff.wait(rand::random())).await;
        Ok(())
    }
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
        f.debug_struct("Changer").field("cluster", &self.cluster.name()).finish_non_exhaustive()
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

    pub(super) async fn begin(
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
                    return Err(Error::stop(
                        Code::ChangedMeanwhile,
                        format!("{name:?} was changed by another command meanwhile; look at it again with `set inspect`"),
                    ));
                }
                Err(NotBegun::Failed(error)) => return Err(error),
            }
        }
        Err(Error::retry(Code::ChangeUnderWay, format!("other changes of {name:?} keep coming first; try again later")))
    }

    pub(super) fn name_participants(&self, name: &str, pending: &mut Pending) {
        let set = if name == WHOLE_CLUSTER { "" } else { name };
        for (index, participant) in pending.participants.iter_mut().enumerate() {
            participant.gid = names::gid(self.cluster_id(), set, &pending.change, index);
        }
    }

    pub(super) fn left_in_flight(&self, change: &InFlight, error: Error) -> Error {
        let (verb, name) = (change.pending.verb(), &change.name);
        let ending = match change.pending.state() {
            State::Intended | State::Committed => "was begun and will be finished",
            State::Preparing => "was begun and will be finished or undone",
            State::Aborted => "is given up and will be undone where it is not yet",
        };
        Error::retry(
            Code::ChangeUnfinished,
            format!(
                "{error}; the {verb} of {name:?} {ending} by the next command, by a relay or by `cluster recover`, once what is away answers"
            ),
        )
    }

    /// What the end of a change writes into the node of the set, or of the cluster.
    pub(super) fn last_write(&self, change: &InFlight) -> Result<Write> {
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
}

pub(super) fn busy(name: &str) -> Error {
    Error::retry(Code::ChangeUnderWay, format!("another command is changing {name:?}; wait for it, or end it, then try again"))
}

pub(super) fn first_dsn(change: &InFlight) -> Result<&str> {
    let first = change.pending.participants.first();
    first
        .map(|participant| participant.dsn.as_str())
        .ok_or_else(|| Error::bug(format!("the change of {:?} names no database", change.name)))
}
