//! What is done to whom.

use std::fmt;
use std::time::Duration;

use pgshovel::error::{Error, Result};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::cast::{Cast, SET, signal_all};
use crate::stage::Stream;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Relay,
    Worker,
    Source,
    Target,
    ZooKeeper,
    Broker,
    Admin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// SIGKILL, to every process of a server; started again after the time.
    Kill,
    /// SIGSTOP, and SIGCONT after the time: to others it is a network that swallows all.
    Pause,
    /// Connections break and none is made for the time.
    Cut,
}

/// A victim, and what it suffers for how long.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub victim: Victim,
    pub means: Means,
    /// Of two relays or workers, the second.
    second: bool,
    pub time: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let means = match self.means {
            Means::Kill => "kill -9 of",
            Means::Pause => "pause of",
            Means::Cut => "network cut to",
        };
        let victim = match self.victim {
            Victim::Relay if self.second => "relay 2",
            Victim::Relay => "relay 1",
            Victim::Worker if self.second => "worker 2",
            Victim::Worker => "worker 1",
            other => other.name(),
        };
        write!(f, "{means} {victim}, {:.1} s", self.time.as_secs_f64())
    }
}

impl Victim {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Worker => "worker",
            Self::Source => "source",
            Self::Target => "target",
            Self::ZooKeeper => "ZooKeeper",
            Self::Broker => "broker",
            Self::Admin => "set update",
        }
    }

    fn suffers(self, means: Means, stream: Stream) -> bool {
        match self {
            Self::Broker => stream == Stream::Kafka && means != Means::Cut,
            Self::Admin => means == Means::Kill,
            Self::Relay | Self::Worker => means != Means::Cut,
            Self::Source | Self::Target | Self::ZooKeeper => true,
        }
    }
}

impl Means {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "pause",
            Self::Cut => "network cut",
        }
    }
}

/// Every fault that there is with `stream`.
#[must_use]
pub fn every(stream: Stream) -> Vec<(Victim, Means)> {
    use Victim::{Admin, Broker, Relay, Source, Target, Worker, ZooKeeper};
    let victims = [Relay, Worker, Source, Target, ZooKeeper, Broker, Admin];
    let all = victims.into_iter().flat_map(|victim| [Means::Kill, Means::Pause, Means::Cut].map(|means| (victim, means)));
    all.filter(|(victim, means)| victim.suffers(*means, stream)).collect()
}

impl Fault {
    pub fn draw((victim, means): (Victim, Means), longest: Duration, random: &mut StdRng) -> Self {
        let time = match victim {
            // Within the command's life, or soon after it.
            Victim::Admin => Duration::from_millis(random.random_range(0..1500)),
            _ => Duration::from_millis(random.random_range(0..=u64::try_from(longest.as_millis()).unwrap_or(u64::MAX))),
        };
        Self { victim, means, second: random.random(), time }
    }

    /// Injects it, and ends it when its time is over.
    pub async fn inject(self, cast: &mut Cast) -> Result<()> {
        match (self.victim, self.means) {
            (Victim::Relay | Victim::Worker, _) => self.strike_member(cast).await,
            (Victim::Admin, _) => self.strike_admin(cast).await,
            (_, Means::Cut) => self.cut(cast).await,
            (_, Means::Pause) => {
                let pid = self.server(cast)?;
                signal_all(pid, "STOP")?;
                sleep(self.time).await;
                signal_all(pid, "CONT")
            }
            (_, Means::Kill) => {
                signal_all(self.server(cast)?, "KILL")?;
                sleep(self.time).await;
                self.start_server(cast)
            }
        }
    }

    async fn strike_member(self, cast: &mut Cast) -> Result<()> {
        let index = usize::from(self.victim == Victim::Worker) * 2 + usize::from(self.second);
        let member = cast.members.get_mut(index).ok_or_else(|| Error::bug("no such member"))?;
        if self.means == Means::Pause {
            member.process.signal("STOP")?;
            sleep(self.time).await;
            return member.process.signal("CONT");
        }
        member.process.kill()?;
        sleep(self.time).await;
        cast.restart(index)
    }

    /// The administrator whose command was killed repeats it, as one does.
    async fn strike_admin(self, cast: &mut Cast) -> Result<()> {
        let file = if self.second { "all.pgshovel" } else { "fewer.pgshovel" };
        let arguments = ["set", "update", SET, file];
        let mut command = cast.stage.command(&arguments)?;
        let mut process = cast.stage.process("set update", "update", &mut command, "KILL")?;
        sleep(self.time).await;
        process.kill()?;
        cast.stage.administer(&arguments).await
    }

    async fn cut(self, cast: &Cast) -> Result<()> {
        let link = match self.victim {
            Victim::Source => &cast.to_source,
            Victim::Target => &cast.to_target,
            Victim::ZooKeeper => &cast.to_zookeeper,
            other => return Err(Error::bug(format!("no link leads to the {}", other.name()))),
        };
        link.cut();
        sleep(self.time).await;
        link.mend();
        Ok(())
    }

    fn server(self, cast: &Cast) -> Result<u32> {
        let pid = match self.victim {
            Victim::Source => cast.stage.source.pid(),
            Victim::Target => cast.stage.target.pid(),
            Victim::ZooKeeper => cast.stage.zookeeper.pid(),
            _ => cast.stage.kafka.as_ref().and_then(crate::servers::Kafka::pid),
        };
        pid.ok_or_else(|| Error::bug(format!("the {} does not run", self.victim.name())))
    }

    fn start_server(self, cast: &mut Cast) -> Result<()> {
        let stage = &mut cast.stage;
        match (self.victim, &mut stage.kafka) {
            (Victim::Source, _) => stage.source.stop().and_then(|()| stage.source.start()),
            (Victim::Target, _) => stage.target.stop().and_then(|()| stage.target.start()),
            (Victim::ZooKeeper, _) => stage.zookeeper.stop().and_then(|()| stage.zookeeper.start()),
            (_, Some(kafka)) => kafka.stop().and_then(|()| kafka.start()),
            (_, None) => Ok(()),
        }
    }
}
