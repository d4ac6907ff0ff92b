//! The receiving half: messages become actions, or a violation.
//!
//! [`Reader::step`] decides, and the worker's loop performs: `begin`, `apply`,
//! `commit` and `rollback` are calls of the target, and a `begin` that says
//! `discard` cannot be performed without the rollback that a dead publisher's
//! half batch calls for.
//!
//! Invariants:
//!
//! - After a violation the reader is as it was before the message.
//! - Memory is bounded: the open batch costs its relations; what is known of
//!   publishers is the last header, [`SEEN_MESSAGES`] digests, and at most
//!   [`SUPERSEDED_MAX`] ids (older epochs need no list).
//! - Of two publishers the one with the higher epoch lives; none (a publisher of
//!   pgshovel 2015) is older than every epoch. Of two with the same epoch the one
//!   that began later lives, and a publisher begins with message 0, a Begin. Those
//!   of lower epochs are passed over as long as they can be dead: see `fence`.
//! - `frontier` is the tick up to which everything is committed, or else where
//!   the first batch began. A batch that begins there is next, whoever sends it;
//!   one that ends there or before was committed already; any other is a gap.
//!   A tick is the frontier only if it was made at the same time: a database that
//!   was restored, or failed over to a replica that was behind, gives the same
//!   numbers to other ticks.
//! - Every mutation gets a version, which grows for every row: see [`super::version`].
//! - A batch that says whose it is has to be of the set that is read, and of the
//!   database that the batches before were of.
//!
//! A retried write repeats a message byte for byte, so "seen, with the same
//! content" compares digests of the bytes. They are kept of the last
//! [`SEEN_MESSAGES`] messages, more than one push of a writer holds; a repeated
//! message that is older, or older than this reader, is known by its number alone.

use super::bootstrap::CatchUp;
use super::fence::Fence;
use super::relations::Relations;
use super::state::{Ended, Frontier, Parts, Progress, is_after};
pub use super::state::{SUPERSEDED_MAX, StateError};
use super::version::Versions;
use super::{Batch, Id, Uuid, Violation};
use crate::codec::{self, BatchIdentifier, Header, Message, Operation};
use crate::interfaces::common::Source;
use crate::interfaces::replication::State;
use crate::row::Mutation;

/// Messages whose digests are kept: 64 KiB of them.
pub const SEEN_MESSAGES: usize = 8192;

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Messages that may pass before the first Begin, when a stream is joined in
    /// the middle of a batch: as many as the largest batch has.
    pub priming_messages_max: u64,
    /// The node that the stream may change to, once. The node that it has: another
    /// copy of its database may take over.
    pub node_change: Option<Id>,
    /// The epoch that the stream may fall to, once.
    pub epoch_change: Option<u64>,
    /// The cluster and the set whose stream it is; `None`: whichever.
    pub owner: Option<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { priming_messages_max: 10_000_000, node_change: None, epoch_change: None, owner: None }
    }
}

/// What to do about a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A batch begins. With `discard`, roll back first what was applied of the
    /// batch that is open: its publisher died, and this one repeats it.
    Begin {
        batch: Batch,
        discard: bool,
    },
    Apply(Mutation),
    /// Commit the open batch, with [`Reader::state`].
    Commit,
    /// Forget the open batch: its publisher will send it again, or its successor.
    Rollback,
    Skip(Skip),
}

/// Why a message does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// The stream was joined inside a batch, and no other has begun yet.
    Priming,
    /// A retried write of a message that was consumed.
    Seen,
    /// Its publisher is dead: another took over.
    Fenced,
    /// It is of a batch that was committed before: its publisher's predecessor
    /// died between committing and telling the queue so.
    Committed,
    /// The rows of the bootstrap contain it.
    Loaded,
}

/// How far one worker is in one stream.
#[derive(Clone, Debug)]
pub struct Reader {
    options: Options,
    source: Option<Source>,
    catch_up: Option<CatchUp>,
    progress: Progress,
    seen: Seen,
    versions: Versions,
    open: Option<Open>,
    skipping: Option<Skipping>,
    priming: Priming,
    /// All batches so far are such as the loaded rows contain wholly.
    passing: bool,
    /// Before the bootstrap, the last publisher of another set.
    stranger: Option<Id>,
    fence: Fence,
}

