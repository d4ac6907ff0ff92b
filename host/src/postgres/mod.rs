//! PostgreSQL: connections, node identity, the PgQ queue, trigger DDL.

mod bounded;
pub mod catalog;
pub mod connect;
mod driver;
pub mod dsn;
pub mod event;
mod failure;
pub mod lent;
pub mod node;
mod opened;
pub mod own;
mod parameters;
mod passfile;
pub mod pool;
pub mod queue;
pub mod rights;
pub mod schema;
pub mod secret;
mod server;
pub mod tls;
pub mod trigger;
pub mod trust;

/// The driver logs what the server notices, in the words of whoever wrote the SQL.
pub const LOG_FILTER: &str = "tokio_postgres=warn";

/// What the rest of the host names of the driver, which is used nowhere else.
pub use tokio_postgres::error::SqlState;
pub use tokio_postgres::{Client, Error as DriverError};

/// An identifier as SQL takes it, whatever it contains.
#[must_use]
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text as SQL takes it, whatever it contains and whatever
/// `standard_conforming_strings` says.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
