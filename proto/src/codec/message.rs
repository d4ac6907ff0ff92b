//! A message of a stream, as it is read.

use crate::batch::{Batch, Id};
use crate::interfaces::common::Timestamp;
use crate::row::{Relation, Row};

/// One message of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    pub header: Header,
    pub batch: BatchIdentifier,
    pub operation: Operation<'a>,
    /// Of the message's bytes: equal bytes have equal digests, and others hardly
    /// ever. It means nothing outside the process.
    pub digest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub publisher: Id,
    pub sequence: u64,
    pub timestamp: Timestamp,
    /// `None` in messages of pgshovel 2015: older than every epoch.
    pub epoch: Option<u64>,
}

/// A batch, as its messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchIdentifier {
    pub id: u64,
    pub node: Id,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operation<'a> {
    Begin(Box<Batch>),
    Mutation(Box<Mutation<'a>>),
    Commit,
    Rollback,
}

/// A mutation whose rows have yet to meet their relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation<'a> {
    pub id: u64,
    pub schema: &'a str,
    pub table: &'a str,
    pub change: Change<'a>,
    pub identity_columns: Vec<&'a str>,
    pub timestamp_us: i64,
    pub transaction: u64,
    pub relation: Option<Relation>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change<'a> {
    Insert(Columns<'a>),
    Update { before: Columns<'a>, after: Columns<'a> },
    Delete(Columns<'a>),
    Truncate,
}

/// The columns of one row, in the message's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns<'a> {
    pub names: Vec<&'a str>,
    /// As many as there are names.
    pub values: Row,
}
