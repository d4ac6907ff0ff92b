//! What the commands on sets tell of queues, and `pgshovel set check …`

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::common::{Common, SECONDS_MAX};
use super::output::{ListFormat, print_json, print_table};
use crate::error::{Code, Error, Result};
use crate::names;
use crate::observe::backlog::{Backlog, Bounds, size};
use crate::observe::{fault, now_us};
use crate::ports::registry::{Condition, Report, Role};
use crate::postgres::queue::backlog;
use crate::registry::lease::Leader;
use crate::registry::{Cluster, StoredSet};

/// What a queue may take on disk unless the operator says otherwise: 10 GiB.
pub const QUEUE_BYTES_MAX: u64 = 10 << 30;

/// How long one database may take to be looked into.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub struct Check {
    /// The sets to check.
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// Check all sets of the cluster.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// How many bytes of disk the tables of a queue may take; 0: any number.
    #[arg(long, env = "PGSHOVEL_QUEUE_BYTES_MAX", default_value_t = QUEUE_BYTES_MAX, value_name = "BYTES")]
    queue_bytes_max: u64,
    /// How old the oldest event may be that a consumer has not read; unless it is given: any age.
    #[arg(long, env = "PGSHOVEL_LAG_MAX", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=SECONDS_MAX))]
    lag_max: Option<u64>,
    /// As what.
    #[arg(long, env = "PGSHOVEL_FORMAT", default_value = "table", value_name = "FORMAT")]
    format: ListFormat,
}

/// A set, and its queue or why it cannot be looked at.
pub struct Seen {
    pub set: StoredSet,
    pub queue: Result<Backlog>,
}

pub async fn look(cluster: &Cluster, set: &StoredSet) -> Result<Backlog> {
    let looking = backlog::visit(&set.configuration.database.dsn, cluster.name(), &set.name);
    let silent = |_| Err(Error::retry(Code::DatabaseAway, format!("the database has not answered for {} s", LOOK_TIMEOUT.as_secs())));
    tokio::time::timeout(LOOK_TIMEOUT, looking).await.unwrap_or_else(silent)
}

/// All at the same time.
pub async fn look_all(cluster: &Cluster, sets: Vec<StoredSet>) -> Vec<Seen> {
    let one = async |set: StoredSet| Seen { queue: look(cluster, &set).await, set };
    join_all(sets.into_iter().map(one)).await
}

impl Seen {
    /// Its fields `queue`, or `queue_error`.
    pub fn add_to(&self, object: &mut Value) {
        match &self.queue {
            Ok(queue) => object["queue"] = json!(queue),
            Err(error) => object["queue_error"] = json!(error.message),
        }
    }

    fn problem(&self, cluster: &Cluster, bounds: Bounds, worker: Option<&Leader>, now: u64) -> Option<String> {
        let mut said: Vec<String> = match &self.queue {
            Ok(queue) => fault::report(&queue.faults)
                .into_iter()
                .chain(queue.excess(&names::queue(cluster.name(), &self.set.name), bounds))
                .collect(),
            Err(error) => vec![format!("its queue cannot be looked at: {error}")],
        };
        let report = worker.and_then(|worker| worker.report.as_ref());
        if let Some(report) = report.filter(|report| report.state == Condition::Blocked) {
            said.push(format!(
                "its worker has been waiting for {} s for what a person has to mend; its log says for what, at level error, and so does its /readyz",
                now.saturating_sub(report.since)
            ));
        }
        (!said.is_empty()).then(|| said.iter().map(|said| format!("set {:?}: {said}", self.set.name)).collect::<Vec<_>>().join("\n"))
    }
}

/// How the worker is that leads, for a table.
fn condition(worker: Option<&Leader>, now: u64) -> String {
    match worker {
        None => "none".to_owned(),
        Some(Leader { report: None }) => "unknown".to_owned(),
        Some(Leader { report: Some(Report { state, since, .. }) }) => format!("{state} for {} s", now.saturating_sub(*since)),
    }
}

/// Cells of a table.
pub fn disk(queue: &Result<Backlog>) -> String {
    queue.as_ref().map_or_else(|_| "unknown".to_owned(), |queue| size(queue.bytes))
}

pub fn lag(queue: &Result<Backlog>) -> String {
    queue.as_ref().map_or_else(|_| "unknown".to_owned(), |queue| format!("{:.1} s", queue.lag_seconds()))
}

/// One row for each consumer, behind `cells`.
pub fn consumers(queue: &Backlog, cells: &[String]) -> Vec<Vec<String>> {
    let row = |consumer: &crate::observe::backlog::Consumer| {
        let relay = consumer.relay.clone().unwrap_or_else(|| "none".to_owned());
        let own = [consumer.name.clone(), consumer.unread_events.to_string(), format!("{:.1} s", consumer.lag_seconds), relay];
        [cells, &own].concat()
    };
    queue.consumers.iter().map(row).collect()
}

/// `Stop` if a queue is larger or further behind than it may be, misses tables, or cannot
/// be looked at, or if a worker waits for a person.
pub async fn check(common: &Common, check: &Check) -> Result<()> {
    let cluster = common.connect().await?;
    cluster.configuration().await?;
    cluster.tell_if_open().await?;
    let names = if check.all { cluster.set_names().await? } else { check.names.clone() };
    let mut sets = Vec::new();
    for name in names {
        sets.push(cluster.set(&name).await?);
    }
    let bounds = Bounds {
        bytes_max: Some(check.queue_bytes_max).filter(|bytes_max| *bytes_max > 0),
        lag_max: check.lag_max.map(Duration::from_secs),
    };
    let mut workers = Vec::new();
    for set in &sets {
        workers.push(cluster.leader(&set.name, Role::Worker).await?);
    }
    let seen: Vec<(Seen, Option<Leader>)> = look_all(&cluster, sets).await.into_iter().zip(workers).collect();
    let now = u64::try_from(now_us() / 1_000_000).unwrap_or_default();
    let problems: Vec<Option<String>> = seen.iter().map(|(seen, worker)| seen.problem(&cluster, bounds, worker.as_ref(), now)).collect();
    match check.format {
        ListFormat::Json => {
            let object = |((seen, worker), problem): (&(Seen, Option<Leader>), &Option<String>)| {
                let worker = worker.as_ref().map(|worker| json!(worker.report));
                let mut object = json!({"set": seen.set.name, "problem": problem, "worker": worker});
                seen.add_to(&mut object);
                object
            };
            print_json(&seen.iter().zip(&problems).map(object).collect::<Vec<_>>())?;
        }
        ListFormat::Table => {
            let header = ["SET", "WORKER", "DISK", "CONSUMER", "UNREAD", "LAG", "RELAY"].map(str::to_owned).to_vec();
            let rows = seen.iter().flat_map(|(seen, worker)| {
                let cells = [seen.set.name.clone(), condition(worker.as_ref(), now), disk(&seen.queue)];
                seen.queue.as_ref().map_or_else(|_| vec![cells.to_vec()], |queue| consumers(queue, &cells))
            });
            print_table(std::iter::once(header).chain(rows).collect())?;
        }
    }
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::stop(Code::CheckFailed, problems.join("\n"))) }
}
