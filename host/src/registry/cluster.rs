//! A session with ZooKeeper, and what the cluster keeps there.

use prost::Message as _;
use proto::interfaces::configurations::ClusterConfiguration;
use zookeeper_client::{self as zookeeper, MultiWriteError};

use super::access::Access;
use super::answer::{WRITES_MAX, again, broken};
use super::set;
use super::version::check_spoken;
use super::znode::{Failure, Write, add};
use crate::error::{Code, Error, Result};
use crate::names;
use crate::nearest::advice;
use crate::ports::registry::{Revision, StoredSet};

/// A session with ZooKeeper, and the cluster in it. After the session is lost
/// every call fails with `Retry`: connect anew.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) client: zookeeper::Client,
    pub(super) name: String,
    pub(super) hosts: String,
    pub(super) access: Access,
}

impl Cluster {
    /// The version of the cluster's node, for a change that starts from it.
    pub async fn cluster_revision(&self) -> Result<i32> {
        Ok(self.read(&self.path()).await?.ok_or_else(|| self.absent())?.1.version)
    }

    /// Replaces the cluster's configuration, if its node is still of this version.
    pub async fn set_configuration(&self, configuration: &ClusterConfiguration, revision: i32) -> Result<()> {
        for _ in 0..WRITES_MAX {
            match self.write(&[Write::Set(self.path(), configuration.encode_to_vec(), Some(revision))]).await {
                Ok(()) => return Ok(()),
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Unknown) => {}
                Err(Failure::Refused) if self.configuration_of_any_version().await? == *configuration => return Ok(()),
                Err(Failure::Refused) => {
                    return Err(Error::retry(Code::ChangedMeanwhile, "the cluster was changed by another command meanwhile; try again"));
                }
            }
        }
        Err(self.unanswered())
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that this session was made with.
    #[must_use]
    pub fn hosts(&self) -> &str {
        &self.hosts
    }

    /// The cluster's configuration. `Configure` if the cluster was not
    /// initialised, or is of a version that this program does not speak.
    pub async fn configuration(&self) -> Result<ClusterConfiguration> {
        let configuration = self.configuration_of_any_version().await?;
        check_spoken(&self.name, &configuration)?;
        Ok(configuration)
    }

    /// As `configuration`, for the commands that change the version.
    pub async fn configuration_of_any_version(&self) -> Result<ClusterConfiguration> {
        match self.read(&self.path()).await? {
            Some((data, _)) => decode_cluster(&self.name, &data),
            None => Err(self.absent()),
        }
    }

    /// The configuration of one set. `Configure` if there is no such set.
    pub async fn set(&self, name: &str) -> Result<StoredSet> {
        names::check_set(name)?;
        if let Some(set) = self.find_set(name).await? {
            return Ok(set);
        }
        let known = self.set_names().await?;
        let advice =
            if known.is_empty() { "create it with `set create`".to_owned() } else { advice(name, known.iter().map(String::as_str)) };
        Err(Error::configure(Code::SetAbsent, format!("the set {name:?} does not exist in the cluster {:?}; {advice}", self.name)))
    }

    /// As `set`, but `None` if there is no such set.
    pub async fn find_set(&self, name: &str) -> Result<Option<StoredSet>> {
        match self.read(&self.set_path(name)).await? {
            Some((data, stat)) => set::decode(name, &data, revision(&stat)).map(Some),
            None => Ok(None),
        }
    }

    /// The names of all sets, sorted. `Configure` if the cluster does not exist.
    pub async fn set_names(&self) -> Result<Vec<String>> {
        match self.children(&self.sets_path()).await? {
            Some(mut names) => {
                names.sort_unstable();
                Ok(names)
            }
            None => Err(self.absent()),
        }
    }

    /// A write whose reply was lost each time.
    pub(super) fn unanswered(&self) -> Error {
        Error::retry(Code::RegistryAway, format!("the connection to ZooKeeper at {:?} breaks again and again", self.hosts))
    }

