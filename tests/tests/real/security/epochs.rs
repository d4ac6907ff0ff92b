//! Finding 1: the relays' epochs never go back, whatever becomes of ZooKeeper and of the
//! set; and where a stream has higher ones all the same, that is said.

use std::time::Duration;

use pgshovel::config;
use pgshovel::ports::Queue as _;
use pgshovel::postgres::queue::Queue;
use tests::harness::{Program, Running, World, eventually};
use tests::servers::ZooKeeper;

use crate::forge;
use crate::queue::{open, set, settings};
use crate::replicate::foreign::source;
use crate::replicate::setup::{App, SET, SOON, configuration};

/// An app with a ZooKeeper of its own, which may be made anew.
struct Fresh {
    app: App,
    zookeeper: ZooKeeper,
}

impl Fresh {
    async fn new() -> Self {
        let world = World::start().await;
        let (fleet, name) = (world.fleet(), format!("zookeeper-{}", world.cluster()));
        let zookeeper = tokio::task::spawn_blocking(move || ZooKeeper::create(&fleet, &name)).await.unwrap().unwrap();
        let world = world.with_zookeeper(&zookeeper);
        let (source, target) = (world.source("source").await, world.target("target").await);
        let (from, to) = (source.dsn(), target.uri());
        Self { app: App::of(world, source, target, &from, &to).await, zookeeper }
    }

    /// With a stream in a topic.
    async fn over_kafka() -> Self {
        let fresh = Self::new().await;
        let world = &fresh.app.world;
        let stream = format!(
            "stream: {{ path: kafka.wasm, configuration: {{ topic: {} }}, grants: {{ kafka: \"{}\" }} }}\n",
            world.topic("app").await,
            world.kafka().await
        );
        world.write("relay.yaml", &stream);
        let whole = configuration(&fresh.app.target.uri(), "");
        world.write("replicate.yaml", &format!("{stream}loader:{}", whole.split_once("loader:").unwrap().1));
        fresh
    }

    /// ZooKeeper's epochs grow by every change: those of a new one are lower.
    async fn age(&self) {
        let client = zookeeper_client::Client::connect(&self.zookeeper.hosts()).await.unwrap();
        for _ in 0..200 {
            client.set_data("/", b"", None).await.unwrap();
        }
    }

    /// Replicates the rows 1 to 3, until the worker knows where the stream is.
    async fn replicate(&self, worker: &mut Running) {
        for id in 1..=3 {
            self.insert(id, id).await;
            self.app.equal().await;
        }
        worker.logs("\"phase\":\"streaming\"").await;
    }

    async fn insert(&self, first: u32, last: u32) {
        self.app.source.execute(&format!("INSERT INTO accounts (id) SELECT generate_series({first}, {last})")).await;
    }

    async fn lint(&self) -> String {
        self.app.world.pgshovel(["stream", "lint", "relay.yaml", SET, "--wait", "1"]).succeeds().await
    }
}

/// The epoch of ZooKeeper, and the one that the relay publishes under.
async fn epochs(relay: &mut Running) -> (u64, u64) {
    let epoch = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap()["epoch"].as_u64().unwrap();
    (epoch(relay.logs("\"leading\"").await), epoch(relay.logs("\"publishing\"").await))
}

/// Before, the second relay's epoch was ZooKeeper's, so a lower one: 99 of 100 rows were
/// passed over, and gone from the queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_zookeeper_that_is_made_anew_between_two_relays_loses_nothing() {
    let mut fresh = Fresh::new().await;
    fresh.age().await;
    let (mut relay, mut worker) = (fresh.app.relay().await, fresh.app.worker(&[]).start().await);
    fresh.replicate(&mut worker).await;
    let before = epochs(&mut relay).await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    fresh.zookeeper.refill().await.unwrap();
    // None of them says a word of it.
    let (mut relay, worker) = (fresh.app.relay().await, fresh.app.worker(&[]).start().await);
    fresh.insert(4, 100).await;
    fresh.app.equal().await;
    let after = epochs(&mut relay).await;
    assert!(after.0 < before.0 && after.1 > before.1, "{before:?} {after:?}");
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    assert!(fresh.lint().await.contains(" 0 of publishers that were superseded"));
}

