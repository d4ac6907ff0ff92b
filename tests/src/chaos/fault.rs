//! What is done to whom.

use std::fmt;
use std::time::Duration;

use pgshovel::error::{Error, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::cast::{Cast, Role, server_pid, signal_all, start_server};
use super::network::{self, Damage, Server};
use super::task::{self, Task};
use crate::stage::Stream;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Relay,
    Worker,
    Server(Server),
    /// A command of the administrator.
    Admin(Task),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// SIGKILL, to every process of a server; started again after the time.
    Kill,
    /// SIGSTOP, and SIGCONT after the time.
    Pause,
    /// Connections break, and none lives for the time.
    Cut,
    /// Nothing arrives for the time, and nobody is told.
    Silence,
    /// Of ZooKeeper alone: nobody reaches it for the time; then it has its nodes, and neither
    /// its sessions nor its count of transactions.
    Refill,
}

/// Of the two that do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Leader,
    Standby,
    Both,
}

/// A victim, and what it suffers for how long.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub victim: Victim,
    pub means: Means,
    pub time: Duration,
    whom: Whom,
    /// The server that a process is cut off from; `None`: all of them.
    from: Option<Server>,
    pub course: task::Course,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the {}", self.means.name(), self.victim.name())?;
        match (self.victim, self.whom) {
            (Victim::Relay | Victim::Worker, Whom::Leader) => f.write_str(" that leads")?,
            (Victim::Relay | Victim::Worker, Whom::Standby) => f.write_str(" that stands by")?,
            (Victim::Relay | Victim::Worker, Whom::Both) => f.write_str(" and its standby")?,
            (Victim::Server(_), _) => {}
            (Victim::Admin(_), _) => write!(f, " {}", self.course)?,
        }
        match (self.victim, self.means, self.from) {
            (Victim::Server(_), ..) | (_, Means::Kill | Means::Pause | Means::Refill, _) => {}
            (.., Some(server)) => write!(f, ", to the {}", Victim::Server(server).name())?,
            (.., None) => f.write_str(", to everybody")?,
        }
        write!(f, ", {:.1} s", self.time.as_secs_f64())
    }
}

impl Victim {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Worker => "worker",
            Self::Server(Server::Source) => "source",
            Self::Server(Server::Target) => "target",
            Self::Server(Server::ZooKeeper) => "ZooKeeper",
            Self::Server(Server::Broker) => "broker",
            Self::Admin(task) => task.name(),
        }
    }

    fn is_admin(self) -> bool {
        matches!(self, Self::Admin(_))
    }

    /// The servers that it talks to.
    fn servers(self, stream: Stream) -> Vec<Server> {
        use Server::{Broker, Source, Target, ZooKeeper};
        let mut servers = match self {
            Self::Relay => vec![ZooKeeper, Source],
            Self::Worker => vec![ZooKeeper, Target],
            Self::Server(server) => return vec![server],
            Self::Admin(_) => return vec![ZooKeeper, Source, Target],
        };
        if stream == Stream::Kafka {
            servers.push(Broker);
        }
        servers
    }
}

impl Means {
    /// Of everybody.
    const COMMON: [Self; 4] = [Self::Kill, Self::Pause, Self::Cut, Self::Silence];

    fn damage(self) -> Result<Damage> {
        match self {
            Self::Cut => Ok(Damage::Cut),
            Self::Silence => Ok(Damage::Silence),
            Self::Kill | Self::Pause | Self::Refill => Err(Error::bug("that is no fault of a network")),
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "pause",
            Self::Cut => "network cut",
            Self::Silence => "network silence",
            Self::Refill => "refill",
        }
    }
}

/// Every kind of fault that there is with `stream`.
#[must_use]
pub fn every(stream: Stream) -> Vec<(Victim, Means)> {
    use Server::{Broker, Source, Target, ZooKeeper};
    let mut victims = vec![Victim::Relay, Victim::Worker];
    victims.extend([Source, Target, ZooKeeper].map(Victim::Server));
    if stream == Stream::Kafka {
        victims.push(Victim::Server(Broker));
    }
    victims.extend([Task::Update, Task::Move, Task::Upgrade].map(Victim::Admin));
    let common = victims.into_iter().flat_map(|victim| Means::COMMON.map(|means| (victim, means)));
    common.chain([(Victim::Server(ZooKeeper), Means::Refill)]).collect()
}

impl Fault {
    /// One of this kind, that lasts no longer than `longest`.
    pub fn draw((victim, means): (Victim, Means), stream: Stream, longest: Duration, random: &mut StdRng) -> Self {
        // As many short ones as long ones: half of 20 s outlives a session with ZooKeeper.
        let part = if random.random() { random.random_range(0.0..0.2) } else { random.random_range(0.5..1.0) };
        let time = longest.mul_f64(part);
        let whom = *[Whom::Leader, Whom::Leader, Whom::Leader, Whom::Standby, Whom::Both].choose(random).unwrap_or(&Whom::Leader);
        let mut from: Vec<Option<Server>> = victim.servers(stream).into_iter().map(Some).collect();
        from.push(None);
        let from = from.choose(random).copied().flatten();
        Self { victim, means, time, whom, from, course: task::Course::draw(random) }
    }