#[derive(Clone, Debug)]
struct Open {
    publisher: Id,
    batch: Batch,
    relations: Relations,
}

/// A batch that is passed over, because it was committed before.
#[derive(Clone, Copy, Debug)]
struct Skipping {
    publisher: Id,
    batch: BatchIdentifier,
    start: u64,
    end: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Priming {
    skipped: u64,
    /// Of the publishers that passed.
    highest_epoch: Option<u64>,
}

/// What a message is, going by its header.
enum Turn {
    Skip(Skip),
    /// The next of the publisher that is known, or the first of a new one.
    Consume,
}

enum Ending {
    Commit,
    Rollback,
}

impl Reader {
    /// A reader who knows nothing, and begins with the first batch that begins.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            source: None,
            catch_up: None,
            progress: Progress::default(),
            seen: Seen::default(),
            versions: Versions::default(),
            open: None,
            skipping: None,
            priming: Priming::default(),
            passing: false,
            stranger: None,
            fence: Fence::default(),
        }
    }

    /// Resumes where a state was taken: with the message after its position, or
    /// the oldest retained where it has none. A state of a bootstrap alone makes
    /// the stream catch up with the loaded rows.
    pub fn resume(state: State, options: Options) -> Result<Self, StateError> {
        let Parts { source, catch_up, progress, version } = super::state::from_state(state)?;
        Ok(Self { source, catch_up, progress, versions: Versions::resume(version), ..Self::new(options) })
    }

    /// What a target stores with the batch just committed, `position` being that
    /// of its Commit. `None` inside a batch: half a batch is no state.
    #[must_use]
    pub fn state(&self, position: &[u8]) -> Option<State> {
        let whole = self.open.is_none() && self.skipping.is_none();
        whole.then(|| super::state::to_state(self.source.clone(), self.catch_up.clone(), &self.progress, self.versions.highest(), position))
    }

    /// The batch that is open.
    #[must_use]
    pub fn open(&self) -> Option<&Batch> {
        self.open.as_ref().map(|open| &open.batch)
    }

    /// Whether mutations that the loaded rows contain may still come.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        self.catch_up.is_some()
    }

    /// Whose state this is, as the state or the last batch said.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// What to do about the next message of the stream.
    pub fn step(&mut self, message: Message<'_>) -> Result<Action, Violation> {
        let Message { header, batch, operation, digest } = message;
        let begins = matches!(operation, Operation::Begin(_));
        if self.is_strange(&header, &operation)? {
            self.progress.consumed += 1;
            self.stranger = Some(header.publisher);
            return Ok(Action::Skip(Skip::Loaded));
        }
        if let Turn::Skip(skip) = self.turn(&header, &operation, digest)? {
            if skip == Skip::Fenced && header.epoch < self.epoch() {
                self.fence.watch(self.epoch(), &header, batch, &operation, &self.progress)?;
            }
            self.skip(header, skip, begins, digest);
            return Ok(Action::Skip(skip));
        }
        let action = match operation {
            Operation::Begin(batch) => self.begin(header.publisher, *batch)?,
            Operation::Mutation(mutation) => self.mutation(&header, batch, *mutation)?,
            Operation::Commit => self.end(header.publisher, batch, Ending::Commit)?,
            Operation::Rollback => self.end(header.publisher, batch, Ending::Rollback)?,
        };
        self.consume(header, digest);
        Ok(action)
    }

    /// Whether it is of another set, which is a violation even where it would be skipped:
    /// two sets that share a stream are a mistake that goes on. But what was there before
    /// a bootstrap cannot harm what comes after it.
    fn is_strange(&self, header: &Header, operation: &Operation<'_>) -> Result<bool, Violation> {
        let Operation::Begin(batch) = operation else { return Ok(self.stranger == Some(header.publisher)) };
        let Some((source, (cluster, set))) = batch.source.as_ref().zip(self.options.owner.as_ref()) else { return Ok(false) };
        if (&source.cluster, &source.set) == (cluster, set) {
            return Ok(false);
        }
        let is_before = (self.passing || self.progress.header.is_none()) && self.is_loaded(operation);
        let violation = || Violation::OtherSet {
            start: batch.start.id,
            found: Box::new((source.cluster.clone(), source.set.clone())),
            expected: Box::new((cluster.clone(), set.clone())),
        };
        if is_before { Ok(true) } else { Err(violation()) }
    }

    fn turn(&self, header: &Header, operation: &Operation<'_>, digest: u64) -> Result<Turn, Violation> {
        let begins = matches!(operation, Operation::Begin(_));
        let Some(last) = &self.progress.header else { return self.primed(header, operation) };
        if self.progress.superseded.contains(&header.publisher) {
            return Ok(Turn::Skip(Skip::Fenced));
        }
        if self.passing {
            return Ok(self.passed(header, last, operation));
        }
        if header.epoch < last.epoch && !self.may_fall(header, begins) {
            return Ok(Turn::Skip(Skip::Fenced));
        }
        let publisher = Uuid(header.publisher);
        if header.publisher != last.publisher {
            let first = begins && header.sequence == 0;
            let headless = Violation::Headless { publisher, sequence: header.sequence, operation: named(operation) };
            return if first { Ok(Turn::Consume) } else { Err(headless) };
        }
        if header.epoch != last.epoch {
            let (from, to) = (last.epoch.unwrap_or(0), header.epoch.unwrap_or(0));
            return Err(Violation::EpochChanged { publisher, from, to, sequence: header.sequence });
        }
        if header.sequence > last.sequence {
            let gap = header.sequence - last.sequence > 1;
            let violation = Violation::SequenceGap { publisher, last: last.sequence, found: header.sequence };
            return if gap { Err(violation) } else { Ok(Turn::Consume) };
        }
        match self.seen.digest(header.sequence) {
            Some(seen) if seen != digest => Err(Violation::Rewritten { publisher, sequence: header.sequence }),
            _ => Ok(Turn::Skip(Skip::Seen)),
        }
    }

    /// The highest so far, unless it was let fall.
    fn epoch(&self) -> Option<u64> {
        self.progress.header.map_or(self.priming.highest_epoch, |header| header.epoch)
    }

    /// Whether the operator lets the stream go on with this publisher of a lower epoch.
    fn may_fall(&self, header: &Header, begins: bool) -> bool {
        begins && header.sequence == 0 && header.epoch.is_some() && header.epoch == self.options.epoch_change
    }

    /// The turn of a message when none was consumed yet.
    fn primed(&self, header: &Header, operation: &Operation<'_>) -> Result<Turn, Violation> {
        let begins = matches!(operation, Operation::Begin(_));
        if header.epoch < self.priming.highest_epoch && !self.may_fall(header, begins) {
            return Ok(Turn::Skip(Skip::Fenced));
        }
        if begins {
            return Ok(if self.is_loaded(operation) { Turn::Skip(Skip::Loaded) } else { Turn::Consume });
        }
        let max = self.options.priming_messages_max;
        if self.priming.skipped >= max {
            return Err(Violation::Priming { skipped: self.priming.skipped, max });
        }
        Ok(Turn::Skip(Skip::Priming))
    }

    /// The turn of a message while what the loaded rows contain passes: whatever
    /// became of the stream before a bootstrap cannot harm what comes after it, and
    /// neither can a higher epoch: what was in hand then is contained too.
    fn passed(&self, header: &Header, last: &Header, operation: &Operation<'_>) -> Turn {
        if header.publisher == last.publisher && header.sequence <= last.sequence {
            return Turn::Skip(Skip::Seen);
        }
        if matches!(operation, Operation::Begin(_)) && !self.is_loaded(operation) {
            return Turn::Consume;
        }
        Turn::Skip(Skip::Loaded)
    }

    /// Whether it begins a batch that the loaded rows contain wholly, or replaced: one
    /// from before the failover that they were loaded after. The empty batches of a
    /// source at rest are contained too, but they end the catching up.
    fn is_loaded(&self, operation: &Operation<'_>) -> bool {
        let (Operation::Begin(batch), Some(catch_up)) = (operation, &self.catch_up) else { return false };
        let is_replaced = self
            .other_copy(batch)
            .is_some_and(|(known, found)| known.system_identifier == found.system_identifier && known.database_oid == found.database_oid);
        is_replaced || (catch_up.contains_batch(batch) && !catch_up.is_over(batch) && !self.is_promoted(batch))
    }

    /// Whether the batch is of a replica that was promoted since: it may lack transactions that the
    /// loaded rows contain, and has given their numbers to others.
    fn is_promoted(&self, batch: &Batch) -> bool {
        let later = self.source.as_ref().zip(batch.source.as_ref()).is_some_and(|(known, found)| known.timeline < found.timeline);
        later && self.other_copy(batch).is_none()
    }

    fn begin(&mut self, publisher: Id, batch: Batch) -> Result<Action, Violation> {
        self.check_ended(publisher, &batch)?;
        if self.node().is_some_and(|node| node != batch.node) {
            return self.change_node(publisher, batch);
        }
        self.check_source(&batch)?;
        if self.is_committed(&batch)? {
            let identifier = BatchIdentifier { id: batch.id, node: batch.node };
            self.skipping = Some(Skipping { publisher, batch: identifier, start: batch.start.id, end: batch.end.id });
            return Ok(Action::Skip(Skip::Committed));
        }
        self.check_follows(&batch)?;
        if let Some(catch_up) = &self.catch_up {
            // A tick that a batch of before the promotion ended with, and that sees all that was
            // loaded: a server that has it has the transactions too.
            let is_known = self.progress.frontier != Frontier::Unknown && catch_up.is_seen_by(&batch.start.snapshot);
            if self.is_promoted(&batch) && !is_known {
                return Err(Violation::PromotedEarly { node: Uuid(batch.node), start: batch.start.id });
            }
            if self.progress.frontier == Frontier::Unknown {
                catch_up.covers(&batch)?;
            }
            if catch_up.is_over(&batch) {
                self.catch_up = None;
            }
        }
        Ok(self.open_batch(publisher, batch))
    }

    /// A publisher ends its batch before it begins another.
    fn check_ended(&self, publisher: Id, batch: &Batch) -> Result<(), Violation> {
        let open = self.open.as_ref().filter(|open| open.publisher == publisher);
        let open = open.map(|open| (open.batch.start.id, open.batch.end.id));
        let skipping = self.skipping.filter(|skipping| skipping.publisher == publisher);
        match open.or(skipping.map(|skipping| (skipping.start, skipping.end))) {
            None => Ok(()),
            Some((open_start, open_end)) => Err(Violation::NeverEnded { open_start, open_end, start: batch.start.id }),
        }
    }

    /// Under one node there may be a database and its copies.
    fn check_source(&self, batch: &Batch) -> Result<(), Violation> {
        let Some((known, found)) = self.other_copy(batch) else { return Ok(()) };
        if self.catch_up.is_none() && self.options.node_change == Some(batch.node) {
            return Ok(());
        }
        let (known, found) = (Box::new(known.clone()), Box::new(found.clone()));
        Err(Violation::OtherDatabase { node: Uuid(batch.node), known, found })
    }

    /// What is known of the source, and what `batch` says of it, if these are two
    /// databases of one node. A promoted replica goes on under a later timeline.
    fn other_copy<'a>(&'a self, batch: &'a Batch) -> Option<(&'a Source, &'a Source)> {
        let (known, found) = self.source.as_ref().zip(batch.source.as_ref())?;
        let is_same = known.system_identifier == found.system_identifier && known.database_oid == found.database_oid;
        let is_other = known.node == found.node && !(is_same && known.timeline <= found.timeline);
        is_other.then_some((known, found))
    }

    /// Whether it was committed before.
    fn is_committed(&self, batch: &Batch) -> Result<bool, Violation> {
        match self.progress.frontier {
            Frontier::Unknown => Ok(false),
            Frontier::Batch(id) => Ok(id == batch.id),
            Frontier::Tick { id, .. } if batch.end.id > id => Ok(false),
            Frontier::Tick { id, made: Some(made) } if batch.end.id == id && batch.end.timestamp != made => Err(forked(batch, id)),
            // No tick before it was made after it.
            Frontier::Tick { id, made: Some(made) } if is_after(&batch.end.timestamp, &made) => Err(forked(batch, id)),
            Frontier::Tick { .. } => Ok(true),
        }
    }

    fn check_follows(&self, batch: &Batch) -> Result<(), Violation> {
        let (start, end) = (batch.start.id, batch.end.id);
        let Frontier::Tick { id: committed, made } = self.progress.frontier else { return Ok(()) };
        if start < committed {
            return Err(Violation::Overlap { committed, start, end });
        }
        if start == committed {
            let is_other = made.is_some_and(|made| made != batch.start.timestamp);
            return if is_other { Err(forked(batch, committed)) } else { Ok(()) };
        }
        self.fence.check(batch, self.epoch(), &self.progress)?;
        Err(match &self.open {
            Some(open) => Violation::NeverEnded { open_start: open.batch.start.id, open_end: open.batch.end.id, start },
            None => Violation::TickGap { committed, start },
        })
    }

    fn node(&self) -> Option<Id> {
        let loaded = || self.catch_up.as_ref().map(|catch_up| catch_up.node);
        self.progress.node.or_else(loaded)
    }

    /// The ticks of two nodes cannot be compared: the operator vouches for them.
    fn change_node(&mut self, publisher: Id, batch: Batch) -> Result<Action, Violation> {
        let (from, to) = (Uuid(self.node().unwrap_or_default()), Uuid(batch.node));
        if self.catch_up.is_some() {
            return Err(Violation::NodeChangedEarly { from, to });
        }
        if self.options.node_change != Some(batch.node) {
            return Err(Violation::NodeChanged { from, to });
        }
        self.options.node_change = None;
        self.source = None;
        self.progress.frontier = Frontier::Unknown;
        Ok(self.open_batch(publisher, batch))
    }

    fn open_batch(&mut self, publisher: Id, batch: Batch) -> Action {
        self.progress.node = Some(batch.node);
        self.progress.frontier = Frontier::Tick { id: batch.start.id, made: Some(batch.start.timestamp) };
        if self.other_copy(&batch).is_some() {
            self.options.node_change = None;
        }
        if batch.source.is_some() {
            self.source.clone_from(&batch.source);
        }
        self.skipping = None;
        if std::mem::take(&mut self.passing) {
            // Their numbers may have gaps, which the digests may not.
            self.seen = Seen::default();
        }
        self.versions.begin(&batch);
        let open = Open { publisher, batch: batch.clone(), relations: Relations::default() };
        let discard = self.open.replace(open).is_some();
        Action::Begin { batch, discard }
    }

    fn mutation(&mut self, header: &Header, batch: BatchIdentifier, mutation: codec::Mutation<'_>) -> Result<Action, Violation> {
        if self.is_skipped(header.publisher, batch, "a mutation")? {
            return Ok(Action::Skip(Skip::Committed));
        }
        let open = opened(&mut self.open, header.publisher, batch, "a mutation")?;
        let mutation = open.relations.resolve(mutation, header.epoch.is_some(), || self.versions.take())?;
        let loaded = self.catch_up.as_ref().is_some_and(|catch_up| catch_up.contains(mutation.transaction));
        Ok(if loaded { Action::Skip(Skip::Loaded) } else { Action::Apply(mutation) })
    }

    fn end(&mut self, publisher: Id, batch: BatchIdentifier, ending: Ending) -> Result<Action, Violation> {
        let operation = if matches!(ending, Ending::Commit) { "a commit" } else { "a rollback" };
        if self.is_skipped(publisher, batch, operation)? {
            self.skipping = None;
            return Ok(Action::Skip(Skip::Committed));
        }
        let open = opened(&mut self.open, publisher, batch, operation)?;
        let (start, end) = (&open.batch.start, &open.batch.end);
        let committed = matches!(ending, Ending::Commit);
        let made = if committed { end.timestamp } else { start.timestamp };
        let ended = Ended { publisher, batch, ticks: Some((start.id, end.id)), committed, made: Some(made) };
        self.open = None;
        if committed {
            self.versions.commit();
        }
        self.progress.frontier = ended.frontier();
        self.progress.ended = Some(ended);
        Ok(if committed { Action::Commit } else { Action::Rollback })
    }

    fn is_skipped(&self, publisher: Id, batch: BatchIdentifier, operation: &'static str) -> Result<bool, Violation> {
        match self.skipping.filter(|skipping| skipping.publisher == publisher) {
            None => Ok(false),
            Some(skipping) if skipping.batch == batch => Ok(true),
            Some(skipping) => {
                Err(Violation::OtherBatch { publisher: Uuid(publisher), operation, open: skipping.batch.id, found: batch.id })
            }
        }
    }

    fn skip(&mut self, header: Header, skip: Skip, begins: bool, digest: u64) {
        let known = self.progress.header.is_some_and(|last| last.publisher == header.publisher);
        let lower = header.epoch < self.epoch();
        if skip == Skip::Loaded && (begins || known) && !lower {
            self.passing = true;
            return self.consume(header, digest);
        }
        self.progress.consumed += 1;
        if skip == Skip::Priming {
            self.priming.skipped += 1;
            self.priming.highest_epoch = self.priming.highest_epoch.max(header.epoch);
        }
    }

    fn consume(&mut self, header: Header, digest: u64) {
        let previous = self.progress.header.replace(header);
        self.progress.consumed += 1;
        match previous {
            Some(previous) if previous.publisher == header.publisher => {}
            Some(previous) => {
                if header.epoch < previous.epoch {
                    self.options.epoch_change = None;
                }
                self.progress.supersede(&previous, header.epoch);
                self.seen = Seen::default();
            }
            None => self.seen = Seen::default(),
        }
        self.seen.push(header.sequence, digest);
    }
}

