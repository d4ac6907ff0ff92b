//! Lets faults happen, and waits until their time is over.

use std::time::Duration;

use pgshovel::error::{Code, Error, Result};
use tokio::time::{Instant, sleep, sleep_until};

use super::cast::Cast;
use super::check::settled;
use super::fault::{Fault, Faults, Means, Victim};
use super::task::{Help, NAME, Task};
use crate::servers::Process;

/// How long a command may take, and all that is done until it succeeds.
const SUCCEEDS_WITHIN: Duration = Duration::from_secs(240);

impl Faults {
    /// Injects them, each until its time is over. False if the victim had ended before
    /// it could suffer.
    pub async fn inject(self, cast: &mut Cast) -> Result<bool> {
        if let Victim::Admin(task) = self.first.victim {
            return strike(cast, task, self.first).await;
        }
        let mut steps = Vec::new();
        for (delay, fault) in std::iter::once((Duration::ZERO, self.first)).chain(self.second) {
            let whom = fault.aim(cast).await?;
            steps.push((delay, Step::Begin, fault, whom.clone()));
            steps.push((delay + fault.time, Step::End, fault, whom));
        }
        steps.sort_by_key(|(when, ..)| *when);
        let started = Instant::now();
        for (when, step, fault, whom) in steps {
            sleep_until(started + when).await;
            match step {
                Step::Begin => fault.begin(cast, &whom).await?,
                Step::End => fault.end(cast, &whom).await?,
            }
        }
        Ok(true)
    }
}

enum Step {
    Begin,
    End,
}

/// Gives a command and lets it suffer, then gets it done all the same. False if it
/// had ended before.
async fn strike(cast: &mut Cast, task: Task, fault: Fault) -> Result<bool> {
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
                Some(_) => Err(Error::stop(
                    Code::ToolFailed,
                    format!("{} ended with {status}; its log ends with:\n{}", process.name, process.tail()),
                )),
            };
        }
        if started.elapsed() > SUCCEEDS_WITHIN {
            let seconds = SUCCEEDS_WITHIN.as_secs();
            return Err(Error::stop(
                Code::ToolFailed,
                format!("{} has not ended for {seconds} s; its log ends with:\n{}", process.name, process.tail()),
            ));
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
            return Err(Error::stop(
                Code::ToolFailed,
                format!("`pgshovel {command}` has not succeeded for {seconds} s; see {}", log.display()),
            ));
        }
        sleep(Duration::from_millis(500)).await;
    }
}
