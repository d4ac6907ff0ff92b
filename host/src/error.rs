//! Errors, named by what the caller does next.

use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The command line is wrong: show its usage.
    Usage,
    /// A file or a stored configuration is wrong: a person must change it.
    Configure,
    /// A server is away, or busy: wait and try again.
    Retry,
    /// A person must mend something, and a later attempt will find it mended: say it,
    /// go no further, and try again like after `Retry`.
    Blocked,
    /// A plugin broke off (a trap, a limit on memory or time): try once more
    /// with a new instance; when it breaks off at the same place again, stop.
    Trap,
    /// Nothing will change by itself: stop and show the text, which says what to do.
    Stop,
    /// A promise of this program is broken: stop, and report it.
    Bug,
}

/// One style of text: lowercase, no full stop, names the thing and what to do;
/// never a secret, never a row's values.
#[derive(Clone, Debug)]
pub struct Error {
    pub next: Next,
    pub message: String,
    /// What a plugin rejects, if that is the error: for whoever decides about the rows. The
    /// message tells of the first ones.
    pub rejections: Vec<Rejection>,
}

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

impl Error {
    pub fn usage(message: impl Into<String>) -> Self {
        Self::of(Next::Usage, message)
    }

    pub fn configure(message: impl Into<String>) -> Self {
        Self::of(Next::Configure, message)
    }

    pub fn retry(message: impl Into<String>) -> Self {
        Self::of(Next::Retry, message)
    }

    pub fn blocked(message: impl Into<String>) -> Self {
        Self::of(Next::Blocked, message)
    }

    pub fn trap(message: impl Into<String>) -> Self {
        Self::of(Next::Trap, message)
    }

    pub fn stop(message: impl Into<String>) -> Self {
        Self::of(Next::Stop, message)
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Self::of(Next::Bug, message)
    }

    /// An error of this kind.
    pub fn of(next: Next, message: impl Into<String>) -> Self {
        Self { next, message: message.into(), rejections: Vec::new() }
    }

    /// The same error, with what was being done in front of it.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Whether whoever keeps a loop running tries again, however often it fails.
    #[must_use]
    pub fn is_tried_again(&self) -> bool {
        matches!(self.next, Next::Retry | Next::Blocked)
    }

    /// The process's exit code: 2 usage, 3 configuration, 4 a server is away,
    /// 1 stopped for any other reason, 70 a bug of ours.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.next {
            Next::Stop | Next::Trap | Next::Blocked => 1,
            Next::Usage => 2,
            Next::Configure => 3,
            Next::Retry => 4,
            Next::Bug => 70,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
