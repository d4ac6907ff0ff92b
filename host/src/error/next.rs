//! What the caller of something that failed does next.

/// What to do about an error.
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

impl Next {
    /// The exit code of a process that ends by it: 2 usage, 3 configuration, 4 a server is
    /// away, 1 stopped for any other reason, 70 a bug of ours.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Stop | Self::Trap | Self::Blocked => 1,
            Self::Usage => 2,
            Self::Configure => 3,
            Self::Retry => 4,
            Self::Bug => 70,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Configure => "configure",
            Self::Retry => "retry",
            Self::Blocked => "blocked",
            Self::Trap => "trap",
            Self::Stop => "stop",
            Self::Bug => "bug",
        }
    }
}
