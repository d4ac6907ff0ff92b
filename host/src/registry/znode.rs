//! Several writes to ZooKeeper as one.

use zookeeper::{CreateMode, MultiWriteError};
use zookeeper_client as zookeeper;

use super::{Cluster, again, broken};
use crate::error::Error;

/// One write, or one condition, of a [`Cluster::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// The node exists in this version.
    Check(String, i32),
    /// There is no such node.
    Absent(String),
    Create(String, Vec<u8>),
    /// Ends with this session.
    CreateEphemeral(String),
    /// In this version, or in any.
    Set(String, Vec<u8>, Option<i32>),
    Delete(String, Option<i32>),
}

/// Why nothing was written, or that nobody knows.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// A condition does not hold: nothing was written.
    Refused,
    /// The reply was lost: read again what became of it.
    Unknown,
    /// Nothing was written, or this session is over and it does not matter to it.
    Failed(Error),
}

impl Cluster {
    /// All of `writes`, or none.
    pub(crate) async fn write(&self, writes: &[Write]) -> Result<(), Failure> {
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

impl Write {
    fn path(&self) -> &str {
        match self {
            Self::Check(path, _) | Self::Absent(path) | Self::Create(path, _) => path,
            Self::CreateEphemeral(path) | Self::Set(path, ..) | Self::Delete(path, _) => path,
        }
    }
}

fn add(writer: &mut zookeeper::MultiWriter<'_>, write: &Write, acls: zookeeper::Acls<'_>) -> Result<(), zookeeper::Error> {
    let persistent = CreateMode::Persistent.with_acls(acls);
    match write {
        Write::Check(path, version) => writer.add_check_version(path, *version),
        Write::Absent(path) => {
            writer.add_create(path, &[], &persistent)?;
            writer.add_delete(path, None)
        }
        Write::Create(path, data) => writer.add_create(path, data, &persistent),
        Write::CreateEphemeral(path) => writer.add_create(path, &[], &CreateMode::Ephemeral.with_acls(acls)),
        Write::Set(path, data, version) => writer.add_set_data(path, data, *version),
        Write::Delete(path, version) => writer.add_delete(path, *version),
    }
}
