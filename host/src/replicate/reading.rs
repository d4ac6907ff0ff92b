//! The reading half of the worker: messages of the stream become steps.

use std::sync::Arc;
use std::time::Duration;

use proto::batch::step::{Action, Reader, Skip};
use proto::batch::{Batch, Uuid, Violation};
use proto::codec;
use proto::row::{Mutation, Relation};

use super::ahead::{Ahead, Outlet};
use super::state;
use crate::error::{Code, Error, Next, Result};
use crate::observe::Status;
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
    /// A batch begins.
    Begin(Box<Batch>),
    /// A part of the open batch.
    Apply(Vec<Mutation>),
    /// The open batch ends, and makes `state` the target's.
    Commit { state: Vec<u8>, catching_up: bool, batches: u64 },
    /// The open batch is to be forgotten.
    Rollback,
}

/// Reads `stream` from where it is. Ends with an error, or not at all.
///
/// Small batches that are there already are joined where `may_join` says so: a target may
/// be slower than ticks come, and then takes as much with each commit as has gathered.
pub(super) fn start<S, J>(stream: S, reader: Reader, part: Part, status: Status, may_join: J) -> Ahead<Step>
where
    S: Stream + 'static,
    J: Fn() -> bool + Send + 'static,
{
    Ahead::start(STEPS_AHEAD_MAX, |outlet| {
        Reading { reader, part, status, may_join, outlet, begun: None, chunk: Chunk::default(), whole: None, fenced: false }.run(stream)
    })
}

struct Reading<J> {
    reader: Reader,
    part: Part,
    status: Status,
    may_join: J,
    outlet: Outlet<Step>,
    /// The open batch, while the target need not know of it: all of it is in `chunk`.
    begun: Option<Batch>,
    chunk: Chunk,
    /// What comes before it.
    whole: Option<Whole>,
    /// Whether a message of a fenced publisher was reported.
    fenced: bool,
}

/// Mutations on their way into a step.
#[derive(Default)]
struct Chunk {
    mutations: Vec<Mutation>,
    bytes: usize,
}

impl Chunk {
    fn fits(&self, part: Part) -> bool {
        self.mutations.len() < part.rows_max && self.bytes < part.bytes_max
    }
}

/// One small batch, or several that follow each other.
struct Whole {
    batch: Batch,
    chunk: Chunk,
    /// Behind the last of them.
    state: Vec<u8>,
    catching_up: bool,
    batches: u64,
}

impl Whole {
    /// Whether `next` can be taken in.
    fn fits(&self, next: &Self, part: Part) -> bool {
        self.chunk.mutations.len() + next.chunk.mutations.len() <= part.rows_max
            && self.chunk.bytes + next.chunk.bytes <= part.bytes_max
            && self.batch.node == next.batch.node
            && self.catching_up == next.catching_up
    }

    fn join(&mut self, mut next: Self) {
        // A batch describes its tables anew; who applies them should not plan anew.
        let mut known: Option<(Arc<Relation>, Arc<Relation>)> = None;
        for mutation in &mut next.chunk.mutations {
            let (_, shared) = match known.take_if(|(own, _)| Arc::ptr_eq(own, &mutation.relation)) {
                Some(known) => known,
                None => {
                    let mut relations = self.chunk.mutations.iter().rev().map(|mutation| &mutation.relation);
                    let shared = relations.find(|relation| **relation == mutation.relation).unwrap_or(&mutation.relation);
                    (Arc::clone(&mutation.relation), Arc::clone(shared))
                }
            };
            let own = std::mem::replace(&mut mutation.relation, Arc::clone(&shared));
            known = Some((own, shared));
        }
        self.chunk.mutations.append(&mut next.chunk.mutations);
        self.chunk.bytes += next.chunk.bytes;
        self.batch.end = next.batch.end;
        self.state = next.state;
        self.batches += 1;
    }
}

impl<J: Fn() -> bool + Send> Reading<J> {
    async fn run<S: Stream>(mut self, mut stream: S) -> Result<()> {
        loop {
            let entries = stream.next(NEXT_MESSAGES_MAX, NEXT_WAIT).await?;
            for entry in entries.iter() {
                self.read(entry).await?;
            }
            self.pass_on().await?;
        }
    }

