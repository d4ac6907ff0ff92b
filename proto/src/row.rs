//! Typed rows, as the ports of the host and the plugins see them.
//!
//! Names and types of the columns stand once in a [`Relation`], which rows share.

use std::fmt;
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

/// Which [`Value`] holds the values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Boolean,
    Integer,
    Float,
    Bytes,
    /// PostgreSQL's own text output.
    Text,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Bytes => "bytes",
            Self::Text => "text",
        })
    }
}

/// `pg_type.oid` of PostgreSQL's own types, which no server changes
/// (`src/include/catalog/pg_type.dat`).
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
}

impl Class {
    /// By `pg_type.oid`: the one rule that loader, relay and worker share. A
    /// domain, an enum or a type of an extension is text, whatever it is over.
    #[must_use]
    pub const fn of(type_oid: u32) -> Self {
        match type_oid {
            oid::BOOL => Self::Boolean,
            oid::INT2 | oid::INT4 | oid::INT8 => Self::Integer,
            oid::FLOAT4 | oid::FLOAT8 => Self::Float,
            oid::BYTEA => Self::Bytes,
            _ => Self::Text,
        }
    }
}

impl Value {
    /// `None` for NULL, which every type has.
    #[must_use]
    pub const fn class(&self) -> Option<Class> {
        match self {
            Self::Null => None,
            Self::Boolean(_) => Some(Class::Boolean),
            Self::Integer(_) => Some(Class::Integer),
            Self::Float(_) => Some(Class::Float),
            Self::Text(_) => Some(Class::Text),
            Self::Bytes(_) => Some(Class::Bytes),
        }
    }
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
    /// See [`crate::batch::version`]. The reader of a stream gives it; on the way to the
    /// stream, which does not carry it, it is 0.
    pub version: u64,
}
