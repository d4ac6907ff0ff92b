//! Databases and ZooKeeper that are away, or say nothing, in the middle of a change.

use std::time::{Duration, Instant};

use pgshovel::admin::changer::Unobserved;
use pgshovel::admin::recover::Recovered;
use pgshovel::error::Next;
use tests::harness::eventually;
use tests::servers::Postgres;

use super::actors::{Action, killed, parsed, paused, paused_in, perform, recover, tapped, tapped_zookeeper};
use super::consistent::consistent;
use super::tap::{Server, Tap};
use super::*;

/// What a command may take at most that meets a server that says nothing, on a busy
/// machine: 10 s to connect, 20 s for an answer, and to connect again.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

async fn prepared(database: &Database) -> Option<String> {
    database.value("SELECT string_agg(gid, ', ') FROM pg_prepared_xacts WHERE database = current_database()").await
}

/// Ended at every point of a move by each of its two databases.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_in_a_move_leaves_no_lock_in_the_other() {
    let (world, old) = setting().await;
    let new = world.source("admin").await;
    new.execute(TABLES).await;
    let (to_old, to_new) = (Tap::to(old.port(), Server::PostgreSql).await, Tap::to(new.port(), Server::PostgreSql).await);
    let (here, there) = (parsed(&tapped(&old, &to_old), &[("a", &[])]), parsed(&tapped(&new, &to_new), &[("a", &[])]));
    let (hosts, cluster) = (world.zookeeper().await, world.cluster());
    for (tap, other) in [(&to_old, &new), (&to_new, &old)] {
        for (point, moves) in [("intended", false), ("prepared 0", false), ("prepared 1", true), ("decided", true)] {
            perform(&hosts, &cluster, "s", Action::Create(here.clone()), &Unobserved).await.unwrap();
            let (task, go) = paused(&world, Action::Update(there.clone()), point).await;
            tap.cut(true);
            go.notify_one();
            let ended = task.await.unwrap();
            // The part of the old one is over before the new one's begins.
            let moves = moves || point == "prepared 0" && std::ptr::eq(tap, &to_old);
            let error = ended.unwrap_err();
            assert_eq!(error.next, Next::Retry, "{point}: {error}");
            assert!(error.message.contains(&format!("127.0.0.1:{}/", tap.port)), "{point}: {error}");
            assert_eq!(prepared(other).await, None, "{point}: {error}");
            other.execute("INSERT INTO a VALUES (1); DELETE FROM a").await;
            tap.cut(false);
            let report = recover(&world).await;
            let expected = if moves {
                Recovered::Finished { change: "update", set: "s".to_owned() }
            } else {
                Recovered::Undone { change: "update", set: "s".to_owned() }
            };
            assert_eq!(report, [expected], "{point}");
            consistent(&world, &[&old, &new]).await;
            perform(&hosts, &cluster, "s", Action::Drop, &Unobserved).await.unwrap();
        }
    }
}