    async fn read(&mut self, Entry { position, message: bytes }: Entry<'_>) -> Result<()> {
        let message = codec::decode(bytes).map_err(|error| foreign(position, &error))?;
        let header = message.header;
        let action = self.reader.step(message).map_err(|violation| broken(position, &violation))?;
        match action {
            Action::Begin { batch, discard } => {
                self.forget(discard).await?;
                self.begun = Some(batch);
            }
            Action::Apply(mutation) => self.apply(mutation, bytes.len()).await?,
            Action::Commit => self.commit(position).await?,
            Action::Rollback => self.forget(true).await?,
            Action::Skip(Skip::Fenced) => {
                self.status.update(|facts| facts.fenced += 1);
                if std::mem::replace(&mut self.fenced, true) {
                    return Ok(());
                }
                let epoch = header.epoch.map_or_else(|| "none, as of pgshovel 2015".to_owned(), |epoch| epoch.to_string());
                tracing::warn!(
                    position = %place(position),
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
        if !self.chunk.fits(self.part) {
            self.flush().await?;
        }
        Ok(())
    }

    /// Passes on what there is of the open batch.
    async fn flush(&mut self) -> Result<()> {
        self.pass_on().await?;
        if let Some(batch) = self.begun.take() {
            self.outlet.put(Step::Begin(Box::new(batch))).await?;
        }
        let mutations = std::mem::take(&mut self.chunk).mutations;
        if !mutations.is_empty() {
            self.outlet.put(Step::Apply(mutations)).await?;
        }
        Ok(())
    }

    /// Forgets the open batch, if there is one.
    async fn forget(&mut self, is_open: bool) -> Result<()> {
        self.chunk = Chunk::default();
        if is_open && self.begun.take().is_none() {
            self.outlet.put(Step::Rollback).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, position: &[u8]) -> Result<()> {
        let state = self.reader.state(position).ok_or_else(|| Error::bug("a batch was committed and is still open"))?;
        let (state, catching_up) = (state::encode(&state), self.reader.is_catching_up());
        let Some(batch) = self.begun.take() else {
            self.flush().await?;
            self.outlet.put(Step::Commit { state, catching_up, batches: 1 }).await?;
            return Ok(());
        };
        let next = Whole { batch, chunk: std::mem::take(&mut self.chunk), state, catching_up, batches: 1 };
        match &mut self.whole {
            Some(whole) if whole.fits(&next, self.part) && (self.may_join)() => whole.join(next),
            _ => {
                self.pass_on().await?;
                self.whole = Some(next);
            }
        }
        Ok(())
    }

    /// Passes on the batches that came before the open one.
    async fn pass_on(&mut self) -> Result<()> {
        let Some(Whole { batch, chunk, state, catching_up, batches }) = self.whole.take() else { return Ok(()) };
        self.outlet.put(Step::Begin(Box::new(batch))).await?;
        if !chunk.mutations.is_empty() {
            self.outlet.put(Step::Apply(chunk.mutations)).await?;
        }
        self.outlet.put(Step::Commit { state, catching_up, batches }).await?;
        Ok(())
    }
}

fn foreign(position: &[u8], error: &codec::DecodeError) -> Error {
    Error::stop(
        Code::MessageForeign,
        format!(
            "the message at position {} of the stream is none of pgshovel: {error}; \
         find out who else writes to this stream, and move the set to a new one",
            place(position)
        ),
    )
}

fn broken(position: &[u8], violation: &Violation) -> Error {
    let text = format!("at position {} of the stream: {violation}", place(position));
    let (next, code) = situation(violation);
    Error::new(next, code, text)
}

pub(crate) fn situation(violation: &Violation) -> (Next, Code) {
    match violation {
        // Whoever looks at a worker that waits finds this; one that ended may be started again and again.
        Violation::EpochFell { .. } => (Next::Blocked, Code::EpochFell),
        Violation::Overlap { .. }
        | Violation::Forked { .. }
        | Violation::OtherDatabase { .. }
        | Violation::NodeChanged { .. }
        | Violation::NodeChangedEarly { .. }
        | Violation::PromotedEarly { .. } => (Next::Stop, Code::HistoryForked),
        Violation::OtherSet { .. } => (Next::Stop, Code::StreamShared),
        Violation::SequenceGap { .. } | Violation::Headless { .. } | Violation::TickGap { .. } | Violation::Uncovered { .. } => {
            (Next::Stop, Code::MessagesMissing)
        }
        _ => (Next::Stop, Code::GrammarViolated),
    }
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
