//! One database's part of a change: one transaction, under the cluster's lock.
//!
//! Under the lock, and before it changes anything, the transaction asks ZooKeeper
//! whether its change is still in flight. Whoever ends a change in ZooKeeper has
//! held the same lock before, so a command that was taken for dead and wakes up
//! again finds its change gone and does nothing.

use std::time::Duration;

use proto::interfaces::configurations::{ClusterConfiguration, ReplicationSetConfiguration};
use uuid::Uuid;

use super::pending::InFlight;
use super::plan::{self, Scope, Step};
use super::{Cluster, validate};
use crate::backoff::Backoff;
use crate::error::{Error, Next, Result};
use crate::postgres::connect::{self, explain};
use crate::postgres::schema::Stamp;
use crate::postgres::{Client, DriverError, SqlState, catalog, literal, schema};

/// How long one statement of a change waits for a lock; writers that queue behind
/// it wait as long.
pub(super) const LOCK_TIMEOUT_MS: u32 = 2_000;

/// How often the whole transaction is tried while locks are in its way.
const ATTEMPTS_MAX: u32 = 8;

/// What to do in a database.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task<'a> {
    /// Capture the set as configured.
    Capture(&'a str, &'a ReplicationSetConfiguration),
    /// Remove what belongs to the set.
    Remove(&'a str),
    /// Bring what belongs to these sets to the cluster's version.
    Refresh(&'a [(String, ReplicationSetConfiguration)]),
}

/// How the transaction ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End<'a> {
    Commit,
    /// With this gid.
    Prepare(&'a str),
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The change is over: somebody else finished it, or gave it up.
    Over,
}

/// Does `task` in the database that `client` is connected to. An error other than
/// `Retry` says that the database will not take the change, and that nothing was
/// changed.
pub(super) async fn apply(
    client: &Client,
    cluster: &Cluster,
    configuration: &ClusterConfiguration,
    change: &InFlight,
    task: Task<'_>,
    end: End<'_>,
) -> Result<Outcome> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let result = attempt(client, cluster, configuration, change, task, end).await;
        match result {
            Err(error) if error.next == Next::Retry && backoff.attempts() + 1 < ATTEMPTS_MAX && !client.is_closed() => {
                tracing::info!(%error, "waiting to try again");
                tokio::time::sleep(backoff.wait(rand::random())).await;
            }
            result => return result,
        }
    }
}

async fn attempt(
    client: &Client,
    cluster: &Cluster,
    configuration: &ClusterConfiguration,
    change: &InFlight,
    task: Task<'_>,
    end: End<'_>,
) -> Result<Outcome> {
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; SET LOCAL client_min_messages = warning; {}",
        schema::lock(&cluster.name)
    );
    let result = match client.batch_execute(&begin).await {
        Ok(()) => inside(client, cluster, configuration, change, task).await,
        Err(error) => Err(lock_error(&error, "waiting for another command that changes this cluster's sets in the database")),
    };
    let last = match (&result, end) {
        (Ok(Outcome::Done), End::Commit) => "COMMIT".to_owned(),
        (Ok(Outcome::Done), End::Prepare(gid)) => format!("PREPARE TRANSACTION {}", literal(gid)),
        _ => "ROLLBACK".to_owned(),
    };
    let ended = client.batch_execute(&last).await;
    match (result, ended) {
        (Ok(Outcome::Done), Err(error)) => Err(explain(&error).context("cannot end the transaction in the database")),
        (result, _) => result,
    }
}

async fn inside(
    client: &Client,
    cluster: &Cluster,
    configuration: &ClusterConfiguration,
    change: &InFlight,
    task: Task<'_>,
) -> Result<Outcome> {
    if !cluster.is_in_flight(change).await? {
        return Ok(Outcome::Over);
    }
    let stamp = Stamp { change: &change.pending.change, epoch: change.epoch };
    let cluster_id = configuration.id.as_deref().unwrap_or_default();
    let version = change.pending.upgrade.as_deref().unwrap_or(&configuration.version);
    let scope = |set| Scope { cluster: &cluster.name, cluster_id, version, set, stamp };
    match task {
        Task::Capture(set, wanted) => capture(client, &scope(set), wanted).await,
        Task::Remove(set) => {
            let facts = catalog::read(client, &cluster.name, set, None).await?;
            let known = facts.managed.as_ref().and_then(|managed| managed.node.as_ref());
            match known {
                Some((_, owner, _)) if owner != cluster_id => {
                    return Err(Error::stop(format!(
                        "the database belongs to another cluster of this name ({owner}, this one is {cluster_id}); nothing was removed from it"
                    )));
                }
                _ => run(client, &plan::remove(&scope(set), &facts)).await?,
            }
            Ok(Outcome::Done)
        }
        Task::Refresh(sets) => {
            for (set, wanted) in sets {
                let facts = catalog::read(client, &cluster.name, set, Some(wanted)).await?;
                run(client, &plan::refresh(&scope(set), wanted, &facts)?).await?;
            }
            Ok(Outcome::Done)
        }
    }
}

async fn capture(client: &Client, scope: &Scope<'_>, wanted: &ReplicationSetConfiguration) -> Result<Outcome> {
    let mut facts = catalog::read(client, scope.cluster, scope.set, Some(wanted)).await?;
    if let Some((_, change, epoch)) = facts.managed.as_ref().and_then(|managed| managed.set.as_ref()) {
        if change == scope.stamp.change {
            // The reply to an earlier COMMIT was lost.
            return Ok(Outcome::Done);
        }
        if *epoch >= scope.stamp.epoch {
            return Err(Error::stop(format!(
                "the database has a later change of the set {:?} than ZooKeeper: was ZooKeeper restored from a copy? drop the set, or restore the two together",
                scope.set
            )));
        }
    }
    let problems = validate::problems(scope.set, scope.cluster_id, wanted, &facts);
    if !problems.is_empty() {
        return Err(validate::refuse(scope.set, &problems));
    }
    let prepared = plan::prepare(scope, &facts, Uuid::new_v4());
    if !prepared.is_empty() {
        run(client, &prepared).await?;
        facts = catalog::read(client, scope.cluster, scope.set, Some(wanted)).await?;
    }
    let queue = facts.queue.as_ref().map(|queue| queue.id);
    if queue.is_none() {
        return Err(Error::stop("PgQ did not create the queue"));
    }
    run(client, &plan::capture(scope, wanted, &facts, queue)?).await?;
    Ok(Outcome::Done)
}

async fn run(client: &Client, steps: &[Step]) -> Result<()> {
    for step in steps {
        tracing::debug!(step = step.title, "in the database");
        client.batch_execute(&step.sql).await.map_err(|error| lock_error(&error, &step.title))?;
    }
    Ok(())
}

/// `doing` is what a lock was in the way of.
fn lock_error(error: &DriverError, doing: &str) -> Error {
    let blocked = error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
    let explained = explain(error).context(doing);
    if blocked {
        Error::retry(format!(
            "{explained}; another session holds a lock for longer than {LOCK_TIMEOUT_MS} ms: see pg_stat_activity and pg_blocking_pids(), and try again"
        ))
    } else {
        explained
    }
}

/// A connection for administration: one statement never waits for ever.
pub(super) async fn connect(dsn: &str) -> Result<Client> {
    let client = connect::connect(dsn, "pgshovel admin").await?;
    client
        .batch_execute(
            "SET statement_timeout = '5min'; SET idle_in_transaction_session_timeout = '5min'; SET search_path = pg_catalog, pg_temp",
        )
        .await
        .map_err(|error| explain(&error))?;
    Ok(client)
}