/// Before a change, and in it: then it is finished when the database is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_named_and_nothing_is_begun() {
    let (world, one) = setting().await;
    let other = world.source("admin").await;
    other.execute(TABLES).await;
    let tap = Tap::to(other.port(), Server::PostgreSql).await;
    create(&world, "one", &configuration(&one.dsn(), &[("a", &[])])).await;
    create(&world, "s", &configuration(&tapped(&other, &tap), &[("a", &[])])).await;
    world.write("moved.pgshovel", &configuration(&one.dsn(), &[("b", &[])]));
    world.write("into.pgshovel", &configuration(&tapped(&other, &tap), &[("b", &[])]));
    let before = traces(&one).await;
    tap.cut(true);
    let commands: [&[&str]; 5] = [
        &["set", "update", "s", "moved.pgshovel"],
        &["set", "update", "s", "into.pgshovel"],
        &["set", "update", "one", "into.pgshovel"],
        &["set", "drop", "s"],
        &["cluster", "upgrade", "--force"],
    ];
    for arguments in commands {
        let error = world.pgshovel(arguments.to_vec()).fails(4).await;
        assert!(error.contains(&format!("127.0.0.1:{}/{}", tap.port, other.name())), "{arguments:?}: {error}");
        assert_eq!(connect(&world).await.in_flight().await.unwrap(), [], "{arguments:?}");
        assert_eq!(traces(&one).await, before, "{arguments:?}");
    }
    tap.cut(false);
    consistent(&world, &[&one, &other]).await;

    let wanted = parsed(&tapped(&other, &tap), &[("b", &[])]);
    let (task, go) = paused(&world, Action::Update(wanted.clone()), "intended").await;
    tap.cut(true);
    go.notify_one();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.next == Next::Retry && error.message.contains("will be finished"), "{error}");
    let report = world.pgshovel(["cluster", "recover", "--format", "json"]).run().await;
    assert_eq!((report.code, report.stdout.trim()), (Some(4), "[]"), "{}", report.stderr);
    assert!(
        report.stderr.contains("not everything could be recovered") && report.stderr.contains(&tap.port.to_string()),
        "{}",
        report.stderr
    );
    tap.cut(false);
    let report: serde_json::Value =
        serde_json::from_str(&world.pgshovel(["cluster", "recover", "--format", "json"]).succeeds().await).unwrap();
    assert_eq!(report, serde_json::json!([{"outcome": "finished", "change": "update", "set": "s"}]));
    let sets = consistent(&world, &[&one, &other]).await;
    assert!(sets.iter().any(|set| set.configuration == wanted), "{sets:?}");

    killed(&world, "s", Action::Drop, "committed").await;
    let report = world.pgshovel(["cluster", "recover"]).succeeds().await;
    let lines: Vec<Vec<&str>> = report.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [vec!["OUTCOME", "CHANGE", "SET"], vec!["finished", "drop", "s"]], "{report}");
    assert_eq!(world.pgshovel(["cluster", "recover"]).succeeds().await.trim(), "nothing was left behind");
    assert_eq!(consistent(&world, &[&one, &other]).await.len(), 1);
}

/// A set's database is gone for good, in the middle of a move and of a drop by force.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_whose_database_is_gone_in_a_move_is_dropped_by_force() {
    let (world, old) = setting().await;
    let new = world.source("gone").await;
    new.execute(TABLES).await;
    create(&world, "s", &configuration(&old.dsn(), &[("a", &[])])).await;
    for point in ["prepared 1", "decided"] {
        let tap = Tap::to(new.port(), Server::PostgreSql).await;
        killed(&world, "s", Action::Update(parsed(&tapped(&new, &tap), &[("a", &[])])), point).await;
        tap.cut(true);
        let error = world.pgshovel(["set", "drop", "s"]).fails(4).await;
        assert!(error.contains("set drop s --force"), "{error}");
        world.pgshovel(["set", "drop", "s", "--force"]).allow("without its database").allow("is left as it is").succeeds().await;
        assert_eq!(consistent(&world, &[&old]).await, [], "{point}");
        // It was not gone after all.
        tap.cut(false);
        if let Some(gid) = prepared(&new).await {
            new.execute(&format!("ROLLBACK PREPARED '{gid}'")).await;
        }
        create(&world, "s", &configuration(&old.dsn(), &[("a", &[])])).await;
    }
    // The drop itself dies, when its database is gone.
    let tap = Tap::to(old.port(), Server::PostgreSql).await;
    world.write("set.pgshovel", &configuration(&tapped(&old, &tap), &[("a", &[])]));
    world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    tap.cut(true);
    killed(&world, "s", Action::Forget, "intended").await;
    assert_eq!(recover(&world).await, [Recovered::Finished { change: "drop", set: "s".to_owned() }]);
    assert_eq!(connect(&world).await.set_names().await.unwrap(), Vec::<String>::new());
}

