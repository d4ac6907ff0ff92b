//! What the two loops need of the world, and nothing more.
//!
//! `postgres`, `plugins`, `registry` and `memory` implement these; `relay`, `replicate` and
//! `supervise` use them. Calls of one port never overlap.

pub mod opening;
pub mod registry;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::batch::Batch;
use proto::row::{Mutation, Relation, Row};

use crate::error::Result;

/// The set's PgQ queue, seen by the one consumer that holds it.
pub trait Queue: Send {
    /// The epoch that the consumer was taken under: greater than those of the relays before,
    /// whoever says who leads.
    fn epoch(&self) -> u64;

    /// The open batch; opens the next one, committed at once, if none is open.
    /// `None`: there is no new tick, and `wait` is how to learn of one.
    fn next(&mut self) -> impl Future<Output = Result<Option<Batch>>> + Send;

    /// Returns when there may be a new batch, or after `at_most`.
    fn wait(&mut self, at_most: Duration) -> impl Future<Output = Result<()>> + Send;

    /// The next events of the open batch in PgQ's order, about 256 KiB of them;
    /// empty at its end. The first call after `next` starts from the beginning.
    fn read(&mut self, batch: &Batch) -> impl Future<Output = Result<Vec<Mutation>>> + Send;

    /// Ends the batch: the next call of `next` opens the one after it, and makes this
    /// durable; until then a crash of the server opens the batch again. An error that is not `Retry` says that somebody else ended it.
    fn finish(&mut self, batch: &Batch) -> impl Future<Output = Result<()>> + Send;
}

/// Messages, one behind the other in one buffer, as they go into a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Messages {
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), lengths: Vec::new() }
    }

    pub fn add(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.lengths.push(message.len());
    }

    /// Adds the message that `append` appends to the buffer.
    pub fn append<E>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> std::result::Result<(), E>) -> std::result::Result<(), E> {
        let start = self.bytes.len();
        let appended = append(&mut self.bytes);
        match appended {
            Ok(()) => self.lengths.push(self.bytes.len().saturating_sub(start)),
            Err(_) => self.bytes.truncate(start),
        }
        appended
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map_while(move |length| {
            let (message, behind) = rest.split_at_checked(*length)?;
            rest = behind;
            Some(message)
        })
    }
}

impl<M: AsRef<[u8]>> FromIterator<M> for Messages {
    fn from_iter<I: IntoIterator<Item = M>>(messages: I) -> Self {
        let mut all = Self::default();
        for message in messages {
            all.add(message.as_ref());
        }
        all
    }
}

/// See `writer.wit`. An error of `push` may be that of the push before it, and then
/// nothing of the later one was pushed.
pub trait Writer: Send {
    fn push(&mut self, batch: &Batch, messages: Messages) -> impl Future<Output = Result<()>> + Send;
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// One message of a stream and where to resume after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub position: Vec<u8>,
    pub message: Vec<u8>,
}

/// See `reader.wit`.
pub trait Stream: Send {
    fn seek(&mut self, after: Option<&[u8]>) -> impl Future<Output = Result<()>> + Send;
    fn next(&mut self, max_messages: u32, max_wait: Duration) -> impl Future<Output = Result<Vec<Entry>>> + Send;
}

/// Rows of one relation.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub relation: Arc<Relation>,
    pub rows: Vec<Row>,
    /// How many rows the relation has in all, for progress.
    pub estimated_rows: Option<u64>,
}

/// See `loader.wit`. What snapshot the rows belong to is the host's to know.
pub trait Loader: Send {
    fn next(&mut self, max_rows: u32) -> impl Future<Output = Result<Option<Chunk>>> + Send;
}

/// See `transform.wit`.
pub trait Transform: Send {
    fn transform(&mut self, mutations: Vec<Mutation>) -> impl Future<Output = Result<Vec<Mutation>>> + Send;
}

/// Where a target's rows come from, for one that could be the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    pub system_identifier: u64,
    pub database_oid: u32,
    /// Schema and name of the set's tables.
    pub tables: Vec<(String, String)>,
    /// Transforms stand between, which may give tables other names.
    pub transformed: bool,
}

/// What a reader of a target's store can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    Transactional,
    Idempotent,
    AtLeastOnce,
}

/// See `target.wit`, for the order of calls too.
pub trait Target: Send {
    fn guarantee(&mut self) -> impl Future<Output = Result<Guarantee>> + Send;
    fn load_state(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;
    fn set_source(&mut self, source: &Provenance) -> impl Future<Output = Result<()>> + Send;
    fn load(&mut self, chunk: Chunk) -> impl Future<Output = Result<()>> + Send;
    fn begin(&mut self, batch: &Batch) -> impl Future<Output = Result<()>> + Send;
    fn apply(&mut self, mutations: Vec<Mutation>) -> impl Future<Output = Result<()>> + Send;
    fn commit(&mut self, expected: Option<&[u8]>, state: &[u8]) -> impl Future<Output = Result<()>> + Send;
    fn rollback(&mut self) -> impl Future<Output = Result<()>> + Send;
}
