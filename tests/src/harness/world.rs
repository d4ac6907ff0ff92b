//! The servers of the run, and each test's own part of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use pgshovel::error::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::database::Database;
use super::program::Program;
use crate::paths;
use crate::servers::{Fleet, Kafka, Postgres, ZooKeeper};

/// Tests do not survive the loss of power; PREPARE TRANSACTION must work in the source.
const SOURCE: &[&str] = &["fsync = off", "max_connections = 200", "max_prepared_transactions = 50"];
const TARGET: &[&str] = &["fsync = off", "max_connections = 200"];

/// Never dropped: the fleet's janitor ends the servers when the test run's
/// process ends. A failure is kept, so that one test after the other need not
/// wait for it again.
struct Servers {
    fleet: Arc<Fleet>,
    source: OnceLock<Result<Postgres>>,
    target: OnceLock<Result<Postgres>>,
    zookeeper: OnceLock<Result<ZooKeeper>>,
    kafka: OnceLock<Result<Kafka>>,
}

static SERVERS: OnceLock<Result<Servers>> = OnceLock::new();
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// One test's own: databases, ZooKeeper chroot, cluster name, topics, folder.
#[derive(Debug)]
pub struct World {
    number: u32,
    counter: AtomicU32,
    folder: PathBuf,
    /// Of a server of the test's own.
    zookeeper: Option<String>,
    credentials: OnceLock<String>,
}

impl World {
    /// Nothing is started before it is first asked for, but the servers that
    /// nearly all tests use start here, side by side.
    pub async fn start() -> Self {
        let world = Self::without_servers();
        blocking(|| {
            std::thread::scope(|scope| {
                scope.spawn(source);
                scope.spawn(target);
                scope.spawn(zookeeper);
            });
        })
        .await;
        world
    }

    /// For a test that needs a folder and processes, and at most some of the servers.
    #[must_use]
    pub fn without_servers() -> Self {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let folder = servers().fleet.folder().join(format!("test-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        Self { number, counter: AtomicU32::new(0), folder, zookeeper: None, credentials: OnceLock::new() }
    }

    /// What runs here uses this ZooKeeper, the test's own.
    #[must_use]
    pub fn with_zookeeper(mut self, server: &ZooKeeper) -> Self {
        self.zookeeper = Some(server.hosts());
        self
    }

    /// A fresh database on the source cluster, which allows prepared
    /// transactions. It has the extension `pgq`.
    pub async fn source(&self, name: &str) -> Database {
        self.source_in(name, "").await
    }

    /// The same, of another encoding: `ENCODING 'LATIN1'`.
    pub async fn source_in(&self, name: &str, encoding: &str) -> Database {
        self.with_pgq(blocking(source).await.port, name, encoding).await
    }

    /// The same on a server of the test's own.
    pub async fn source_of(&self, server: &Postgres, name: &str) -> Database {
        self.with_pgq(server.port, name, "").await
    }

    async fn with_pgq(&self, port: u16, name: &str, encoding: &str) -> Database {
        let database = self.database(port, name, encoding).await;
        // It creates roles, which are of the whole cluster: two at once collide.
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = ONE_AT_A_TIME.lock().await;
        database.execute("CREATE EXTENSION pgq").await;
        database
    }

    /// A fresh, empty database on the target cluster, which does not allow
    /// prepared transactions and has no `pgq`.
    pub async fn target(&self, name: &str) -> Database {
        let port = blocking(target).await.port;
        self.database(port, name, "").await
    }

    /// The same on a server of the test's own.
    pub async fn target_of(&self, server: &Postgres, name: &str) -> Database {
        self.database(server.port, name, "").await
    }

    /// ZooKeeper's address with this test's chroot, which exists.
    pub async fn zookeeper(&self) -> String {
        let hosts = blocking(zookeeper).await.hosts();
        let chroot = self.chroot();
        let client = zookeeper_client::Client::connect(&hosts).await.unwrap();
        let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
        match client.create(&chroot, b"", &options).await {
            Ok(_) | Err(zookeeper_client::Error::NodeExists) => format!("{hosts}{chroot}"),
            Err(error) => panic!("cannot create {chroot} in ZooKeeper at {hosts}: {error}"),
        }
    }

    /// The broker's address.
    pub async fn kafka(&self) -> String {
        blocking(kafka).await.bootstrap()
    }

    /// A fresh topic with one partition.
    pub async fn topic(&self, name: &str) -> String {
        let topic = format!("{name}-{}-{}", self.number, self.counter.fetch_add(1, Ordering::Relaxed));
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", self.kafka().await).create().unwrap();
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        for result in admin.create_topics([&new], &AdminOptions::new()).await.unwrap() {
            result.unwrap_or_else(|(topic, code)| panic!("cannot create the topic {topic}: {code}"));
        }
        topic
    }

    /// The test's folder: the current directory of what it runs. Removed at the
    /// end of the run, unless a test failed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file into the test's folder, and makes the folders that it grants to write in.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        let parent = path.parent().unwrap();
        std::fs::create_dir_all(parent).unwrap();
        for granted in text.split("files: { path: ").skip(1) {
            if let Some((granted, mode)) = granted.split_once(", mode: ")
                && mode.starts_with("read-write")
            {
                std::fs::create_dir_all(parent.join(granted)).unwrap();
            }
        }
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `pgshovel` with these arguments, in the test's folder; cluster, ZooKeeper,
    /// plugin path and the JSON log are set by its environment.
    pub fn pgshovel<S: Into<String>>(&self, arguments: impl IntoIterator<Item = S>) -> Program {
        let arguments: Vec<String> = arguments.into_iter().map(Into::into).collect();
        let words = arguments.iter().take(2).filter(|word| !word.contains(['/', '.', '-'])).cloned().collect::<Vec<_>>().join("-");
        let name = format!("{words}-{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let hosts = match (&self.zookeeper, servers().zookeeper.get()) {
            (Some(hosts), _) => hosts.clone(),
            (None, Some(Ok(server))) => format!("{}{}", server.hosts(), self.chroot()),
            // None was started: nobody listens there.
            _ => format!("127.0.0.1:1{}", self.chroot()),
        };
        Program::new(&servers().fleet, &self.folder, name, arguments)
            .env("PGSHOVEL_ZOOKEEPER_AUTH", self.credentials.get().map_or("", String::as_str))
            .env("PGSHOVEL_CLUSTER", self.cluster())
            .env("PGSHOVEL_ZOOKEEPER_HOSTS", hosts)
            .env("PGSHOVEL_PLUGIN_PATH", paths::plugins().unwrap())
            .env("PGSHOVEL_LOG_FORMAT", "json")
            // The server that all tests share knows no users; `security::zookeeper` is of those that do.
            .allow("is open to whoever reaches it")
    }

    /// What runs from now on is somebody to ZooKeeper: `digest:USER:PASSWORD`.
    pub fn known_as(&self, credentials: &str) {
        self.credentials.get_or_init(|| credentials.to_owned());
    }

    #[must_use]
    pub fn cluster(&self) -> String {
        format!("c{}", self.number)
    }

    /// For servers of a test's own, which it may stop and start.
    #[must_use]
    pub fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&servers().fleet)
    }

