//! Bytes to messages, with everything checked that can be checked of one message.
//!
//! Beside well-formed protobuf that is what proto2's `required` means (prost
//! gives a missing field its default), lengths of ids, ranges of timestamps and
//! snapshots, the rows that each operation calls for, and a relation's own sense.
//! What depends on other messages is for [`crate::batch::step`] to judge.
//!
//! Written by hand for what travels by the million: a [`Message`] borrows the
//! names in its bytes and owns its values alone, so that a row costs one
//! allocation for its values, one for its names, and one per text.
//! Properties hold it equal to prost on every message that prost makes.

mod error;
mod message;
mod operation;
mod scalar;

pub use error::{DecodeError, Problem};
pub use message::{BatchIdentifier, Change, Columns, Header, Message, Mutation, Operation};

use self::error::{Fault, Within as _, fault_at};
use self::scalar::{id, need, once};
use crate::wire::Fields;

/// Reads one message of a stream.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    message(bytes).map_err(|error| error.of_size(bytes.len()))
}

fn message(bytes: &[u8]) -> Result<Message<'_>, Fault> {
    let (mut header_seen, mut operation_seen) = (None, None);
    let mut fields = Fields::new(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut header_seen, header(scalar::bytes(field)?)).within("header")?,
            2 => once(&mut operation_seen, operation::batch_operation(scalar::bytes(field)?)).within("batch_operation")?,
            _ => {}
        }
    }
    let header = need(header_seen, "header")?;
    let (batch, operation) = operation_seen.ok_or_else(|| fault_at("operation", Problem::NoOperation))?;
    Ok(Message { header, batch, operation, digest: digest(bytes) })
}

fn header(bytes: &[u8]) -> Result<Header, Fault> {
    let (mut publisher, mut sequence, mut timestamp, mut epoch) = (None, None, None, None);
    let mut fields = Fields::new(bytes);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut publisher, id(field)).within("publisher")?,
            2 => once(&mut sequence, scalar::uint64(field)).within("sequence")?,
            3 => once(&mut timestamp, scalar::timestamp(field)).within("timestamp")?,
            4 => once(&mut epoch, scalar::uint64(field)).within("epoch")?,
            _ => {}
        }
    }
    Ok(Header {
        publisher: need(publisher, "publisher")?,
        sequence: need(sequence, "sequence")?,
        timestamp: need(timestamp, "timestamp")?,
        epoch,
    })
}

/// Eight bytes at a time, each folded into the digest by a multiplication of
/// 64 by 64 bits. Not for enemies: it tells a repeated message from another one.
fn digest(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(bytes.len() as u64 ^ FACTOR, |state, word| fold(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    // What chunks of 8 leave is shorter than 8.
    last[..rest.len()].copy_from_slice(rest);
    fold(fold(state, u64::from_le_bytes(last)), FACTOR)
}
