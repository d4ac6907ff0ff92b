//! What a plugin accepts never.

use std::fmt;

/// One of the things that were passed to a plugin, which it accepts never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Among those that were passed in the call.
    pub index: u32,
    pub what: Rejected,
    /// Why, as the plugin says, without control characters.
    pub reason: String,
}

/// What is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// A message of the stream.
    Message,
    /// A row of a bootstrap. Schema and table are as the plugin was told.
    Row { schema: String, table: String },
    /// A change, by PgQ's event.
    Event { id: u64, schema: String, table: String },
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, what, reason } = self;
        match what {
            Rejected::Message => write!(f, "message {index}: {reason}"),
            Rejected::Row { schema, table } => write!(f, "row {index} of {schema}.{table}: {reason}"),
            Rejected::Event { id, schema, table } => write!(f, "event {id} of {schema}.{table}: {reason}"),
        }
    }
}
