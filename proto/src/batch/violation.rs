//! What a stream must not do. Each text names what was found, what would have
//! been right, and the remedy; none holds a row's values.

use super::identity::Uuid;
use crate::interfaces::common::Source;
use crate::row::Class;

/// A message that breaks the grammar. The reader is as it was before the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error(
        "{skipped} messages passed and none of them begins a batch, and {max} may; \
         raise the bound, or check that this stream is of pgshovel"
    )]
    Priming { skipped: u64, max: u64 },
    #[error(
        "publisher {publisher}: message {found} follows message {last}, so {} to {} are missing from the stream; \
         bootstrap again", last.saturating_add(1), found.saturating_sub(1)
    )]
    SequenceGap { publisher: Uuid, last: u64, found: u64 },
    #[error(
        "publisher {publisher}: message {sequence} came before with other content: two processes share one publisher id; \
         stop all relays of the set, start one, and bootstrap again"
    )]
    Rewritten { publisher: Uuid, sequence: u64 },
    #[error("publisher {publisher} changed its epoch from {from} to {to} at message {sequence}; stop the relay and start it again")]
    EpochChanged { publisher: Uuid, from: u64, to: u64, sequence: u64 },
    #[error(
        "relays of epoch {to} committed the batch from tick {start} to tick {end} and went on, and those of the higher epoch {from} did not: \
         the stream's epochs went back, as where a set was created again over an old stream, or another program wrote to it; \
         let the epoch fall once (--allow-epoch {to}), or bootstrap again"
    )]
    EpochFell { start: u64, end: u64, from: u64, to: u64 },
    #[error(
        "publisher {publisher} appears with message {sequence}, {operation}, where the first is message 0 and begins a batch: \
         what came before is missing from the stream; bootstrap again"
    )]
    Headless { publisher: Uuid, sequence: u64, operation: &'static str },
    #[error(
        "publisher {publisher}: {operation} of batch {found} came while batch {open} is open; \
         stop the relay and bootstrap again"
    )]
    OtherBatch { publisher: Uuid, operation: &'static str, open: u64, found: u64 },
    #[error("publisher {publisher}: {operation} of batch {batch} came while no batch is open; stop the relay and bootstrap again")]
    NoBatch { publisher: Uuid, operation: &'static str, batch: u64 },
    #[error(
        "the batch from tick {start} begins while the one from tick {open_start} to tick {open_end} is open and never ended; \
         bootstrap again"
    )]
    NeverEnded { open_start: u64, open_end: u64, start: u64 },
    #[error(
        "the batch from tick {start} does not follow the last one, which ended with tick {committed}: \
         the batches between are missing from the stream; bootstrap again"
    )]
    TickGap { committed: u64, start: u64 },
    #[error(
        "the batch from tick {start} to tick {end} overlaps what is committed, up to tick {committed}: \
         the ticks of the queue were made anew, as after a failover to a replica that was behind; bootstrap again, from a new stream if \
         that ends so too"
    )]
    Overlap { committed: u64, start: u64, end: u64 },
    #[error(
        "the batch from tick {start} to tick {end} is of another history than what is committed, up to tick {committed}, whose ticks were \
         made at other times: the database was restored, or failed over to a replica that was behind; bootstrap again, from a new stream \
         if that ends so too"
    )]
    Forked { start: u64, end: u64, committed: u64 },
    #[error(
        "the batch from tick {start} is of the set {:?} of the cluster {:?}, and this stream is that of the set {:?} of the cluster {:?}; \
         configure a stream of its own for each, and bootstrap again from one that holds nothing else",
        .found.1, .found.0, .expected.1, .expected.0
    )]
    OtherSet { start: u64, found: Box<(String, String)>, expected: Box<(String, String)> },
    #[error(
        "the stream's batches now come from another copy of node {node} ({}) than those before ({}); \
         if that database replaces the first, as after pg_upgrade, allow this change once, otherwise bootstrap again",
        server(.found), server(.known)
    )]
    OtherDatabase { node: Uuid, known: Box<Source>, found: Box<Source> },
    #[error(
        "the stream changes from node {from} to node {to}; if that database replaces the first as a logical copy of it, \
         allow this change once, otherwise bootstrap again"
    )]
    NodeChanged { from: Uuid, to: Uuid },
    #[error(
        "the stream changes from node {from} to node {to} before the rows loaded from the first have caught up; bootstrap again, from a new stream if that ends so too"
    )]
    NodeChangedEarly { from: Uuid, to: Uuid },
    #[error(
        "the source {node} failed over before the loaded rows had caught up with the stream: the server that took over may lack \
         transactions that they contain, and no tick from before shows that it has them (the batch begins at tick {start}); bootstrap again"
    )]
    PromotedEarly { node: Uuid, start: u64 },
    #[error(
        "the stream of node {node} begins at tick {tick} (snapshot {starts}), after the snapshot of the loaded rows ({loaded}): \
         the messages between are no longer retained; bootstrap again"
    )]
    Uncovered { node: Uuid, tick: u64, starts: String, loaded: String },
    #[error("event {event}: the stream never described table {table} in this batch; stop the relay and bootstrap again")]
    Undescribed { event: u64, table: String },
    #[error("event {event}: table {table} has no identity columns among the columns of the row; bootstrap again")]
    NoIdentity { event: u64, table: String },
    #[error(
        "event {event}: a row of table {table} does not have the columns that were described \
         (missing: {}; not described or twice: {}); stop the relay and bootstrap again", names(.missing), names(.extra)
    )]
    Columns { event: u64, table: String, missing: Vec<String>, extra: Vec<String> },
    #[error(
        "event {event}: column {column} of table {table} holds {found}, and its type calls for {expected}; \
         stop the relay and bootstrap again"
    )]
    Class { event: u64, table: String, column: String, expected: Class, found: Class },
}

fn server(source: &Source) -> String {
    let Source { system_identifier, timeline, database_oid, .. } = source;
    format!("system identifier {system_identifier}, timeline {timeline}, database OID {database_oid}")
}

fn names(columns: &[String]) -> String {
    if columns.is_empty() { "none".to_owned() } else { columns.join(", ") }
}
