//! The reading half of the worker: messages of the stream become steps.

use std::time::Duration;

use proto::batch::step::{Action, Reader, Skip};
use proto::batch::{Batch, Uuid};
use proto::codec;
use proto::row::Mutation;

use super::ahead::{Ahead, Outlet};
use super::state;
use crate::error::{Error, Result};
use crate::ports::{Entry, Stream};

/// What one call of the stream may return.
const NEXT_MESSAGES_MAX: u32 = 4096;

/// How long one call of the stream waits for a message.
const NEXT_WAIT: Duration = Duration::from_secs(1);

/// A call of the target carries mutations up to one of these; a larger mutation goes
/// alone.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub rows_max: usize,
    /// Of their messages.
    pub bytes_max: usize,
}

impl Default for Part {
    fn default() -> Self {
        Self { rows_max: 1000, bytes_max: 1 << 20 }
    }
}

/// Steps that may wait for who applies them: about as many MiB.
const STEPS_AHEAD_MAX: usize = 4;

/// What to do next to the target; in this order, nothing else, nothing twice.
#[derive(Debug)]
pub(super) enum Step {
    /// A batch begins; with `discard`, in place of the one that is open.
    Begin { batch: Box<Batch>, discard: bool },
    /// A part of the open batch.
    Apply(Vec<Mutation>),
    /// The open batch ends, and makes `state` the target's.
    Commit { state: Vec<u8>, catching_up: bool },
    /// The open batch is to be forgotten.
    Rollback,
}

/// Reads `stream` from where it is. Ends with an error, or not at all.
pub(super) fn start<S: Stream + 'static>(stream: S, reader: Reader, part: Part) -> Ahead<Step> {
    Ahead::start(STEPS_AHEAD_MAX, |outlet| Reading { reader, part, outlet, chunk: Chunk::default(), fenced: false }.run(stream))
}

struct Reading {
    reader: Reader,
    part: Part,
    outlet: Outlet<Step>,
    chunk: Chunk,
    /// Whether a message of a fenced publisher was reported.
    fenced: bool,
}

/// Mutations on their way into a step.
#[derive(Default)]
struct Chunk {
    mutations: Vec<Mutation>,
    bytes: usize,
}

impl Reading {
    async fn run<S: Stream>(mut self, mut stream: S) -> Result<()> {
        loop {
            for entry in stream.next(NEXT_MESSAGES_MAX, NEXT_WAIT).await? {
                self.read(&entry).await?;
            }
        }
    }

    async fn read(&mut self, entry: &Entry) -> Result<()> {
        let message = codec::decode(&entry.message).map_err(|error| foreign(&entry.position, &error))?;
        let header = message.header;
        let action = self.reader.step(message).map_err(|violation| broken(&entry.position, &violation))?;
        match action {
            Action::Begin { batch, discard } => {
                self.chunk = Chunk::default();
                self.outlet.put(Step::Begin { batch: Box::new(batch), discard }).await?;
            }
            Action::Apply(mutation) => self.apply(mutation, entry.message.len()).await?,
            Action::Commit => self.commit(&entry.position).await?,
            Action::Rollback => {
                self.chunk = Chunk::default();
                self.outlet.put(Step::Rollback).await?;
            }
            Action::Skip(Skip::Fenced) if !self.fenced => {
                self.fenced = true;
                let epoch = header.epoch.map_or_else(|| "none, as of pgshovel 2015".to_owned(), |epoch| epoch.to_string());
                tracing::warn!(
                    position = %place(&entry.position),
                    publisher = %Uuid(header.publisher),
                    epoch,
                    "a publisher that was superseded still writes to the stream; its messages are passed over"
                );
            }
            Action::Skip(_) => {}
        }
        Ok(())
    }

    async fn apply(&mut self, mutation: Mutation, bytes: usize) -> Result<()> {
        self.chunk.mutations.push(mutation);
        self.chunk.bytes += bytes;
        if self.chunk.mutations.len() >= self.part.rows_max || self.chunk.bytes >= self.part.bytes_max {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let mutations = std::mem::take(&mut self.chunk).mutations;
        if !mutations.is_empty() {
            self.outlet.put(Step::Apply(mutations)).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, position: &[u8]) -> Result<()> {
        self.flush().await?;
        let state = self.reader.state(position).ok_or_else(|| Error::bug("a batch was committed and is still open"))?;
        let step = Step::Commit { state: state::encode(&state), catching_up: self.reader.is_catching_up() };
        self.outlet.put(step).await?;
        Ok(())
    }
}

fn foreign(position: &[u8], error: &codec::DecodeError) -> Error {
    Error::stop(format!(
        "the message at position {} of the stream is none of pgshovel: {error}; \
         find out who else writes to this stream, and move the set to a new one",
        place(position)
    ))
}

fn broken(position: &[u8], violation: &proto::batch::Violation) -> Error {
    Error::stop(format!("at position {} of the stream: {violation}", place(position)))
}

/// A position for people: as text where it is, or else in hexadecimal digits.
pub(crate) fn place(position: &[u8]) -> String {
    const BYTES_MAX: usize = 64;
    let shown = position.get(..BYTES_MAX).unwrap_or(position);
    if !shown.is_empty() && shown.iter().all(u8::is_ascii_graphic) {
        return String::from_utf8_lossy(shown).into_owned();
    }
    shown.iter().map(|byte| format!("{byte:02x}")).collect()
}
