//! What the administrator does, and when his command suffers.

use std::fmt;

use rand::Rng;
use rand::rngs::StdRng;

/// The set that is replicated.
pub const SET: &str = "chaos";

/// Where processes find the servers.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub source: u16,
    pub target: u16,
    pub zookeeper: u16,
    pub broker: u16,
}

/// What the network knows it by.
pub const NAME: &str = "admin";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Of one database: intent, commit, confirm.
    Update,
    /// Of two databases: two-phase commit.
    Move,
    Upgrade,
}

/// When a command suffers, and who helps.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// In its life: a part of how long the command took when nothing disturbed it.
    pub moment: f64,
    pub help: Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// The same command again.
    Repeated,
    /// `cluster recover`, then the same command again.
    Recovered,
    /// Another administrator gives the same command while the first one suffers.
    Rival,
    /// The relays finish or undo what was begun.
    Nobody,
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let help = match self.help {
            Help::Repeated => "then again",
            Help::Recovered => "then `cluster recover`",
            Help::Rival => "beside another",
            Help::Nobody => "and nobody helps",
        };
        write!(f, "at {:.0} % of its life, {help}", self.moment * 100.0)
    }
}

impl Course {
    pub fn draw(random: &mut StdRng) -> Self {
        let help = [Help::Repeated, Help::Recovered, Help::Rival, Help::Nobody][random.random_range(0..4)];
        Self { moment: random.random_range(0.02..0.98), help }
    }
}

impl Task {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "set update",
            Self::Move => "set move",
            Self::Upgrade => "cluster upgrade",
        }
    }
}
