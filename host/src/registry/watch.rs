//! Notice of changes that an administrator makes while a relay or a worker runs.

use std::time::Duration;

use zookeeper_client as zookeeper;

use super::answer::broken;
use super::cluster::{Cluster, decode_cluster, revision};
use super::set;
use super::version::check_spoken;
use crate::error::Result;
use crate::ports::registry::{self as ports, Change, StoredSet};

/// How often to look without being told: ZooKeeper tells nothing to whom an ACL that
/// was set since shuts out, and looking does.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// See [`Session::watch`](crate::ports::registry::Session::watch).
#[derive(Debug)]
pub struct Watch {
    cluster: Cluster,
    last: StoredSet,
}

impl ports::Watch for Watch {
    async fn changed(&mut self) -> Result<Change> {
        loop {
            let cluster_event = self.arm_cluster().await?;
            let set_event = match self.arm_set().await? {
                Armed::Same(event) => event,
                Armed::Other(change) => return Ok(change),
            };
            tokio::select! {
                _ = cluster_event.changed() => {}
                _ = set_event.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

impl Watch {
    pub(super) fn new(cluster: Cluster, set: StoredSet) -> Self {
        Self { cluster, last: set }
    }

    async fn arm_cluster(&self) -> Result<zookeeper::OneshotWatcher> {
        let path = self.cluster.path();
        loop {
            match self.cluster.client.get_and_watch_data(&path).await {
                Ok((data, _, event)) => {
                    check_spoken(&self.cluster.name, &decode_cluster(&self.cluster.name, &data)?)?;
                    return Ok(event);
                }
                Err(zookeeper::Error::NoNode) => return Err(self.cluster.absent()),
                Err(error) if broken(&error) => {}
                Err(error) => return Err(self.cluster.explain(&path, &error)),
            }
        }
    }

    async fn arm_set(&mut self) -> Result<Armed> {
        let path = self.cluster.set_path(&self.last.name);
        loop {
            match self.cluster.client.get_and_watch_data(&path).await {
                Ok((_, stat, event)) if revision(&stat) == self.last.revision => return Ok(Armed::Same(event)),
                Ok((data, stat, _)) => {
                    self.last = set::decode(&self.last.name, &data, revision(&stat))?;
                    return Ok(Armed::Other(Change::Changed(self.last.clone())));
                }
                Err(zookeeper::Error::NoNode) => return Ok(Armed::Other(Change::Dropped)),
                // The client reconnects by itself, until the session is over.
                Err(error) if broken(&error) => {}
                Err(error) => return Err(self.cluster.explain(&path, &error)),
            }
        }
    }
}

enum Armed {
    Same(zookeeper::OneshotWatcher),
    Other(Change),
}
