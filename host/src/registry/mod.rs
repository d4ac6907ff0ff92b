//! The cluster in ZooKeeper: its configuration, its sets, who leads, and the changes
//! that are in flight.
//!
//! The only module that uses a ZooKeeper client.

pub mod access;
pub mod lease;
pub mod pending;
pub mod set;
pub mod tls;
pub mod watch;
pub mod znode;

use std::time::Duration;

use prost::Message as _;
use proto::interfaces::configurations::ClusterConfiguration;
use zookeeper_client as zookeeper;

use crate::error::{Error, Result};
use crate::names;
use crate::nearest::advice;

pub use crate::ports::registry::{Revision, StoredSet};
use access::Access;
use tls::Tls;
use znode::{Failure, Write};

/// What the log takes of the ZooKeeper client, unless the operator says otherwise:
/// it tells of every connection.
pub const LOG_FILTER: &str = "zookeeper_client=warn";

/// What a session is asked to survive without a word between us and ZooKeeper,
/// unless the operator says otherwise; the server may grant less or more.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the first connection may take, over all servers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// ZooKeeper's own, where none is given.
const PORT: u16 = 2181;

/// How often a read is repeated whose connection broke.
const READS_MAX: u32 = 10;

/// How often a write is, whose reply was lost and which turned out not to be there.
const WRITES_MAX: u32 = 10;

/// ZooKeeper, as a process of this cluster uses it.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// A list `host:port[,host:port…][/chroot]`.
    pub hosts: String,
    /// After as long without a word another process may lead.
    pub session_timeout: Duration,
    pub access: Access,
}

impl Ensemble {
    /// Without credentials, in the clear.
    pub fn at(hosts: impl Into<String>) -> Self {
        Self { hosts: hosts.into(), session_timeout: SESSION_TIMEOUT, access: Access::default() }
    }

    /// Connects. Does not ask whether the cluster exists. `Retry` if no server answers
    /// in time, `Configure` if one refuses us, or is not to be trusted.
    pub async fn connect(&self, name: &str) -> Result<Cluster> {
        names::check_cluster(name)?;
        let Self { access, session_timeout, .. } = self;
        let hosts = without_slash(&self.hosts);
        let servers = self.servers()?;
        let connector = access.connector(*session_timeout);
        let connecting =
            async { if access.tls().is_some() { connector.secure_connect(hosts).await } else { connector.connect(hosts).await } };
        let client = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(zookeeper::Error::BadArguments(cause))) => return Err(self.invalid(cause)),
            Ok(Err(zookeeper::Error::AuthFailed)) => return Err(Error::configure(access::refused(hosts, access))),
            Ok(Err(zookeeper::Error::Timeout | zookeeper::Error::NoHosts)) | Err(_) => return Err(self.unanswered(servers).await),
            Ok(Err(error)) => return Err(explain(&error).context(format!("cannot connect to ZooKeeper at {hosts:?}"))),
        };
        let cluster = Cluster { client, name: name.to_owned(), hosts: hosts.to_owned(), access: access.clone() };
        cluster.check_identity().await?;
        Ok(cluster)
    }

    /// Host and port of each server.
    fn servers(&self) -> Result<Vec<(String, u16)>> {
        if self.hosts.contains("://") {
            return Err(self.invalid("TLS is switched on by --zookeeper-tls-ca"));
        }
        let servers = servers(&self.hosts);
        match servers.iter().find(|(host, _)| self.access.tls().is_some() && !Tls::takes(host)) {
            Some((host, _)) => Err(self.invalid(&format!("no certificate can be for {host:?}"))),
            None => Ok(servers),
        }
    }

    fn invalid(&self, cause: &str) -> Error {
        Error::usage(format!("the ZooKeeper hosts {:?} are not valid: {cause}; give host:port[,host:port…][/path]", self.hosts))
    }

    /// Why no session came about in time.
    async fn unanswered(&self, servers: Vec<(String, u16)>) -> Error {
        let hosts = &self.hosts;
        match self.access.tls() {
            Some(tls) => match tls.diagnose(servers).await {
                Some(wrong) => Error::configure(wrong),
                None => Error::retry(format!(
                    "no ZooKeeper server answered at {hosts:?} in time, with TLS; see that one runs, and --zookeeper-hosts"
                )),
            },
            None => Error::retry(format!(
                "no ZooKeeper server answered at {hosts:?} in time; see that one runs, --zookeeper-hosts, and whether it wants TLS (--zookeeper-tls-ca)"
            )),
        }
    }

    /// Creates the chroot in `hosts` and the cluster, as far as they are missing.
    /// Returns its configuration, and whether it was created now.
    pub async fn initialize(&self, name: &str) -> Result<(Cluster, ClusterConfiguration, bool)> {
        self.servers()?;
        if let Some((servers, chroot)) = without_slash(&self.hosts).split_once('/').filter(|(_, chroot)| !chroot.is_empty()) {
            let above = Self { hosts: servers.to_owned(), ..self.clone() };
            above.connect(name).await?.ensure(&format!("/{chroot}")).await?;
        }
        let cluster = self.connect(name).await?;
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
}

