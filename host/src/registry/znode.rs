//! Several writes to ZooKeeper as one.

use zookeeper::CreateMode;
use zookeeper_client as zookeeper;

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

impl Write {
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Check(path, _) | Self::Absent(path) | Self::Create(path, _) => path,
            Self::CreateEphemeral(path) | Self::Set(path, ..) | Self::Delete(path, _) => path,
        }
    }
}

pub(super) fn add(writer: &mut zookeeper::MultiWriter<'_>, write: &Write, acls: zookeeper::Acls<'_>) -> Result<(), zookeeper::Error> {
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