/// No command is run: the relay of another set does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_ends_what_commands_left_behind() {
    let (world, one) = setting().await;
    let other = world.source("admin").await;
    other.execute(TABLES).await;
    for (set, table) in [("s", "a"), ("t", "b"), ("u", "c")] {
        create(&world, set, &configuration(&one.dsn(), &[(table, &[])])).await;
    }
    killed(&world, "t", Action::Update(parsed(&one.dsn(), &[("b", &["x"])])), "intended").await;
    killed(&world, "u", Action::Update(parsed(&other.dsn(), &[("c", &[])])), "prepared 1").await;
    // The application waits.
    let blocked = one.connect().await;
    let blocked = tokio::spawn(async move { blocked.batch_execute("INSERT INTO c VALUES (1)").await });
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    let mut relay = world.pgshovel(["relay", "relay.yaml", "s"]).start().await;
    relay.logs("recovered: finished the update of \\\"t\\\"").await;
    relay.logs("recovered: undid the update of \\\"u\\\"").await;
    blocked.await.unwrap().unwrap();
    consistent(&world, &[&one, &other]).await;
    // And again, while it works.
    killed(&world, "u", Action::Drop, "intended").await;
    eventually("the drop is finished", ENDS_WITHIN, || async {
        let in_flight = connect(&world).await.in_flight().await.unwrap();
        if in_flight.is_empty() { Ok(()) } else { Err(format!("{in_flight:?}")) }
    })
    .await;
    assert_eq!(consistent(&world, &[&one, &other]).await.len(), 2);
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// Servers that take a connection and say nothing: each is named, and given up in time.
#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_is_not_waited_for_for_ever() {
    let (world, source) = setting().await;
    let tap = Tap::to(source.port(), Server::PostgreSql).await;
    let (hosts, to_zookeeper) = tapped_zookeeper(&world).await;
    // The kernel takes connections for it, and nobody else ever does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let ends = async |arguments: &[String], named: String| {
        let started = Instant::now();
        let error = world.pgshovel(arguments.to_vec()).fails(4).await;
        assert!(error.contains(&named), "{arguments:?}: {error}");
        println!("{arguments:?} ended after {:.1} s", started.elapsed().as_secs_f64());
        assert!(started.elapsed() < ENDS_WITHIN, "{arguments:?}: {:?}", started.elapsed());
    };
    world.write("silent.pgshovel", &configuration(&format!("host=127.0.0.1 port={} dbname=x user=x", silent.port()), &[("a", &[])]));
    world.write(
        "plain.pgshovel",
        &configuration(&format!("host=127.0.0.1 port={} dbname=x user=x sslmode=disable", silent.port()), &[("a", &[])]),
    );
    let fleet = world.fleet();
    let stopped = tokio::task::spawn_blocking(move || Postgres::create(&fleet, "stopped", &[])).await.unwrap().unwrap();
    world.write("stopped.pgshovel", &configuration(&stopped.dsn("postgres"), &[("a", &[])]));
    tests::chaos::signal_all(stopped.pid().unwrap(), "STOP").unwrap();

    let (cluster, zookeeper) = (world.cluster(), world.zookeeper().await);
    let answers_no_more = async {
        let wanted = parsed(&tapped(&source, &tap), &[("a", &[])]);
        let (task, go) = paused(&world, Action::Create(wanted), "intended").await;
        tap.freeze(true);
        go.notify_one();
        (Instant::now(), task.await.unwrap().unwrap_err(), tap.port)
    };
    let keeps_nothing = async {
        let wanted = parsed(&source.dsn(), &[("b", &[])]);
        let (task, go) = paused_in(&hosts, &cluster, "t", Action::Create(wanted), "intended").await;
        to_zookeeper.freeze(true);
        go.notify_one();
        (Instant::now(), task.await.unwrap().unwrap_err(), to_zookeeper.port)
    };
    let creates =
        ["silent", "plain", "stopped"].map(|file| ["set".to_owned(), "create".to_owned(), "u".to_owned(), format!("{file}.pgshovel")]);
    let lists = ["--zookeeper-hosts".to_owned(), silent.to_string(), "set".to_owned(), "list".to_owned()];
    let (.., database, keeper) = tokio::join!(
        ends(&creates[0], silent.to_string()),
        ends(&creates[1], silent.to_string()),
        ends(&creates[2], format!("127.0.0.1:{}", stopped.port)),
        ends(&lists, silent.to_string()),
        answers_no_more,
        keeps_nothing
    );
    for (started, error, port) in [database, keeper] {
        println!("{port} was given up after at most {:.1} s: {error}", started.elapsed().as_secs_f64());
        assert!(started.elapsed() < ENDS_WITHIN && error.next == Next::Retry, "{error}");
        assert!(error.message.contains(&port.to_string()) && error.message.contains("will be finished"), "{error}");
    }
    tap.freeze(false);
    to_zookeeper.freeze(false);
    assert_eq!(recover(&world).await.len(), 2);
    assert_eq!(consistent(&world, &[&source]).await.len(), 2);
    perform(&zookeeper, &cluster, "s", Action::Drop, &Unobserved).await.unwrap();
    tests::chaos::signal_all(stopped.pid().unwrap(), "CONT").unwrap();
}
