//! Changes in flight, as ZooKeeper holds them: `/CLUSTER/pending/SET`, and
//! `/CLUSTER/pending/@cluster` for one that concerns every set. Below each
//! stands an ephemeral node for as long as the command that makes the change
//! lives.
//!
//! The nodes are what recovery works from, so they say everything that it needs
//! to finish or to undo a change without the command that began it.

use prost::Message as _;
use proto::interfaces::configurations::ReplicationSetConfiguration;

use super::znode::{Failure, Write};
use super::{Cluster, StoredSet};
use crate::error::{Error, Result};

/// In the place of a set's name: a change of the whole cluster. No set is called so.
pub const WHOLE_CLUSTER: &str = "@cluster";

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum State {
    /// One database: it will be done, whatever happens. Only a database that
    /// refuses the change for good ends it otherwise.
    Intended = 0,
    /// Several databases: transactions are being prepared. Nothing is decided.
    Preparing = 1,
    /// Several databases: to be committed in each of them.
    Committed = 2,
    /// Several databases: to be rolled back in each of them.
    Aborted = 3,
}

/// A database that takes part in a change.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Participant {
    #[prost(string, tag = "1")]
    pub dsn: String,
    /// Of its prepared transaction.
    #[prost(string, tag = "2")]
    pub gid: String,
}

/// A change in flight.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pending {
    /// Names the change for ever: a UUID.
    #[prost(string, tag = "1")]
    pub change: String,
    #[prost(enumeration = "State", tag = "2")]
    pub state: i32,
    /// What the set is to be; `None`: dropped.
    #[prost(message, optional, tag = "3")]
    pub after: Option<ReplicationSetConfiguration>,
    /// What the set is; `None`: it is being created.
    #[prost(message, optional, tag = "4")]
    pub before: Option<ReplicationSetConfiguration>,
    /// The version of the set's node that the change was made from.
    #[prost(int32, optional, tag = "5")]
    pub revision: Option<i32>,
    #[prost(message, repeated, tag = "6")]
    pub participants: Vec<Participant>,
    /// Of a cluster's upgrade: the version that the cluster is to have, and the
    /// version of the cluster's node that the change was made from.
    #[prost(string, optional, tag = "7")]
    pub upgrade: Option<String>,
}

impl Pending {
    /// For messages: "create", "update", "drop" or "upgrade".
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match (&self.upgrade, &self.before, &self.after) {
            (Some(_), _, _) => "upgrade",
            (None, None, _) => "create",
            (None, Some(_), Some(_)) => "update",
            (None, Some(_), None) => "drop",
        }
    }
}

/// A change that is in flight, and how ZooKeeper knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct InFlight {
    /// A set, or [`WHOLE_CLUSTER`].
    pub name: String,
    pub pending: Pending,
    /// Grows from change to change: the transaction id that created the node.
    pub epoch: i64,
    /// The node's version.
    pub(super) version: i32,
    /// The command that makes the change still runs, or died moments ago.
    pub owned: bool,
}

/// Why a change did not begin.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// Another change of the same set, or of the whole cluster, is in flight.
    Busy,
    /// The set, or the cluster, is not what it was when it was read.
    Moved,
    Failed(Error),
}

impl Cluster {
    pub(super) fn pending_path(&self, name: &str) -> String {
        format!("{}/{name}", self.all_pending_path())
    }

    fn all_pending_path(&self) -> String {
        format!("/{}/pending", self.name)
    }

    fn owner_path(&self, name: &str) -> String {
        format!("{}/owner", self.pending_path(name))
    }

    /// The changes in flight, those of the whole cluster first.
    pub async fn in_flight(&self) -> Result<Vec<InFlight>> {
        let mut names = self.children(&self.all_pending_path()).await?.unwrap_or_default();
        names.sort_unstable();
        let mut changes = Vec::new();
        for name in names {
            changes.extend(self.find_in_flight(&name).await?);
        }
        Ok(changes)
    }

    /// The change of `name` that is in flight, if one is.
    pub async fn find_in_flight(&self, name: &str) -> Result<Option<InFlight>> {
        let Some((data, stat)) = self.read(&self.pending_path(name)).await? else { return Ok(None) };
        let pending = Pending::decode(data.as_slice()).map_err(|error| {
            Error::stop(format!("what ZooKeeper holds of a change of {name:?} is not understood: {error}; it may be of a later pgshovel"))
        })?;
        let owned = self.read(&self.owner_path(name)).await?.is_some();
        Ok(Some(InFlight { name: name.to_owned(), pending, epoch: stat.czxid, version: stat.version, owned }))
    }

