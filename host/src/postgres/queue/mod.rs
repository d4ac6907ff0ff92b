//! The set's PgQ queue, as the relay reads it.
//!
//! Three sessions: one opens and finishes batches, under the epoch that it took the
//! consumer with, one reads events, one makes ticks. None has a
//! transaction open while messages are published, but the reading itself.

pub mod backlog;
mod keeper;
mod lane;
mod partitions;
mod reader;
mod session;
mod sql;
mod tick;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proto::batch::{Batch, Id};
use proto::interfaces::common::{Snapshot, Source, Tick};
use proto::row::Mutation;
use proto::{snapshot, timestamp};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row, Statement};

use crate::error::{Code, Error, Next, Result};
use crate::names;
use crate::ports;
use crate::postgres::connect::{self, Session};
use crate::postgres::node::{self, Identity};
use crate::postgres::{pool, quote};
use keeper::Keeper;
use lane::Lane;
use reader::{Chunk, Reader};
pub use session::Settings;
use session::{ANSWER_TIMEOUT, Abort, Signals, answer, prepared, unanswered};

/// Chunks of decoded events that wait to be published.
const CHUNKS_MAX: usize = 2;

/// See the module. One per consumer and database, on all machines.
#[derive(Debug)]
pub struct Queue {
    settings: Arc<Settings>,
    /// Opens and ends batches.
    control: Arc<Session>,
    /// Under which this relay has the consumer.
    epoch: i64,
    statements: Statements,
    source: Source,
    /// The node of the source.
    node: Id,
    queue_id: i32,
    /// Where events are read: the connection hands them over in small pieces, which wakes
    /// no other thread there.
    lane: Lane,
    reading: Reading,
    /// The last tick that a batch was finished at, and what was delivered by then.
    delivered: Option<(u64, Snapshot)>,
    signals: Arc<Signals>,
    _keeper: Keeper,
}

/// What is asked once per batch, or while there is none.
#[derive(Debug)]
struct Statements {
    next: Statement,
    ticks: Statement,
    ticks_before: Statement,
    finish: Statement,
}

impl Statements {
    async fn prepare(control: &Client, cluster: &str) -> Result<Self> {
        let next = answer(control.prepare(sql::NEXT)).await?;
        let ticks = answer(control.prepare(sql::TICKS)).await?;
        let ticks_before = answer(control.prepare(sql::TICKS_BEFORE)).await?;
        let finish = answer(control.prepare(&sql::finish(cluster))).await?;
        Ok(Self { next, ticks, ticks_before, finish })
    }
}

/// Where the open batch is being read.
#[derive(Debug)]
enum Reading {
    /// Nobody reads.
    Idle(Option<Box<Reader>>),
    Busy {
        batch: u64,
        chunks: mpsc::Receiver<Chunk>,
        task: Abort<Box<Reader>>,
    },
}

impl Queue {
    /// Connects, and takes the consumer, if `leads` says so, under an epoch of at least
    /// `epoch_min`: whoever had it ends no batch any more. A queue or consumer that does not exist
    /// is `Configure`, and so is a queue that others may rotate and this relay may not keep them
    /// from it.
    pub async fn open(settings: Settings, epoch_min: u64, leads: impl Future<Output = bool>) -> Result<Self> {
        let settings = Arc::new(settings);
        let (control, identity, queue_id) = connect(&settings).await?;
        let control = Arc::new(control);
        let epoch = take(&control, &settings, epoch_min, leads).await?;
        let statements = Statements::prepare(&control, &settings.cluster).await?;
        let signals = Arc::new(Signals::default());
        let keeper = Keeper::start(Arc::clone(&settings), Arc::clone(&signals));
        let source = identity.source(&settings.cluster, &settings.set);
        Ok(Self {
            settings,
            control,
            epoch,
            statements,
            source,
            node: identity.node,
            queue_id,
            lane: Lane::open("queue reader")?,
            reading: Reading::Idle(None),
            delivered: None,
            signals,
            _keeper: keeper,
        })
    }

    /// Fails as `open` would, as far as can be told without taking the consumer.
    pub async fn check(settings: Settings) -> Result<()> {
        connect(&settings).await.map(drop)
    }

