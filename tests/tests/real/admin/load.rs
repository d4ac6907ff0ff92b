//! Changes of a set while everything works: its tables are written all the time, by
//! short and by long transactions, and a relay and a worker follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tests::harness::{Program, Running, eventually};

use super::consistent::consistent;
use super::*;

const SOON: Duration = Duration::from_secs(120);

const LOG: &str = "CREATE TABLE log (id int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())";

struct Following {
    world: World,
    old: Database,
    new: Database,
    target: Database,
}

impl Following {
    async fn set() -> Self {
        let (world, old) = setting().await;
        let (new, target) = (world.source("admin").await, world.target("admin").await);
        new.execute(TABLES).await;
        target.execute(TABLES).await;
        for database in [&old, &new, &target] {
            database.execute(LOG).await;
        }
        std::fs::create_dir_all(world.folder().join("stream")).unwrap();
        let stream = |mode| format!("stream:\n  path: file.wasm\n  grants: {{ files: {{ path: ./stream, mode: {mode} }} }}\n");
        world.write("relay.yaml", &stream("read-write"));
        let target_section = format!(
            "loader: {{ path: postgresql.wasm }}\ntarget:\n  path: postgresql.wasm\n  grants: {{ postgres: \"{}\" }}\n",
            target.uri()
        );
        world.write("replicate.yaml", &format!("{}{target_section}", stream("read-only")));
        Self { world, old, new, target }
    }

    async fn update(&self, database: &Database, tables: &[(&str, &[&str])]) {
        self.world.write("next.pgshovel", &configuration(&database.dsn(), tables));
        self.world.pgshovel(["set", "update", "s", "next.pgshovel"]).succeeds().await;
        consistent(&self.world, &[&self.old, &self.new]).await;
    }

    async fn relay(&self) -> Running {
        // A change holds its tables, and the queue's, for a moment.
        self.world.pgshovel(["relay", "relay.yaml", "s"]).allow("waiting to try again").allow("ticker is interrupted").start().await
    }

    fn worker(&self, arguments: &[&str]) -> Program {
        self.world.pgshovel([&["replicate", "replicate.yaml", "s"], arguments].concat())
    }

    async fn lint(&self, arguments: &[&str]) {
        let report = self.world.pgshovel([&["stream", "lint", "relay.yaml", "s", "--wait", "1"], arguments].concat()).succeeds().await;
        assert!(report.contains("the stream is sound"), "{report}");
    }
}

/// Sessions that write all tables and never fail.
struct Writers {
    stop: Arc<AtomicBool>,
    /// The last id in `log` that is committed.
    logged: Arc<AtomicI64>,
    sessions: Vec<tokio::task::JoinHandle<u64>>,
}

impl Writers {
    async fn start(source: &Database) -> Self {
        let first = source.value("SELECT coalesce(max(id), 0) FROM log").await.unwrap().parse().unwrap();
        let (stop, logged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(first)));
        let statements = |table: &str| {
            format!(
                "INSERT INTO {table} SELECT i, 0, 'new' FROM generate_series((SELECT coalesce(max(id), 0) + 1 FROM {table}), (SELECT coalesce(max(id), 0) + 3 FROM {table})) i;
                 UPDATE {table} SET x = x + 1, y = 'changed' WHERE id % 7 = 0; UPDATE {table} t SET id = -id WHERE id % 13 = 5 AND NOT EXISTS (SELECT FROM {table} o WHERE o.id = -t.id); DELETE FROM {table} WHERE id % 11 = 3"
            )
        };
        let mut scripts: Vec<String> = ["a", "b", "c"].map(statements).to_vec();
        // Long transactions, in another order than a change's, and on rows of their own.
        let long = |id| {
            format!(
                "BEGIN; UPDATE c SET y = 'long' WHERE id = {id}; SELECT pg_sleep(0.3); UPDATE b SET y = 'long' WHERE id = {id}; UPDATE a SET x = x - 1 WHERE id = {id}; COMMIT"
            )
        };
        scripts.extend([long(0)]);
        let mut sessions: Vec<_> = scripts
            .into_iter()
            .map(|script| {
                let (dsn, stop) = (source.dsn(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let session = pgshovel::postgres::connect::connect(&dsn, "writer").await.unwrap();
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        session.batch_execute(&script).await.unwrap();
                        count += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    count
                })
            })
            .collect();
        let (dsn, ends, last) = (source.dsn(), Arc::clone(&stop), Arc::clone(&logged));
        sessions.push(tokio::spawn(async move {
            let session = pgshovel::postgres::connect::connect(&dsn, "logger").await.unwrap();
            let mut id = first;
            while !ends.load(Ordering::Relaxed) {
                id += 1;
                session.batch_execute(&format!("INSERT INTO log (id) VALUES ({id})")).await.unwrap();
                last.store(id, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            u64::try_from(id).unwrap()
        }));
        Self { stop, logged, sessions }
    }

    /// Waits until more was written.
    async fn go_on(&self) {
        let before = self.logged.load(Ordering::Relaxed);
        eventually("more writes", SOON, || async {
            let now = self.logged.load(Ordering::Relaxed);
            if now > before + 50 { Ok(()) } else { Err(format!("{now} after {before}")) }
        })
        .await;
    }

    /// Panics if a statement failed.
    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for session in self.sessions {
            assert!(session.await.unwrap() > 0);
        }
    }
}

