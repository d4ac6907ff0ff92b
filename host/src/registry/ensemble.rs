//! The servers of ZooKeeper: how to connect, and how a cluster is made there.

use std::time::Duration;

use prost::Message as _;
use proto::interfaces::configurations::ClusterConfiguration;
use zookeeper_client as zookeeper;

use super::access::{self, Access};
use super::answer::{WRITES_MAX, explain};
use super::cluster::Cluster;
use super::tls::Tls;
use super::version::VERSION;
use super::znode::{Failure, Write};
use crate::error::{Code, Error, Result};
use crate::names;

/// What a session is asked to survive without a word between us and ZooKeeper,
/// unless the operator says otherwise; the server may grant less or more.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the first connection may take, over all servers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// ZooKeeper's own, where none is given.
const PORT: u16 = 2181;

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
            Ok(Err(zookeeper::Error::AuthFailed)) => return Err(Error::configure(Code::RegistryDenied, access::refused(hosts, access))),
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
        Error::usage(
            Code::RegistryOptions,
            format!("the ZooKeeper hosts {:?} are not valid: {cause}; give host:port[,host:port…][/path]", self.hosts),
        )
    }

    /// Why no session came about in time.
    async fn unanswered(&self, servers: Vec<(String, u16)>) -> Error {
        let hosts = &self.hosts;
        match self.access.tls() {
            Some(tls) => match tls.diagnose(servers).await {
                Some(wrong) => Error::configure(Code::RegistryTls, wrong),
                None => Error::retry(
                    Code::RegistryAway,
                    format!("no ZooKeeper server answered at {hosts:?} in time, with TLS; see that one runs, and --zookeeper-hosts"),
                ),
            },
            None => Error::retry(
                Code::RegistryAway,
                format!(
                    "no ZooKeeper server answered at {hosts:?} in time; see that one runs, --zookeeper-hosts, and whether it wants TLS (--zookeeper-tls-ca)"
                ),
            ),
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

/// A chroot that ends in a slash is one without.
fn without_slash(hosts: &str) -> &str {
    hosts.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart() {
        let expected = [("a".to_owned(), 2181), ("b".to_owned(), 1), ("::1".to_owned(), 2), ("::1".to_owned(), 2181)];
        assert_eq!(servers("a,b:1,[::1]:2,[::1]/x/y"), expected);
    }
}
