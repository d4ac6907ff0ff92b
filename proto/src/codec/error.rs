//! What is wrong with a message, and where in it.

use std::fmt;

use crate::wire::Malformed;

/// Bytes that are no message of a stream. The text names the field, never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// From the outermost field to the innermost: `batch_operation.node`; empty
    /// for the message itself.
    pub path: String,
    pub problem: Problem,
    /// Bytes of the whole message.
    pub size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("ends in the middle of a field")]
    Truncated,
    #[error("holds a number of more than 64 bits")]
    Varint,
    #[error("holds what is no field of protobuf")]
    Tag,
    #[error("holds a group that is not closed, or never began")]
    Group,
    #[error("is missing")]
    Missing,
    #[error("is missing, or one that only a later version knows")]
    NoOperation,
    #[error("is there twice")]
    Twice,
    #[error("is there although the operation calls for none")]
    Unexpected,
    #[error("is of another type on the wire")]
    Type,
    #[error("is not UTF-8")]
    Utf8,
    #[error("is {0} bytes long, and an id is 16")]
    Id(usize),
    #[error("{0} is none of 1, 2 and 3 (insert, update, delete)")]
    Operation(u64),
    #[error("is not between 0 and 999999999")]
    Nanos,
    #[error("is out of range")]
    Range,
    #[error("is no snapshot: {0}")]
    Snapshot(&'static str),
    #[error("{end} does not follow the start of the batch, {start}")]
    Ticks { start: u64, end: u64 },
    #[error("is empty: at least one column must identify a row")]
    NoIdentity,
    #[error("{index} is none of {columns} columns")]
    Index { index: u32, columns: usize },
    #[error("has the name of another column")]
    SameName,
    #[error("is of another table than the operation")]
    OtherTable,
    #[error("is another node than that of the batch")]
    OtherNode,
}

/// Boxed while it is passed up: results that fit into registers are what makes
/// decoding fast.
pub(super) type Fault = Box<DecodeError>;

#[cold]
pub(super) fn fault(problem: Problem) -> Fault {
    Box::new(DecodeError { path: String::new(), problem, size: 0 })
}

#[cold]
pub(super) fn fault_at(field: impl fmt::Display, problem: Problem) -> Fault {
    Box::new(DecodeError { path: field.to_string(), problem, size: 0 })
}

impl DecodeError {
    pub(super) fn of_size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    #[cold]
    fn inside(mut self: Box<Self>, field: impl fmt::Display) -> Box<Self> {
        self.path = if self.path.is_empty() { field.to_string() } else { format!("{field}.{}", self.path) };
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "a message of {} bytes {}", self.size, self.problem)
        } else {
            write!(f, "`{}` {}, in a message of {} bytes", self.path, self.problem, self.size)
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        fault(match malformed {
            Malformed::Truncated => Problem::Truncated,
            Malformed::Varint => Problem::Varint,
            Malformed::Tag => Problem::Tag,
            Malformed::Group => Problem::Group,
        })
    }
}

/// Puts a field in front of an error's path.
pub(super) trait Within<T> {
    fn within(self, field: &str) -> Result<T, Fault>;
    fn within_item(self, field: &str, index: usize) -> Result<T, Fault>;
}

impl<T> Within<T> for Result<T, Fault> {
    fn within(self, field: &str) -> Self {
        self.map_err(|error| error.inside(field))
    }

    fn within_item(self, field: &str, index: usize) -> Self {
        self.map_err(|error| error.inside(format_args!("{field}[{index}]")))
    }
}
