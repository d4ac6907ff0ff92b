//! The administrator: commands that change databases and ZooKeeper together, and
//! what is done when one of them dies.

use std::fmt;
use std::time::{Duration, Instant};

use pgshovel::error::{Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::cast::{Cast, Ports, SET};
use super::check::settled;
use super::fault::{Fault, Means};
use crate::servers::{Postgres, Process};
use crate::stage::Stage;

/// A set that nobody relays, and that moves from database to database.
const ANNEX: &str = "annex";
/// What the network knows it by.
pub const NAME: &str = "admin";
/// How long a command may take, and all that is done until it succeeds.
const SUCCEEDS_WITHIN: Duration = Duration::from_secs(240);

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
    moment: f64,
    help: Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
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

/// What was configured last.
#[derive(Debug, Default)]
pub struct Admin {
    fewer: bool,
    there: bool,
    /// How long each task takes when nothing disturbs it.
    update: Duration,
    moves: Duration,
    upgrade: Duration,
}

impl Admin {
    /// Makes what there is to administer, and learns how long each task takes.
    pub async fn begin(stage: &Stage, ports: &Ports) -> Result<Self> {
        for (server, port, file) in [(&stage.source, ports.source, "here.pgshovel"), (&stage.target, ports.target, "there.pgshovel")] {
            create(server).await?;
            let text = format!(
                "database {{ dsn: \"host=127.0.0.1 port={port} user=postgres dbname={ANNEX}\" }}\ntables {{ name: \"{ANNEX}\" primary_keys: \"id\" }}\n"
            );
            stage.write(file, &text)?;
        }
        stage.administer(&["set", "create", ANNEX, "here.pgshovel"]).await?;
        let mut admin = Self::default();
        for task in [Task::Update, Task::Move, Task::Upgrade] {
            let started = Instant::now();
            let arguments = admin.turn(task);
            stage.administer(&arguments).await?;
            *admin.lasts(task) = started.elapsed();
        }
        Ok(admin)
    }

    fn lasts(&mut self, task: Task) -> &mut Duration {
        match task {
            Task::Update => &mut self.update,
            Task::Move => &mut self.moves,
            Task::Upgrade => &mut self.upgrade,
        }
    }

    /// The next command of a task: each undoes the one before.
    fn turn(&mut self, task: Task) -> Vec<&'static str> {
        match task {
            Task::Update => {
                self.fewer = !self.fewer;
                vec!["set", "update", SET, if self.fewer { "fewer.pgshovel" } else { "all.pgshovel" }]
            }
            Task::Move => {
                self.there = !self.there;
                vec!["set", "update", ANNEX, if self.there { "there.pgshovel" } else { "here.pgshovel" }]
            }
            Task::Upgrade => vec!["cluster", "upgrade", "--force"],
        }
    }

    /// The set that moves is in one database, and in the right one.
    pub async fn check(&self, stage: &Stage) -> Result<()> {
        for (server, name, wanted) in [(&stage.source, "source", !self.there), (&stage.target, "target", self.there)] {
            let client = connect(&server.dsn(ANNEX), "chaos").await?;
            let sql = format!(
                "SELECT count(*) = 1, (SELECT count(*) > 0 FROM pg_trigger WHERE tgrelid = '{ANNEX}'::regclass AND NOT tgisinternal) \
                 FROM pgq.queue WHERE queue_name = 'pgshovel:default:{ANNEX}'"
            );
            let row = client.query_one(&sql, &[]).await.map_err(|error| explain(&error).context(sql))?;
            let found: (bool, bool) = (row.get(0), row.get(1));
            if found != (wanted, wanted) {
                return Err(Error::stop(format!(
                    "the set {ANNEX} should {}be in the {name} server: queue and trigger are there: {found:?}",
                    if wanted { "" } else { "not " }
                )));
            }
        }
        Ok(())
    }
}

