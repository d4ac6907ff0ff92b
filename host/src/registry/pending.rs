//! Changes in flight, as ZooKeeper holds them: `/CLUSTER/pending/SET`, and
//! `/CLUSTER/pending/@cluster` for one that concerns every set. Below each
//! stands an ephemeral node for as long as the command that makes the change
//! lives.
//!
//! The nodes are what recovery works from, so they say everything that it needs
//! to finish or to undo a change without the command that began it.

use prost::Message as _;
use proto::interfaces::configurations::ReplicationSetConfiguration;

use super::answer::{WRITES_MAX, broken};
use super::cluster::Cluster;
use super::znode::{Failure, Write};
use crate::error::{Code, Error, Result};
use crate::ports::registry::StoredSet;

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
    /// There, and empty, if the set is; `None`: it is being created.
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
    /// The transaction id that created the node.
    pub epoch: i64,
    /// When that was, in microseconds since 1970: grows from change to change, also where
    /// ZooKeeper is made anew and begins lower with its transaction ids.
    pub made: i64,
    /// The node's version.
    pub(crate) version: i32,
    /// The command that makes the change still runs, or died moments ago.
    pub owned: bool,
}

/// Why a change did not begin.
#[derive(Debug)]
pub(crate) enum NotBegun {
    /// Another change of the same set, or of the whole cluster, is in flight.
    Busy,
    /// The set, or the cluster, is not what it was when it was read.
    Moved,
    Failed(Error),
}

impl From<Error> for NotBegun {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Cluster {
    pub(crate) fn pending_path(&self, name: &str) -> String {
        format!("{}/{name}", self.all_pending_path())
    }

    pub(crate) fn all_pending_path(&self) -> String {
        format!("/{}/pending", self.name)
    }

    fn owner_path(&self, name: &str) -> String {
        format!("{}/owner", self.pending_path(name))
    }

    /// The changes in flight: those first that hold locks in databases meanwhile.
    pub async fn in_flight(&self) -> Result<Vec<InFlight>> {
        let mut names = self.children(&self.all_pending_path()).await?.unwrap_or_default();
        names.sort_unstable();
        let mut changes = Vec::new();
        for name in names {
            changes.extend(self.find_in_flight(&name).await?);
        }
        changes.sort_by_key(|change| change.pending.state() == State::Intended);
        Ok(changes)
    }

    /// The change of `name` that is in flight, if one is.
    pub async fn find_in_flight(&self, name: &str) -> Result<Option<InFlight>> {
        let Some((data, stat)) = self.read(&self.pending_path(name)).await? else { return Ok(None) };
        let pending = Pending::decode(data.as_slice()).map_err(|error| {
            Error::stop(
                Code::ChangeUnreadable,
                format!(
                    "what ZooKeeper holds of a change of {name:?} is not understood: {error}; it may be of a later pgshovel, and if not, delete the node {}",
                    self.pending_path(name)
                ),
            )
        })?;
        let owned = self.read(&self.owner_path(name)).await?.is_some();
        Ok(Some(InFlight {
            name: name.to_owned(),
            pending,
            epoch: stat.czxid,
            made: stat.ctime.saturating_mul(1000),
            version: stat.version,
            owned,
        }))
    }

    /// Grows with every change that begins: what is written on the condition that it
    /// has not knows of all changes.
    pub(crate) async fn beginnings(&self) -> Result<i32> {
        let path = self.all_pending_path();
        let mut found = self.read(&path).await?;
        if found.is_none() {
            self.ensure(&path).await?;
            found = self.read(&path).await?;
        }
        found
            .map(|(_, stat)| stat.version)
            .ok_or_else(|| Error::retry(Code::ChangedMeanwhile, "the cluster is being removed from ZooKeeper"))
    }

    /// Writes the intent: from here on `pending`, a change of `set`, is in flight,
    /// unless the set is no longer as it was read.
    pub(crate) async fn begin(&self, name: &str, pending: &Pending, set: Option<&StoredSet>) -> std::result::Result<InFlight, NotBegun> {
        for _ in 0..WRITES_MAX {
            // In this order: a change that was over when its node was looked for is in the set that is read then.
            let beginnings = self.beginnings().await?;
            let busy = self.find_in_flight(WHOLE_CLUSTER).await?.or(self.find_in_flight(name).await?);
            if let Some(other) = busy {
                return if other.pending.change == pending.change { Ok(other) } else { Err(NotBegun::Busy) };
            }
            if self.find_set(name).await?.map(|now| now.revision) != set.map(|set| set.revision) {
                return Err(NotBegun::Moved);
            }
            let as_read = match set {
                Some(set) => Write::Check(self.set_path(name), set.revision.version),
                None => Write::Absent(self.set_path(name)),
            };
            if self.write_intent(name, pending, beginnings, as_read).await? {
                return self.begun(name, pending).await;
            }
        }
        Err(NotBegun::Busy)
    }

