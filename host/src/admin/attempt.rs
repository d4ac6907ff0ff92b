//! One database's part of a change: one transaction, under the cluster's lock.
//!
//! Under the lock, and before it changes anything, the transaction asks ZooKeeper
//! whether its change is still in flight. Whoever ends a change in ZooKeeper has
//! held the same lock before, so a command that was taken for dead and wakes up
//! again finds its change gone and does nothing.

use proto::interfaces::configurations::ReplicationSetConfiguration;
use uuid::Uuid;

use super::changer::Changer;
use super::plan::{self, Scope, Step};
use super::validate;
use crate::error::{Code, Error, Next, Result};
use crate::postgres::connect::{Session, explain};
use crate::postgres::schema::{self, LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS, Stamp};
use crate::postgres::{DriverError, SqlState, catalog, literal, own, pool};
use crate::registry::pending::InFlight;

/// After this long without a statement the server ends a transaction of ours, and
/// with it the locks that a command holds that hangs, or whose machine is gone.
const IDLE_TIMEOUT_MS: u32 = 10_000;

/// What to do in a database.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task<'a> {
    /// Capture the set as configured.
    Capture(&'a str, &'a ReplicationSetConfiguration),
    /// Remove what belongs to the set.
    Remove(&'a str),
    /// Remove what belongs to the set, which goes on elsewhere, once all that was
    /// captured is relayed.
    Leave(&'a str),
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

/// Does `task` once in the database of `session`. After an error, other than of a
/// session that broke while the transaction ended, nothing was changed; one other
/// than `Retry` says that the database will not take the change.
pub(super) async fn attempt(changer: &Changer<'_>, session: &Session, change: &InFlight, task: Task<'_>, end: End<'_>) -> Result<Outcome> {
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; SET LOCAL client_min_messages = warning; {}",
        schema::lock(changer.cluster.name())
    );
    let result = match execute(session, &begin, "waiting for another command that changes this cluster's sets in the database").await {
        Ok(()) => inside(changer, session, change, task).await,
        Err(error) => Err(error),
    };
    let last = match (&result, end) {
        (Ok(Outcome::Done), End::Commit) => "COMMIT".to_owned(),
        (Ok(Outcome::Done), End::Prepare(gid)) => format!("PREPARE TRANSACTION {}", literal(gid)),
        _ => "ROLLBACK".to_owned(),
    };
    match (result, execute(session, &last, "cannot end the transaction in the database").await) {
        (Ok(Outcome::Done), Err(error)) => Err(error),
        (result, _) => result,
    }
}

async fn inside(changer: &Changer<'_>, session: &Session, change: &InFlight, task: Task<'_>) -> Result<Outcome> {
    if !changer.cluster.is_in_flight(change).await? {
        return Ok(Outcome::Over);
    }
    let stamp = Stamp { change: &change.pending.change, epoch: change.made };
    let version = change.pending.upgrade.as_deref().unwrap_or(&changer.configuration.version);
    let scope = |set| Scope { cluster: changer.cluster.name(), cluster_id: changer.cluster_id(), version, set, stamp };
    match task {
        Task::Capture(set, wanted) => capture(session, &scope(set), wanted).await?,
        Task::Remove(set) => remove(session, &scope(set), plan::remove).await?,
        Task::Leave(set) => remove(session, &scope(set), plan::leave).await?,
        Task::Refresh(sets) => {
            for (set, wanted) in sets {
                let facts = read(session, &scope(set), Some(wanted)).await?;
                run(session, &plan::refresh(&scope(set), &facts)?).await?;
                let facts = read(session, &scope(set), Some(wanted)).await?;
                run(session, &plan::capture(&scope(set), wanted, &facts)?).await?;
            }
        }
    }
    Ok(Outcome::Done)
}

async fn read(session: &Session, scope: &Scope<'_>, wanted: Option<&ReplicationSetConfiguration>) -> Result<catalog::Facts> {
    session.answered(catalog::read(session, scope.cluster, scope.set, wanted)).await
}

async fn remove(session: &Session, scope: &Scope<'_>, steps: fn(&Scope<'_>, &catalog::Facts) -> Vec<Step>) -> Result<()> {
    let facts = read(session, scope, None).await?;
    match facts.managed.as_ref().and_then(|managed| managed.node.as_ref()) {
        Some((_, owner, _)) if owner != scope.cluster_id => Err(Error::stop(
            Code::DatabaseOfOther,
            format!(
                "the database belongs to another cluster of this name ({owner}, this one is {}); nothing was removed from it",
                scope.cluster_id
            ),
        )),
        _ => run(session, &steps(scope, &facts)).await,
    }
}

