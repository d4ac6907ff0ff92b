//! A primary is lost, and its physical replica promoted in its place.

use proto::interfaces::replication::State;
use tests::harness::{Database, Running, World, eventually};
use tests::servers::Postgres;
use tests::servers::postgres::client;

use super::faults::write_on;
use super::setup::{App, SET, SOON};
use super::writers::Writers;

const SETTINGS: &[&str] = &["fsync = off", "max_connections = 100", "max_prepared_transactions = 10"];

/// A primary with a replica that follows it.
struct Pair {
    primary: Postgres,
    replica: Postgres,
}

impl Pair {
    async fn start(world: &World) -> Self {
        let (fleet, name) = (world.fleet(), world.cluster());
        let start = move || {
            let primary = Postgres::create(&fleet, &format!("primary-{name}"), SETTINGS)?;
            let replica = Postgres::replicate(&primary, &format!("replica-{name}"))?;
            Ok::<_, pgshovel::error::Error>(Self { primary, replica })
        };
        tokio::task::spawn_blocking(start).await.unwrap().unwrap()
    }

    /// Both, the primary first, as libpq takes several.
    fn dsn(&self, of: &Database) -> String {
        format!("host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname={}", self.primary.port, self.replica.port, of.name())
    }

    /// A database of the primary, as its replica has it.
    async fn copy(&self, of: &Database) -> Database {
        eventually("the database in the replica", SOON, || async {
            let there = client("psql", self.replica.port, of.name()).args(["-c", ""]).output().unwrap();
            if there.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&there.stderr).into_owned()) }
        })
        .await;
        of.in_replica(self.replica.port).await
    }
}

/// Sets a parameter of the server; `''` is a value.
async fn set(database: &Database, parameter: &str, value: &str) {
    database.execute(&format!("ALTER SYSTEM SET {parameter} = {value}")).await;
    database.execute("SELECT pg_reload_conf()").await;
}

/// From now on the replica gets nothing.
async fn detach(copy: &Database) {
    set(copy, "primary_conninfo", "''").await;
    eventually("the replica is detached", SOON, || async {
        match copy.count("pg_stat_wal_receiver").await {
            0 => Ok(()),
            _ => Err("it still receives".to_owned()),
        }
    })
    .await;
}

