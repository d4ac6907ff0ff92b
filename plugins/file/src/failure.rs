//! Why a call failed, by what the host does next.

pub type Outcome<T> = Result<T, Failure>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Retry(String),
    Stop(String),
    /// The section of the configuration file is wrong.
    Configure(String),
}

impl Failure {
    /// The same, with the thing it happened to in front.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        match self {
            Self::Retry(text) => Self::Retry(format!("{place}: {text}")),
            Self::Stop(text) => Self::Stop(format!("{place}: {text}")),
            Self::Configure(text) => Self::Configure(format!("{place}: {text}")),
        }
    }
}
