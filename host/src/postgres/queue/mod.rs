//! The set's PgQ queue, as the relay reads it.
//!
//! Three sessions: one opens and finishes batches and holds the consumer's lock
//! for as long as it lives, one reads events, one makes ticks. None has a
//! transaction open while messages are published, but the reading itself.

pub mod backlog;
mod keeper;
mod lane;
mod partitions;
mod reader;
mod sql;
mod tick;

use std::sync::Arc;
use std::time::Duration;

use proto::batch::{Batch, Id};
use proto::interfaces::common::{Snapshot, Source, Tick};
use proto::row::Mutation;
use proto::{snapshot, timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Row, Statement};

use crate::cluster::name;
use crate::error::{Error, Next, Result};
use crate::observe::Status;
use crate::ports;
use crate::postgres::connect::{self, Session};
use crate::postgres::{node, pool};
use keeper::Keeper;
use lane::Lane;
use reader::{Chunk, Reader};

/// How long the server may take to answer one of the short statements.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a session that was ended may take until its locks are free.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How often to look whether they are.
const EVICTION_POLL: Duration = Duration::from_millis(20);

/// Chunks of decoded events that wait to be published.
const CHUNKS_MAX: usize = 2;

/// What the sessions of relays are called: the epoch follows, then the set, which
/// PostgreSQL may cut off.
const APPLICATION: &str = "pgshovel relay ";

/// Which queue, and who reads it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dsn: String,
    pub cluster: String,
    pub set: String,
    pub consumer: String,
    /// Of this relay's leadership: a relay with a lower one is ended where it holds
    /// the consumer.
    pub epoch: u64,
    /// How often to rotate the queue's tables; never if zero.
    pub rotation_period: Duration,
    /// What the queue's tables may take on disk before it is reported, in bytes.
    pub queue_bytes_max: Option<u64>,
    /// Told of the queue and its ticker.
    pub status: Status,
}

impl Settings {
    fn queue(&self) -> String {
        name::queue(&self.cluster, &self.set)
    }

    fn application(&self, role: &str) -> String {
        format!("{APPLICATION}{} {} {}", self.epoch, self.set, role).trim_end().to_owned()
    }

    /// Whether a session of this name is a relay's whose leadership is over.
    fn supersedes(&self, application: &str) -> bool {
        let epoch = application.strip_prefix(APPLICATION).and_then(|rest| rest.split(' ').next());
        epoch.and_then(|epoch| epoch.parse().ok()).is_some_and(|epoch: u64| epoch < self.epoch)
    }
}