    /// Writes the intent: from here on `pending` is in flight, unless the set or
    /// the cluster is no longer as it was read.
    pub(super) async fn begin(&self, name: &str, pending: &Pending, set: Option<&StoredSet>) -> std::result::Result<InFlight, NotBegun> {
        self.ensure(&self.all_pending_path()).await.map_err(NotBegun::Failed)?;
        let mut writes = Vec::new();
        if name != WHOLE_CLUSTER {
            writes.push(Write::Absent(self.pending_path(WHOLE_CLUSTER)));
            writes.push(match set {
                Some(set) => Write::Check(self.set_path(name), set.revision.version),
                None => Write::Absent(self.set_path(name)),
            });
            // An upgrade compares this version to know that it sees all changes.
            writes.push(Write::Set(self.all_pending_path(), Vec::new(), None));
        } else {
            let (_, stat) = self.read(&self.all_pending_path()).await.map_err(NotBegun::Failed)?.ok_or(NotBegun::Moved)?;
            let others = self.children(&self.all_pending_path()).await.map_err(NotBegun::Failed)?.unwrap_or_default();
            if !others.is_empty() {
                return Err(NotBegun::Busy);
            }
            writes.push(Write::Check(self.all_pending_path(), stat.version));
            if let Some(revision) = pending.revision {
                writes.push(Write::Check(self.path(), revision));
            }
        }
        writes.push(Write::Create(self.pending_path(name), pending.encode_to_vec()));
        writes.push(Write::CreateEphemeral(self.owner_path(name)));
        let written = self.write(&writes).await;
        if let Err(Failure::Failed(error)) = written {
            return Err(NotBegun::Failed(error));
        }
        // Written, refused or unknown: what is there now says which.
        self.catch_up().await.map_err(NotBegun::Failed)?;
        match self.find_in_flight(name).await.map_err(NotBegun::Failed)? {
            Some(found) if found.pending.change == pending.change => Ok(found),
            Some(_) => Err(NotBegun::Busy),
            None if written.is_ok() => Err(NotBegun::Failed(Error::retry("another command took the change over"))),
            None if self.find_in_flight(WHOLE_CLUSTER).await.map_err(NotBegun::Failed)?.is_some() => Err(NotBegun::Busy),
            None => Err(NotBegun::Moved),
        }
    }

    /// Waits until the command that changes `name` has ended, or for `at_most`.
    pub(super) async fn owner_gone(&self, name: &str, at_most: std::time::Duration) -> Result<()> {
        match self.client.check_and_watch_stat(&self.owner_path(name)).await {
            Ok((Some(_), event)) => {
                // Whoever calls looks again in either case.
                let _ = tokio::time::timeout(at_most, event.changed()).await;
                Ok(())
            }
            Ok((None, _)) | Err(zookeeper_client::Error::ConnectionLoss) => Ok(()),
            Err(error) => Err(super::explain(&error)),
        }
    }

    /// Whether `change` is still in flight, asked of ZooKeeper's leader.
    pub(super) async fn is_in_flight(&self, change: &InFlight) -> Result<bool> {
        self.catch_up().await?;
        Ok(self.find_in_flight(&change.name).await?.is_some_and(|found| found.epoch == change.epoch))
    }

    /// Decides a change of several databases, with `also` in the same write.
    /// Returns what is decided, by this call or by whoever came first; `None`: the
    /// change is over.
    pub(super) async fn decide(&self, change: &InFlight, state: State, also: Vec<Write>) -> Result<Option<State>> {
        let mut pending = change.pending.clone();
        pending.set_state(state);
        let mut writes = vec![Write::Set(self.pending_path(&change.name), pending.encode_to_vec(), Some(change.version))];
        writes.extend(also);
        if let Err(Failure::Failed(error)) = self.write(&writes).await {
            return Err(error);
        }
        self.catch_up().await?;
        let found = self.find_in_flight(&change.name).await?.filter(|found| found.epoch == change.epoch);
        Ok(found.map(|found| found.pending.state()))
    }

    /// Ends a change, with `also` in the same write. Whoever comes second finds it
    /// done.
    pub(super) async fn finish(&self, change: &InFlight, also: Vec<Write>) -> Result<()> {
        loop {
            let Some(found) = self.find_in_flight(&change.name).await?.filter(|found| found.epoch == change.epoch) else {
                return Ok(());
            };
            let mut writes = also.clone();
            if found.owned {
                writes.push(Write::Delete(self.owner_path(&change.name), None));
            }
            writes.push(Write::Delete(self.pending_path(&change.name), Some(found.version)));
            match self.write(&writes).await {
                Ok(()) => return Ok(()),
                // The owner's node went, or came, between reading and writing;
                // or the reply was lost: look again.
                Err(Failure::Refused | Failure::Unknown) => {
                    self.catch_up().await?;
                    if let Some(again) = self.find_in_flight(&change.name).await?
                        && again == found
                    {
                        return Err(Error::stop(format!(
                            "the {} of {:?} cannot end: what it was made from has changed",
                            found.pending.verb(),
                            found.name
                        )));
                    }
                }
                Err(Failure::Failed(error)) => return Err(error),
            }
        }
    }
}