    /// Begins to read `batch` in a task of the lane.
    async fn start(&mut self, batch: &Batch) -> Result<()> {
        let idle = std::mem::replace(&mut self.reading, Reading::Idle(None));
        let reader = match idle {
            Reading::Idle(Some(reader)) => reader,
            // An unfinished reading is of no more use, nor its session.
            Reading::Idle(None) | Reading::Busy { .. } => {
                let connect = Reader::connect(Arc::clone(&self.settings), self.queue_id, Arc::clone(&self.control));
                let mut connecting = Abort(self.lane.spawn(connect));
                Box::new((&mut connecting.0).await.map_err(panicked)??)
            }
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let task = Abort(self.lane.spawn(reader.read(batch.clone(), sender)));
        self.reading = Reading::Busy { batch: batch.id, chunks, task };
        Ok(())
    }

    fn tick(&self, row: &Row) -> Result<Tick> {
        let damaged = |what: &str| Error::stop(Code::TicksDamaged, format!("pgq.tick of queue {:?} holds {what}", self.settings.queue()));
        let id = row.get::<_, i64>(0);
        Ok(Tick {
            id: u64::try_from(id).map_err(|_| damaged("a negative id"))?,
            snapshot: snapshot::parse(row.get(1)).map_err(|error| damaged(&error.to_string()))?,
            timestamp: timestamp::from_micros(row.get(2)),
        })
    }
}

impl Queue {
    /// What is behind an error of the server: when a set is dropped, its queue
    /// goes first.
    async fn diagnose(&self, error: Error) -> Error {
        if error.next != Next::Stop {
            return error;
        }
        match find(&self.control, &self.settings).await {
            Err(gone) if gone.next == Next::Configure => gone,
            _ => error,
        }
    }

    async fn open_batch(&mut self) -> Result<Option<Batch>> {
        let queue = self.settings.queue();
        let row = answer(self.control.query_one(&self.statements.next, &[&queue, &self.settings.consumer])).await?;
        let Some(id) = row.get::<_, Option<i64>>(0) else { return Ok(None) };
        let (start, end): (i64, i64) = (row.get(1), row.get(2));
        let ticks = answer(self.control.query(&self.statements.ticks, &[&self.queue_id, &start, &end])).await?;
        let [start_row, end_row] = ticks.as_slice() else {
            return Err(Error::stop(
                Code::TicksDamaged,
                format!(
                    "queue {queue:?} has lost tick {start} or {end} of its open batch {id}: its events can no longer be told apart; drop the set, create it again and bootstrap its targets"
                ),
            ));
        };
        let (mut start, mut end) = (self.tick(start_row)?, self.tick(end_row)?);
        let before = self.delivered_before(&start).await?;
        if !snapshot::contains(&end.snapshot, &before) {
            tracing::warn!(%queue, tick = end.id, "the tick sees less than the one before it, since two tick this queue: no event is relayed twice");
            end.snapshot = before.clone();
        }
        start.snapshot = before;
        let id =
            u64::try_from(id).map_err(|_| Error::stop(Code::TicksDamaged, format!("queue {queue:?}: batch {id} has a negative id")))?;
        Ok(Some(Batch { id, node: self.node, start, end, source: Some(self.source.clone()) }))
    }

    /// What batches up to the tick `start` have delivered: what it sees, or one before
    /// it saw, which came in a wrong order.
    async fn delivered_before(&self, start: &Tick) -> Result<Snapshot> {
        if let Some((tick, delivered)) = &self.delivered
            && *tick == start.id
        {
            return Ok(delivered.clone());
        }
        let tick = i64::try_from(start.id).map_err(|_| Error::bug(format!("{} is no tick of PgQ", start.id)))?;
        let mut most = start.snapshot.clone();
        for row in answer(self.control.query(&self.statements.ticks_before, &[&self.queue_id, &tick])).await? {
            let seen = snapshot::parse(row.get(0))
                .map_err(|error| Error::stop(Code::TicksDamaged, format!("pgq.tick of queue {:?} holds {error}", self.settings.queue())))?;
            if snapshot::contains(&seen, &most) {
                most = seen;
            }
        }
        Ok(most)
    }

