//! Makes the queue's ticks, rotates its tables, and captures partitions that are
//! attached: a task beside the relay's loop.
//!
//! Never in the way of the loop: what fails here is logged and tried again, and
//! a relay whose role may do neither still relays what others tick.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Row, Statement};

use super::tick::{self, Reading};
use super::partitions::{self, Late};
use super::{Abort, Settings, answer, backlog, session, sql};
use crate::backoff::Backoff;
use crate::error::{Error, Next, Result};
use crate::postgres::connect::Session;
use crate::postgres::trigger::{Event, shared, trigger_name, watch_partition};

/// How often the queue is looked at: the most that a tick comes late.
const POLL: Duration = Duration::from_millis(80);

/// How often to look whether the queue is still the relays' own, and a rotation due.
const SURVEY: Duration = Duration::from_secs(10);

/// How long after a rotation that had to give way to writers the next try comes.
const ROTATION_RETRY: Duration = Duration::from_secs(30);

/// The tasks; they end with this.
#[derive(Debug)]
pub struct Keeper {
    _task: Abort<()>,
    /// In a session of its own, so that no tick waits for it.
    _report: Abort<Infallible>,
}

impl Keeper {
    /// Notifies `ticked` when the consumer has a new batch.
    pub fn start(settings: Arc<Settings>, ticked: Arc<Notify>) -> Self {
        let report = tokio::spawn(backlog::follow(Arc::clone(&settings), SURVEY));
        Self { _task: Abort(tokio::spawn(keep(settings, ticked))), _report: Abort(report) }
    }
}

async fn keep(settings: Arc<Settings>, ticked: Arc<Notify>) {
    let mut backoff = Backoff::DEFAULT;
    loop {
        let started = Instant::now();
        let error = match Watch::open(&settings).await {
            Ok(mut watch) => watch.run(&ticked).await,
            Err(error) => error,
        };
        if error.next == Next::Configure {
            // The set is being dropped, or the relay's loop will meet the same.
            tracing::debug!(set = %settings.set, %error, "the queue's ticker ends");
            return;
        }
        // It served a while: what broke it is new.
        if started.elapsed() > SURVEY {
            backoff.reset();
        }
        if backoff.attempts() == 0 {
            tracing::warn!(set = %settings.set, %error, "the queue's ticker is interrupted");
        }
        settings.status.update(|facts| facts.ticker = Some(error.to_string()));
        sleep(backoff.wait(rand::random())).await;
    }
}

/// One session's watch over the queue.
struct Watch<'a> {
    settings: &'a Settings,
    queue: String,
    session: Session,
    reads: Statement,
    /// Whether the role may tick and rotate.
    may_own: bool,
    rotates: bool,
    surveyed: Option<Instant>,
    /// Whether the queue's first event was looked for.
    first: bool,
    /// Partitions that cannot be captured, and were told of.
    unwatched: HashSet<String>,
    /// About how many rows the partitions have, by their names.
    rows: HashMap<String, f64>,
    /// When a rotation that is due had to wait.
    rotated: Option<Instant>,
}

impl<'a> Watch<'a> {
    async fn open(settings: &'a Settings) -> Result<Self> {
        let session = session(settings, "ticker").await?;
        let may_own: bool = answer(session.query_one(sql::MAY_OWN, &[])).await?.get(0);
        let sees: bool = answer(session.query_one(sql::SEES_SNAPSHOTS, &[])).await?.get(0);
        let reads = answer(session.prepare(sql::READING)).await?;
        let rotates = may_own && sees && !settings.rotation_period.is_zero();
        let queue = settings.queue();
        let (unwatched, rows) = (HashSet::new(), HashMap::new());
        let watch = Self { settings, queue, session, reads, may_own, rotates, surveyed: None, first: false, unwatched, rows, rotated: None };
        watch.announce(sees).await?;
        if may_own {
            answer(watch.session.query(sql::DRAW_FIRST, &[&watch.queue])).await?;
        }
        Ok(watch)
    }

    async fn announce(&self, sees: bool) -> Result<()> {
        let set = &self.settings.set;
        if self.may_own {
            tracing::info!(%set, "this relay makes the queue's ticks");
        } else {
            let daemon: bool = answer(self.session.query_one(sql::DAEMON, &[])).await?.get(0);
            let ticks = if daemon { "pgqd makes its ticks" } else { "it gets no ticks" };
            tracing::warn!(%set, "the queue's tables are not rotated, and grow, and {ticks}, since the relay's role may do neither: GRANT pgq_admin TO it");
        }
        if self.may_own && !sees && !self.settings.rotation_period.is_zero() {
            tracing::warn!(%set, "the queue's tables are not rotated, and grow: the relay cannot see the snapshots of other sessions; GRANT pg_monitor TO its role");
        }
        Ok(())
    }

