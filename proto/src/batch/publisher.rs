//! The sending half: mutations become messages, in the grammar's order.
//!
//! One [`Publisher`] is one incarnation of a relay. Its messages are numbered
//! from 0 without gaps, and whatever is sent must reach the stream in that order.
//! A relay that does not know what of its messages arrived (a failed flush, a
//! restart) must not send any of them again from the same publisher, for their
//! timestamps would differ: it makes a new one, under a new id, and repeats the
//! batch from its beginning.
//!
//! Messages are written straight to wire bytes, mutations behind one another into
//! one buffer; a property test holds them equal to what prost makes of the same
//! message.

use bytes::Bytes;
use prost::Message as _;

use super::layout::{Layout, Layouts, Sizes};
pub use super::refusal::{MESSAGE_BYTES_MAX, Refusal};
use super::{Batch, Id};
use crate::interfaces::common::{BatchIdentifier, Timestamp};
use crate::interfaces::streams::{BeginOperation, CommitOperation, RollbackOperation};
use crate::row::{Change, Mutation};
use crate::timestamp;
use crate::wire::{delimited_len, put_delimited, put_delimiter, put_varint_field, varint_len};

/// What a message is beside the body of its operation: header, batch, lengths.
const ENVELOPE_BYTES_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    id: Id,
    epoch: u64,
    /// Of the next message.
    sequence: u64,
    open: Option<Open>,
    before: Sizes,
    after: Sizes,
}

#[derive(Debug)]
struct Open {
    batch: u64,
    /// The field `batch_identifier` of `BatchOperation`.
    identifier: Vec<u8>,
    last_event: Option<u64>,
    layouts: Layouts,
}

impl Publisher {
    /// `id` must never have been used before. `epoch` is the fencing epoch of the
    /// leadership under which it publishes.
    #[must_use]
    pub fn new(id: Id, epoch: u64) -> Self {
        Self { id, epoch, sequence: 0, open: None, before: Sizes::default(), after: Sizes::default() }
    }

    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// The number of messages made.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether a batch is open: begun, neither committed nor rolled back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn begin(&mut self, batch: &Batch, now: Timestamp) -> Result<Bytes, Refusal> {
        if let Some(open) = &self.open {
            return Err(Refusal::Open { open: open.batch, begins: batch.id });
        }
        let (start, end) = (batch.start.id, batch.end.id);
        if start >= end {
            return Err(Refusal::Ticks { batch: batch.id, start, end });
        }
        let open = Open::new(batch);
        let body = BeginOperation { start: batch.start.clone(), end: batch.end.clone(), source: batch.source.clone() }.encode_to_vec();
        let message = self.whole(&open.identifier, now, 2, &body);
        self.open = Some(open);
        Ok(message)
    }

    /// See [`Self::put_mutation`].
    pub fn mutation(&mut self, mutation: &Mutation, now: Timestamp) -> Result<Bytes, Refusal> {
        let mut message = Vec::new();
        self.put_mutation(mutation, now, &mut message)?;
        Ok(message.into())
    }

    /// Appends the message to `out`.
    pub fn put_mutation(&mut self, mutation: &Mutation, now: Timestamp, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(open) = &mut self.open else { return Err(Refusal::NotOpen { operation: "mutation" }) };
        if let Some(previous) = open.last_event.filter(|previous| *previous >= mutation.id) {
            return Err(Refusal::Order { id: mutation.id, previous });
        }
        let layout = open.layouts.of(&mutation.relation)?;
        let body = Body::measure(layout, mutation, &mut self.before, &mut self.after)?;
        let header = Header { publisher: self.id, sequence: self.sequence, timestamp: now, epoch: self.epoch };
        if body.size > MESSAGE_BYTES_MAX - ENVELOPE_BYTES_MAX {
            return Err(Refusal::Size { id: mutation.id, bytes: body.size });
        }
        header.put(&open.identifier, body.number(), body.size, out);
        body.put(out, &self.before, &self.after);
        self.sequence += 1;
        layout.described = true;
        open.last_event = Some(mutation.id);
        Ok(())
    }

    pub fn commit(&mut self, now: Timestamp) -> Result<Bytes, Refusal> {
        let open = self.open.take().ok_or(Refusal::NotOpen { operation: "commit" })?;
        Ok(self.whole(&open.identifier, now, 4, &CommitOperation {}.encode_to_vec()))
    }

    pub fn rollback(&mut self, now: Timestamp) -> Result<Bytes, Refusal> {
        let open = self.open.take().ok_or(Refusal::NotOpen { operation: "rollback" })?;
        Ok(self.whole(&open.identifier, now, 5, &RollbackOperation {}.encode_to_vec()))
    }

    /// A message whose operation, field `number` of `BatchOperation`, is `body`.
    fn whole(&mut self, identifier: &[u8], now: Timestamp, number: u8, body: &[u8]) -> Bytes {
        let header = Header { publisher: self.id, sequence: self.sequence, timestamp: now, epoch: self.epoch };
        let mut message = Vec::new();
        header.put(identifier, number, body.len(), &mut message);
        message.extend_from_slice(body);
        self.sequence += 1;
        message.into()
    }
}

