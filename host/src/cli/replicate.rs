//! `pgshovel replicate CONFIG SET`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::value_parser;
use proto::batch::step::Options;
use uuid::Uuid;

use super::common::{Common, Following, SECONDS_MAX};
use super::plugin::Host;
use super::signal;
use crate::capabilities::origin::Snapshot;
use crate::config::{self, ReplicateConfiguration};
use crate::error::{Error, Result};
use crate::plugins::{Context, Engine, Role, check, loader, stream, target, transform};
use crate::ports::opening::{Origin, WorkerPorts};
use crate::ports::registry::StoredSet;
use crate::replicate::progress::Progress;
use crate::replicate::{self, Part, Worker};
use crate::supervise::{Assignment, supervise};

/// Brings a replication set into the target of the section `target`, and keeps it
/// there: loads the rows of its tables as of one snapshot, through the section
/// `loader`, if the target has no state yet and its tables are empty; then applies what the section `stream`
/// brings, batch after batch, each with the state behind it.
///
/// One worker of a set works at a time; others that are started stand by and take
/// over. Servers that are away are waited for. The command ends with 0 when it is
/// asked to (SIGINT, SIGTERM). It goes on when the set is dropped, since the stream
/// may still hold changes.
///
/// A row that does not fit the target is named by its event, which `pgshovel stream show`
/// prints with the row's key, and by a digest of its key. No value of a row is logged.
///
/// While it works it logs, at most every two seconds: "loaded" for a table, with the
/// fields table, rows, estimated, rows_per_second and eta_seconds; "replicated", with
/// the fields rows, mutations and batches (since its start), tick and lag_seconds. Both,
/// and "phase" when it changes, have the field phase: bootstrap, catching-up, streaming.
/// At its end it logs a line "ended" with the same counts.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The YAML file with the sections `stream`, `loader`, `target` and, optionally, `transforms`.
    pub configuration: PathBuf,
    /// The replication set.
    pub set: String,
    /// Load the target anew, in place of what its tables hold, even if it has a state, or rows and no
    /// state. Once: leave it out the next time.
    #[arg(long)]
    pub bootstrap: bool,
    /// Let the stream change, once, to this node: the UUID of a database that replaces the one
    /// before as a logical copy of it. Of the present node: let another copy of it take over, as
    /// after pg_upgrade.
    #[arg(long, value_name = "UUID")]
    pub allow_node: Option<Uuid>,
    /// Let the epoch of the stream's relays fall, once, to this one, which the worker's error names:
    /// where the stream holds a higher one, of a set before or of another program.
    #[arg(long, value_name = "EPOCH")]
    pub allow_epoch: Option<u64>,
    /// How many messages may pass before the first one that begins a batch, in a stream whose
    /// oldest messages are no longer retained.
    #[arg(long, env = "PGSHOVEL_PRIMING_MESSAGES", default_value_t = Options::default().priming_messages_max, value_name = "COUNT")]
    pub priming_messages: u64,
    /// How long the batch that is being applied may take to end once the worker is asked to stop;
    /// after that it is rolled back, and applied again at the next start.
    #[arg(long, env = "PGSHOVEL_GRACE_PERIOD", default_value_t = 10, value_name = "SECONDS", value_parser = value_parser!(u64).range(..=SECONDS_MAX))]
    pub grace_period: u64,
    #[command(flatten)]
    pub following: Following,
    #[command(flatten)]
    pub plugins: Host,
}

/// What the sections of the configuration name.
struct Configured {
    engine: Engine,
    sections: ReplicateConfiguration,
    context: Context,
}

impl WorkerPorts for Configured {
    type Stream = stream::Stream;
    type Loader = loader::Loader;
    type Target = target::Target;
    type Transform = transform::Transform;

    async fn stream(&mut self) -> Result<stream::Stream> {
        stream::open(&self.engine, &self.sections.stream, &self.context).await
    }

    async fn target(&mut self) -> Result<target::Target> {
        target::open(&self.engine, &self.sections.target, &self.context).await
    }

    async fn transforms(&mut self) -> Result<Vec<transform::Transform>> {
        let mut transforms = Vec::new();
        for section in &self.sections.transforms {
            transforms.push(transform::open(&self.engine, section, &self.context).await?);
        }
        Ok(transforms)
    }

    async fn loader(&mut self, set: &StoredSet) -> Result<(Origin, loader::Loader)> {
        let Context { cluster, set: name } = &self.context;
        let snapshot = Snapshot::open(cluster, name, &set.configuration).await?;
        let origin = origin(cluster, name, &snapshot)?;
        let loader = loader::open(&self.engine, &self.sections.loader, &self.context, Arc::new(snapshot)).await?;
        Ok((origin, loader))
    }
}

fn origin(cluster: &str, set: &str, snapshot: &Snapshot) -> Result<Origin> {
    let state = snapshot.state();
    let source = state.node.source(cluster, set);
    let snapshot = proto::snapshot::parse(&state.snapshot).map_err(|error| Error::bug(error.to_string()))?;
    Ok(Origin { source, snapshot, opened_us: state.opened_us })
}

pub async fn run(common: &Common, arguments: &Arguments) -> Result<()> {
    let sections = config::replicate(&arguments.configuration)?;
    let ensemble = arguments.following.ensemble(common)?;
    let context = Context { cluster: common.cluster.clone(), set: arguments.set.clone() };
    let engine = arguments.plugins.engine()?;
    for (section, role) in [(&sections.stream, Role::Stream), (&sections.loader, Role::Loader), (&sections.target, Role::Target)] {
        check(&engine, section, role).await?;
    }
    for section in &sections.transforms {
        check(&engine, section, Role::Transform).await?;
    }
    let ports = Configured { engine, sections, context };
    let assignment = replicate::Assignment {
        cluster: common.cluster.clone(),
        set: arguments.set.clone(),
        bootstrap: arguments.bootstrap,
        reader: Options {
            priming_messages_max: arguments.priming_messages,
            node_change: arguments.allow_node.map(Uuid::into_bytes),
            epoch_change: arguments.allow_epoch,
            owner: Some((common.cluster.clone(), arguments.set.clone())),
        },
        part: Part::default(),
    };
    let grace = Duration::from_secs(arguments.grace_period);
    let mut stop = signal::stop_on_signals(grace)?;
    let mut worker = Worker { ports, assignment, progress: Progress::new(&arguments.set) };
    let status = worker.progress.status().clone();
    status.ends_with(&stop);
    let assignment = Assignment { cluster: common.cluster.clone(), set: arguments.set.clone(), grace };
    let work = supervise(&ensemble, &mut worker, &assignment, &mut stop, rand::random);
    let result = arguments.following.follow(status, work).await;
    worker.progress.ended();
    result
}
