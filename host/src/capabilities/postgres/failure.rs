//! Why a call of a plugin to its database failed.

use std::fmt;

use super::parameter;
use crate::budget::Exceeded;
use crate::error::Next;
use crate::postgres::connect;

/// What is kept of each text of an error.
const ERROR_TEXT_BYTES_MAX: usize = 2 << 10;

/// An error of the server. `message`, `detail` and `hint` may hold values of rows:
/// they are for decisions, and for an operator only where the code says they do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseError {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Whether the same may succeed later, with nobody mending anything.
    pub passing: bool,
}

impl DatabaseError {
    pub(super) fn size(&self) -> usize {
        let size = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        std::mem::size_of::<Self>() + self.message.len() + size(&self.detail) + size(&self.hint)
    }
}

/// The source files of PostgreSQL that pass on what functions raise: PL/pgSQL, PL/Python, PL/Perl, PL/Tcl.
const PROCEDURAL: [&str; 4] = ["pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"];

/// Why a call failed. See `failure` in `wit/postgres.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Unavailable(String),
    Refused(DatabaseError),
    Misuse(String),
    /// The grant is wrong, and a person has to change it. To a plugin it is a misuse.
    Misconfigured(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(text) | Self::Misuse(text) | Self::Misconfigured(text) => f.write_str(text),
            Self::Refused(error) => write!(f, "{} (SQLSTATE {})", error.message, error.sqlstate),
        }
    }
}

impl std::error::Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<parameter::Unsuitable>()) {
                Some(unsuitable) => Self::Misuse(unsuitable.to_string()),
                None => of(connect::explain(&error)),
            };
        };
        // Shutdown, crash and lost sessions end the connection although the server still answers.
        if matches!(refusal.code().code(), "57P01" | "57P02" | "57P03" | "57P05" | "25P03") {
            return of(connect::explain(&error));
        }
        // What a function raises may hold a row's values, whatever code it gives.
        if refusal.file().is_some_and(|file| PROCEDURAL.iter().any(|source| file.ends_with(source))) {
            return Self::Refused(DatabaseError {
                sqlstate: refusal.code().code().to_owned(),
                message: "a function of the database raised an error".to_owned(),
                detail: None,
                hint: None,
                passing: connect::is_passing(refusal.code().code()),
            });
        }
        Self::Refused(DatabaseError {
            sqlstate: refusal.code().code().to_owned(),
            message: cut(refusal.message()),
            detail: refusal.detail().map(cut),
            hint: refusal.hint().map(cut),
            passing: connect::is_passing(refusal.code().code()),
        })
    }
}

impl From<Exceeded> for Failure {
    fn from(exceeded: Exceeded) -> Self {
        Self::Misuse(exceeded.to_string())
    }
}

/// The server's text, or as much of it as anybody reads: who writes SQL chooses its length.
fn cut(text: &str) -> String {
    if text.len() <= ERROR_TEXT_BYTES_MAX {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)])
}

pub(super) fn of(error: crate::error::Error) -> Failure {
    match error.next {
        Next::Retry => Failure::Unavailable(error.message),
        Next::Configure => Failure::Misconfigured(error.message),
        _ => Failure::Misuse(error.message),
    }
}