    /// Runs until something fails.
    async fn run(&mut self, ticked: &Notify) -> Error {
        loop {
            match self.turn().await {
                Ok(true) => ticked.notify_one(),
                Ok(false) => {}
                Err(error) => return error,
            }
            sleep(POLL).await;
        }
    }

    /// Rotations that are to come faster than usual are looked after as fast.
    fn survey_every(&self) -> Duration {
        if self.rotates { SURVEY.min(self.settings.rotation_period) } else { SURVEY }
    }

    /// Whether the consumer has a batch to read.
    async fn turn(&mut self) -> Result<bool> {
        if self.surveyed.is_none_or(|surveyed| surveyed.elapsed() >= self.survey_every()) {
            self.surveyed = Some(Instant::now());
            self.survey().await?;
            // What was wrong before is over.
            self.settings.status.update(|facts| facts.ticker = None);
        }
        let row = answer(self.session.query_opt(&self.reads, &[&self.queue, &self.settings.consumer])).await?;
        let row = row.ok_or_else(|| Error::configure(format!("queue {:?} or its consumer is gone", self.queue)))?;
        let reading = reading(&row)?;
        let paused: bool = row.get(6);
        // See `DRAW_FIRST`: the first id may be an event's, and older than the last tick, or not.
        let first = !std::mem::replace(&mut self.first, true) && reading.event_sequence <= 1;
        let due = first || tick::due(&reading);
        if due && !paused && self.may_own {
            return self.tick().await.map(|ticked| ticked || reading.behind);
        }
        Ok(reading.behind)
    }

    /// Ticks, unless another ticker is at it.
    async fn tick(&mut self) -> Result<bool> {
        let transaction = answer(self.session.transaction()).await?;
        // Each statement of a READ COMMITTED transaction has a snapshot of its
        // own, so the tick's is taken after the lock.
        let locked: bool = answer(transaction.query_one(sql::TICK_LOCK, &[&self.queue])).await?.get(0);
        if !locked {
            return Ok(false);
        }
        answer(transaction.query_one(sql::TICK, &[&self.queue])).await?;
        let rows = answer(transaction.query(sql::LAST_TWO, &[&self.queue])).await?;
        if let [last, before] = rows.as_slice()
            && !proto::snapshot::contains(&snapshot(last, 0)?, &snapshot(before, 0)?)
        {
            answer(transaction.rollback()).await?;
            return Err(Error::retry(format!(
                "a tick of queue {:?} would see less than the one before it: another process ticks this queue too, or the database is a copy whose transactions began anew; then drop the set and create it again",
                self.queue
            )));
        }
        answer(transaction.commit()).await?;
        Ok(true)
    }

    /// Captures partitions that are new, makes the queue the relays' own, and rotates.
    async fn survey(&mut self) -> Result<()> {
        self.watch_partitions().await?;
        if !self.may_own {
            return Ok(());
        }
        if answer(self.session.execute(sql::OWN, &[&self.queue])).await? > 0 {
            tracing::info!(set = %self.settings.set, "the queue's ticks and rotations are made the relay's alone");
        }
        if self.rotates { self.rotate().await } else { Ok(()) }
    }

    /// Looks which partitions come and go. Until one is watched, TRUNCATE of it alone is missed.
    async fn watch_partitions(&mut self) -> Result<()> {
        let Settings { cluster, set, .. } = self.settings;
        for row in answer(self.session.query(&partitions::late(cluster), &[&set])).await? {
            let late = Late { table: row.get(0), function: row.get(1), whole: row.get(2), rows: row.get(3) };
            let table = &late.table;
            match self.watch_partition(&late).await {
                Ok(()) => partitions::say_attached(set, &late),
                Err(error) if self.session.is_closed() => return Err(error),
                // It is locked: at the next time.
                Err(error) if error.next == Next::Retry => tracing::debug!(%set, table, %error, "a partition is not captured yet"),
                Err(error) if self.unwatched.insert(table.clone()) => {
                    tracing::warn!(%set, table, %error, "TRUNCATE of this partition alone is not captured; mend that, or run `set update`");
                }
                Err(_) => {}
            }
        }
        for row in answer(self.session.query(&partitions::departed(cluster), &[&set])).await? {
            let (table, present, rows): (String, bool, Option<f64>) = (row.get(0), row.get(1), row.get(2));
            partitions::say_departed(set, &table, present, rows.or_else(|| self.rows.get(&table).copied()));
            answer(self.session.execute(&partitions::forget(cluster), &[set, &table])).await?;
        }
        self.rows = answer(self.session.query(&partitions::sizes(cluster), &[&set])).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(())
    }