    /// Who suffers, found while all is well: indexes of members.
    pub(super) async fn aim(self, cast: &mut Cast) -> Result<Vec<usize>> {
        let role = match self.victim {
            Victim::Relay => Role::Relay,
            Victim::Worker => Role::Worker,
            Victim::Server(_) | Victim::Admin(_) => return Ok(Vec::new()),
        };
        let (leader, standby) = cast.leader_and_standby(role).await?;
        Ok(match self.whom {
            Whom::Leader => vec![leader],
            Whom::Standby => vec![standby],
            Whom::Both => vec![leader, standby],
        })
    }

    pub(super) async fn begin(self, cast: &mut Cast, whom: &[usize]) -> Result<()> {
        match (self.means, self.victim) {
            (Means::Refill, _) => cast.stage.zookeeper.forget().await,
            (Means::Kill, Victim::Server(server)) => signal_all(server_pid(&cast.stage, server)?, "KILL"),
            (Means::Kill, _) => cast.kill(whom),
            (Means::Pause, Victim::Server(server)) => signal_all(server_pid(&cast.stage, server)?, "STOP"),
            (Means::Pause, _) => whom.iter().try_for_each(|index| cast.member(*index)?.process.signal("STOP")),
            (Means::Cut | Means::Silence, _) => {
                cast.network.damage(self.damage(cast, whom)?);
                Ok(())
            }
        }
    }

    pub(super) async fn end(self, cast: &mut Cast, whom: &[usize]) -> Result<()> {
        match (self.means, self.victim) {
            (Means::Refill, _) => block_in_place(|| cast.stage.zookeeper.start()),
            (Means::Kill, Victim::Server(server)) => start_server(&mut cast.stage, server),
            (Means::Kill, _) => whom.iter().try_for_each(|index| cast.restart(*index)),
            (Means::Pause, Victim::Server(server)) => signal_all(server_pid(&cast.stage, server)?, "CONT"),
            (Means::Pause, _) => whom.iter().try_for_each(|index| cast.member(*index)?.process.signal("CONT")),
            (Means::Cut | Means::Silence, _) => {
                cast.network.mend(&self.damage(cast, whom)?);
                Ok(())
            }
        }
    }

    /// What it does to the network.
    fn damage(self, cast: &Cast, whom: &[usize]) -> Result<network::Fault> {
        let damage = self.means.damage()?;
        let names = || cast.members.iter().enumerate().filter(|(index, _)| whom.contains(index)).map(|(_, member)| member.name).collect();
        let whom = match self.victim {
            Victim::Server(_) => None,
            Victim::Relay | Victim::Worker => Some(names()),
            Victim::Admin(_) => Some(vec![task::NAME]),
        };
        let servers = match (self.victim, self.from) {
            (Victim::Server(server), _) | (_, Some(server)) => vec![server],
            (victim, None) => victim.servers(cast.stream),
        };
        Ok(network::Fault { damage, servers, whom })
    }

    /// Damages the network of a command for the time.
    pub async fn disturb(self, cast: &Cast) -> Result<()> {
        let damage = self.damage(cast, &[])?;
        cast.network.damage(damage.clone());
        sleep(self.time).await;
        cast.network.mend(&damage);
        Ok(())
    }
}

/// One fault, and perhaps another that comes while the first one lasts.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub first: Fault,
    /// How long after the first one it comes.
    pub second: Option<(Duration, Fault)>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.second.map_or(Ok(()), |(delay, fault)| write!(f, ", and {:.1} s into it {fault}", delay.as_secs_f64()))
    }
}

impl Faults {
    /// Draws from `bag` what it takes out of it. Half of the time two meet, unless one is
    /// a command's: that is over when the command succeeds, which the other could prevent.
    pub fn draw(bag: &mut Vec<(Victim, Means)>, stream: Stream, longest: Duration, random: &mut StdRng) -> Result<Self> {
        let kind = *bag.choose(random).ok_or_else(|| Error::bug("there is no fault"))?;
        bag.retain(|other| *other != kind);
        let first = Fault::draw(kind, stream, longest, random);
        let others: Vec<_> = bag.iter().copied().filter(|(victim, _)| *victim != kind.0 && !victim.is_admin()).collect();
        let second = match others.choose(random) {
            Some(other) if !kind.0.is_admin() && random.random() => {
                bag.retain(|left| left != other);
                Some((first.time.mul_f64(random.random()), Fault::draw(*other, stream, longest, random)))
            }
            _ => None,
        };
        Ok(Self { first, second })
    }
}
