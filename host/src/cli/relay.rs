//! `pgshovel relay CONFIG SET`

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::value_parser;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::common::{Common, Following, SECONDS_MAX};
use super::plugin::Host;
use super::queue::QUEUE_BYTES_MAX;
use super::signal;
use crate::admin::recover::keep_watch;
use crate::config::{self, Section};
use crate::error::Result;
use crate::plugins::{Context, Engine, Role, check, stream, writer};
use crate::ports::opening::RelayPorts;
use crate::ports::registry::StoredSet;
use crate::postgres::own;
use crate::postgres::queue::{Queue, Settings, backlog};
use crate::relay::progress::Progress;
use crate::relay::run::Push;
use crate::relay::{self, Relay};
use crate::supervise::{Assignment, supervise};

/// Reads the batches of the set's PgQ queue and publishes them through the writer
/// of the section `stream`. One relay of a set works at a time; others that are
/// started stand by and take over. Servers that are away are waited for. The
/// command ends with 0 when it is asked to (SIGINT, SIGTERM) or the set is dropped.
///
/// The relay makes the queue's ticks, rotates its tables and keeps its epoch beside it, for which the role that it
/// connects as (--source-dsn, or else the set's connection string) needs what
/// `pgshovel set create --relay-role` grants. PgQ's daemon pgqd may
/// serve the database beside it, for other queues: it leaves this one alone.
///
/// A queue that takes more disk than --queue-bytes-max is warned of, by a relay that
/// stands by too; where no relay runs, `pgshovel set check` tells.
///
/// While it works it logs a line "relayed" at most every two seconds, with the
/// fields batches, mutations and bytes (since its start), tick and lag_seconds; and
/// at its end a line "ended" with the same counts.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The YAML file with the section `stream`.
    pub configuration: PathBuf,
    /// The replication set.
    pub set: String,
    /// The name of the consumer in PgQ.
    #[arg(long, env = "PGSHOVEL_CONSUMER_ID", default_value = "default", value_name = "NAME")]
    pub consumer_id: String,
    /// How long the batch that is being published may take to end once the relay is asked to stop;
    /// after that it is rolled back, and the next relay publishes it again.
    #[arg(long, env = "PGSHOVEL_GRACE_PERIOD", default_value_t = 10, value_name = "SECONDS", value_parser = value_parser!(u64).range(..=SECONDS_MAX))]
    pub grace_period: u64,
    /// How often to rotate the queue's tables, which frees the space of what was relayed; 0: never.
    #[arg(long, env = "PGSHOVEL_ROTATION_PERIOD", default_value_t = 7200, value_name = "SECONDS", value_parser = value_parser!(u64).range(..=SECONDS_MAX))]
    pub rotation_period: u64,
    /// Warn when the queue's tables take more bytes of disk than this; 0: never.
    #[arg(long, env = "PGSHOVEL_QUEUE_BYTES_MAX", default_value_t = QUEUE_BYTES_MAX, value_name = "BYTES")]
    pub queue_bytes_max: u64,
    #[command(flatten)]
    pub following: Following,
    #[command(flatten)]
    pub plugins: Host,
}

/// What the set and the section `stream` name.
struct Configured {
    engine: Engine,
    stream: Section,
    context: Context,
    /// But for what depends on the set as it is when it is read.
    queue: Settings,
}

impl Configured {
    fn settings(&self, set: &StoredSet) -> Settings {
        Settings { dsn: own::of_set(&set.configuration.database.dsn), ..self.queue.clone() }
    }
}

impl RelayPorts for Configured {
    type Queue = Queue;
    type Writer = writer::Writer;

    async fn queue(&mut self, set: &StoredSet, epoch_min: u64, leads: impl Future<Output = bool> + Send) -> Result<Queue> {
        Queue::open(self.settings(set), epoch_min, leads).await
    }

    async fn writer(&mut self) -> Result<writer::Writer> {
        writer::open(&self.engine, &self.stream, &self.context).await
    }

    /// To open a writer is to take the stream from the one that writes. To open a reader is not,
    /// and shows the same mistakes, where the component has both roles.
    async fn check_writer(&mut self) -> Result<()> {
        check(&self.engine, &self.stream, Role::Writer).await?;
        if check(&self.engine, &self.stream, Role::Stream).await.is_ok() {
            stream::open(&self.engine, &self.stream, &self.context).await?;
        }
        Ok(())
    }

    async fn check_queue(&mut self, set: &StoredSet) -> Result<()> {
        Queue::check(self.settings(set)).await
    }

    fn look(&self, set: &StoredSet) -> impl Future<Output = Infallible> + Send + use<> {
        backlog::follow(Arc::new(self.settings(set)), backlog::STANDBY_EVERY)
    }
}

pub async fn run(common: &Common, arguments: &Arguments) -> Result<()> {
    let configuration = config::relay(&arguments.configuration)?;
    let context = Context { cluster: common.cluster.clone(), set: arguments.set.clone() };
    let engine = arguments.plugins.engine()?;
    check(&engine, &configuration.stream, Role::Writer).await?;
    let (cluster, set) = (common.cluster.clone(), arguments.set.clone());
    let grace = Duration::from_secs(arguments.grace_period);
    let ensemble = arguments.following.ensemble(common)?;
    let progress = Progress::new(&set);
    let status = progress.status().clone();
    let queue = Settings {
        dsn: String::new(),
        cluster: cluster.clone(),
        set: set.clone(),
        consumer: arguments.consumer_id.clone(),
        rotation_period: Duration::from_secs(arguments.rotation_period),
        queue_bytes_max: Some(arguments.queue_bytes_max).filter(|bytes_max| *bytes_max > 0),
        status: status.clone(),
    };
    let ports = Configured { engine, stream: configuration.stream, context, queue };
    let assignment = relay::Assignment { push: Push::default(), publisher: |_| Uuid::new_v4().into_bytes() };
    let mut relay = Relay::new(ports, assignment, progress);
    let mut stop = signal::stop_on_signals(grace)?;
    status.ends_with(&stop);
    let assignment = Assignment { cluster, set, grace };
    let work = supervise(&ensemble, &mut relay, &assignment, &mut stop, rand::random);
    // Beside the work, since it may be what the work waits for. Ends with this.
    let mut janitor = JoinSet::new();
    let (registry, cluster) = (ensemble.clone(), common.cluster.clone());
    janitor.spawn(async move { keep_watch(&registry, &cluster).await });
    let result = arguments.following.follow(status, work).await;
    relay.progress.ended();
    result
}
