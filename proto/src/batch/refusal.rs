//! Why the sending half of the grammar does not make a message.

use crate::row::Class;

/// The largest message that a stream takes: see `writer.wit`.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A call that would make a stream no reader accepts. It changed nothing: the
/// publisher can go on, with a rollback for example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("batch {begins} cannot begin: batch {open} is still open; commit it or roll it back")]
    Open { open: u64, begins: u64 },
    #[error("no batch is open: begin one before a {operation}")]
    NotOpen { operation: &'static str },
    #[error("batch {batch} ends with tick {end}, which does not follow the tick it starts from, {start}")]
    Ticks { batch: u64, start: u64, end: u64 },
    #[error("event {id} follows event {previous}: the events of a batch must ascend")]
    Order { id: u64, previous: u64 },
    #[error("relation {table} has no identity, or one that names a column it does not have")]
    Identity { table: String },
    #[error("a row of {table} has {found} values for {expected} columns")]
    Columns { table: String, expected: usize, found: usize },
    #[error("column {column} of {table} holds {}, and its type calls for {}", show(*.found), show(*.expected))]
    Class { table: String, column: String, expected: Option<Class>, found: Option<Class> },
    #[error("event {id} makes a message of {bytes} bytes, and a stream takes {MESSAGE_BYTES_MAX} at most")]
    Size { id: u64, bytes: usize },
}

fn show(class: Option<Class>) -> String {
    class.map_or_else(|| "nothing".to_owned(), |class| class.to_string())
}
