//! Errors, named by the situation and by what the caller does next.

mod code;
mod next;
pub mod page;
mod rejection;
mod sqlstate;

use std::fmt;

pub use code::{Code, SITUATIONS, Situation};
pub use next::Next;
pub use rejection::{Rejected, Rejection};
pub use sqlstate::Sqlstate;

pub type Result<T> = std::result::Result<T, Error>;

/// One style of text: lowercase, no full stop, names the thing and what to do;
/// never a secret, never a row's values.
#[derive(Clone, Debug)]
pub struct Error {
    pub next: Next,
    pub code: Code,
    pub message: String,
    /// What PostgreSQL called it, if it is an answer of PostgreSQL's.
    pub sqlstate: Option<Sqlstate>,
    /// What a plugin rejects, if that is the error: for whoever decides about the rows. The
    /// message tells of the first ones.
    pub rejections: Vec<Rejection>,
}

impl Error {
    pub fn new(next: Next, code: Code, message: impl Into<String>) -> Self {
        Self { next, code, message: message.into(), sqlstate: None, rejections: Vec::new() }
    }

    pub fn usage(code: Code, message: impl Into<String>) -> Self {
        Self::new(Next::Usage, code, message)
    }

    pub fn configure(code: Code, message: impl Into<String>) -> Self {
        Self::new(Next::Configure, code, message)
    }

    pub fn retry(code: Code, message: impl Into<String>) -> Self {
        Self::new(Next::Retry, code, message)
    }

    pub fn blocked(code: Code, message: impl Into<String>) -> Self {
        Self::new(Next::Blocked, code, message)
    }

    pub fn trap(code: Code, message: impl Into<String>) -> Self {
        Self::new(Next::Trap, code, message)
    }

    pub fn stop(code: Code, message: impl Into<String>) -> Self {
        Self::new(Next::Stop, code, message)
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Next::Bug, Code::Bug, message)
    }

    /// The same error, with what was being done in front of it.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// The same error, with more of what to do behind it.
    #[must_use]
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// The same error, where something else is to be done about it.
    #[must_use]
    pub fn but(mut self, next: Next) -> Self {
        self.next = next;
        self
    }

    /// Whether whoever keeps a loop running tries again, however often it fails.
    #[must_use]
    pub fn is_tried_again(&self) -> bool {
        matches!(self.next, Next::Retry | Next::Blocked)
    }

    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.next.exit_code()
    }
}

/// The text alone. Who shows it to a person shows the code as well.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_keeps_the_code_and_the_sqlstate_of_the_cause() {
        let mut error = Error::stop(Code::PermissionDenied, "permission denied");
        error.sqlstate = Sqlstate::parse("42501");
        let error = error.context("reading").and("GRANT it").but(Next::Configure);
        assert_eq!(error.to_string(), "reading: permission denied; GRANT it");
        assert_eq!((error.next, error.code), (Next::Configure, Code::PermissionDenied));
        assert_eq!(error.sqlstate.map(|state| state.to_string()).as_deref(), Some("42501"));
        assert_eq!(error.exit_code(), 3);
    }
}
