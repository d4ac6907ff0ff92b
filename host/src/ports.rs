//! What the two loops need of the world, and nothing more.
//!
//! `postgres`, `plugins`, `registry` and `memory` implement these; `relay`, `replicate` and
//! `supervise` use them. Calls of one port never overlap.

pub mod opening;
pub mod registry;

mod messages;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::batch::Batch;
use proto::row::{Mutation, Relation, Row};

use crate::error::Result;

pub use messages::{Entries, Entry, Messages, Uncut};

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

/// See `writer.wit`. An error of `push` may be that of the push before it, and then
/// nothing of the later one was pushed.
pub trait Writer: Send {
    fn push(&mut self, batch: &Batch, messages: Messages) -> impl Future<Output = Result<()>> + Send;
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// See `stream-reader.wit`.
pub trait Stream: Send {
    fn seek(&mut self, after: Option<&[u8]>) -> impl Future<Output = Result<()>> + Send;
    fn next(&mut self, max_messages: u32, max_wait: Duration) -> impl Future<Output = Result<Entries>> + Send;
}

/// Rows of one relation.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub relation: Arc<Relation>,
    pub rows: Vec<Row>,
    /// How many rows the relation has in all, for progress: a guess, where there is one.
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
    /// `version` is that of all rows of the bootstrap: see [`proto::batch::version`].
    fn load(&mut self, chunk: Chunk, version: u64) -> impl Future<Output = Result<()>> + Send;
    fn begin(&mut self, batch: &Batch) -> impl Future<Output = Result<()>> + Send;
    fn apply(&mut self, mutations: Vec<Mutation>) -> impl Future<Output = Result<()>> + Send;
    fn commit(&mut self, expected: Option<&[u8]>, state: &[u8]) -> impl Future<Output = Result<()>> + Send;
    fn rollback(&mut self) -> impl Future<Output = Result<()>> + Send;
}