/// See the module. One per consumer and database, on all machines.
#[derive(Debug)]
pub struct Queue {
    settings: Arc<Settings>,
    /// Holds the consumer's lock.
    control: Arc<Session>,
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

/// What the queue and its keeper tell each other.
#[derive(Debug, Default)]
struct Signals {
    /// The consumer has a new batch.
    ticked: Notify,
    /// The consumer has finished a batch.
    finished: Notify,
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
    async fn prepare(control: &Client) -> Result<Self> {
        let next = answer(control.prepare(sql::NEXT)).await?;
        let ticks = answer(control.prepare(sql::TICKS)).await?;
        let ticks_before = answer(control.prepare(sql::TICKS_BEFORE)).await?;
        let finish = answer(control.prepare(sql::FINISH)).await?;
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

/// A task that ends with its handle.
#[derive(Debug)]
struct Abort<T>(JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Queue {
    /// Connects, and takes the consumer's lock. A relay of an older epoch that holds it
    /// is ended, any other holder is `Retry`; a queue or consumer that does not exist is
    /// `Configure`, and so is a queue that others may rotate and this relay may not keep
    /// them from it.
    pub async fn open(settings: Settings) -> Result<Self> {
        let settings = Arc::new(settings);
        let control = Session::connect(&settings.dsn, &settings.application("")).await?;
        pool::refuse_transaction_mode(&control, &settings.dsn).await?;
        let control = Arc::new(prepared(control).await?);
        let identity = timeout(ANSWER_TIMEOUT, node::identify(&control, &settings.cluster)).await.map_err(|_| unanswered())??;
        lock(&control, &settings).await?;
        let queue_id = find(&control, &settings).await?;
        check_rotation(&control, &settings).await?;
        let statements = Statements::prepare(&control).await?;
        let signals = Arc::new(Signals::default());
        let keeper = Keeper::start(Arc::clone(&settings), Arc::clone(&signals));
        let source = identity.source(&settings.cluster, &settings.set);
        Ok(Self {
            settings,
            control,
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
        let damaged = |what: &str| Error::stop(format!("pgq.tick of queue {:?} holds {what}", self.settings.queue()));
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
            return Err(Error::stop(format!(
                "queue {queue:?} has lost tick {start} or {end} of its open batch {id}: its events can no longer be told apart; drop the set, create it again and bootstrap its targets"
            )));
        };
        let (mut start, mut end) = (self.tick(start_row)?, self.tick(end_row)?);
        let before = self.delivered_before(&start).await?;
        if !snapshot::contains(&end.snapshot, &before) {
            tracing::warn!(%queue, tick = end.id, "the tick sees less than the one before it, since two tick this queue: no event is relayed twice");
            end.snapshot = before.clone();
        }
        start.snapshot = before;
        let id = u64::try_from(id).map_err(|_| Error::stop(format!("queue {queue:?}: batch {id} has a negative id")))?;
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
                .map_err(|error| Error::stop(format!("pgq.tick of queue {:?} holds {error}", self.settings.queue())))?;
            if snapshot::contains(&seen, &most) {
                most = seen;
            }
        }
        Ok(most)
    }

    /// Whether the batch was open.
    async fn close_batch(&self, batch: &Batch) -> Result<bool> {
        let row = answer(self.control.query_one(&self.statements.finish, &[&pgq_id(batch.id)?])).await?;
        Ok(row.get::<_, i32>(0) == 1)
    }
}

impl ports::Queue for Queue {
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
        let error = Error::stop(format!(
            "batch {} of queue {:?} was ended by somebody else: consumer {:?} must be read by this relay alone; find who else calls pgq.finish_batch or pgq.next_batch for it",
            batch.id,
            self.settings.queue(),
            self.settings.consumer
        ));
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

/// A session with the settings that every session of a relay has.
async fn session(settings: &Settings, role: &str) -> Result<Session> {
    prepared(Session::connect(&settings.dsn, &settings.application(role)).await?).await
}

async fn prepared(session: Session) -> Result<Session> {
    answer(session.query(sql::SETTINGS, &[])).await?;
    Ok(session)
}

/// Waits for a statement's answer, within [`ANSWER_TIMEOUT`].
async fn answer<T>(statement: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>) -> Result<T> {
    match timeout(ANSWER_TIMEOUT, statement).await {
        Ok(answer) => answer.map_err(|error| connect::explain(&error)),
        Err(_) => Err(unanswered()),
    }
}

fn unanswered() -> Error {
    Error::retry(format!("PostgreSQL has not answered for {} seconds", ANSWER_TIMEOUT.as_secs()))
}

/// The second fence: whoever finishes batches of a consumer holds this lock, on
/// the session that finishes them. Who leads no more may not know, and may not even
/// run: it is ended, so that it cannot finish a batch either.
async fn lock(control: &Client, settings: &Settings) -> Result<()> {
    let key = sql::consumer_lock(&settings.cluster, &settings.set, &settings.consumer);
    let since = Instant::now();
    loop {
        if answer(control.query_one(sql::LOCK, &[&key])).await?.get(0) {
            return Ok(());
        }
        let holder = answer(control.query_opt(sql::LOCKED_BY, &[&key])).await?;
        let holder: Option<(i32, String)> = holder.map(|row| (row.get(0), row.get(1)));
        match &holder {
            Some((pid, application)) if settings.supersedes(application) && since.elapsed() < EVICTION_TIMEOUT => {
                evict(control, *pid, application).await?;
            }
            // It ended meanwhile.
            None if since.elapsed() < EVICTION_TIMEOUT => {}
            _ => return Err(held(settings, holder)),
        }
        sleep(EVICTION_POLL).await;
    }
}

async fn evict(control: &Client, pid: i32, application: &str) -> Result<()> {
    let ended = answer(control.query_opt(sql::EVICT, &[&pid, &application])).await;
    let ended = ended.map_err(|error| Error::retry(format!("the session of a relay that leads no more (process {pid} of the server) cannot be ended: {error}; GRANT pg_signal_backend TO the role of this one")))?;
    if ended.is_some() {
        tracing::info!(pid, application, "ended the session of a relay that leads no more");
    }
    Ok(())
}

fn held(settings: &Settings, holder: Option<(i32, String)>) -> Error {
    let holder =
        holder.map_or_else(String::new, |(pid, application)| format!(" (process {pid} of the server, application {application:?})"));
    Error::retry(format!(
        "another session{holder} holds consumer {:?} of queue {:?}: waiting for it to end",
        settings.consumer,
        settings.queue()
    ))
}

/// PgQ's own maintenance, which anybody may run, loses events.
async fn check_rotation(control: &Client, settings: &Settings) -> Result<()> {
    let may_own: bool = answer(control.query_one(sql::MAY_OWN, &[])).await?.get(0);
    let queue = settings.queue();
    if may_own || answer(control.query_one(sql::LEFT_ALONE, &[&queue])).await?.get(0) {
        return Ok(());
    }
    Err(Error::configure(format!(
        "PgQ's maintenance, such as pgqd, may rotate the tables of queue {queue:?} and lose events of REPEATABLE READ transactions, and the relay's role may not keep it from that: GRANT pgq_admin TO it, or let an administrator run SELECT pgq.set_queue_config('{queue}', 'rotation_period', '100 years')"
    )))
}

/// The id of the queue, once it and its consumer are known to exist.
async fn find(control: &Client, settings: &Settings) -> Result<i32> {
    let (queue, consumer, set) = (settings.queue(), &settings.consumer, &settings.set);
    let found = answer(control.query_opt(sql::EXISTS, &[&queue, consumer])).await;
    let found = found.map_err(|error| error.context(format!("cannot look for queue {queue:?}; is the extension pgq installed there")))?;
    let Some(row) = found else {
        return Err(Error::configure(format!(
            "queue {queue:?} does not exist in this database: `pgshovel set inspect {set}` shows where the set should be, `pgshovel cluster recover` finishes a change that was interrupted"
        )));
    };
    if row.get(1) {
        return Ok(row.get(0));
    }
    Err(Error::configure(format!(
        "consumer {consumer:?} is not registered with queue {queue:?}: `set create` registers the consumer \"default\"; to publish the set a second time, from now on, register another one with SELECT pgq.register_consumer('{queue}', '{consumer}')"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relays_of_older_epochs_are_ended() {
        let settings = |epoch, set: &str| Settings {
            dsn: String::new(),
            cluster: "c".to_owned(),
            set: set.to_owned(),
            consumer: "default".to_owned(),
            epoch,
            rotation_period: Duration::ZERO,
            queue_bytes_max: None,
            status: Status::new("relay", set),
        };
        let name = settings(7, "a").application("");
        assert_eq!(name, "pgshovel relay 7 a");
        assert!(settings(8, "a").supersedes(&name));
        for other in [settings(7, "a"), settings(6, "a")] {
            assert!(!other.supersedes(&name));
        }
        for foreign in ["psql", "pgshovel relay a", "pgshovel relay", ""] {
            assert!(!settings(8, "a").supersedes(foreign), "{foreign}");
        }
    }
}
