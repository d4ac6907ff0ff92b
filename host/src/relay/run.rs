//! The loop: the queue's batches, one after the other, onto the stream.
//!
//! A batch is finished in the queue when the stream has all of it durably, and
//! not before. Whatever dies in between leaves the batch open, and the next
//! publisher sends it again from its beginning: its readers discard what they
//! have of the first attempt (see [`proto::batch::step`]).

use std::time::Duration;

use bytes::Bytes;
use proto::batch::Batch;
use proto::batch::publisher::{Publisher, Refusal};
use proto::interfaces::common::Timestamp;
use proto::row::Mutation;
use tokio::time::timeout;

use super::progress::Progress;
use crate::error::{Error, Next, Result};
use crate::ports::{Queue, Writer};
use crate::stop::Stop;

/// A call of the writer carries about this much.
const PUSH_BYTES: usize = 1 << 20;

/// And not more messages than this, however small, but for the last chunk read.
const PUSH_MESSAGES: usize = 8192;

/// How long to wait for the queue before it is asked again without a word from it.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// How long the stream may take to store a rollback, which is not worth waiting for.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Relays batches until `stop` is requested, and then ends at the end of a batch,
/// or inside it, with a rollback, once its grace is over.
///
/// After an error nothing is known of what the stream has of the open batch:
/// `publisher` and `writer` are of no more use. `Retry` asks for new ones, with a
/// higher epoch; any other error is for the operator.
pub async fn run(
    queue: &mut impl Queue,
    writer: &mut impl Writer,
    publisher: &mut Publisher,
    stop: &mut Stop,
    progress: &mut Progress,
) -> Result<()> {
    while !stop.requested() {
        match queue.next().await? {
            Some(batch) => {
                let ended = Attempt { queue, writer, publisher, batch: &batch, progress }.relay(stop).await?;
                if ended == Ended::GivenUp {
                    return Ok(());
                }
            }
            None => tokio::select! {
                waited = queue.wait(IDLE_WAIT) => waited?,
                () = stop.wait() => {}
            },
        }
    }
    Ok(())
}

/// How an attempt without an error ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Finished,
    /// The grace was over: the batch is for the next relay.
    GivenUp,
}

/// One batch, sent once.
struct Attempt<'a, Q, W> {
    queue: &'a mut Q,
    writer: &'a mut W,
    publisher: &'a mut Publisher,
    batch: &'a Batch,
    progress: &'a mut Progress,
}

impl<Q: Queue, W: Writer> Attempt<'_, Q, W> {
    async fn relay(mut self, stop: &Stop) -> Result<Ended> {
        match self.publish(stop).await {
            Ok(Ended::Finished) => {
                self.queue.finish(self.batch).await?;
                self.progress.finished(self.batch);
                Ok(Ended::Finished)
            }
            Ok(Ended::GivenUp) => {
                tracing::warn!(
                    batch = self.batch.id,
                    "the batch is given up, since it took longer than the grace period: the next relay sends it again"
                );
                self.roll_back().await;
                Ok(Ended::GivenUp)
            }
            Err(error) => {
                // What is to be tried again begins the batch anew, which says the same.
                if error.next != Next::Retry {
                    self.roll_back().await;
                }
                Err(error.context(format!("batch {} (ticks {} to {})", self.batch.id, self.batch.start.id, self.batch.end.id)))
            }
        }
    }

    /// Puts the batch onto the stream; durable on return, if finished.
    async fn publish(&mut self, stop: &Stop) -> Result<Ended> {
        let begin = self.publisher.begin(self.batch, now()).map_err(refused)?;
        let mut outgoing = Outgoing::default();
        outgoing.add(begin);
        let mut mutations = self.queue.read(self.batch).await?;
        while !mutations.is_empty() {
            if stop.overdue() {
                return Ok(Ended::GivenUp);
            }
            outgoing.encode(self.publisher, mutations)?;
            mutations = if outgoing.is_full() {
                let push = push(self.writer, self.batch, outgoing.take(), self.progress);
                // The next events are read while these are stored.
                let (pushed, read) = tokio::join!(push, self.queue.read(self.batch));
                pushed?;
                read?
            } else {
                self.queue.read(self.batch).await?
            };
        }
        outgoing.add(self.publisher.commit(now()).map_err(refused)?);
        push(self.writer, self.batch, outgoing.take(), self.progress).await?;
        self.writer.flush().await?;
        Ok(Ended::Finished)
    }

    /// Tells the readers that the batch ends here. Best effort: a reader that
    /// does not get it learns the same from the next Begin.
    async fn roll_back(&mut self) {
        let Ok(rollback) = self.publisher.rollback(now()) else { return };
        let said = timeout(ROLLBACK_TIMEOUT, async {
            self.writer.push(self.batch, vec![rollback]).await?;
            self.writer.flush().await
        });
        if !matches!(said.await, Ok(Ok(()))) {
            tracing::debug!(batch = self.batch.id, "the rollback could not be published");
        }
    }
}

/// Messages for the next call of the writer.
#[derive(Default)]
struct Outgoing {
    messages: Vec<Bytes>,
    bytes: usize,
    mutations: u64,
}

impl Outgoing {
    fn add(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push(message);
    }

    fn encode(&mut self, publisher: &mut Publisher, mutations: Vec<Mutation>) -> Result<()> {
        let now = now();
        self.messages.reserve(mutations.len() + 1);
        for mutation in mutations {
            let message = publisher.mutation(&mutation, now).map_err(refused)?;
            self.add(message);
            self.mutations += 1;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes >= PUSH_BYTES || self.messages.len() >= PUSH_MESSAGES
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

async fn push(writer: &mut impl Writer, batch: &Batch, outgoing: Outgoing, progress: &mut Progress) -> Result<()> {
    writer.push(batch, outgoing.messages).await?;
    progress.pushed(batch, outgoing.mutations, outgoing.bytes as u64);
    Ok(())
}

/// The queue holds what no reader of the stream would accept.
fn refused(refusal: Refusal) -> Error {
    Error::stop(format!("the stream's grammar forbids it: {refusal}"))
}

fn now() -> Timestamp {
    proto::timestamp::from_micros(super::progress::now_us())
}
