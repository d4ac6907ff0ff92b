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
}

impl Error {
    pub fn usage(message: impl Into<String>) -> Self {
        Self { next: Next::Usage, message: message.into() }
    }

    pub fn configure(message: impl Into<String>) -> Self {
        Self { next: Next::Configure, message: message.into() }
    }

    pub fn retry(message: impl Into<String>) -> Self {
        Self { next: Next::Retry, message: message.into() }
    }

    pub fn blocked(message: impl Into<String>) -> Self {
        Self { next: Next::Blocked, message: message.into() }
    }

    pub fn trap(message: impl Into<String>) -> Self {
        Self { next: Next::Trap, message: message.into() }
    }

    pub fn stop(message: impl Into<String>) -> Self {
        Self { next: Next::Stop, message: message.into() }
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Self { next: Next::Bug, message: message.into() }
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
