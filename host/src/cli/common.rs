//! The options that commands share, and what they open with them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use proto::interfaces::configurations::ClusterConfiguration;

use super::zookeeper;
use crate::error::{Code, Error, Result};
use crate::observe::Status;
use crate::observe::server::Server;
use crate::registry::{Cluster, Ensemble, SESSION_TIMEOUT};

/// The longest time that an option takes: ten years are for ever, and no clock overflows.
pub const SECONDS_MAX: u64 = 10 * 365 * 24 * 60 * 60;

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Name of the cluster: it owns /NAME in ZooKeeper and the schema pgshovel_NAME in its databases.
    #[arg(long, global = true, env = "PGSHOVEL_CLUSTER", default_value = "default", value_name = "NAME")]
    pub cluster: String,

    /// ZooKeeper servers and, optionally, a chroot: host:port[,host:port…][/path].
    #[arg(long, global = true, env = "PGSHOVEL_ZOOKEEPER_HOSTS", default_value = "localhost:2181", value_name = "HOSTS")]
    pub zookeeper_hosts: String,

    /// How this process connects to the databases of sets, in libpq's form: user, password, TLS and
    /// other keywords take the place of those in a set's connection string; the name of the database
    /// stays. `relay` and `replicate`, which serve one set, connect to its host too, if it has one; other
    /// commands use it for databases on its hosts only, or for all if it has none. A password
    /// takes a host beside it. PGPASSWORD is sent to those servers alone that this, PGHOST or a
    /// file given to the command names.
    #[arg(long, global = true, env = "PGSHOVEL_SOURCE_DSN", hide_env_values = true, value_name = "DSN")]
    pub source_dsn: Option<Sensitive>,

    #[command(flatten)]
    pub zookeeper: zookeeper::Arguments,

    /// What to log: error, warn, info, debug, trace, or directives such as `info,pgshovel::relay=debug`.
    #[arg(long, global = true, env = "PGSHOVEL_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,

    /// How to log, on standard error.
    #[arg(long, global = true, env = "PGSHOVEL_LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

impl Common {
    /// ZooKeeper, as this process is to use it.
    pub fn ensemble(&self) -> Result<Ensemble> {
        Ok(Ensemble { hosts: self.zookeeper_hosts.clone(), session_timeout: SESSION_TIMEOUT, access: self.zookeeper.access()? })
    }

    /// A session with the cluster.
    pub async fn connect(&self) -> Result<Cluster> {
        self.ensemble()?.connect(&self.cluster).await
    }

    /// A session with the cluster, and its configuration, for a command that changes something.
    pub async fn open(&self) -> Result<(Cluster, ClusterConfiguration)> {
        let cluster = self.connect().await?;
        let configuration = cluster.configuration().await?;
        if configuration.id.is_none() {
            return Err(Error::configure(
                Code::ClusterOfOriginal,
                format!("the cluster {:?} was made by pgshovel 2015; run `cluster upgrade`", self.cluster),
            ));
        }
        Ok((cluster, configuration))
    }
}

/// Options of the commands that run until they are stopped.
#[derive(Args, Clone, Debug)]
pub struct Following {
    /// Serve over HTTP, at this address: /healthz (200 while the process lives), /readyz (200 when it
    /// works or stands by, 503 when it waits for something; what for is in the answer, as JSON) and
    /// /metrics (for Prometheus). Not served unless it is given. There is no password: give an
    /// address that only your own network reaches.
    #[arg(long, env = "PGSHOVEL_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// After as long without a word from this process ZooKeeper lets another one lead: a standby
    /// takes over within twice this time. ZooKeeper's servers bound it (minSessionTimeout, maxSessionTimeout).
    #[arg(long, env = "PGSHOVEL_SESSION_TIMEOUT", default_value_t = SESSION_TIMEOUT.as_secs(), value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub session_timeout: u64,
}

impl Following {
    pub fn ensemble(&self, common: &Common) -> Result<Ensemble> {
        Ok(Ensemble { session_timeout: Duration::from_secs(self.session_timeout), ..common.ensemble()? })
    }

    /// Runs `work`, which writes `status`, and serves beside it, if that is asked for.
    pub async fn follow(&self, status: Status, work: impl Future<Output = Result<()>>) -> Result<()> {
        match self.listen {
            Some(address) => Server::bind(address, status).await?.beside(work).await,
            None => work.await,
        }
    }
}

/// A text that no log may show.
#[derive(Clone)]
pub struct Sensitive(pub String);

impl From<&str> for Sensitive {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Human,
    /// One JSON object per line.
    Json,
}
