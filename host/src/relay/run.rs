//! The loop: the queue's batches, one after the other, onto the stream.
//!
//! A batch is finished in the queue when the stream has all of it durably, and
//! not before. Whatever dies in between leaves the batch open, and the next
//! publisher sends it again from its beginning: its readers discard what they
//! have of the first attempt (see [`proto::batch::step`]).

use std::time::Duration;

use proto::batch::Batch;
use proto::batch::publisher::{Publisher, Refusal};
use proto::interfaces::common::Timestamp;
use proto::row::Mutation;
use tokio::time::timeout;

use super::progress::Progress;
use crate::error::{Code, Error, Result};
use crate::observe::now_us;
use crate::ports::{Messages, Queue, Writer};
use crate::stop::Stop;
use crate::supervise::ROLLBACK_TIMEOUT;

/// What a call of the writer carries.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    /// About this much.
    pub bytes: usize,
    /// And not more messages than this, however small, but for the last chunk read.
    pub messages: usize,
}

impl Default for Push {
    fn default() -> Self {
        Self { bytes: 1 << 20, messages: 8192 }
    }
}

/// How long to wait for the queue before it is asked again without a word from it.
const IDLE_WAIT: Duration = Duration::from_secs(5);

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
    push: Push,
    stop: &mut Stop,
    progress: &mut Progress,
) -> Result<()> {
    while !stop.requested() {
        match queue.next().await? {
            Some(batch) => {
                progress.begin();
                let attempt = Attempt { queue, writer, publisher, batch: &batch, progress, outgoing: Outgoing::new(push), intact: true };
                let ended = attempt.relay(stop).await?;
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
    /// Numbered by the publisher, not yet pushed.
    outgoing: Outgoing,
    /// Whether the stream has, or will have, all that was pushed so far.
    intact: bool,
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
                if !error.is_tried_again() {
                    self.roll_back().await;
                }
                Err(error.context(format!("batch {} (ticks {} to {})", self.batch.id, self.batch.start.id, self.batch.end.id)))
            }
        }
    }

    /// Puts the batch onto the stream; durable on return, if finished.
    async fn publish(&mut self, stop: &Stop) -> Result<Ended> {
        let begin = self.publisher.begin(self.batch, now()).map_err(refused)?;
        self.outgoing.messages.add(&begin);
        let mut mutations = self.queue.read(self.batch).await?;
        while !mutations.is_empty() {
            if stop.overdue() {
                return Ok(Ended::GivenUp);
            }
            self.outgoing.encode(self.publisher, mutations)?;
            mutations = if self.outgoing.is_full() { self.push_and_read().await? } else { self.queue.read(self.batch).await? };
        }
        self.outgoing.messages.add(&self.publisher.commit(now()).map_err(refused)?);
        self.push_and_flush().await?;
        Ok(Ended::Finished)
    }

    /// Pushes what is ready, and reads the next events meanwhile.
    async fn push_and_read(&mut self) -> Result<Vec<Mutation>> {
        let Outgoing { messages, mutations, .. } = self.outgoing.take();
        let bytes = messages.bytes().len() as u64;
        self.intact = false;
        let (pushed, read) = tokio::join!(self.writer.push(self.batch, messages), self.queue.read(self.batch));
        pushed?;
        self.intact = true;
        self.progress.pushed(self.batch, mutations, bytes);
        read
    }

    async fn push_and_flush(&mut self) -> Result<()> {
        let Outgoing { messages, mutations, .. } = self.outgoing.take();
        let bytes = messages.bytes().len() as u64;
        self.intact = false;
        self.writer.push(self.batch, messages).await?;
        self.writer.flush().await?;
        self.intact = true;
        self.progress.pushed(self.batch, mutations, bytes);
        Ok(())
    }

    /// Tells the readers that the batch ends here. Best effort: a reader that
    /// does not get it learns the same from the next Begin. Never after a push
    /// that failed, since the rollback's number would follow one that is missing.
    async fn roll_back(&mut self) {
        if !self.intact {
            return;
        }
        let Ok(rollback) = self.publisher.rollback(now()) else { return };
        self.outgoing.messages.add(&rollback);
        if !matches!(timeout(ROLLBACK_TIMEOUT, self.push_and_flush()).await, Ok(Ok(()))) {
            tracing::debug!(batch = self.batch.id, "the rollback could not be published");
        }
    }
}

/// Messages for the next call of the writer.
struct Outgoing {
    push: Push,
    messages: Messages,
    mutations: u64,
}

impl Outgoing {
    fn new(push: Push) -> Self {
        // The last chunk that is encoded makes it more than full.
        Self { push, messages: Messages::with_capacity(push.bytes + push.bytes / 2), mutations: 0 }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.push))
    }

    fn encode(&mut self, publisher: &mut Publisher, mutations: Vec<Mutation>) -> Result<()> {
        let now = now();
        for mutation in mutations {
            self.messages.append(|out| publisher.put_mutation(&mutation, now, out)).map_err(refused)?;
            self.mutations += 1;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.messages.bytes().len() >= self.push.bytes || self.messages.lengths().len() >= self.push.messages
    }
}

/// The queue holds what no reader of the stream would accept.
fn refused(refusal: Refusal) -> Error {
    Error::stop(Code::GrammarViolated, format!("the stream's grammar forbids it: {refusal}"))
}

fn now() -> Timestamp {
    proto::timestamp::from_micros(now_us())
}
