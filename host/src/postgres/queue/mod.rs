//! The set's PgQ queue, as the relay reads it.
//!
//! Three sessions: one opens and finishes batches and holds the consumer's lock
//! for as long as it lives, one reads events, one makes ticks. None has a
//! transaction open while messages are published, but the reading itself.

mod keeper;
mod reader;
mod sql;
mod tick;

use std::sync::Arc;
use std::time::Duration;

use proto::batch::{Batch, Id};
use proto::interfaces::common::{Source, Tick};
use proto::row::Mutation;
use proto::{snapshot, timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement};

use crate::cluster::name;
use crate::error::{Error, Next, Result};
use crate::ports;
use crate::postgres::connect::{self, Session};
use crate::postgres::node;
use keeper::Keeper;
use reader::{Chunk, Reader};

/// How long the server may take to answer one of the short statements.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Chunks of decoded events that wait to be published.
const CHUNKS_MAX: usize = 2;

/// Which queue, and who reads it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dsn: String,
    pub cluster: String,
    pub set: String,
    pub consumer: String,
    /// How often to rotate the queue's tables; never if zero.
    pub rotation_period: Duration,
}

impl Settings {
    fn queue(&self) -> String {
        name::queue(&self.cluster, &self.set)
    }

    fn application(&self, role: &str) -> String {
        format!("pgshovel relay {} {}", self.set, role).trim_end().to_owned()
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
    reading: Reading,
    ticked: Arc<Notify>,
    _keeper: Keeper,
}

/// What is asked once per batch, or while there is none.
#[derive(Debug)]
struct Statements {
    next: Statement,
    ticks: Statement,
    finish: Statement,
}

impl Statements {
    async fn prepare(control: &Client) -> Result<Self> {
        let next = answer(control.prepare(sql::NEXT)).await?;
        let ticks = answer(control.prepare(sql::TICKS)).await?;
        let finish = answer(control.prepare(sql::FINISH)).await?;
        Ok(Self { next, ticks, finish })
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
    /// Connects, and takes the consumer's lock. Another holder of it is `Retry`;
    /// a queue or consumer that does not exist is `Configure`.
    pub async fn open(settings: Settings) -> Result<Self> {
        let settings = Arc::new(settings);
        let control = Arc::new(session(&settings, "").await?);
        let identity = timeout(ANSWER_TIMEOUT, node::identify(&control, &settings.cluster)).await.map_err(|_| unanswered())??;
        lock(&control, &settings).await?;
        let queue_id = find(&control, &settings).await?;
        let statements = Statements::prepare(&control).await?;
        let ticked = Arc::new(Notify::new());
        let keeper = Keeper::start(Arc::clone(&settings), Arc::clone(&ticked));
        let source = identity.source(&settings.cluster, &settings.set);
        Ok(Self {
            settings,
            control,
            statements,
            source,
            node: identity.node,
            queue_id,
            reading: Reading::Idle(None),
            ticked,
            _keeper: keeper,
        })
    }

    /// Begins to read `batch` in a task of its own.
    async fn start(&mut self, batch: &Batch) -> Result<()> {
        let idle = std::mem::replace(&mut self.reading, Reading::Idle(None));
        let reader = match idle {
            Reading::Idle(Some(reader)) => reader,
            // An unfinished reading is of no more use, nor its session.
            Reading::Idle(None) | Reading::Busy { .. } => {
                Box::new(Reader::connect(Arc::clone(&self.settings), Arc::clone(&self.control)).await?)
            }
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let task = Abort(tokio::spawn(reader.read(pgq_id(batch.id)?, sender)));
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

    async fn open_batch(&self) -> Result<Option<Batch>> {
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
        let (start, end) = (self.tick(start_row)?, self.tick(end_row)?);
        let id = u64::try_from(id).map_err(|_| Error::stop(format!("queue {queue:?}: batch {id} has a negative id")))?;
        Ok(Some(Batch { id, node: self.node, start, end, source: Some(self.source.clone()) }))
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
        let _ = timeout(at_most, self.ticked.notified()).await;
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
                let reader = (&mut task.0).await.map_err(|error| Error::bug(format!("the reader of the queue panicked: {error}")));
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

fn pgq_id(batch: u64) -> Result<i64> {
    i64::try_from(batch).map_err(|_| Error::bug(format!("{batch} is no batch id of PgQ")))
}

/// A session with the settings that every session of a relay has.
async fn session(settings: &Settings, role: &str) -> Result<Session> {
    let session = Session::connect(&settings.dsn, &settings.application(role)).await?;
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
/// the session that finishes them.
async fn lock(control: &Client, settings: &Settings) -> Result<()> {
    let key = sql::consumer_lock(&settings.cluster, &settings.set, &settings.consumer);
    if answer(control.query_one(sql::LOCK, &[&key])).await?.get(0) {
        return Ok(());
    }
    let holder = answer(control.query_opt(sql::LOCKED_BY, &[&key])).await?;
    let holder = holder.map_or_else(String::new, |row| {
        let (pid, application): (i32, String) = (row.get(0), row.get(1));
        format!(" (process {pid} of the server, application {application:?})")
    });
    Err(Error::retry(format!(
        "another session{holder} holds consumer {:?} of queue {:?}: waiting for it to end",
        settings.consumer,
        settings.queue()
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