    /// Whether the batch was open.
    async fn close_batch(&self, batch: &Batch) -> Result<bool> {
        let Settings { set, consumer, .. } = &*self.settings;
        let row = answer(self.control.query_opt(&self.statements.finish, &[&pgq_id(batch.id)?, set, consumer, &self.epoch])).await?;
        let row = row.ok_or_else(|| {
            Error::retry(
                Code::QueueTaken,
                format!("another relay has taken consumer {consumer:?} of queue {:?} over from this one", self.settings.queue()),
            )
        })?;
        Ok(row.get::<_, i32>(0) == 1)
    }
}

impl ports::Queue for Queue {
    fn epoch(&self) -> u64 {
        // It began at the time, or above.
        self.epoch.unsigned_abs()
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        match self.open_batch().await {
            Err(error) => Err(self.diagnose(error).await),
            batch => batch,
        }
    }

    async fn wait(&mut self, at_most: Duration) -> Result<()> {
        // Whether it was notified or not, the next call of `next` tells.
        let _ = timeout(at_most, self.signals.ticked.notified()).await;
        Ok(())
    }

    async fn read(&mut self, batch: &Batch) -> Result<Vec<Mutation>> {
        if !matches!(&self.reading, Reading::Busy { batch: open, .. } if *open == batch.id) {
            self.start(batch).await?;
        }
        let Reading::Busy { chunks, task, .. } = &mut self.reading else { return Err(Error::bug("the batch is not being read")) };
        match chunks.recv().await {
            Some(Chunk::Mutations(mutations)) => Ok(mutations),
            Some(Chunk::Failed(error)) => {
                self.reading = Reading::Idle(None);
                Err(self.diagnose(error).await)
            }
            // The reader ended, and gives its session back for the next batch.
            None => {
                let reader = (&mut task.0).await.map_err(panicked);
                self.reading = Reading::Idle(None);
                self.reading = Reading::Idle(Some(reader?));
                Ok(Vec::new())
            }
        }
    }