    pub(super) fn absent(&self) -> Error {
        Error::configure(
            Code::ClusterAbsent,
            format!(
                "the cluster {name:?} does not exist in ZooKeeper at {hosts:?}; create it with `pgshovel --cluster {name} --zookeeper-hosts {hosts} cluster initialize`",
                name = self.name,
                hosts = self.hosts
            ),
        )
    }

    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    pub(super) fn sets_path(&self) -> String {
        format!("/{}/sets", self.name)
    }

    pub(crate) fn set_path(&self, set: &str) -> String {
        format!("/{}/sets/{set}", self.name)
    }

    pub(super) fn leaders_path(&self, set: &str) -> String {
        format!("/{}/leaders/{set}", self.name)
    }

    /// The nodes of sets' leaders go with their set; a standby's goes with its session.
    pub(crate) async fn remove_leaders(&self, set: &str) {
        if let Err(error) = self.client.delete(&self.leaders_path(set), None).await {
            tracing::debug!(%error, "the leaders' node stays");
        }
    }

    /// Data and state of a node, or `None` if there is none.
    pub(super) async fn read(&self, path: &str) -> Result<Option<(Vec<u8>, zookeeper::Stat)>> {
        self.found(path, again(|| self.client.get_data(path)).await)
    }

    pub(super) async fn children(&self, path: &str) -> Result<Option<Vec<String>>> {
        self.found(path, again(|| self.client.list_children(path)).await)
    }

    /// Creates a persistent, empty node and those above it, as far as they are missing.
    pub(super) async fn ensure(&self, path: &str) -> Result<()> {
        // Whoever may not create it may still use one that is there.
        if self.found(path, again(|| self.client.check_stat(path)).await)?.flatten().is_some() {
            return Ok(());
        }
        let options = zookeeper::CreateMode::Persistent.with_acls(self.access.acls());
        again(|| self.client.mkdir(path, &options)).await.map_err(|error| self.explain(path, &error))
    }

    pub(super) fn found<T>(&self, path: &str, result: std::result::Result<T, zookeeper::Error>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(zookeeper::Error::NoNode) => Ok(None),
            Err(error) => Err(self.explain(path, &error)),
        }
    }

    /// All of `writes`, or none.
    pub(crate) async fn write(&self, writes: &[Write]) -> std::result::Result<(), Failure> {
        let mut writer = self.client.new_multi_writer();
        // For messages: the node that the operation at an index is about.
        let mut paths = Vec::new();
        for write in writes {
            add(&mut writer, write, self.access.acls()).map_err(|error| Failure::Failed(self.explain(write.path(), &error)))?;
            paths.extend(std::iter::repeat_n(write.path(), if matches!(write, Write::Absent(_)) { 2 } else { 1 }));
        }
        let path = |index: usize| paths.get(index).copied().unwrap_or("/");
        match writer.commit().await {
            Ok(_) => Ok(()),
            Err(MultiWriteError::OperationFailed { source, index }) => Err(match source {
                zookeeper::Error::NoNode | zookeeper::Error::BadVersion | zookeeper::Error::NodeExists | zookeeper::Error::NotEmpty => {
                    Failure::Refused
                }
                error => Failure::Failed(self.explain(path(index), &error)),
            }),
            Err(MultiWriteError::RequestFailed { source }) => Err(match source {
                zookeeper::Error::NoNode | zookeeper::Error::BadVersion | zookeeper::Error::NodeExists => Failure::Refused,
                error if broken(&error) => Failure::Unknown,
                error => Failure::Failed(self.explain(path(0), &error)),
            }),
        }
    }

    /// What was written before by anybody is seen by the reads that follow.
    pub(crate) async fn catch_up(&self) -> crate::error::Result<()> {
        again(|| self.client.sync(&self.path())).await.map_err(|error| self.explain(&self.path(), &error))
    }
}

pub(super) const fn revision(stat: &zookeeper::Stat) -> Revision {
    Revision { created: stat.czxid, version: stat.version }
}

pub(super) fn decode_cluster(name: &str, data: &[u8]) -> Result<ClusterConfiguration> {
    ClusterConfiguration::decode(data).map_err(|error| {
        Error::configure(
            Code::ClusterUnreadable,
            format!("what ZooKeeper holds at /{name} is no configuration of a cluster: {error}; choose another --cluster or chroot"),
        )
    })
}
