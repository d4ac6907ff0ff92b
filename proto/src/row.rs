//! Typed rows, as the ports of the host and the plugins see them.
//!
//! Names and types of the columns stand once in a [`Relation`], which rows share.

use std::sync::Arc;

/// One datum. See `value` in `wit/types.wit` for which PostgreSQL type is which.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// In the order of the relation's columns.
pub type Row = Vec<Value>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_name: String,
    pub type_oid: u32,
}

/// A table, as its rows were captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub schema: String,
    pub table: String,
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the columns that identify a row.
    pub identity: Vec<u32>,
    /// The version of the set's configuration that captured the rows.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Insert(Row),
    Update { before: Row, after: Row },
    Delete(Row),
    Truncate,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    /// PgQ's event id: ascending inside a batch.
    pub id: u64,
    pub relation: Arc<Relation>,
    pub change: Change,
    /// The source's transaction id.
    pub transaction: u64,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub timestamp_us: i64,
}

/// Which [`Value`] the values of a type are: what every reader of a datum, from
/// the stream or from the source database, agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Boolean,
    Integer,
    Float,
    Bytes,
    Text,
}

impl Class {
    /// By `pg_type.oid`, which is stable for built-in types. A domain is of the
    /// class Text, whatever it is over.
    #[must_use]
    pub const fn of(type_oid: u32) -> Self {
        match type_oid {
            16 => Self::Boolean,
            17 => Self::Bytes,
            20 | 21 | 23 => Self::Integer,
            700 | 701 => Self::Float,
            _ => Self::Text,
        }
    }
}