/// The same while relay and worker run, which see that ZooKeeper was away, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_zookeeper_that_is_made_anew_under_relay_and_worker_loses_nothing() {
    let mut fresh = Fresh::new().await;
    fresh.age().await;
    let allowed = |mut program: Program| {
        for text in ["waiting to try again", "leadership is lost", "no longer leads", "zookeeper_client"] {
            program = program.allow(text);
        }
        program
    };
    let mut relay = allowed(fresh.app.world.pgshovel(["relay", "relay.yaml", SET])).start().await;
    let mut worker = allowed(fresh.app.worker(&[])).start().await;
    fresh.replicate(&mut worker).await;
    let (before, _) = epochs(&mut relay).await;
    fresh.app.world.pgshovel(["set", "update", SET, "set.pgshovel"]).succeeds().await;
    fresh.zookeeper.refill().await.unwrap();
    fresh.insert(4, 100).await;
    let leads_again = |running: &Running| {
        let line = running.log().lines().filter(|line| line.contains("\"leading\"")).nth(1).map(str::to_owned);
        async move { line.ok_or_else(|| "it does not".to_owned()) }
    };
    let line = eventually("the relay leads again", SOON, || leads_again(&relay)).await;
    let after = serde_json::from_str::<serde_json::Value>(&line).unwrap()["epoch"].as_u64().unwrap();
    assert!(after < before, "{before} {after}");
    eventually("the worker leads again", SOON, || leads_again(&worker)).await;
    fresh.insert(101, 200).await;
    fresh.app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    fresh.lint().await;
    // The administrator goes on too: before, the database had a later change than ZooKeeper.
    fresh.app.world.pgshovel(["set", "update", SET, "set.pgshovel"]).succeeds().await;
}