    /// Waits for no lock, since ticks wait meanwhile.
    async fn watch_partition(&mut self, late: &Late) -> Result<()> {
        let Settings { cluster, set, .. } = self.settings;
        let transaction = answer(self.session.transaction()).await?;
        answer(transaction.batch_execute(&format!("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE NOWAIT", late.table))).await?;
        let trigger = trigger_name(cluster, set, Event::Partition);
        answer(transaction.batch_execute(&watch_partition(&trigger, &late.table, &late.function))).await?;
        answer(transaction.execute(&partitions::remember(cluster), &[set, &late.table, &trigger])).await?;
        answer(transaction.commit()).await
    }

    /// Empties the oldest of the queue's tables, and lets triggers write to it from now on,
    /// when that is due. All in one transaction: the view that triggers write through is
    /// replaced, for which PostgreSQL waits until every transaction is over that has
    /// written to the table before. Ends what somebody else began by PgQ's own functions.
    async fn rotate(&mut self) -> Result<()> {
        let row = answer(self.session.query_one(sql::ROTATION, &[&self.queue])).await?;
        let (begun_elsewhere, age): (bool, f64) = (row.get(0), row.get(1));
        if !begun_elsewhere && age < self.settings.rotation_period.as_secs_f64() {
            return Ok(());
        }
        // Writers wait behind each try.
        if self.rotated.is_some_and(|tried| tried.elapsed() < ROTATION_RETRY) {
            return Ok(());
        }
        match self.switch(begun_elsewhere).await {
            Ok(switched) => {
                self.rotated = None;
                if switched {
                    tracing::info!(set = %self.settings.set, "the queue's tables are rotated");
                }
                Ok(())
            }
            // A transaction that has written to a table of the set is still open.
            Err(error) if error.next == Next::Retry && !self.session.is_closed() => {
                self.rotated = Some(Instant::now());
                tracing::debug!(set = %self.settings.set, %error, "the queue's tables are not rotated yet");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether triggers write to another table from now on.
    async fn switch(&mut self, begun_elsewhere: bool) -> Result<bool> {
        let Settings { cluster, set, .. } = self.settings;
        let transaction = answer(self.session.transaction()).await?;
        if !begun_elsewhere {
            answer(transaction.execute(sql::ROTATION_DUE, &[&self.queue])).await?;
            answer(transaction.query_one(sql::ROTATE, &[&self.queue])).await?;
        }
        let row = answer(transaction.query_one(&format!("SELECT {}($1)", shared::switch(cluster)), &[set])).await?;
        let switched: bool = row.get(0);
        if switched || begun_elsewhere {
            answer(transaction.execute(sql::ROTATED, &[&self.queue])).await?;
        }
        answer(transaction.execute(sql::OWN, &[&self.queue])).await?;
        answer(transaction.commit()).await?;
        Ok(switched)
    }
}

fn reading(row: &Row) -> Result<Reading> {
    let (last_tick, consumer_tick): (i64, Option<i64>) = (row.get(1), row.get(5));
    let tick_snapshot = snapshot(row, 2)?;
    let ticker = u32::try_from(row.get::<_, i64>(8)).map_err(|_| Error::bug("a transaction id does not fit 32 bits"))?;
    Ok(Reading {
        snapshot: snapshot(row, 0)?,
        ticker: tick::full_transaction(ticker, tick_snapshot.max),
        event_sequence: row.get(7),
        tick_snapshot,
        tick_event_sequence: row.get(3),
        tick_age: Duration::try_from_secs_f64(row.get::<_, f64>(4)).unwrap_or_default(),
        behind: consumer_tick.is_some_and(|consumer| consumer < last_tick),
    })
}

fn snapshot(row: &Row, column: usize) -> Result<proto::interfaces::common::Snapshot> {
    proto::snapshot::parse(row.get(column)).map_err(|error| Error::bug(error.to_string()))
}