async fn capture(session: &Session, scope: &Scope<'_>, wanted: &ReplicationSetConfiguration) -> Result<()> {
    let mut facts = read(session, scope, Some(wanted)).await?;
    if let Some((_, change, epoch)) = facts.managed.as_ref().and_then(|managed| managed.set.as_ref()) {
        if change == scope.stamp.change {
            // The reply to an earlier COMMIT was lost.
            return Ok(());
        }
        if *epoch >= scope.stamp.epoch {
            return Err(Error::stop(
                Code::DatabaseAhead,
                format!(
                    "the database has a later change of the set {:?} than ZooKeeper: was ZooKeeper restored from a copy, or does its clock go back? drop the set, or restore the two together",
                    scope.set
                ),
            ));
        }
    }
    let problems = validate::problems(scope.cluster, scope.set, scope.cluster_id, wanted, &facts);
    if !problems.is_empty() {
        return Err(validate::refuse(scope.set, &problems));
    }
    let prepared = plan::prepare(scope, &facts, Uuid::new_v4());
    if !prepared.is_empty() {
        run(session, &prepared).await?;
        facts = read(session, scope, Some(wanted)).await?;
    }
    if facts.queue.as_ref().is_none_or(|queue| queue.view.is_none()) {
        return Err(Error::stop(Code::QueueNotCreated, "PgQ did not create the queue"));
    }
    run(session, &plan::capture(scope, wanted, &facts)?).await
}

async fn run(session: &Session, steps: &[Step]) -> Result<()> {
    for step in steps {
        tracing::debug!(step = step.title, "in the database");
        execute(session, &step.sql, &step.title).await?;
    }
    Ok(())
}

async fn execute(session: &Session, sql: &str, doing: &str) -> Result<()> {
    session.answered(async { session.batch_execute(sql).await.map_err(|error| lock_error(&error, doing)) }).await
}

/// `doing` is what something was in the way of.
fn lock_error(error: &DriverError, doing: &str) -> Error {
    let explained = explain(error).context(doing);
    match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED | &SqlState::T_R_DEADLOCK_DETECTED) => explained.and(format!("other sessions hold locks for longer than {LOCK_TIMEOUT_MS} ms at a time: see pg_stat_activity and pg_blocking_pids(), and try again")).but(Next::Retry),
        // See `schema::await_relayed`.
        Some(&SqlState::OBJECT_IN_USE) => Error::retry(Code::ChangesUnrelayed, explained.message),
        Some(&SqlState::UNIQUE_VIOLATION) if error.as_db_error().and_then(|refusal| refusal.constraint()) == Some("queue_pkey") => {
            Error::configure(
                Code::QueueNotCreated,
                format!(
                    "{doing}: PgQ's sequence of queues is behind its table, as in a copy that was restored from pg_dump; run SELECT pg_catalog.setval('pgq.queue_queue_id_seq', (SELECT max(queue_id) FROM pgq.queue))"
                ),
            )
        }
        _ => explained,
    }
}

/// Runs statements that grant rights. What is sent as one is one transaction.
pub(super) async fn grant(session: &Session, statements: &str) -> Result<()> {
    execute(session, statements, "cannot grant the rights").await
}

/// Creates the role that captures, and is no part of the change: see [`schema::create_role`].
pub(super) async fn create_role(session: &Session, cluster: &str) -> Result<()> {
    execute(session, &schema::create_role(cluster), "cannot create the role that captures").await
}

/// What administration is called in `pg_stat_activity`.
pub(super) const APPLICATION: &str = "pgshovel admin";

/// A connection for administration: no statement waits for ever.
pub(super) async fn connect(dsn: &str) -> Result<Session> {
    let dsn = own::of_any(dsn);
    let session = Session::connect(&dsn, APPLICATION).await?;
    // Before anything is set: a pool would hand the settings to others.
    pool::refuse_transaction_mode(&session, &dsn).await?;
    let settings = format!(
        "SET statement_timeout = {STATEMENT_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}; SET search_path = pg_catalog, pg_temp"
    );
    execute(&session, &settings, "cannot use the connection").await?;
    Ok(session)
}