/// The set is dropped, and created again over the stream that it had, when ZooKeeper's
/// epochs are lower. Another set keeps the database the node that it was. Before, the
/// rows of the bootstrap came, and none behind them.
async fn created_again(mut fresh: Fresh) {
    let world = &fresh.app.world;
    fresh.app.source.execute("CREATE TABLE other (id int PRIMARY KEY)").await;
    world.write(
        "other.pgshovel",
        &format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"other\" primary_keys: \"id\" }}\n", fresh.app.source.dsn()),
    );
    world.pgshovel(["set", "create", "other", "other.pgshovel"]).succeeds().await;
    fresh.age().await;
    let (mut relay, mut worker) = (fresh.app.relay().await, fresh.app.worker(&[]).start().await);
    fresh.replicate(&mut worker).await;
    let before = epochs(&mut relay).await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    fresh.app.world.pgshovel(["set", "drop", SET]).succeeds().await;
    fresh.zookeeper.refill().await.unwrap();
    fresh.app.world.pgshovel(["set", "create", SET, "set.pgshovel"]).succeeds().await;
    let mut relay = fresh.app.relay().await;
    let after = epochs(&mut relay).await;
    assert!(after.0 < before.0 && after.1 > before.1, "{before:?} {after:?}");
    // A worker that was not told learns that it is another history.
    fresh.insert(4, 50).await;
    let refused = fresh.app.worker(&[]).fails(1).await;
    assert!(refused.contains("is of another history") && refused.contains("bootstrap again"), "{refused}");
    let worker = fresh.app.worker(&["--bootstrap"]).start().await;
    fresh.app.equal().await;
    fresh.insert(51, 100).await;
    fresh.app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_created_again_over_its_old_folder_loses_nothing() {
    created_again(Fresh::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_created_again_over_its_old_topic_loses_nothing() {
    created_again(Fresh::over_kafka().await).await;
}

/// Somebody wrote one message of a far higher epoch into the stream. Before, the worker
/// passed over all that the relay wrote from then on, with one warning, and was ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_higher_epoch_in_the_stream_is_said_until_somebody_decides() {
    let app = App::new().await;
    let (relay, mut worker) = (app.relay().await, app.worker(&[]).start().await);
    for id in 1..=3 {
        app.source.execute(&format!("INSERT INTO accounts (id) VALUES ({id})")).await;
        app.equal().await;
    }
    worker.logs("\"phase\":\"streaming\"").await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    let section = config::relay(&app.world.folder().join("relay.yaml")).unwrap().stream;
    let forged = forge::of_epoch(&source(&app).await, u64::MAX);
    forge::write(&section, &app.world.cluster(), SET, forged).await;

    let mut relay = app.relay().await;
    let (_, epoch) = epochs(&mut relay).await;
    let blocked = async || {
        let mut worker = app.worker(&["--listen", "127.0.0.1:0"]).allow("that was superseded").allow("went back").start().await;
        // Two batches, which make it certain.
        for _ in 0..2 {
            app.source.execute("INSERT INTO accounts (id) SELECT max(id) + 1 FROM accounts").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let said = worker.logs("the stream's epochs went back").await;
        assert!(said.contains("\"ERROR\"") && said.contains(&format!("--allow-epoch {epoch}")) && said.contains("at position "), "{said}");
        worker.answers(503, &["\"state\":\"waiting\"", "the stream's epochs went back"]).await;
        let metrics = worker.get("/metrics").await.1;
        let fenced = metrics.lines().find_map(|line| line.strip_prefix("pgshovel_fenced_messages_total{")).unwrap();
        assert!(fenced.rsplit(' ').next().unwrap().parse::<u64>().unwrap() > 0, "{fenced}");
        assert!(worker.runs());
        assert_eq!(worker.terminate().await.code, Some(0));
    };
    blocked().await;
    let linted = app.world.pgshovel(["stream", "lint", "relay.yaml", SET, "--wait", "1"]).fails(1).await;
    assert!(linted.contains("went back") && linted.contains(&format!("--allow-epoch {epoch}")), "{linted}");
    let lint = ["stream", "lint", "relay.yaml", SET, "--wait", "1", "--allow-epoch", &epoch.to_string()];
    app.world.pgshovel(lint).succeeds().await;
    // Nothing is missing.
    assert_eq!(app.target.count("accounts").await, 3);
    let worker = app.worker(&["--allow-epoch", &epoch.to_string()]).start().await;
    app.equal().await;
    app.source.execute("INSERT INTO accounts (id) SELECT max(id) + 1 FROM accounts").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    // It is once.
    let worker = app.worker(&[]).start().await;
    app.source.execute("INSERT INTO accounts (id) SELECT max(id) + 1 FROM accounts").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));

    // A new bootstrap helps too, whatever the stream holds.
    assert_eq!(relay.terminate().await.code, Some(0));
    forge::write(&section, &app.world.cluster(), SET, forge::of_epoch(&source(&app).await, u64::MAX)).await;
    let mut relay = app.relay().await;
    let (_, epoch_of_second) = epochs(&mut relay).await;
    assert!(epoch_of_second > epoch);
    let worker = app.worker(&["--bootstrap"]).start().await;
    app.equal().await;
    for _ in 0..3 {
        app.source.execute("INSERT INTO accounts (id) SELECT max(id) + 1 FROM accounts").await;
        app.equal().await;
    }
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// What the database says of epochs before may be gone, or be of a backup, or of a replica
/// that was behind; clocks may be wrong.
#[tokio::test]
async fn an_epoch_is_above_those_before_whatever_the_database_has_of_them() {
    let world = World::start().await;
    let database = set(&world).await;
    let mut last = open(settings(&database)).await.unwrap().epoch();
    for change in [
        "SELECT",
        "UPDATE pgshovel_c.relays SET epoch = 5",
        "DELETE FROM pgshovel_c.relays",
        // The clock was a year ahead.
        "UPDATE pgshovel_c.relays SET epoch = epoch + 31536000000000",
        "SELECT",
    ] {
        database.execute(change).await;
        let ahead: u64 = database.value("SELECT max(epoch) FROM pgshovel_c.relays").await.map_or(0, |epoch| epoch.parse().unwrap());
        let epoch = open(settings(&database)).await.unwrap().epoch();
        assert!(epoch > last && epoch > ahead, "{change}: {last} {ahead} {epoch}");
        last = epoch;
    }
    let epoch = Queue::open(settings(&database), last + 1000, std::future::ready(true)).await.unwrap().epoch();
    assert_eq!(epoch, last + 1000);
}

/// A database that was made ready by a version before, which kept no epochs there.
#[tokio::test]
async fn a_database_without_epochs_is_brought_there_by_an_update_of_the_set() {
    let app = App::new().await;
    let relays = format!("pgshovel_{}.relays", app.world.cluster());
    for remedy in [&["set", "update", SET, "set.pgshovel"][..], &["cluster", "upgrade", "--force"]] {
        app.source.execute(&format!("DROP TABLE {relays}")).await;
        let refused = app.world.pgshovel(["relay", "relay.yaml", SET]).fails(3).await;
        assert!(refused.contains("\".relays, where the relays' epochs are, is missing: run `set update`"), "{refused}");
        app.world.pgshovel(remedy.to_vec()).succeeds().await;
        assert_eq!(app.source.count(&relays).await, 0);
        let mut relay = app.relay().await;
        relay.logs("\"publishing\"").await;
        assert_eq!(relay.terminate().await.code, Some(0));
    }
}