/// Waits until the replica has all that the primary wrote so far.
async fn level(primary: &Database, copy: &Database) {
    let written = primary.value("SELECT pg_current_wal_lsn()").await.unwrap();
    eventually("the replica is level with its primary", SOON, || async {
        let level = copy.value(&format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")).await;
        if level.as_deref() == Some("t") { Ok(()) } else { Err(format!("{level:?}")) }
    })
    .await;
}

async fn promote(copy: &Database) {
    assert_eq!(copy.value("SELECT pg_promote()").await.as_deref(), Some("t"));
}

/// Waits until it waits for a server that takes no writes.
async fn is_refused(running: &mut Running) {
    eventually("it waits for the promotion", SOON, || {
        assert!(running.runs(), "{}", running.log());
        let waits =
            running.log().lines().any(|line| line.contains("waiting to try again") && line.contains("a replica that is not promoted"));
        async move { if waits { Ok(()) } else { Err("it does not".to_owned()) } }
    })
    .await;
}

#[tokio::test]
async fn a_replica_of_the_source_that_lost_nothing_is_gone_on_with_unattended() {
    let world = World::start().await;
    let mut pair = Pair::start(&world).await;
    let (source, target) = (world.source_of(&pair.primary, "source").await, world.target("target").await);
    let (from, to) = (pair.dsn(&source), target.uri());
    let mut app = App::of(world, source, target, &from, &to).await;
    // What is told to have been committed is in the replica too.
    set(&app.source, "synchronous_standby_names", "'*'").await;
    app.fill(1000).await;
    let mut relay = app.relay().await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    let writers = Writers::start(&app.source, 2).await;
    write_on(&writers, 200).await;
    let copy = pair.copy(&app.source).await;

    relay.allow("waiting to try again");
    relay.allow("the queue's ticker is interrupted");
    pair.primary.stop().unwrap();
    writers.stop().await;
    // The replica takes connections, but no writes yet.
    is_refused(&mut relay).await;
    promote(&copy).await;
    set(&copy, "synchronous_standby_names", "''").await;
    app.source = copy;
    let writers = Writers::start(&app.source, 2).await;
    write_on(&writers, 200).await;
    writers.stop().await;
    app.equal().await;
    assert_eq!(worker.log().matches("\"message\":\"phase\",\"set\":\"app\",\"phase\":\"bootstrap\"").count(), 1, "{}", worker.log());
    let state: Vec<u8> = app.target.query("SELECT state FROM pgshovel.state", &[]).await[0].get(0);
    let known = proto::stored::decode::<State>(&state).unwrap().source.unwrap();
    assert_eq!(known.timeline, 2, "the relay goes on in a session from before the promotion");
    app.world.pgshovel(["set", "check", SET]).succeeds().await;
    let linted = app.world.pgshovel(["stream", "lint", "relay.yaml", SET, "--wait", "1"]).succeeds().await;
    assert!(linted.contains("sound"), "{linted}");
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// The epoch that the relay publishes under by now.
fn epoch(relay: &Running) -> u64 {
    let line = relay.log().lines().rfind(|line| line.contains("\"publishing\"")).unwrap().to_owned();
    serde_json::from_str::<serde_json::Value>(&line).unwrap()["epoch"].as_u64().unwrap()
}

/// The ticks that it lost are made anew, with the same numbers: the first batch from it
/// ends with the one committed last, or well before it.
#[tokio::test]
async fn a_replica_of_the_source_that_was_behind_stops_the_worker() {
    for lost in [1, 40] {
        let world = World::start().await;
        let mut pair = Pair::start(&world).await;
        let (source, target) = (world.source_of(&pair.primary, "source").await, world.target("target").await);
        let (from, to) = (pair.dsn(&source), target.uri());
        let mut app = App::of(world, source, target, &from, &to).await;
        let relay = app.relay().await;
        let mut worker = app.worker(&[]).start().await;
        worker.logs("\"phase\":\"catching-up\"").await;
        app.source.execute("INSERT INTO accounts (id) VALUES (0)").await;
        app.equal().await;
        let copy = pair.copy(&app.source).await;
        level(&app.source, &copy).await;

        detach(&copy).await;
        // The replica does not know of this relay's epoch.
        assert_eq!(relay.terminate().await.code, Some(0));
        let mut relay = app.relay().await;
        relay.allow("waiting to try again");
        relay.allow("the queue's ticker is interrupted");
        for id in 1..=lost {
            app.source.execute(&format!("INSERT INTO accounts (id) VALUES ({id})")).await;
            app.equal().await;
        }
        let before = epoch(&relay);
        if lost == 1 {
            assert_eq!(relay.terminate().await.code, Some(0));
            pair.primary.stop().unwrap();
            promote(&copy).await;
            relay = app.relay().await;
        } else {
            pair.primary.stop().unwrap();
            promote(&copy).await;
        }
        app.source = copy;
        app.source.execute("INSERT INTO accounts (id) VALUES (-1)").await;
        let ended = worker.wait().await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let said = ended.stderr.lines().find(|line| line.starts_with("pgshovel: ")).unwrap();
        assert!(said.contains("of another history") && said.contains("a replica that was behind; bootstrap again"), "{said}");
        // Nothing of the other history was applied.
        assert_eq!(app.target.value("SELECT min(id) || ' ' || count(*) FROM accounts").await, Some(format!("0 {}", lost + 1)));

        let worker = app.worker(&["--bootstrap"]).start().await;
        app.equal().await;
        app.source.execute("INSERT INTO accounts (id) VALUES (-2)").await;
        app.equal().await;
        assert!(epoch(&relay) > before, "{before} {}", epoch(&relay));
        assert_eq!(worker.terminate().await.code, Some(0));
        assert_eq!(relay.terminate().await.code, Some(0));
    }
}

/// Rows and state are behind together: the stream brings what they lack.
#[tokio::test]
async fn a_replica_of_the_target_is_gone_on_with_from_the_state_that_it_has() {
    let world = World::start().await;
    let mut pair = Pair::start(&world).await;
    let (source, target) = (world.source("source").await, world.target_of(&pair.primary, "target").await);
    let (from, to) = (source.dsn(), pair.dsn(&target));
    let mut app = App::of(world, source, target, &from, &to).await;
    app.fill(1000).await;
    let relay = app.relay().await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    let writers = Writers::start(&app.source, 2).await;
    write_on(&writers, 100).await;
    let copy = pair.copy(&app.target).await;
    level(&app.target, &copy).await;

    detach(&copy).await;
    write_on(&writers, 200).await;
    worker.allow("waiting to try again");
    pair.primary.stop().unwrap();
    is_refused(&mut worker).await;
    promote(&copy).await;
    app.target = copy;
    write_on(&writers, 100).await;
    writers.stop().await;
    app.equal().await;
    assert_eq!(worker.log().matches("\"message\":\"phase\",\"set\":\"app\",\"phase\":\"bootstrap\"").count(), 1, "{}", worker.log());
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