impl Open {
    fn new(batch: &Batch) -> Self {
        let content = BatchIdentifier { id: batch.id, node: batch.node.to_vec() }.encode_to_vec();
        let mut identifier = Vec::new();
        put_delimited(&mut identifier, 1, &content);
        Self { batch: batch.id, identifier, last_event: None, layouts: Layouts::default() }
    }
}

struct Header {
    publisher: Id,
    sequence: u64,
    timestamp: Timestamp,
    epoch: u64,
}

impl Header {
    /// Appends the message up to the body of its operation, and makes room for that.
    fn put(&self, identifier: &[u8], number: u8, body_len: usize, out: &mut Vec<u8>) {
        let (seconds, nanos) = (self.timestamp.seconds as u64, i64::from(self.timestamp.nanos) as u64);
        let timestamp_len = 1 + varint_len(seconds) + 1 + varint_len(nanos);
        let header_len =
            delimited_len(self.publisher.len()) + 1 + varint_len(self.sequence) + delimited_len(timestamp_len) + 1 + varint_len(self.epoch);
        let operation_len = identifier.len() + delimited_len(body_len);
        out.reserve(delimited_len(header_len) + delimited_len(operation_len));
        put_delimiter(out, 1, header_len);
        put_delimited(out, 1, &self.publisher);
        put_varint_field(out, 2, self.sequence);
        put_timestamp(out, 3, self.timestamp);
        put_varint_field(out, 4, self.epoch);
        put_delimiter(out, 2, operation_len);
        out.extend_from_slice(identifier);
        put_delimiter(out, number, body_len);
    }
}

fn timestamp_len(timestamp: Timestamp) -> usize {
    2 + varint_len(timestamp.seconds as u64) + varint_len(i64::from(timestamp.nanos) as u64)
}

fn put_timestamp(out: &mut Vec<u8>, number: u8, timestamp: Timestamp) {
    put_delimiter(out, number, timestamp_len(timestamp));
    put_varint_field(out, 1, timestamp.seconds as u64);
    put_varint_field(out, 2, i64::from(timestamp.nanos) as u64);
}

/// The content of a `MutationOperation` or `TruncateOperation`, measured.
struct Body<'a> {
    layout: &'a Layout,
    mutation: &'a Mutation,
    timestamp: Timestamp,
    /// Sizes of the rows' contents.
    before: usize,
    after: usize,
    size: usize,
}

impl<'a> Body<'a> {
    fn measure(layout: &'a Layout, mutation: &'a Mutation, before: &mut Sizes, after: &mut Sizes) -> Result<Self, Refusal> {
        let timestamp = timestamp::from_micros(mutation.timestamp_us);
        let mut body = Self { layout, mutation, timestamp, before: 0, after: 0, size: 0 };
        body.size = 1 + varint_len(mutation.id) + layout.name.len() + delimited_len(timestamp_len(timestamp));
        body.size += 1 + varint_len(mutation.transaction);
        if !layout.described {
            body.size += delimited_len(layout.descriptor.len());
        }
        match &mutation.change {
            Change::Truncate => return Ok(body),
            Change::Insert(row) => body.after = layout.measure(row, after)?,
            Change::Delete(row) => body.before = layout.measure(row, before)?,
            Change::Update { before: old, after: new } => {
                body.before = layout.measure(old, before)?;
                body.after = layout.measure(new, after)?;
            }
        }
        body.size += 2 + layout.identity.len();
        if !matches!(mutation.change, Change::Insert(_)) {
            body.size += delimited_len(body.before);
        }
        if !matches!(mutation.change, Change::Delete(_)) {
            body.size += delimited_len(body.after);
        }
        Ok(body)
    }

    /// Its number in `BatchOperation`.
    fn number(&self) -> u8 {
        if matches!(self.mutation.change, Change::Truncate) { 6 } else { 3 }
    }

    fn put(&self, out: &mut Vec<u8>, before: &Sizes, after: &Sizes) {
        let (layout, mutation) = (self.layout, self.mutation);
        put_varint_field(out, 1, mutation.id);
        out.extend_from_slice(&layout.name);
        match &mutation.change {
            Change::Truncate => return self.put_tail(out, 4),
            Change::Insert(row) => {
                self.put_kind(out, 1);
                put_delimiter(out, 7, self.after);
                layout.put_row(row, after, out);
            }
            Change::Update { before: old, after: new } => {
                self.put_kind(out, 2);
                put_delimiter(out, 6, self.before);
                layout.put_row(old, before, out);
                put_delimiter(out, 7, self.after);
                layout.put_row(new, after, out);
            }
            Change::Delete(row) => {
                self.put_kind(out, 3);
                put_delimiter(out, 6, self.before);
                layout.put_row(row, before, out);
            }
        }
        self.put_tail(out, 8);
    }

    fn put_kind(&self, out: &mut Vec<u8>, operation: u64) {
        put_varint_field(out, 4, operation);
        out.extend_from_slice(&self.layout.identity);
    }

    /// The fields `timestamp`, `transaction` and `relation`, which follow one
    /// another in both operations, `timestamp` being number `first`.
    fn put_tail(&self, out: &mut Vec<u8>, first: u8) {
        put_timestamp(out, first, self.timestamp);
        put_varint_field(out, first + 1, self.mutation.transaction);
        if !self.layout.described {
            put_delimited(out, first + 2, &self.layout.descriptor);
        }
    }
}
