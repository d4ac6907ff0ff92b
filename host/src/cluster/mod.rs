//! The cluster in ZooKeeper: its configuration, its sets, leadership, and the
//! protocols that change databases and ZooKeeper together.
//!
//! The only module that uses a ZooKeeper client.

pub mod admin;
mod apply;
pub mod change;
pub mod lease;
pub mod name;
pub mod pending;
pub mod plan;
pub mod recover;
pub mod set;
pub mod validate;
pub mod watch;
mod znode;

use std::time::Duration;

use prost::Message as _;
use proto::interfaces::configurations::ClusterConfiguration;
use zookeeper_client as zookeeper;

use crate::error::{Error, Result};
use crate::nearest::advice;

pub use set::{Revision, StoredSet};
use znode::{Failure, Write};

/// What the log takes of the ZooKeeper client, unless the operator says otherwise:
/// it tells of every connection.
pub const LOG_FILTER: &str = "zookeeper_client=warn";

/// What a session is asked to survive without a word between us and ZooKeeper,
/// unless the operator says otherwise; the server may grant less or more.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the first connection may take, over all servers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a read is repeated whose connection broke.
const READS_MAX: u32 = 10;

/// How often a write is, whose reply was lost and which turned out not to be there.
const WRITES_MAX: u32 = 10;

/// Nodes are readable and writable by whoever reaches ZooKeeper, as before:
/// what guards them is the network.
const ACLS: zookeeper::Acls<'static> = zookeeper::Acls::anyone_all();

/// ZooKeeper, as relays and workers use it: who leads is told by sessions.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// As [`Cluster::connect`] takes them.
    pub hosts: String,
    /// After as long without a word another process may lead.
    pub session_timeout: Duration,
}

impl Ensemble {
    /// See [`Cluster::connect`].
    pub async fn connect(&self, name: &str) -> Result<Cluster> {
        Cluster::connect_for(&self.hosts, name, self.session_timeout).await
    }
}

/// A session with ZooKeeper, and the cluster in it. After the session is lost
/// every call fails with `Retry`: connect anew.
#[derive(Clone, Debug)]
pub struct Cluster {
    client: zookeeper::Client,
    name: String,
    hosts: String,
}

impl Cluster {
    /// Connects to `hosts`, a list `host:port[,host:port…][/chroot]`. Does not
    /// ask whether the cluster exists. `Retry` if no server answers in time.
    pub async fn connect(hosts: &str, name: &str) -> Result<Self> {
        Self::connect_for(hosts, name, SESSION_TIMEOUT).await
    }

