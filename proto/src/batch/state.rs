//! What of a reader outlives it, and the message that a target stores.

use super::bootstrap::CatchUp;
use super::{Id, version};
use crate::codec::{BatchIdentifier, Header};
use crate::interfaces::common::Timestamp;
use crate::interfaces::{common, replication, streams};
use crate::snapshot;

/// Publishers of the current epoch that are remembered as dead.
pub const SUPERSEDED_MAX: usize = 16;

/// A state that nothing can be resumed from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the stored state is not readable: {0}; bootstrap again")]
    Decode(String),
    #[error("the stored state has a `{field}` of {size} bytes, and an id is 16; bootstrap again")]
    Id { field: &'static str, size: usize },
    #[error("the stored state has a snapshot that is none: {0}; bootstrap again")]
    Snapshot(&'static str),
    #[error("the stored state has the version {0}, which no change was ever given; bootstrap again")]
    Version(u64),
    #[error("the stored state is empty: it has neither a bootstrap nor a place in a stream; bootstrap again")]
    Empty,
    #[error("the stored state does not say how the last batch ended; bootstrap again")]
    NoTransaction,
    #[error(
        "the stored state was taken inside batch {batch}, a part of which is applied; \
         let the version that stored it finish the batch, or bootstrap again"
    )]
    InTransaction { batch: u64 },
}

/// Up to where batches are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Frontier {
    #[default]
    Unknown,
    /// pgshovel 2015 did not store ticks: the batch of this id is done.
    Batch(u64),
    /// `made`: when, where it is known.
    Tick { id: u64, made: Option<Timestamp> },
}

pub(super) fn is_after(a: &Timestamp, b: &Timestamp) -> bool {
    (a.seconds, a.nanos) > (b.seconds, b.nanos)
}

/// How the last batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) publisher: Id,
    pub(super) batch: BatchIdentifier,
    /// Start and end.
    pub(super) ticks: Option<(u64, u64)>,
    pub(super) committed: bool,
    /// When the tick was made up to which all is done now: the end, or the start of
    /// what was rolled back.
    pub(super) made: Option<Timestamp>,
}

