//! The roles of plugins.

/// What a plugin can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Writer,
    Stream,
    Loader,
    Target,
    Transform,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Writer, Self::Stream, Self::Loader, Self::Target, Self::Transform];

    /// The interface that a component exports to have this role.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Stream => "stream-reader",
            Self::Loader => "loader",
            Self::Target => "target",
            Self::Transform => "transform",
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            other => other.interface(),
        }
    }
}
