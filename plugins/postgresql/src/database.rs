//! What the target and its tests need of a connection: `wit/postgres.wit`.

use crate::pgshovel::plugin::postgres::{DatabaseError, Failure};
use crate::pgshovel::plugin::types::{Error, Row, Value};

/// See the interface `postgres` for what each call promises.
pub trait Database {
    fn execute(&self, sql: &str, parameters: &[Value]) -> Result<u64, Failure>;
    fn query(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure>;
    fn submit(&self, sql: &str, columns: &[Vec<Option<String>>]) -> Result<(), Failure>;
    fn submit_copy(&self, sql: &str, data: &[u8]) -> Result<(), Failure>;
    fn settle(&self) -> Result<Vec<Result<u64, DatabaseError>>, Failure>;
}

/// A failure that no row is to blame for. `doing` starts the sentence.
#[must_use]
pub fn failed(doing: &str, failure: Failure) -> Error {
    match failure {
        Failure::Unavailable(text) => Error::Retry(format!("{doing}: {text}")),
        Failure::Misuse(text) => Error::Stop(format!("{doing}: {text}")),
        Failure::Refused(error) => refused(doing, &error),
    }
}

/// What may not pass by itself is for a person to mend in the target.
#[must_use]
pub fn refused(doing: &str, error: &DatabaseError) -> Error {
    let text = format!("{doing}: {}", describe(error));
    if error.passing { Error::Retry(text) } else { Error::Blocked(text) }
}

/// The server's message without what may be a row's values: the texts that it quotes in
/// errors about data, and all that a function of the user raised.
#[must_use]
pub fn describe(error: &DatabaseError) -> String {
    let class = error.sqlstate.get(..2).unwrap_or_default();
    match class {
        "22" => format!("{} (SQLSTATE {})", unquoted(&error.message), error.sqlstate),
        _ if error.sqlstate == "55P03" => {
            format!("{} (SQLSTATE 55P03); another session holds the lock: pg_locks and pg_stat_activity say which", error.message)
        }
        _ if error.sqlstate == "42501" && error.message.contains("row-level security") => {
            format!("{} (SQLSTATE 42501): row security would hide rows from the role; ALTER ROLE … BYPASSRLS", error.message)
        }
        "P0" => format!("a function or trigger of the target raised an error (SQLSTATE {})", error.sqlstate),
        _ => format!("{} (SQLSTATE {})", error.message, error.sqlstate),
    }
}

fn unquoted(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            let (before, after) = (message.get(..first).unwrap_or_default(), message.get(last + 1..).unwrap_or_default());
            format!("{before}(a value){after}")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sqlstate: &str, message: &str) -> DatabaseError {
        DatabaseError {
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            detail: None,
            hint: None,
            passing: sqlstate.starts_with("40"),
        }
    }

    #[test]
    fn values_of_rows_are_left_out() {
        let input = error("22P02", "invalid input syntax for type integer: \"secret \"quoted\" secret\"");
        assert_eq!(describe(&input), "invalid input syntax for type integer: (a value) (SQLSTATE 22P02)");
        let range = error("22003", "value \"99999\" is out of range for type smallint");
        assert_eq!(describe(&range), "value (a value) is out of range for type smallint (SQLSTATE 22003)");
        assert!(!describe(&error("P0001", "secret")).contains("secret"));
        let unique = error("23505", "duplicate key value violates unique constraint \"t_pkey\"");
        assert!(describe(&unique).contains("\"t_pkey\""));
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        assert!(matches!(refused("x", &error("40P01", "deadlock detected")), Error::Retry(_)));
        assert!(matches!(refused("x", &error("42P01", "relation does not exist")), Error::Blocked(_)));
        assert!(matches!(failed("x", Failure::Unavailable("away".to_owned())), Error::Retry(_)));
    }
}
