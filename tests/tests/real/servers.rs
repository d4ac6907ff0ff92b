//! The servers and the harness themselves.

use std::ffi::OsStr;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::compare::compare;
use tests::harness::{World, eventually};
use tests::paths;
use tests::servers::Postgres;

#[tokio::test]
async fn databases_are_fresh_and_the_source_has_pgq() {
    let world = World::start().await;
    let (source, target) = (world.source("app").await, world.target("app").await);
    assert!(source.value("SELECT pgq.version()").await.is_some_and(|version| version.starts_with('3')));
    assert_eq!(source.value("SHOW max_prepared_transactions").await.as_deref(), Some("50"));
    assert_eq!(target.value("SHOW max_prepared_transactions").await.as_deref(), Some("0"));
    assert_ne!(world.source("app").await.name(), source.name());
}

#[tokio::test]
async fn every_test_has_a_chroot_of_its_own() {
    let (one, other) = (World::start().await, World::start().await);
    let (one, other) = (one.zookeeper().await, other.zookeeper().await);
    assert_ne!(one, other);
    let client = zookeeper_client::Client::connect(&one).await.unwrap();
    assert!(client.list_children("/").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_comparison_finds_any_difference() {
    let world = World::start().await;
    let (source, target) = (world.source("one").await, world.target("other").await);
    source.execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a'), (2, NULL), (2, NULL), (3, '')").await;
    // Other order of columns and rows.
    target.execute("CREATE TABLE t (v text, id int); INSERT INTO t VALUES ('', 3), (NULL, 2), ('a', 1), (NULL, 2)").await;
    target.equals(&source, "public.t").await;
    for (change, expected) in [
        ("DELETE FROM t WHERE id = 1", "only the source has (1,a)"),
        ("UPDATE t SET v = NULL WHERE id = 3", "only the source has (3,\"\")"),
        ("INSERT INTO t VALUES ('b', 2)", "only the target has (2,b)"),
        ("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 2)", "only the source has (2,)"),
    ] {
        target.execute(&format!("CREATE TABLE copy AS TABLE t; {change}")).await;
        let found = compare(&source.dsn(), &target.dsn(), "public.t", None).await.unwrap();
        assert_eq!(found.difference.as_deref(), Some(expected), "{change}");
        target.execute("TRUNCATE t; INSERT INTO t TABLE copy; DROP TABLE copy").await;
    }
    let found = compare(&source.dsn(), &target.dsn(), "public.t", Some(&["id"])).await.unwrap();
    assert_eq!((found.equal(), found.source_rows, found.target_rows), (true, 4, 4));
}

#[tokio::test]
async fn kafka_holds_what_was_sent() {
    use rdkafka::consumer::{Consumer, StreamConsumer};
    use rdkafka::producer::{FutureProducer, FutureRecord};
    use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

    let world = World::without_servers();
    let (broker, topic) = (world.kafka().await, world.topic("events").await);
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &broker).set("acks", "all").create().unwrap();
    producer.send(FutureRecord::<(), _>::to(&topic).payload("hello"), Duration::from_secs(30)).await.unwrap();
    let consumer: StreamConsumer = ClientConfig::new().set("bootstrap.servers", &broker).set("group.id", "test").create().unwrap();
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&place).unwrap();
    let message = tokio::time::timeout(Duration::from_secs(60), consumer.recv()).await.unwrap().unwrap();
    assert_eq!(message.payload(), Some(b"hello".as_slice()));
}

#[tokio::test]
async fn a_run_of_the_program_has_an_exit_code_and_output() {
    let world = World::without_servers();
    let version = world.pgshovel(["--version"]).succeeds().await;
    assert!(version.starts_with("pgshovel "), "{version}");
    let usage = world.pgshovel(["no-such-command"]).fails(2).await;
    assert!(usage.contains("no-such-command"), "{usage}");
}

#[tokio::test]
async fn a_server_keeps_its_rows_over_a_crash() {
    let world = World::without_servers();
    let fleet = world.fleet();
    let port = tokio::task::spawn_blocking(move || {
        let mut server = Postgres::create(&fleet, "restarted", &[]).unwrap();
        let psql = |server: &Postgres, sql: &str| {
            let output = server.client("psql", "postgres").args(["-XAtc", sql]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        psql(&server, "CREATE TABLE t AS SELECT 7 AS n");
        server.stop().unwrap();
        server.start().unwrap();
        assert_eq!(psql(&server, "SELECT n FROM t"), "7\n");
        server.port
    })
    .await
    .unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "a dropped server is stopped");
}

/// A program with servers of its own: the demo, at a moment when they run.
struct Victim {
    child: Child,
    servers: PathBuf,
    port: u16,
}

impl Victim {
    async fn start(world: &World) -> Self {
        let servers = world.folder().join("servers");
        std::fs::create_dir(&servers).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_demo"))
            .args([paths::repository().join("examples/pgbench").as_os_str(), OsStr::new("file")])
            .env("PGSHOVEL_SERVERS_DIR", &servers)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let port =
            eventually("a server of the demo", Duration::from_secs(120), || async { port_below(&servers).ok_or_else(String::new) }).await;
        Self { child, servers, port }
    }

    /// What there still is of the servers.
    fn left(&self) -> Result<(), String> {
        let listens = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        let folders = std::fs::read_dir(&self.servers).unwrap().count();
        if listens || folders > 0 { Err(format!("listens: {listens}, folders: {folders}")) } else { Ok(()) }
    }
}

/// The port of a PostgreSQL server that takes connections and has its data below `folder`.
fn port_below(folder: &Path) -> Option<u16> {
    let fleet = std::fs::read_dir(folder).ok()?.next()?.ok()?.path();
    let status = std::fs::read_to_string(fleet.join("source/data/postmaster.pid")).ok()?;
    let port = status.lines().nth(3)?.parse().ok()?;
    TcpStream::connect(("127.0.0.1", port)).ok().map(|_| port)
}

#[tokio::test]
async fn nothing_is_left_when_the_program_is_killed() {
    let world = World::without_servers();
    let mut victim = Victim::start(&world).await;
    victim.child.kill().unwrap();
    victim.child.wait().unwrap();
    eventually("the end of the servers and of their folder", Duration::from_secs(60), || async { victim.left() }).await;
}

#[tokio::test]
async fn nothing_is_left_when_the_program_is_interrupted() {
    let world = World::without_servers();
    let mut victim = Victim::start(&world).await;
    let status = Command::new("sh").args(["-c", &format!("kill -s INT {}", victim.child.id())]).status().unwrap();
    assert!(status.success());
    let (status, victim) = tokio::task::spawn_blocking(move || (victim.child.wait().unwrap(), victim)).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(victim.left(), Ok(()), "all is gone before it returns");
}