impl Ended {
    pub(super) fn frontier(&self) -> Frontier {
        match (self.ticks, self.committed) {
            (Some((_, end)), true) => Frontier::Tick { id: end, made: self.made },
            (Some((start, _)), false) => Frontier::Tick { id: start, made: self.made },
            (None, true) => Frontier::Batch(self.batch.id),
            (None, false) => Frontier::Unknown,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Messages, of whatever publisher and whether skipped or not.
    pub(super) consumed: u64,
    /// Of the last message consumed of the living publisher.
    pub(super) header: Option<Header>,
    /// Dead publishers of the living one's epoch, oldest first.
    pub(super) superseded: Vec<Id>,
    pub(super) node: Option<Id>,
    pub(super) frontier: Frontier,
    pub(super) ended: Option<Ended>,
}

impl Progress {
    /// Another publisher, of `epoch`, takes over from the one of `previous`. Those
    /// of older epochs need no list, their epoch tells.
    pub(super) fn supersede(&mut self, previous: &Header, epoch: Option<u64>) {
        if previous.epoch != epoch {
            self.superseded.clear();
            return;
        }
        if self.superseded.len() >= SUPERSEDED_MAX {
            self.superseded.drain(..=self.superseded.len() - SUPERSEDED_MAX);
        }
        self.superseded.push(previous.publisher);
    }
}

pub(super) fn to_state(
    source: Option<common::Source>,
    catch_up: Option<CatchUp>,
    progress: &Progress,
    version: u64,
    position: &[u8],
) -> replication::State {
    let bootstrap_state =
        catch_up.map(|catch_up| replication::BootstrapState { node: catch_up.node.to_vec(), snapshot: catch_up.snapshot });
    let stream_state = progress.header.zip(progress.ended).map(|(header, ended)| replication::StreamState {
        consumer_state: replication::ConsumerState {
            offset: progress.consumed,
            header: streams::Header {
                publisher: header.publisher.to_vec(),
                sequence: header.sequence,
                timestamp: header.timestamp,
                epoch: header.epoch,
            },
            dead_publishers: progress.superseded.iter().map(|id| id.to_vec()).collect(),
            position: Some(position.to_vec()),
        },
        transaction_state: replication::TransactionState { state: Some(transaction(&ended)) },
    });
    replication::State { bootstrap_state, stream_state, source, version: Some(version) }
}

fn transaction(ended: &Ended) -> replication::transaction_state::State {
    use replication::transaction_state::State;
    let publisher = ended.publisher.to_vec();
    let batch_identifier = common::BatchIdentifier { id: ended.batch.id, node: ended.batch.node.to_vec() };
    let (start_tick, end_tick) = ended.ticks.unzip();
    if ended.committed {
        State::Committed(replication::Committed { publisher, batch_identifier, start_tick, end_tick, end_timestamp: ended.made })
    } else {
        State::RolledBack(replication::RolledBack { publisher, batch_identifier, start_tick, end_tick, start_timestamp: ended.made })
    }
}

/// What a reader resumes with.
pub(super) struct Parts {
    pub(super) source: Option<common::Source>,
    pub(super) catch_up: Option<CatchUp>,
    pub(super) progress: Progress,
    /// The highest that the target was given. A state from before there were versions has
    /// none, and its target was given none.
    pub(super) version: u64,
}

pub(super) fn from_state(state: replication::State) -> Result<Parts, StateError> {
    let catch_up = state.bootstrap_state.map(catch_up).transpose()?;
    let progress = match state.stream_state {
        Some(stream) => progress(stream)?,
        None if catch_up.is_none() => return Err(StateError::Empty),
        None => Progress::default(),
    };
    let version = state.version.unwrap_or(0);
    if version > version::VERSION_MAX {
        return Err(StateError::Version(version));
    }
    Ok(Parts { source: state.source, catch_up, progress, version })
}

fn catch_up(bootstrap: replication::BootstrapState) -> Result<CatchUp, StateError> {
    snapshot::check(&bootstrap.snapshot).map_err(StateError::Snapshot)?;
    Ok(CatchUp { node: id("bootstrap_state.node", &bootstrap.node)?, snapshot: bootstrap.snapshot })
}

fn progress(stream: replication::StreamState) -> Result<Progress, StateError> {
    let consumer = stream.consumer_state;
    let ended = ended(stream.transaction_state)?;
    let header = Header {
        publisher: id("header.publisher", &consumer.header.publisher)?,
        sequence: consumer.header.sequence,
        timestamp: consumer.header.timestamp,
        epoch: consumer.header.epoch,
    };
    let superseded = consumer.dead_publishers.iter().map(|publisher| id("dead_publishers", publisher)).collect::<Result<_, _>>()?;
    Ok(Progress {
        consumed: consumer.offset,
        header: Some(header),
        superseded,
        node: Some(ended.batch.node),
        frontier: ended.frontier(),
        ended: Some(ended),
    })
}

fn ended(transaction: replication::TransactionState) -> Result<Ended, StateError> {
    use replication::transaction_state::State;
    let (publisher, batch, ticks, made, committed) = match transaction.state.ok_or(StateError::NoTransaction)? {
        State::InTransaction(open) => return Err(StateError::InTransaction { batch: open.batch_identifier.id }),
        State::Committed(ended) => {
            (ended.publisher, ended.batch_identifier, ended.start_tick.zip(ended.end_tick), ended.end_timestamp, true)
        }
        State::RolledBack(ended) => {
            (ended.publisher, ended.batch_identifier, ended.start_tick.zip(ended.end_tick), ended.start_timestamp, false)
        }
    };
    Ok(Ended {
        publisher: id("transaction_state.publisher", &publisher)?,
        batch: BatchIdentifier { id: batch.id, node: id("batch_identifier.node", &batch.node)? },
        ticks,
        committed,
        made,
    })
}

fn id(field: &'static str, bytes: &[u8]) -> Result<Id, StateError> {
    bytes.try_into().map_err(|_| StateError::Id { field, size: bytes.len() })
}
