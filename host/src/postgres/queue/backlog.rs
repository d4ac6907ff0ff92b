//! What a queue holds, as its database says.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::session::{Settings, answer, session};
use super::sql;
use crate::error::{Code, Error, Result, Sqlstate};
use crate::observe::backlog::{Backlog, Bounds, Consumer};
use crate::observe::fault::{self, Fault};
use crate::postgres::connect::Session;
use crate::postgres::own;
use crate::postgres::trigger::shared;

/// How often a standby looks at the queue that another relay should read.
pub const STANDBY_EVERY: Duration = Duration::from_secs(60);

/// How often a queue that stays too large is warned of.
const WARN_EVERY: Duration = Duration::from_secs(600);

/// [`look`], in a session of its own.
pub async fn visit(dsn: &str, cluster: &str, set: &str) -> Result<Backlog> {
    let session = Session::connect(&own::of_any(dsn), "pgshovel admin").await?;
    answer(session.batch_execute(sql::LOOK_TIMEOUT)).await?;
    look(&session, cluster, set).await
}

/// Looks at the queue of `set`. `Configure` if there is none. `client` has to have
/// [`sql::LOOK_TIMEOUT`], and is of no more use after an error.
pub async fn look(client: &Client, cluster: &str, set: &str) -> Result<Backlog> {
    let queue = crate::names::queue(cluster, set);
    // One transaction instead of three: an idle set is to cost little.
    answer(client.batch_execute("BEGIN")).await?;
    let row = answer(client.query_opt(sql::SIZE, &[&queue])).await?;
    let row = row.ok_or_else(|| Error::configure(Code::QueueAbsent, format!("queue {queue:?} does not exist in this database")))?;
    let (events, bytes, last_event): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let found = answer(client.query(sql::CONSUMERS, &[&queue])).await?;
    let faults = answer(client.query(&shared::faults(cluster), &[&set])).await?;
    let faults = faults.iter().map(|row| Fault::read(row.get(0), row.get(1), row.get(2))).collect();
    answer(client.batch_execute("COMMIT")).await?;
    let mut consumers = Vec::new();
    for row in found {
        let (name, tick_event, snapshot, tick_age): (String, Option<i64>, Option<String>, Option<f64>) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let oldest = match &snapshot {
            Some(snapshot) => oldest(client, &events, snapshot, tick_age.unwrap_or(0.0)).await?,
            // Its tick is gone: what it has before it cannot be told from what it has read.
            None => Some(0.0),
        };
        let drawn = u64::try_from(last_event - tick_event.unwrap_or(0)).unwrap_or(0);
        let unread_events = if oldest.is_some() { drawn.max(1) } else { 0 };
        let relay = answer(client.query_opt(&sql::holder(cluster), &[&set, &name])).await?.and_then(|row| row.get(3));
        consumers.push(Consumer { name, unread_events, lag_seconds: oldest.unwrap_or(0.0), relay });
    }
    Ok(Backlog { bytes: u64::try_from(bytes).unwrap_or(0), consumers, faults })
}

/// How many seconds old the first event is that `snapshot` does not see, in the table
/// `events` with its descendants. Where looking takes too long: as old as the tick.
async fn oldest(client: &Client, events: &str, snapshot: &str, tick_age: f64) -> Result<Option<f64>> {
    match answer(client.query_opt(&sql::oldest(events), &[&snapshot])).await {
        Ok(row) => Ok(row.map(|row| row.get::<_, f64>(0).max(0.0))),
        Err(error) if error.sqlstate == Some(Sqlstate::QUERY_CANCELED) => Ok(Some(tick_age)),
        Err(error) => Err(error),
    }
}

/// Looks at the queue again and again, tells the relay's status, and warns of a queue
/// that takes too much. What fails is told by whatever else needs the database.
pub async fn follow(settings: Arc<Settings>, every: Duration) -> Infallible {
    let mut reporter = Reporter { settings, session: None, warned: None, faults: None };
    loop {
        if let Err(error) = reporter.report().await {
            tracing::debug!(set = %reporter.settings.set, code = %error.code, %error, "the queue cannot be looked at");
            reporter.session = None;
        }
        sleep(every).await;
    }
}

struct Reporter {
    settings: Arc<Settings>,
    session: Option<Session>,
    warned: Option<Instant>,
    /// When it was said what is wrong with the triggers, and what.
    faults: Option<(Instant, Vec<Fault>)>,
}

impl Reporter {
    async fn report(&mut self) -> Result<()> {
        let Settings { cluster, set, queue_bytes_max, status, .. } = &*self.settings;
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let session = session(&self.settings, "reporter").await?;
                answer(session.batch_execute(sql::LOOK_TIMEOUT)).await?;
                none.insert(session)
            }
        };
        let backlog = look(session, cluster, set).await?;
        let bounds = Bounds { bytes_max: *queue_bytes_max, lag_max: None };
        match backlog.excess(&self.settings.queue(), bounds) {
            Some(excess) if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) => {
                self.warned = Some(Instant::now());
                tracing::warn!(%set, bytes = backlog.bytes, unread_events = backlog.unread_events(), "{excess}");
            }
            Some(_) => {}
            None => self.warned = None,
        }
        // The keeper sees to new partitions, and says so.
        let mut faults = backlog.faults.clone();
        faults.retain(|fault| fault.kind != fault::Kind::Unwatched);
        let is_said = |(at, said): &(Instant, Vec<Fault>)| *said == faults && at.elapsed() < WARN_EVERY;
        match fault::report(&faults) {
            Some(report) if !self.faults.as_ref().is_some_and(is_said) => {
                tracing::error!(%set, "{report}");
                self.faults = Some((Instant::now(), faults));
            }
            Some(_) => {}
            None if self.faults.take().is_some() => tracing::info!(%set, "all triggers of the set are as they have to be again"),
            None => {}
        }
        status.update(|facts| facts.queue = Some(backlog));
        Ok(())
    }
}