const LOGGED: (&str, &[&str]) = ("log", &[]);

#[tokio::test(flavor = "multi_thread")]
async fn updates_under_full_load_lose_nothing_and_stop_nobody() {
    let all = Following::set().await;
    let Following { world, old, new, target } = &all;
    // Rows of the long transactions.
    old.execute("INSERT INTO a VALUES (0, 0); INSERT INTO b VALUES (0, 0); INSERT INTO c VALUES (0, 0)").await;
    create(world, "s", &configuration(&old.dsn(), &[("a", &[]), ("b", &[]), LOGGED])).await;
    let relay = all.relay().await;
    let mut worker = all.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    let writers = Writers::start(old).await;
    writers.go_on().await;

    // A table is added: what it holds already is loaded by a new bootstrap.
    assert_eq!(worker.terminate().await.code, Some(0));
    all.update(old, &[("a", &[]), ("b", &[]), ("c", &[]), LOGGED]).await;
    writers.go_on().await;
    let mut worker = all.worker(&["--bootstrap"]).start().await;
    worker.logs("\"phase\":\"streaming\"").await;
    writers.go_on().await;

    // Columns are left out, one table after the other is removed, and one comes back.
    all.update(old, &[("a", &["x"]), ("b", &["x"]), ("c", &[]), LOGGED]).await;
    writers.go_on().await;
    all.update(old, &[("a", &["x"]), ("c", &[]), LOGGED]).await;
    writers.go_on().await;
    all.update(old, &[("a", &["x"]), ("c", &["x"]), LOGGED]).await;
    writers.go_on().await;
    // A column is added.
    all.update(old, &[("a", &["x", "y"]), ("c", &["x"]), LOGGED]).await;
    writers.go_on().await;
    writers.stop().await;
    old.execute("UPDATE a SET y = 'y' || x").await;
    for (table, columns) in [("public.a", &["id", "x", "y"][..]), ("public.c", &["id", "x"]), ("public.log", &["id", "at"])] {
        target.equals_in(old, table, Some(columns)).await;
    }
    assert!(worker.runs());
    all.lint(&[]).await;

    // The set moves, under load, to a database that a logical copy was made of.
    let writers = Writers::start(old).await;
    writers.go_on().await;
    let before = writers.logged.load(Ordering::Relaxed);
    all.update(new, &[("a", &["x"]), ("c", &["x"]), LOGGED]).await;
    writers.go_on().await;
    writers.stop().await;
    new.execute("INSERT INTO log (id) SELECT i FROM generate_series(10000001, 10000100) i").await;
    let node = new.value(&format!("SELECT node FROM pgshovel_{}.configuration", world.cluster())).await.unwrap();
    let ended = worker.wait().await;
    assert!(ended.code == Some(1) && ended.stderr.contains(&format!("to node {node}")), "{}", ended.stderr);
    let worker = all.worker(&["--allow-node", &node]).start().await;
    eventually("rows of the new database", SOON, || async {
        let count = target.count("log WHERE id > 10000000").await;
        if count == 100 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    // Everything that was committed before the move is there, and nothing that came after it.
    let gaps = "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM log WHERE id BETWEEN 1 AND 10000000";
    let text = target.value(gaps).await.unwrap();
    let (count, last) = text.split_once(' ').unwrap();
    assert_eq!(count, last, "there are gaps");
    assert!(last.parse::<i64>().unwrap() >= before, "{last} of {before} are there");
    new.execute("INSERT INTO a VALUES (10000000, 7); UPDATE a SET x = 8; DELETE FROM log").await;
    eventually("changes of the new database", SOON, || async {
        let text =
            target.value("SELECT (SELECT x FROM a WHERE id = 10000000) || ' ' || (SELECT count(*) FROM log WHERE id > 10000000)").await;
        if text.as_deref() == Some("8 0") { Ok(()) } else { Err(format!("{text:?}")) }
    })
    .await;
    all.lint(&["--allow-node", &node]).await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    consistent(world, &[old, new]).await;
}