#[cold]
fn forked(batch: &Batch, committed: u64) -> Violation {
    Violation::Forked { start: batch.start.id, end: batch.end.id, committed }
}

/// How violations name an operation.
fn named(operation: &Operation<'_>) -> &'static str {
    match operation {
        Operation::Begin(_) => "a begin",
        Operation::Mutation(_) => "a mutation",
        Operation::Commit => "a commit",
        Operation::Rollback => "a rollback",
    }
}

/// The open batch, which a mutation or an end must belong to.
fn opened<'a>(
    open: &'a mut Option<Open>,
    publisher: Id,
    batch: BatchIdentifier,
    operation: &'static str,
) -> Result<&'a mut Open, Violation> {
    match open.as_mut().filter(|open| open.publisher == publisher) {
        None => Err(Violation::NoBatch { publisher: Uuid(publisher), operation, batch: batch.id }),
        Some(open) if open.batch.id == batch.id && open.batch.node == batch.node => Ok(open),
        Some(open) => Err(Violation::OtherBatch { publisher: Uuid(publisher), operation, open: open.batch.id, found: batch.id }),
    }
}

/// Digests of the last messages of the current publisher.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The digest of message `n` is at `n % SEEN_MESSAGES`.
    digests: Vec<u64>,
    /// The first and the last message whose digests were kept.
    first: u64,
    last: u64,
}

impl Seen {
    fn push(&mut self, sequence: u64, digest: u64) {
        if self.digests.is_empty() {
            self.digests = vec![0; SEEN_MESSAGES];
            self.first = sequence;
        }
        self.last = sequence;
        // There are SEEN_MESSAGES of them, and a slot is below that.
        self.digests[slot(sequence)] = digest;
    }

    fn digest(&self, sequence: u64) -> Option<u64> {
        let kept = sequence >= self.first && sequence <= self.last && self.last - sequence < SEEN_MESSAGES as u64;
        self.digests.get(slot(sequence)).filter(|_| kept).copied()
    }
}

fn slot(sequence: u64) -> usize {
    (sequence % SEEN_MESSAGES as u64) as usize
}
