//! `pgshovel relay CONFIG SET`

use std::path::PathBuf;
use std::time::Duration;

use clap::value_parser;

use super::common::{Common, Following, SECONDS_MAX};
use super::plugin::Host;
use super::queue::QUEUE_BYTES_MAX;
use super::signal;
use crate::config::{self, Section};
use crate::error::Result;
use crate::plugins::{Context, Engine, Role, check, writer};
use crate::relay::progress::Progress;
use crate::relay::supervise::{Assignment, Plugins, supervise};

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

/// The writer of the section `stream`.
struct Configured {
    engine: Engine,
    stream: Section,
    context: Context,
}

impl Plugins for Configured {
    type Writer = writer::Writer;

    async fn writer(&mut self) -> Result<writer::Writer> {
        writer::open(&self.engine, &self.stream, &self.context).await
    }
}

pub async fn run(common: &Common, arguments: &Arguments) -> Result<()> {
    let configuration = config::relay(&arguments.configuration)?;
    let context = Context { cluster: common.cluster.clone(), set: arguments.set.clone() };
    let engine = arguments.plugins.engine()?;
    check(&engine, &configuration.stream, Role::Writer).await?;
    let mut plugins = Configured { engine, stream: configuration.stream, context };
    let assignment = Assignment {
        ensemble: arguments.following.ensemble(common)?,
        cluster: common.cluster.clone(),
        set: arguments.set.clone(),
        consumer: arguments.consumer_id.clone(),
        grace: Duration::from_secs(arguments.grace_period),
        rotation_period: Duration::from_secs(arguments.rotation_period),
        queue_bytes_max: Some(arguments.queue_bytes_max).filter(|bytes_max| *bytes_max > 0),
    };
    let mut stop = signal::stop_on_signals(assignment.grace)?;
    let mut progress = Progress::new(&arguments.set);
    let status = progress.status().clone();
    status.ends_with(&stop);
    let work = supervise(&mut plugins, &assignment, &mut stop, &mut progress, rand::random);
    let result = arguments.following.follow(status, work).await;
    progress.ended();
    result
}