async fn create(server: &Postgres) -> Result<()> {
    let sql = format!("CREATE EXTENSION pgq; CREATE TABLE {ANNEX} (id int PRIMARY KEY)");
    for (database, sql) in [("postgres", format!("CREATE DATABASE {ANNEX}")), (ANNEX, sql)] {
        let client = connect(&server.dsn(database), "chaos").await?;
        client.batch_execute(&sql).await.map_err(|error| explain(&error).context(sql))?;
    }
    Ok(())
}

/// Gives a command and lets it suffer, then gets it done all the same. False if it
/// had ended before.
pub async fn strike(cast: &mut Cast, task: Task, fault: Fault) -> Result<bool> {
    let arguments = cast.admin.turn(task);
    let moment = cast.admin.lasts(task).mul_f64(fault.course.moment);
    let mut command = start(cast, NAME, &arguments)?;
    sleep(moment).await;
    let hit = command.exited()?.is_none();
    let rival = match fault.course.help {
        Help::Rival => Some(start(cast, "admin-2", &arguments)?),
        Help::Repeated | Help::Recovered | Help::Nobody => None,
    };
    match fault.means {
        Means::Kill => drop(command.kill()?),
        Means::Pause => {
            command.signal("STOP")?;
            sleep(fault.time).await;
            command.signal("CONT")?;
        }
        Means::Cut | Means::Silence | Means::Refill => fault.disturb(cast).await?,
    }
    for process in std::iter::once(command).chain(rival) {
        end(process).await?;
    }
    match fault.course.help {
        Help::Repeated | Help::Rival => {}
        Help::Recovered => succeed(cast, &["cluster", "recover"]).await?,
        Help::Nobody => settled_soon(cast).await?,
    }
    succeed(cast, &arguments).await?;
    Ok(hit)
}

/// Waits until nothing is left of a command that died.
async fn settled_soon(cast: &Cast) -> Result<()> {
    let started = Instant::now();
    while let Err(left) = settled(cast).await {
        if started.elapsed() > SUCCEEDS_WITHIN {
            return Err(left.context(format!("after {} s", SUCCEEDS_WITHIN.as_secs())));
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

fn start(cast: &Cast, name: &'static str, arguments: &[&str]) -> Result<Process> {
    let mut command = cast.stage.command(arguments)?;
    let process = cast.stage.process(&format!("pgshovel {}", arguments.join(" ")), name, &mut command, "KILL")?;
    cast.network.introduce(process.pid(), name);
    Ok(process)
}

/// Waits for its end. Whether it succeeded; that it could not is no failure yet.
async fn end(mut process: Process) -> Result<bool> {
    let started = Instant::now();
    loop {
        if let Some(status) = process.exited()? {
            return match status.code() {
                // It was killed by us.
                None => Ok(false),
                Some(code @ (0 | 1 | 4)) => Ok(code == 0),
                Some(_) => Err(Error::stop(format!("{} ended with {status}; its log ends with:\n{}", process.name, process.tail()))),
            };
        }
        if started.elapsed() > SUCCEEDS_WITHIN {
            let seconds = SUCCEEDS_WITHIN.as_secs();
            return Err(Error::stop(format!("{} has not ended for {seconds} s; its log ends with:\n{}", process.name, process.tail())));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Gives a command again and again until it succeeds.
async fn succeed(cast: &Cast, arguments: &[&str]) -> Result<()> {
    let started = Instant::now();
    loop {
        let process = start(cast, NAME, arguments)?;
        let log = process.log().to_owned();
        if end(process).await? {
            return Ok(());
        }
        if started.elapsed() > SUCCEEDS_WITHIN {
            let (command, seconds) = (arguments.join(" "), SUCCEEDS_WITHIN.as_secs());
            return Err(Error::stop(format!("`pgshovel {command}` has not succeeded for {seconds} s; see {}", log.display())));
        }
        sleep(Duration::from_millis(500)).await;
    }
}