    fn chroot(&self) -> String {
        format!("/test-{}", self.number)
    }

    async fn database(&self, port: u16, name: &str, encoding: &str) -> Database {
        let name = format!("{name}_{}_{}", self.number, self.counter.fetch_add(1, Ordering::Relaxed));
        let client = pgshovel::postgres::connect::connect(&format!("host=127.0.0.1 port={port} user=postgres dbname=postgres"), "test")
            .await
            .unwrap();
        let options = if encoding.is_empty() { String::new() } else { format!("TEMPLATE template0 LOCALE 'C' {encoding}") };
        client.batch_execute(&format!("CREATE DATABASE \"{name}\" {options}")).await.unwrap();
        Database::open(name, port).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = servers().fleet.keep();
            eprintln!("kept ({}): {}", if kept.is_ok() { "yes" } else { "no" }, self.folder.display());
        }
    }
}

fn servers() -> &'static Servers {
    let start = || {
        let fleet = Arc::new(Fleet::new()?);
        Ok(Servers { fleet, source: OnceLock::new(), target: OnceLock::new(), zookeeper: OnceLock::new(), kafka: OnceLock::new() })
    };
    SERVERS.get_or_init(start).as_ref().unwrap_or_else(|error: &Error| panic!("{error}"))
}

fn source() -> &'static Postgres {
    once(&servers().source, || Postgres::create(&servers().fleet, "source", SOURCE))
}

fn target() -> &'static Postgres {
    once(&servers().target, || Postgres::create(&servers().fleet, "target", TARGET))
}

fn zookeeper() -> &'static ZooKeeper {
    once(&servers().zookeeper, || ZooKeeper::create(&servers().fleet, "zookeeper"))
}

fn kafka() -> &'static Kafka {
    once(&servers().kafka, || Kafka::create(&servers().fleet, "kafka"))
}

fn once<T>(cell: &'static OnceLock<Result<T>>, start: impl FnOnce() -> Result<T>) -> &'static T {
    cell.get_or_init(start).as_ref().unwrap_or_else(|error| panic!("{error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