/// A session with ZooKeeper, and the cluster in it. After the session is lost
/// every call fails with `Retry`: connect anew.
#[derive(Clone, Debug)]
pub struct Cluster {
    client: zookeeper::Client,
    name: String,
    hosts: String,
    access: Access,
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
        names::check_set(name)?;
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

    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    fn sets_path(&self) -> String {
        format!("/{}/sets", self.name)
    }

    pub(crate) fn set_path(&self, set: &str) -> String {
        format!("/{}/sets/{set}", self.name)
    }

    fn leaders_path(&self, set: &str) -> String {
        format!("/{}/leaders/{set}", self.name)
    }

    /// The nodes of sets' leaders go with their set; a standby's goes with its session.
    pub(crate) async fn remove_leaders(&self, set: &str) {
        if let Err(error) = self.client.delete(&self.leaders_path(set), None).await {
            tracing::debug!(%error, "the leaders' node stays");
        }
    }

    /// Data and state of a node, or `None` if there is none.
    async fn read(&self, path: &str) -> Result<Option<(Vec<u8>, zookeeper::Stat)>> {
        self.found(path, again(|| self.client.get_data(path)).await)
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>> {
        self.found(path, again(|| self.client.list_children(path)).await)
    }

    /// Creates a persistent, empty node and those above it, as far as they are missing.
    async fn ensure(&self, path: &str) -> Result<()> {
        // Whoever may not create it may still use one that is there.
        if self.found(path, again(|| self.client.check_stat(path)).await)?.flatten().is_some() {
            return Ok(());
        }
        let options = zookeeper::CreateMode::Persistent.with_acls(self.access.acls());
        again(|| self.client.mkdir(path, &options)).await.map_err(|error| self.explain(path, &error))
    }

    fn found<T>(&self, path: &str, result: std::result::Result<T, zookeeper::Error>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(zookeeper::Error::NoNode) => Ok(None),
            Err(error) => Err(self.explain(path, &error)),
        }
    }
}

/// Asks again while the connection breaks, up to [`READS_MAX`] times in all.
async fn again<T, F>(ask: impl Fn() -> F) -> std::result::Result<T, zookeeper::Error>
where
    F: Future<Output = std::result::Result<T, zookeeper::Error>>,
{
    for _ in 1..READS_MAX {
        match ask().await {
            Err(error) if broken(&error) => {}
            result => return result,
        }
    }
    ask().await
}

/// The servers of `host:port[,host:port…][/chroot]`.
fn servers(hosts: &str) -> Vec<(String, u16)> {
    let list = hosts.split('/').next().unwrap_or_default();
    let one = |server: &str| {
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(PORT)),
            _ => (server, PORT),
        };
        (host.trim_matches(['[', ']']).to_owned(), port)
    };
    list.split(',').filter(|server| !server.is_empty()).map(one).collect()
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
    fn servers_are_told_apart() {
        let expected = [("a".to_owned(), 2181), ("b".to_owned(), 1), ("::1".to_owned(), 2), ("::1".to_owned(), 2181)];
        assert_eq!(servers("a,b:1,[::1]:2,[::1]/x/y"), expected);
    }

    #[test]
    fn versions_of_the_same_series_are_spoken() {
        assert!(speaks(VERSION));
        assert!(speaks("0.1.99"));
        for other in ["0.2.0", "1.0.0", "", "x", "0"] {
            assert!(!speaks(other), "{other}");
        }
    }
}
