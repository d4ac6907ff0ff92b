//! What is done to whom.

use std::fmt;
use std::time::Duration;

use pgshovel::error::{Error, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use super::admin::{self, Task};
use super::cast::{Cast, Role, server_pid, signal_all, start_server};
use super::network::{self, Damage, Server};
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
    pub course: admin::Course,
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
            (Victim::Server(_), ..) | (_, Means::Kill | Means::Pause, _) => {}
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
    const ALL: [Self; 4] = [Self::Kill, Self::Pause, Self::Cut, Self::Silence];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "pause",
            Self::Cut => "network cut",
            Self::Silence => "network silence",
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
    victims.into_iter().flat_map(|victim| Means::ALL.map(|means| (victim, means))).collect()
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
        Self { victim, means, time, whom, from, course: admin::Course::draw(random) }
    }

    /// Injects it, and ends it when its time is over. False if the victim had ended
    /// before it could suffer.
    pub async fn inject(self, cast: &mut Cast) -> Result<bool> {
        match self.victim {
            Victim::Relay => self.strike_members(cast, Role::Relay).await?,
            Victim::Worker => self.strike_members(cast, Role::Worker).await?,
            Victim::Server(server) => self.strike_server(cast, server).await?,
            Victim::Admin(task) => return admin::strike(cast, task, self).await,
        }
        Ok(true)
    }

    async fn strike_members(self, cast: &mut Cast, role: Role) -> Result<()> {
        let (leader, standby) = cast.leader_and_standby(role).await?;
        let whom = match self.whom {
            Whom::Leader => vec![leader],
            Whom::Standby => vec![standby],
            Whom::Both => vec![leader, standby],
        };
        match self.means {
            Means::Kill => {
                cast.kill(&whom)?;
                sleep(self.time).await;
                whom.iter().try_for_each(|index| cast.restart(*index))
            }
            Means::Pause => {
                for index in &whom {
                    cast.member(*index)?.process.signal("STOP")?;
                }
                sleep(self.time).await;
                whom.iter().try_for_each(|index| cast.member(*index)?.process.signal("CONT"))
            }
            Means::Cut | Means::Silence => {
                let names = cast.members.iter().enumerate().filter(|(index, _)| whom.contains(index)).map(|(_, member)| member.name);
                let names = names.collect();
                self.disturb(cast, Some(names)).await
            }
        }
    }

    async fn strike_server(self, cast: &mut Cast, server: Server) -> Result<()> {
        match self.means {
            Means::Kill => {
                signal_all(server_pid(&cast.stage, server)?, "KILL")?;
                sleep(self.time).await;
                start_server(&mut cast.stage, server)
            }
            Means::Pause => {
                let pid = server_pid(&cast.stage, server)?;
                signal_all(pid, "STOP")?;
                sleep(self.time).await;
                signal_all(pid, "CONT")
            }
            Means::Cut | Means::Silence => self.disturb(cast, None).await,
        }
    }

    /// Damages the network of `whom`, or of all, for the time.
    pub async fn disturb(self, cast: &Cast, whom: Option<Vec<&'static str>>) -> Result<()> {
        let damage = match self.means {
            Means::Cut => Damage::Cut,
            Means::Silence => Damage::Silence,
            Means::Kill | Means::Pause => return Err(Error::bug("that is no fault of a network")),
        };
        let servers = match (self.victim, self.from) {
            (Victim::Server(server), _) | (_, Some(server)) => vec![server],
            (victim, None) => victim.servers(cast.stream),
        };
        cast.network.damage(network::Fault { damage, servers, whom });
        sleep(self.time).await;
        cast.network.mend();
        Ok(())
    }
}
