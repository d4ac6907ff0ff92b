//! The administrator: commands that change databases and ZooKeeper together, and
//! what is done when one of them dies.

use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};

use super::task::{Ports, SET, Task};
use crate::servers::Postgres;
use crate::stage::Stage;

/// A set that nobody relays, and that moves from database to database.
const ANNEX: &str = "annex";
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

    pub(super) fn lasts(&mut self, task: Task) -> &mut Duration {
        match task {
            Task::Update => &mut self.update,
            Task::Move => &mut self.moves,
            Task::Upgrade => &mut self.upgrade,
        }
    }

    /// The next command of a task: each undoes the one before.
    pub(super) fn turn(&mut self, task: Task) -> Vec<&'static str> {
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
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!(
                        "the set {ANNEX} should {}be in the {name} server: queue and trigger are there: {found:?}",
                        if wanted { "" } else { "not " }
                    ),
                ));
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