    async fn finish(&mut self, batch: &Batch) -> Result<()> {
        if matches!(self.reading, Reading::Busy { .. }) {
            self.reading = Reading::Idle(None);
        }
        let closed = match self.close_batch(batch).await {
            Err(error) => return Err(self.diagnose(error).await),
            Ok(closed) => closed,
        };
        if closed {
            self.signals.finished.notify_one();
            self.delivered = Some((batch.end.id, batch.end.snapshot.clone()));
            return Ok(());
        }
        let error = Error::stop(
            Code::BatchEnded,
            format!(
                "batch {} of queue {:?} was ended by somebody else: consumer {:?} must be read by this relay alone; find who else calls pgq.finish_batch or pgq.next_batch for it",
                batch.id,
                self.settings.queue(),
                self.settings.consumer
            ),
        );
        Err(self.diagnose(error).await)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn panicked(error: tokio::task::JoinError) -> Error {
    Error::bug(format!("the reader of the queue panicked: {error}"))
}

fn pgq_id(batch: u64) -> Result<i64> {
    i64::try_from(batch).map_err(|_| Error::bug(format!("{batch} is no batch id of PgQ")))
}

/// A session for control, with the database's identity and the queue's id.
async fn connect(settings: &Settings) -> Result<(Session, Identity, i32)> {
    let control = Session::connect(&settings.dsn, &settings.application("")).await?;
    pool::refuse_transaction_mode(&control, &settings.dsn).await?;
    let control = prepared(control).await?;
    let identity = timeout(ANSWER_TIMEOUT, node::identify(&control, &settings.cluster)).await.map_err(|_| unanswered())??;
    let queue_id = find(&control, settings).await?;
    check_rotation(&control, settings).await?;
    Ok((control, identity, queue_id))
}

/// The second fence: a batch is ended only under the epoch that was given last, here, where
/// the queue is. Who leads no more may not know, and may not even run; so its session
/// is ended too, with the locks that it may hold. `leads` is asked when it is known who has
/// the consumer, so that nobody takes it from who leads since.
async fn take(control: &Client, settings: &Settings, epoch_min: u64, leads: impl Future<Output = bool>) -> Result<i64> {
    let Settings { cluster, set, consumer, .. } = settings;
    let epoch_min = i64::try_from(epoch_min).map_err(|_| Error::bug(format!("{epoch_min} is no epoch")))?;
    let refused = |error| explain_refusal(error, cluster);
    let holder = timeout(ANSWER_TIMEOUT, control.query_opt(&sql::holder(cluster), &[set, consumer])).await.map_err(|_| unanswered())?;
    let holder = holder.map_err(refused)?;
    if !leads.await {
        return Err(Error::retry(Code::LeadershipLost, "leadership of the set was lost before the queue was opened"));
    }
    let before = holder.as_ref().map(|row| row.get::<_, i64>(0));
    let taken = timeout(ANSWER_TIMEOUT, control.query_opt(&sql::take(cluster), &[set, consumer, &before, &epoch_min])).await;
    let taken = taken.map_err(|_| unanswered())?.map_err(refused)?;
    let Some(taken) = taken else {
        return Err(Error::retry(
            Code::QueueTaken,
            format!("another relay took consumer {consumer:?} of queue {:?} at the same time", settings.queue()),
        ));
    };
    if let Some(holder) = holder {
        evict(control, &holder).await;
    }
    Ok(taken.get(0))
}

/// Ends the session of the relay before, if it is still there.
async fn evict(control: &Client, holder: &Row) {
    let process: i32 = holder.get(1);
    match answer(control.query_opt(sql::EVICT, &[&process, &holder.get::<_, SystemTime>(2)])).await {
        Ok(Some(_)) => tracing::info!(process, "ended the session of a relay that leads no more"),
        Ok(None) => {}
        Err(error) => tracing::warn!(
            process,
            %error,
            "the session of a relay that leads no more cannot be ended: it ends no batch, but may hold locks; GRANT pg_signal_backend TO the role of this one"
        ),
    }
}

fn explain_refusal(error: tokio_postgres::Error, cluster: &str) -> Error {
    let relays = format!("{}.relays", quote(&names::schema(cluster)));
    match error.code() {
        Some(&SqlState::UNDEFINED_TABLE) => Error::configure(
            Code::DatabaseOutdated,
            format!(
                "the table {relays}, where the relays' epochs are, is missing: run `set update` with the same configuration, or `cluster upgrade --force`"
            ),
        ),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::configure(
            Code::PermissionDenied,
            format!("the relay's role may not take the queue: GRANT SELECT, INSERT, UPDATE ON {relays} TO it"),
        ),
        _ => connect::explain(&error),
    }
}

/// PgQ's own maintenance, which anybody may run, loses events. And what relays call has to be there.
async fn check_rotation(control: &Client, settings: &Settings) -> Result<()> {
    let may = answer(control.query_one(&sql::may_own(&settings.cluster), &[])).await?;
    let (there, may_own): (bool, bool) = (may.get(0), may.get(1));
    if !there {
        return Err(Error::configure(
            Code::DatabaseOutdated,
            "what the cluster keeps in this database is older than this program: run `cluster upgrade --force`, then `set update` with --relay-role",
        ));
    }
    let queue = settings.queue();
    if may_own || answer(control.query_one(sql::LEFT_ALONE, &[&queue])).await?.get(0) {
        return Ok(());
    }
    Err(Error::configure(
        Code::QueueUnprotected,
        format!(
            "PgQ's maintenance, such as pgqd, may rotate the tables of queue {queue:?} and lose events of REPEATABLE READ transactions, and the relay's role may not keep it from that: run `set update` with --relay-role, or let an administrator run SELECT pgq.set_queue_config('{queue}', 'rotation_period', '100 years')"
        ),
    ))
}

/// The id of the queue, once it and its consumer are known to exist.
async fn find(control: &Client, settings: &Settings) -> Result<i32> {
    let (queue, consumer, set) = (settings.queue(), &settings.consumer, &settings.set);
    let found = answer(control.query_opt(sql::EXISTS, &[&queue, consumer])).await;
    let found = found.map_err(|error| error.context(format!("cannot look for queue {queue:?}; is the extension pgq installed there")))?;
    let Some(row) = found else {
        return Err(Error::configure(
            Code::QueueAbsent,
            format!(
                "queue {queue:?} does not exist in this database: `pgshovel set inspect {set}` shows where the set should be, `pgshovel cluster recover` finishes a change that was interrupted"
            ),
        ));
    };
    if row.get(1) {
        return Ok(row.get(0));
    }
    Err(Error::configure(
        Code::QueueAbsent,
        format!(
            "consumer {consumer:?} is not registered with queue {queue:?}: `set create` registers the consumer \"default\"; to publish the set a second time, from now on, register another one with SELECT pgq.register_consumer('{queue}', '{consumer}')"
        ),
    ))
}