    /// As [`Self::begin`], for a change of the whole cluster that was made from the
    /// cluster's node at `revision`, and from all sets as they were at `beginnings`,
    /// when no change was in flight.
    pub(crate) async fn begin_whole(&self, pending: &Pending, revision: i32, beginnings: i32) -> std::result::Result<InFlight, NotBegun> {
        for _ in 0..WRITES_MAX {
            if let Some(found) = self.find_in_flight(WHOLE_CLUSTER).await?
                && found.pending.change == pending.change
            {
                return Ok(found);
            }
            if self.beginnings().await? != beginnings || self.cluster_revision().await? != revision {
                return Err(NotBegun::Moved);
            }
            if self.write_intent(WHOLE_CLUSTER, pending, beginnings, Write::Check(self.path(), revision)).await? {
                return self.begun(WHOLE_CLUSTER, pending).await;
            }
        }
        Err(NotBegun::Busy)
    }

    /// Whether it is written. If not, something has changed, or nobody knows: a
    /// second attempt finds out.
    async fn write_intent(&self, name: &str, pending: &Pending, beginnings: i32, as_read: Write) -> Result<bool> {
        let writes = [
            Write::Set(self.all_pending_path(), Vec::new(), Some(beginnings)),
            as_read,
            Write::Create(self.pending_path(name), pending.encode_to_vec()),
            Write::CreateEphemeral(self.owner_path(name)),
        ];
        match self.write(&writes).await {
            Ok(()) => Ok(true),
            Err(Failure::Refused | Failure::Unknown) => self.catch_up().await.map(|()| false),
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    async fn begun(&self, name: &str, pending: &Pending) -> std::result::Result<InFlight, NotBegun> {
        let found = self.find_in_flight(name).await?.filter(|found| found.pending.change == pending.change);
        found.ok_or_else(|| {
            NotBegun::Failed(Error::retry(
                Code::ChangedMeanwhile,
                "another command took the change over; see what became of it, and try again",
            ))
        })
    }

    /// Waits until the command that changes `name` has ended, or for `at_most`.
    pub(crate) async fn owner_gone(&self, name: &str, at_most: std::time::Duration) -> Result<()> {
        match self.client.check_and_watch_stat(&self.owner_path(name)).await {
            Ok((Some(_), event)) => {
                // Whoever calls looks again in either case.
                let _ = tokio::time::timeout(at_most, event.changed()).await;
                Ok(())
            }
            Ok((None, _)) => Ok(()),
            Err(error) if broken(&error) => Ok(()),
            Err(error) => Err(self.explain(&self.owner_path(name), &error)),
        }
    }

    /// Whether `change` is still in flight, and as undecided as it was, asked of
    /// ZooKeeper's leader.
    pub(crate) async fn is_in_flight(&self, change: &InFlight) -> Result<bool> {
        self.catch_up().await?;
        Ok(self.find_again(change).await?.is_some_and(|found| found.version == change.version))
    }

    /// `change` as it is now; `None`: it is over.
    pub(crate) async fn find_again(&self, change: &InFlight) -> Result<Option<InFlight>> {
        Ok(self.find_in_flight(&change.name).await?.filter(|found| found.epoch == change.epoch))
    }

    /// Decides a change of several databases, with `also` in the same write.
    /// Returns what is decided, by this call or by whoever came first; `None`: the
    /// change is over. `Preparing`: nothing is, since `also` was refused.
    pub(crate) async fn decide(&self, change: &InFlight, state: State, also: &[Write]) -> Result<Option<State>> {
        let mut pending = change.pending.clone();
        pending.set_state(state);
        let mut writes = vec![Write::Set(self.pending_path(&change.name), pending.encode_to_vec(), Some(change.version))];
        writes.extend_from_slice(also);
        for _ in 0..WRITES_MAX {
            let written = self.write(&writes).await;
            if let Err(Failure::Failed(error)) = written {
                return Err(error);
            }
            self.catch_up().await?;
            let found = self.find_again(change).await?;
            let undecided = found.as_ref().is_some_and(|found| found.version == change.version);
            if !(undecided && matches!(written, Err(Failure::Unknown))) {
                return Ok(found.map(|found| found.pending.state()));
            }
        }
        Err(self.unanswered())
    }

    /// Ends a change, with `also` in the same write. Whoever comes second finds it
    /// done.
    pub(crate) async fn finish(&self, change: &InFlight, also: &[Write]) -> Result<()> {
        for _ in 0..WRITES_MAX {
            let Some(found) = self.find_again(change).await? else { return Ok(()) };
            let mut writes = also.to_vec();
            if found.owned {
                writes.push(Write::Delete(self.owner_path(&change.name), None));
            }
            writes.push(Write::Delete(self.pending_path(&change.name), Some(found.version)));
            let refused = match self.write(&writes).await {
                Ok(()) => return Ok(()),
                Err(Failure::Refused) => true,
                Err(Failure::Unknown) => false,
                Err(Failure::Failed(error)) => return Err(error),
            };
            self.catch_up().await?;
            // The owner's node may have gone, or come, between reading and writing.
            if refused && self.find_again(change).await?.as_ref() == Some(&found) {
                return Err(Error::stop(
                    Code::ChangedMeanwhile,
                    format!("the {} of {:?} cannot end: what it was made from has changed", found.pending.verb(), found.name),
                ));
            }
        }
        Err(self.unanswered())
    }
}
