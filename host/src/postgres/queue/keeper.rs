//! Makes the queue's ticks, rotates its tables, and captures partitions that are
//! attached: a task beside the relay's loop.
//!
//! Never in the way of the loop: what fails here is logged and tried again, and
//! a relay whose role may do neither still relays what others tick.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join3;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::partitions::{self, Late};
use super::session::{Abort, Settings, Signals, answer, session};
use super::tick::{self, Due, Pause, Reading};
use super::{backlog, sql};
use crate::backoff::Backoff;
use crate::error::{Code, Error, Next, Result};
use crate::postgres::connect::Session;
use crate::postgres::trigger::{Event, trigger_name, watch_partition};

/// How long the consumer may read one batch before the queue is looked at again.
const READ_MAX: Duration = Duration::from_millis(500);

/// How often the queue is looked at where others make its ticks.
const OTHERS_POLL: Duration = Duration::from_millis(250);

/// How often ticks that are of no more use are looked for.
const THIN: Duration = Duration::from_secs(60);

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
    pub fn start(settings: Arc<Settings>, signals: Arc<Signals>) -> Self {
        let report = tokio::spawn(backlog::follow(Arc::clone(&settings), SURVEY));
        Self { _task: Abort(tokio::spawn(keep(settings, signals))), _report: Abort(report) }
    }
}

