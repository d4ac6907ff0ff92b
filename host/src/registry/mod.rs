//! The cluster in ZooKeeper: its configuration, its sets, who leads, and the changes
//! that are in flight.
//!
//! The only module that uses a ZooKeeper client.

pub mod access;
pub mod acl;
mod answer;
mod cluster;
mod ensemble;
pub mod lease;
pub mod pending;
pub mod set;
pub mod tls;
mod version;
pub mod watch;
pub mod znode;

pub use crate::ports::registry::{Revision, StoredSet};
pub use cluster::Cluster;
pub use ensemble::{Ensemble, SESSION_TIMEOUT};
pub use version::{VERSION, speaks};

/// What the log takes of the ZooKeeper client, unless the operator says otherwise:
/// it tells of every connection.
pub const LOG_FILTER: &str = "zookeeper_client=warn";
