//! The servers of the demo, the example's files as adapted to them, and the
//! commands that run between them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pgshovel::error::{Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use tests::paths;
use tests::servers::{Fleet, Kafka, Postgres, Process, ZooKeeper};

use super::run::{SET, Stream};

/// What the example's files say where the servers are.
const ADDRESSES: [&str; 3] = ["localhost:5432/source", "localhost:5433/target", "localhost:9092"];
/// Enough for pgbench on a small machine; durability stays PostgreSQL's default.
const SETTINGS: &[&str] = &["shared_buffers = '256MB'", "max_wal_size = '2GB'"];

#[derive(Debug)]
pub struct Stage {
    pub source: Postgres,
    pub target: Postgres,
    zookeeper: ZooKeeper,
    kafka: Option<Kafka>,
    fleet: Arc<Fleet>,
    /// The current directory of the commands.
    folder: PathBuf,
}

impl Stage {
    /// Starts the servers side by side, makes the databases and the files.
    pub async fn set(fleet: &Arc<Fleet>, example: &Path, stream: Stream) -> Result<Self> {
        let shared = Arc::clone(fleet);
        let servers = tokio::task::spawn_blocking(move || start(&shared, stream)).await;
        let (source, target, zookeeper, kafka) = servers.map_err(|error| Error::bug(format!("starting the servers: {error}")))??;
        let folder = fleet.folder().join("demo");
        let stage = Self { source, target, zookeeper, kafka, fleet: Arc::clone(fleet), folder };
        stage.copy(example, stream)?;
        create_database(&stage.source, "source", "CREATE EXTENSION pgq").await?;
        create_database(&stage.target, "target", "SELECT").await?;
        Ok(stage)
    }

    /// Writes the example's files with the addresses of these servers.
    fn copy(&self, example: &Path, stream: Stream) -> Result<()> {
        std::fs::create_dir_all(self.folder.join("stream"))
            .map_err(|error| Error::stop(format!("cannot create {}: {error}", self.folder.display())))?;
        let [source, target, broker] = ADDRESSES;
        let places = [
            (source, format!("127.0.0.1:{}/source", self.source.port)),
            (target, format!("127.0.0.1:{}/target", self.target.port)),
            (broker, self.kafka.as_ref().map(Kafka::bootstrap).unwrap_or_default()),
        ];
        for (name, from) in [
            ("set.pgshovel", example.join("set.pgshovel")),
            ("relay.yaml", example.join(stream.folder()).join("relay.yaml")),
            ("replicate.yaml", example.join(stream.folder()).join("replicate.yaml")),
        ] {
            let text = std::fs::read_to_string(&from).map_err(|error| Error::stop(format!("cannot read {}: {error}", from.display())))?;
            let text = places.iter().fold(text, |text, (written, actual)| text.replace(written, actual));
            let to = self.folder.join(name);
            std::fs::write(&to, text).map_err(|error| Error::stop(format!("cannot write {}: {error}", to.display())))?;
        }
        Ok(())
    }

    /// Runs `pgshovel` to its end.
    pub async fn administer(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.command(arguments)?;
        finish(&mut command, &format!("pgshovel {}", arguments.join(" "))).await
    }

    /// Runs pgbench's initialization, only `steps` of it.
    pub async fn initialize(&self, server: &Postgres, database: &str, steps: &str, scale: u64) -> Result<()> {
        let mut command = server.client("pgbench", database);
        command.args(["-i", "-q", "-I", steps, "-s", &scale.to_string()]);
        finish(&mut command, "pgbench -i").await
    }

    /// Starts `pgshovel relay` or `pgshovel replicate`.
    pub fn follow(&self, role: &str, configuration: &str) -> Result<Process> {
        let mut command = self.command(&[role, configuration, SET])?;
        self.process(&format!("pgshovel {role}"), role, &mut command, "TERM")
    }

    /// Starts the load.
    pub fn load(&self, clients: u64, seconds: u64) -> Result<Process> {
        let mut command = self.source.client("pgbench", "source");
        command.args(["-n", "-P", "1", "-c", &clients.to_string(), "-T", &seconds.to_string()]);
        self.process("pgbench", "pgbench", &mut command, "TERM")
    }

    fn process(&self, name: &str, log: &str, command: &mut Command, stop_signal: &'static str) -> Result<Process> {
        Process::start(&self.fleet, name, command, &self.folder.join(format!("{log}.log")), stop_signal)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(paths::pgshovel()?);
        command
            .args(arguments)
            .env("PGSHOVEL_ZOOKEEPER_HOSTS", self.zookeeper.hosts())
            .env("PGSHOVEL_PLUGIN_PATH", paths::plugins()?)
            .env("PGSHOVEL_LOG_FORMAT", "json")
            .current_dir(&self.folder);
        Ok(command)
    }
}

type Servers = (Postgres, Postgres, ZooKeeper, Option<Kafka>);

fn start(fleet: &Arc<Fleet>, stream: Stream) -> Result<Servers> {
    std::thread::scope(|scope| {
        let source = scope.spawn(|| Postgres::create(fleet, "source", SETTINGS));
        let target = scope.spawn(|| Postgres::create(fleet, "target", SETTINGS));
        let zookeeper = scope.spawn(|| ZooKeeper::create(fleet, "zookeeper"));
        let kafka = scope.spawn(|| match stream {
            Stream::File => Ok(None),
            Stream::Kafka => Kafka::create(fleet, "kafka").map(Some),
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
async fn finish(command: &mut Command, name: &str) -> Result<()> {
    let mut command = tokio::process::Command::from(std::mem::replace(command, Command::new("false")));
    let output = command.kill_on_drop(true).output().await.map_err(|error| Error::stop(format!("cannot run {name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Err(Error::stop(format!("{name} failed ({}):\n{}", output.status, words.trim_end())))
}
