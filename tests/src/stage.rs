//! The servers of the demo and the benchmark, and the commands that run between them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};

use crate::paths;
use crate::servers::{Fleet, Kafka, Postgres, Process, ZooKeeper};

/// Enough for pgbench on a small machine; durability stays PostgreSQL's default.
/// Changes of several databases need prepared transactions.
const SETTINGS: &[&str] = &["shared_buffers = '256MB'", "max_wal_size = '4GB'", "max_prepared_transactions = 10"];

/// Who its processes are to ZooKeeper, and the password: so that relays end what commands
/// leave behind in databases that no set is in yet.
pub const ZOOKEEPER_USER: &str = "stage:stage-secret";

/// What lies between relay and worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    File,
    Kafka,
}

#[derive(Debug)]
pub struct Stage {
    /// Its database is `source`, with `pgq`.
    pub source: Postgres,
    /// Its database is `target`.
    pub target: Postgres,
    pub kafka: Option<Kafka>,
    pub zookeeper: ZooKeeper,
    /// Where the commands look for it.
    pub zookeeper_hosts: String,
    fleet: Arc<Fleet>,
    /// The current directory of the commands.
    pub folder: PathBuf,
}

impl Stage {
    /// Starts the servers side by side, and makes the databases and the folder.
    pub async fn set(fleet: &Arc<Fleet>, stream: Stream) -> Result<Self> {
        Self::set_behind(fleet, stream, None).await
    }

    /// As [`Stage::set`]. The broker tells its clients to come to `port`, if there is one.
    pub async fn set_behind(fleet: &Arc<Fleet>, stream: Stream, port: Option<u16>) -> Result<Self> {
        let shared = Arc::clone(fleet);
        let servers = tokio::task::spawn_blocking(move || start(&shared, stream, port)).await;
        let (source, target, zookeeper, kafka) = servers.map_err(|error| Error::bug(format!("starting the servers: {error}")))??;
        let folder = fleet.folder().join("stage");
        std::fs::create_dir_all(folder.join("stream"))
            .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot create {}: {error}", folder.display())))?;
        let zookeeper_hosts = zookeeper.hosts();
        let stage = Self { source, target, kafka, zookeeper, zookeeper_hosts, fleet: Arc::clone(fleet), folder };
        create_database(&stage.source, "source", "CREATE EXTENSION pgq").await?;
        create_database(&stage.target, "target", "SELECT").await?;
        Ok(stage)
    }

    /// Writes a file into the folder of the commands.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot write {}: {error}", path.display())))
    }

    /// Runs `pgshovel` to its end.
    pub async fn administer(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(arguments)?;
        finish(&mut command, &format!("pgshovel {}", arguments.join(" "))).await
    }

    /// Starts `pgshovel relay` or `pgshovel replicate`, which is `user` in the source.
    pub fn follow(&self, role: &str, configuration: &str, set: &str, user: &str) -> Result<Process> {
        let mut command = self.command(&[role, configuration, set])?;
        command.env("PGSHOVEL_SOURCE_DSN", format!("user={user}"));
        self.process(&format!("pgshovel {role}"), role, &mut command, "TERM")
    }

    /// Starts a process whose output goes to `LOG.log` in the folder.
    pub fn process(&self, name: &str, log: &str, command: &mut Command, stop_signal: &'static str) -> Result<Process> {
        Process::start(&self.fleet, name, command, &self.folder.join(format!("{log}.log")), stop_signal)
    }

    /// `pgshovel` with these arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(paths::pgshovel()?);
        command
            .args(arguments)
            .env("PGSHOVEL_ZOOKEEPER_HOSTS", &self.zookeeper_hosts)
            .env("PGSHOVEL_ZOOKEEPER_AUTH", format!("digest:{ZOOKEEPER_USER}"))
            .env("PGSHOVEL_PLUGIN_PATH", paths::plugins()?)
            .env("PGSHOVEL_LOG_FORMAT", "json")
            .current_dir(&self.folder);
        Ok(command)
    }
}

type Servers = (Postgres, Postgres, ZooKeeper, Option<Kafka>);

fn start(fleet: &Arc<Fleet>, stream: Stream, port: Option<u16>) -> Result<Servers> {
    std::thread::scope(|scope| {
        let source = scope.spawn(|| Postgres::create(fleet, "source", SETTINGS));
        let target = scope.spawn(|| Postgres::create(fleet, "target", SETTINGS));
        let zookeeper = scope.spawn(|| ZooKeeper::create(fleet, "zookeeper"));
        let kafka = scope.spawn(|| match stream {
            Stream::File => Ok(None),
            Stream::Kafka => Kafka::create_behind(fleet, "kafka", port).map(Some),
        });
        Ok((joined(source)?, joined(target)?, joined(zookeeper)?, joined(kafka)?))
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Error::bug("a thread that starts a server panicked")))
}

async fn create_database(server: &Postgres, name: &str, then: &str) -> Result<()> {
    for (database, sql) in [("postgres", format!("CREATE DATABASE {name}")), (name, then.to_owned())] {
        let client = connect(&server.dsn(database), "demo").await?;
        client.batch_execute(&sql).await.map_err(|error| explain(&error).context(sql))?;
    }
    Ok(())
}

/// Runs a command to its end, off the thread that waits for signals.
pub async fn finish(command: &mut Command, name: &str) -> Result<()> {
    output(command, name).await.map(drop)
}

/// As [`finish`]; returns what it printed.
pub async fn output(command: &mut Command, name: &str) -> Result<String> {
    let mut command = tokio::process::Command::from(std::mem::replace(command, Command::new("false")));
    let output =
        command.kill_on_drop(true).output().await.map_err(|error| Error::stop(Code::ToolFailed, format!("cannot run {name}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Err(Error::stop(Code::ToolFailed, format!("{name} failed ({}):\n{}", output.status, words.trim_end())))
}