    async fn connect_for(hosts: &str, name: &str, session_timeout: Duration) -> Result<Self> {
        name::check_cluster(name)?;
        let hosts = without_slash(hosts);
        let connector = zookeeper::Client::connector().with_session_timeout(session_timeout);
        let client = match tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(hosts)).await {
            Ok(Ok(client)) => client,
            Ok(Err(zookeeper::Error::BadArguments(cause))) => {
                return Err(Error::usage(format!(
                    "the ZooKeeper hosts {hosts:?} are not valid: {cause}; give host:port[,host:port…][/path]"
                )));
            }
            Ok(Err(zookeeper::Error::Timeout | zookeeper::Error::NoHosts)) | Err(_) => {
                return Err(Error::retry(format!(
                    "no ZooKeeper server answered at {hosts:?} in time; see that one runs, and --zookeeper-hosts"
                )));
            }
            Ok(Err(error)) => return Err(explain(&error).context(format!("cannot connect to ZooKeeper at {hosts:?}"))),
        };
        Ok(Self { client, name: name.to_owned(), hosts: hosts.to_owned() })
    }

    /// Creates the chroot in `hosts` and the cluster, as far as they are missing.
    /// Returns its configuration, and whether it was created now.
    pub async fn initialize(hosts: &str, name: &str) -> Result<(Self, ClusterConfiguration, bool)> {
        let hosts = without_slash(hosts);
        if let Some((servers, chroot)) = hosts.split_once('/').filter(|(_, chroot)| !chroot.is_empty()) {
            Self::connect(servers, name).await?.ensure(&format!("/{chroot}")).await?;
        }
        let cluster = Self::connect(hosts, name).await?;
        let configuration = ClusterConfiguration { version: VERSION.to_owned(), id: Some(uuid::Uuid::new_v4().to_string()) };
        let writes = [Write::Create(cluster.path(), configuration.encode_to_vec()), Write::Create(cluster.sets_path(), Vec::new())];
        for _ in 0..WRITES_MAX {
            match cluster.write(&writes).await {
                Ok(()) | Err(Failure::Refused) => break,
                Err(Failure::Unknown) => {}
                Err(Failure::Failed(error)) => return Err(error),
            }
        }
        let found = cluster.configuration_of_any_version().await?;
        cluster.ensure(&cluster.sets_path()).await?;
        let created = found.id == configuration.id;
        Ok((cluster, found, created))
    }

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
                Err(Failure::Refused) => return Err(Error::retry("the cluster was changed by another command meanwhile; try again")),
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
        name::check_set(name)?;
        if let Some(set) = self.find_set(name).await? {
            return Ok(set);
        }
        let known = self.set_names().await?;
        let advice =
            if known.is_empty() { "create it with `set create`".to_owned() } else { advice(name, known.iter().map(String::as_str)) };
        Err(Error::configure(format!("the set {name:?} does not exist in the cluster {:?}; {advice}", self.name)))
    }

    /// As `set`, but `None` if there is no such set.
    pub async fn find_set(&self, name: &str) -> Result<Option<StoredSet>> {
        match self.read(&self.set_path(name)).await? {
            Some((data, stat)) => StoredSet::decode(name, &data, revision(&stat)).map(Some),
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
    fn unanswered(&self) -> Error {
        Error::retry(format!("the connection to ZooKeeper at {:?} breaks again and again", self.hosts))
    }

    fn absent(&self) -> Error {
        Error::configure(format!(
            "the cluster {name:?} does not exist in ZooKeeper at {hosts:?}; create it with `pgshovel --cluster {name} --zookeeper-hosts {hosts} cluster initialize`",
            name = self.name,
            hosts = self.hosts
        ))
    }

    fn path(&self) -> String {
        format!("/{}", self.name)
    }

    fn sets_path(&self) -> String {
        format!("/{}/sets", self.name)
    }

    fn set_path(&self, set: &str) -> String {
        format!("/{}/sets/{set}", self.name)
    }

    fn leaders_path(&self, set: &str) -> String {
        format!("/{}/leaders/{set}", self.name)
    }

    /// Data and state of a node, or `None` if there is none.
    async fn read(&self, path: &str) -> Result<Option<(Vec<u8>, zookeeper::Stat)>> {
        for _ in 1..READS_MAX {
            match self.client.get_data(path).await {
                Err(error) if broken(&error) => {}
                result => return self.found(result),
            }
        }
        self.found(self.client.get_data(path).await)
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>> {
        for _ in 1..READS_MAX {
            match self.client.list_children(path).await {
                Err(error) if broken(&error) => {}
                result => return self.found(result),
            }
        }
        self.found(self.client.list_children(path).await)
    }

    /// Creates a persistent, empty node and those above it, as far as they are missing.
    async fn ensure(&self, path: &str) -> Result<()> {
        let options = zookeeper::CreateMode::Persistent.with_acls(ACLS);
        for _ in 1..READS_MAX {
            match self.client.mkdir(path, &options).await {
                Err(error) if broken(&error) => {}
                result => return result.map_err(|error| self.explain(&error)),
            }
        }
        self.client.mkdir(path, &options).await.map_err(|error| self.explain(&error))
    }

    fn found<T>(&self, result: std::result::Result<T, zookeeper::Error>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(zookeeper::Error::NoNode) => Ok(None),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &zookeeper::Error) -> Error {
        explain(error).context(format!("ZooKeeper at {:?}", self.hosts))
    }
}

/// The connection broke, and the client makes another one: what was asked can be
/// asked again, and waits for it; what was written is there, or is not.
const fn broken(error: &zookeeper::Error) -> bool {
    // The client passes on what the operating system said as it came.
    matches!(error, zookeeper::Error::ConnectionLoss | zookeeper::Error::Custom(_))
}

const fn revision(stat: &zookeeper::Stat) -> Revision {
    Revision { created: stat.czxid, version: stat.version }
}

/// A chroot that ends in a slash is one without.
fn without_slash(hosts: &str) -> &str {
    hosts.trim_end_matches('/')
}

fn decode_cluster(name: &str, data: &[u8]) -> Result<ClusterConfiguration> {
    ClusterConfiguration::decode(data).map_err(|error| {
        Error::configure(format!(
            "what ZooKeeper holds at /{name} is no configuration of a cluster: {error}; choose another --cluster or chroot"
        ))
    })
}

/// The version that this program writes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether this program can work in a cluster of `version`: the first number is
/// its own, and while that is 0 the second one too.
#[must_use]
pub fn speaks(version: &str) -> bool {
    let series = |version: &str| {
        let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(0)), Some(Ok(minor))) => Some((0, minor)),
            (Some(Ok(major)), _) if major > 0 => Some((major, 0)),
            _ => None,
        }
    };
    series(version).is_some() && series(version) == series(VERSION)
}

fn check_spoken(name: &str, configuration: &ClusterConfiguration) -> Result<()> {
    if speaks(&configuration.version) {
        return Ok(());
    }
    Err(Error::configure(format!(
        "the cluster {name:?} is of version {:?}, this is pgshovel {VERSION}; run the pgshovel of that version, or `cluster upgrade` with this one",
        configuration.version
    )))
}

/// Names a ZooKeeper error by what to do next.
fn explain(error: &zookeeper::Error) -> Error {
    use zookeeper::Error as Cause;
    match error {
        Cause::NoAuth | Cause::AuthFailed | Cause::InvalidAcl => Error::configure(format!("refused: {error}")),
        Cause::QuotaExceeded => Error::stop(format!("refused: {error}")),
        Cause::BadArguments(_) | Cause::UnmarshalError { .. } | Cause::MarshallingError | Cause::Unimplemented => {
            Error::bug(error.to_string())
        }
        _ => Error::retry(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_same_series_are_spoken() {
        assert!(speaks(VERSION));
        assert!(speaks("0.1.99"));
        for other in ["0.2.0", "1.0.0", "", "x", "0"] {
            assert!(!speaks(other), "{other}");
        }
    }
}