async fn keep(settings: Arc<Settings>, signals: Arc<Signals>) {
    let mut backoff = Backoff::DEFAULT;
    loop {
        let started = Instant::now();
        let error = match Watch::open(&settings).await {
            Ok(mut watch) => watch.run(&signals).await,
            Err(error) => error,
        };
        if error.next == Next::Configure {
            // The set is being dropped, or the relay's loop will meet the same.
            tracing::debug!(set = %settings.set, code = %error.code, %error, "the queue's ticker ends");
            return;
        }
        // It served a while: what broke it is new.
        if started.elapsed() > SURVEY {
            backoff.reset();
        }
        if backoff.attempts() == 0 {
            tracing::warn!(set = %settings.set, code = %error.code, %error, "the queue's ticker is interrupted");
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
    statements: Statements,
    /// Whether the role may tick and rotate.
    may_own: bool,
    rotates: bool,
    surveyed: Option<Instant>,
    /// The last event that was seen drawn, and when that was seen.
    drawn: i64,
    drawn_at: Instant,
    /// When this watch ticked last.
    ticked: Option<Instant>,
    /// How the next reading waits for an event.
    wait: (u32, Duration),
    /// When old ticks were removed, and up to which they were looked at.
    thinned: (Option<Instant>, i64),
    /// Partitions that cannot be captured, and were told of.
    unwatched: HashSet<String>,
    /// About how many rows the partitions have, by their names.
    rows: HashMap<String, f64>,
    /// When a rotation that is due had to wait.
    rotated: Option<Instant>,
}

/// What is asked again and again.
struct Statements {
    reading: Statement,
    any_event: Statement,
    /// If the role may.
    tick: Option<Statement>,
}

impl Statements {
    async fn prepare(session: &Session, cluster: &str, queue: &str, may_own: bool) -> Result<Self> {
        let events = answer(session.query_opt(sql::EVENTS, &[&queue])).await?.ok_or_else(|| gone(queue))?;
        let reading = answer(session.prepare(sql::READING)).await?;
        let any_event = answer(session.prepare(&sql::any_event(events.get(0)))).await?;
        let tick = if may_own { Some(answer(session.prepare(&sql::tick(cluster))).await?) } else { None };
        Ok(Self { reading, any_event, tick })
    }
}

impl<'a> Watch<'a> {
    async fn open(settings: &'a Settings) -> Result<Self> {
        let session = session(settings, "ticker").await?;
        let may = answer(session.query_one(&sql::may_own(&settings.cluster), &[])).await?;
        let (may_own, has_more): (bool, bool) = (may.get(1), may.get(2));
        let sees: bool = answer(session.query_one(sql::SEES_SNAPSHOTS, &[])).await?.get(0);
        answer(session.batch_execute(sql::PLANS)).await?;
        let queue = settings.queue();
        let statements = Statements::prepare(&session, &settings.cluster, &queue, may_own).await?;
        let rotates = may_own && sees && !settings.rotation_period.is_zero();
        let watch = Self {
            settings,
            queue,
            session,
            statements,
            may_own,
            rotates,
            surveyed: None,
            drawn: 0,
            drawn_at: Instant::now(),
            ticked: None,
            wait: (0, Duration::ZERO),
            thinned: (None, 0),
            unwatched: HashSet::new(),
            rows: HashMap::new(),
            rotated: None,
        };
        watch.announce(sees, has_more).await?;
        if may_own {
            answer(watch.session.query(&sql::draw_first(&settings.cluster), &[&settings.set])).await?;
        }
        Ok(watch)
    }

    async fn announce(&self, sees: bool, has_more: bool) -> Result<()> {
        let set = &self.settings.set;
        if self.may_own {
            tracing::info!(%set, "this relay makes the queue's ticks");
        } else {
            let daemon: bool = answer(self.session.query_one(sql::DAEMON, &[])).await?.get(0);
            let ticks = if daemon { "pgqd makes its ticks" } else { "it gets no ticks" };
            tracing::warn!(%set, "the queue's tables are not rotated, and grow, and {ticks}, since the relay's role may do neither: run `set update` with --relay-role");
        }
        if has_more {
            tracing::warn!(%set, "the relay's role is a member of pgq_admin, which it needs no more, and which lets it become PgQ's owner: run `set update` with --relay-role, then REVOKE pgq_admin FROM it");
        }
        if self.may_own && !sees && !self.settings.rotation_period.is_zero() {
            tracing::warn!(%set, "the queue's tables are not rotated, and grow: the relay cannot see the snapshots of other sessions; GRANT pg_monitor TO its role");
        }
        Ok(())
    }

    /// Runs until something fails.
    async fn run(&mut self, signals: &Signals) -> Error {
        loop {
            if let Err(error) = self.turn(signals).await {
                return error;
            }
        }
    }

    /// Rotations that are to come faster than usual are looked after as fast.
    fn survey_every(&self) -> Duration {
        if self.rotates { SURVEY.min(self.settings.rotation_period) } else { SURVEY }
    }

    async fn turn(&mut self, signals: &Signals) -> Result<()> {
        if self.surveyed.is_none_or(|surveyed| surveyed.elapsed() >= self.survey_every()) {
            self.surveyed = Some(Instant::now());
            self.survey().await?;
            self.thin().await?;
            // What was wrong before is over.
            self.settings.status.update(|facts| facts.ticker = None);
        }
        let (looks, apart) = std::mem::take(&mut self.wait);
        let looks = i32::try_from(looks).unwrap_or(i32::MAX);
        let reads = &self.statements.reading;
        let parameters: [&(dyn ToSql + Sync); 5] = [&self.queue, &self.settings.consumer, &self.drawn, &looks, &apart.as_secs_f64()];
        let row = answer(self.session.query_opt(reads, &parameters)).await?.ok_or_else(|| gone(&self.queue))?;
        let reading = reading(&row, self.ticked.is_none())?;
        if reading.event_sequence != self.drawn {
            self.drawn = reading.event_sequence;
            self.drawn_at = Instant::now();
        }
        let paused: bool = row.get(6);
        let ticked = self.may_own && !paused && self.is_due(&reading).await? && self.tick(&reading, row.get(1)).await?;
        if ticked || reading.behind {
            signals.ticked.notify_one();
            let _ = timeout(READ_MAX, signals.finished.notified()).await;
            if let Some(ticked) = self.ticked {
                sleep_until(ticked + tick::APART).await;
            }
            return Ok(());
        }
        let quiet = self.drawn_at.elapsed();
        match tick::pause(&reading, quiet) {
            _ if !self.may_own => sleep(OTHERS_POLL).await,
            Pause::Sleep(duration) => sleep(duration).await,
            Pause::Watch { steps, step } => self.wait = (steps, step),
        }
        Ok(())
    }

    async fn is_due(&self, reading: &Reading) -> Result<bool> {
        let ended = match tick::due(reading) {
            Due::No => return Ok(false),
            Due::Yes => return Ok(true),
            Due::IfEvents(ended) => ended,
        };
        let pgq_id = |transaction: u64| i64::try_from(transaction).unwrap_or(i64::MAX);
        let (first, last): (Vec<i64>, Vec<i64>) = ended.into_iter().map(|(first, last)| (pgq_id(first), pgq_id(last))).unzip();
        Ok(answer(self.session.query_one(&self.statements.any_event, &[&first, &last])).await?.get(0))
    }

    /// Ticks after the tick `last`, unless another ticker is at it, or was.
    async fn tick(&mut self, reading: &Reading, last: i64) -> Result<bool> {
        // The tick's own snapshot is later.
        if !proto::snapshot::contains(&reading.snapshot, &reading.tick_snapshot) {
            return Err(Error::retry(
                Code::TicksDamaged,
                format!(
                    "a tick of queue {:?} would see less than the one before it: another process ticks this queue too, or the database is a copy whose transactions began anew; then drop the set and create it again",
                    self.queue
                ),
            ));
        }
        let Some(statement) = &self.statements.tick else { return Ok(false) };
        let begin = self.session.batch_execute(sql::BEGIN_TICK);
        let after: [&(dyn ToSql + Sync); 2] = [&self.settings.set, &last];
        let tick = self.session.query_one(statement, &after);
        let ((), tick, ()) = answer(try_join3(begin, tick, self.session.batch_execute("COMMIT"))).await?;
        let ticked = tick.get(0);
        if ticked {
            self.ticked = Some(Instant::now());
        }
        Ok(ticked)
    }

    /// See [`sql::thin`].
    async fn thin(&mut self) -> Result<()> {
        let (at, last) = self.thinned;
        if self.may_own && at.is_none_or(|at| at.elapsed() >= THIN) {
            let row = answer(self.session.query_one(&sql::thin(&self.settings.cluster), &[&self.settings.set, &last])).await?;
            self.thinned = (Some(Instant::now()), row.get::<_, Option<i64>>(0).unwrap_or(last));
        }
        Ok(())
    }

    /// Captures partitions that are new, makes the queue the relays' own, and rotates.
    async fn survey(&mut self) -> Result<()> {
        self.watch_partitions().await?;
        if !self.may_own {
            return Ok(());
        }
        let transaction = answer(self.session.transaction()).await?;
        let owned = answer(transaction.query_one(&sql::own(&self.settings.cluster), &[&self.settings.set])).await?;
        let rotation = answer(transaction.query_one(sql::ROTATION, &[&self.queue])).await?;
        answer(transaction.commit()).await?;
        if owned.get(0) {
            tracing::info!(set = %self.settings.set, "the queue's ticks and rotations are made the relay's alone");
        }
        if self.rotates { self.rotate(rotation.get(0), rotation.get(1)).await } else { Ok(()) }
    }

    /// Looks which partitions come and go. Until one is watched, TRUNCATE of it alone is missed.
    async fn watch_partitions(&mut self) -> Result<()> {
        let Settings { cluster, set, .. } = self.settings;
        // One transaction instead of three: an idle set is to cost little.
        let transaction = answer(self.session.transaction()).await?;
        let late = answer(transaction.query(&partitions::late(cluster), &[&set])).await?;
        let departed = answer(transaction.query(&partitions::departed(cluster), &[&set])).await?;
        let sizes = answer(transaction.query(&partitions::sizes(cluster), &[&set])).await?;
        answer(transaction.commit()).await?;
        for row in late {
            let late = Late { table: row.get(0), function: row.get(1), whole: row.get(2), rows: row.get(3) };
            let table = &late.table;
            match self.watch_partition(&late).await {
                Ok(holds_rows) => partitions::say_attached(set, &late, holds_rows),
                Err(error) if self.session.is_closed() => return Err(error),
                // It is locked: at the next time.
                Err(error) if error.next == Next::Retry => {
                    tracing::debug!(%set, table, code = %error.code, %error, "a partition is not captured yet")
                }
                Err(error) if self.unwatched.insert(table.clone()) => {
                    tracing::warn!(%set, table, code = %error.code, %error, "TRUNCATE of this partition alone is not captured; mend that, or run `set update`");
                }
                Err(_) => {}
            }
        }
        for row in departed {
            let (table, present, rows): (String, bool, Option<f64>) = (row.get(0), row.get(1), row.get(2));
            partitions::say_departed(set, &table, present, rows.or_else(|| self.rows.get(&table).copied()));
            answer(self.session.execute(&partitions::forget(cluster), &[set, &table])).await?;
        }
        self.rows = sizes.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(())
    }

    /// Waits for no lock, since ticks wait meanwhile. Whether the partition holds rows from
    /// before it was one, if that can be told.
    async fn watch_partition(&mut self, late: &Late) -> Result<Option<bool>> {
        let Settings { cluster, set, .. } = self.settings;
        let transaction = answer(self.session.transaction()).await?;
        answer(transaction.batch_execute(&format!("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE NOWAIT", late.table))).await?;
        let triggers = [Event::Partition, Event::Emptied].map(|event| trigger_name(cluster, set, event));
        answer(transaction.batch_execute(&watch_partition(cluster, set, &late.whole, &late.table, &late.function))).await?;
        answer(transaction.execute(&partitions::remember(cluster), &[set, &late.table, &triggers.as_slice()])).await?;
        let holds_rows = answer(transaction.query_one(&partitions::holds_rows(cluster), &[set, &late.table])).await?.get(0);
        answer(transaction.commit()).await?;
        Ok(holds_rows)
    }

    /// Empties the oldest of the queue's tables, and lets triggers write to it from now on,
    /// when that is due. The view that triggers write through is
    /// replaced, for which PostgreSQL waits until every transaction is over that has
    /// written to the table before. Ends what somebody else began by PgQ's own functions.
    /// `age` is that of the last rotation, in seconds.
    async fn rotate(&mut self, begun_elsewhere: bool, age: f64) -> Result<()> {
        if !begun_elsewhere && age < self.settings.rotation_period.as_secs_f64() {
            return Ok(());
        }
        // Writers wait behind each try.
        if self.rotated.is_some_and(|tried| tried.elapsed() < ROTATION_RETRY.min(self.settings.rotation_period)) {
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
                tracing::debug!(set = %self.settings.set, code = %error.code, %error, "the queue's tables are not rotated yet");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether triggers write to another table from now on.
    async fn switch(&self, begun_elsewhere: bool) -> Result<bool> {
        let Settings { cluster, set, .. } = self.settings;
        Ok(answer(self.session.query_one(&sql::rotate(cluster), &[set, &begun_elsewhere])).await?.get(0))
    }
}

fn gone(queue: &str) -> Error {
    Error::configure(Code::QueueAbsent, format!("queue {queue:?} or its consumer is gone"))
}

/// `first`: before the first tick that was made after [`sql::draw_first`]. The first id may
/// be an event's until then, and older than the last tick, or not.
fn reading(row: &Row, first: bool) -> Result<Reading> {
    let (last_tick, consumer_tick): (i64, Option<i64>) = (row.get(1), row.get(5));
    let tick_snapshot = snapshot(row, 2)?;
    let ticker = u32::try_from(row.get::<_, i64>(8)).map_err(|_| Error::bug("a transaction id does not fit 32 bits"))?;
    let event_sequence = row.get(7);
    Ok(Reading {
        snapshot: snapshot(row, 0)?,
        event_sequence,
        uncertain: first && event_sequence <= 1,
        ticker: tick::full_transaction(ticker, tick_snapshot.max),
        tick_snapshot,
        tick_event_sequence: row.get(3),
        tick_age: Duration::try_from_secs_f64(row.get::<_, f64>(4)).unwrap_or_default(),
        behind: consumer_tick.is_some_and(|consumer| consumer < last_tick),
    })
}

fn snapshot(row: &Row, column: usize) -> Result<proto::interfaces::common::Snapshot> {
    proto::snapshot::parse(row.get(column)).map_err(|error| Error::bug(error.to_string()))
}
