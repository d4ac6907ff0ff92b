//! Tables are read by their names, and what has a name changes hands. Nobody's code runs as who
//! loads or made the set, neither by another object in the table's place nor by what belongs to
//! the very table.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::harness::{Database, World, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::replicate::setup::{SOON, configuration};

/// A set of a superuser's, of tables of a role that means to become one.
struct Setting {
    world: World,
    source: Database,
    target: Database,
    owner: String,
}

impl Setting {
    async fn new() -> Self {
        let world = World::start().await;
        world.zookeeper().await;
        let owner = format!("owner_{}", world.cluster());
        let (source, target) = (world.source("names").await, world.target("names").await);
        const TABLES: &str = "CREATE TABLE app.a (id int PRIMARY KEY, x int);";
        // An IMMUTABLE function changes nothing; one that it calls may.
        source
            .execute(&format!(
                "CREATE ROLE {owner} LOGIN; GRANT CREATE ON DATABASE {name} TO {owner}; CREATE SCHEMA app AUTHORIZATION {owner}; SET ROLE {owner}; {TABLES}
                 CREATE TABLE app.part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id);
                 CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES FROM (0) TO (100); CREATE TABLE app.part_2 PARTITION OF app.part FOR VALUES FROM (100) TO (200);
                 CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO PUBLIC;
                 CREATE FUNCTION own.rise() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                   IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE {owner} SUPERUSER; END IF; RETURN true; END $$;
                 CREATE FUNCTION own.one(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM own.rise(); RETURN 1; END $$;
                 INSERT INTO app.a SELECT i, i FROM generate_series(1, 50) i; RESET ROLE",
                name = source.name()
            ))
            .await;
        target.execute(&format!("CREATE SCHEMA app; {TABLES} CREATE TABLE app.part (id int PRIMARY KEY, x int)")).await;
        world.pgshovel(["cluster", "initialize"]).succeeds().await;
        let tables = ["a", "part"].map(|name| format!("tables {{ schema: \"app\" name: {name:?} primary_keys: \"id\" }}\n")).concat();
        world.write("set.pgshovel", &format!("database {{ dsn: {:?} }}\n{tables}", source.dsn()));
        world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
        world.write("replicate.yaml", &configuration(&target.uri(), ""));
        std::fs::create_dir_all(world.folder().join("stream")).unwrap();
        world.pgshovel(["set", "create", "app", "set.pgshovel"]).succeeds().await;
        Self { world, source, target, owner }
    }

    async fn owner(&self) -> tokio_postgres::Client {
        let session = self.source.connect().await;
        session.batch_execute(&format!("SET SESSION AUTHORIZATION {}", self.owner)).await.unwrap();
        session
    }

    async fn nobody_rose(&self) {
        let risen = self.source.value(&format!("SELECT rolsuper::text FROM pg_roles WHERE rolname = '{}'", self.owner)).await;
        assert_eq!(risen.as_deref(), Some("false"), "the owner of a table became superuser");
    }

    /// Waits until `sql` has this answer in the target.
    async fn arrives(&self, sql: &str, answer: &str) {
        eventually(sql, SOON, || async {
            let value = self.target.value(sql).await;
            if value.as_deref() == Some(answer) { Ok(()) } else { Err(format!("{value:?}")) }
        })
        .await;
    }

    /// The ids of the rows of `part` that were captured as deleted.
    async fn deleted(&self) -> String {
        self.source
            .value(
                "SELECT coalesce(string_agg(ev_extra2::json->>'id', ',' ORDER BY ev_id), '') FROM pgq.event_template WHERE ev_type = 'D'",
            )
            .await
            .unwrap()
    }

    async fn end(self) {
        let Self { world, source, owner, .. } = self;
        world.pgshovel(["set", "drop", "app"]).succeeds().await;
        source.execute(&format!("DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}")).await;
    }
}

/// The planner evaluates constant calls in expressions of indexes and statistics, as who reads.
/// Before, the owner of a table needed no more than that to become who loads it, and the
/// owner of a partition, with a TRUNCATE, to become who made the set.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_the_tables_owner_runs_nothing_as_who_reads() {
    let setting = Setting::new().await;
    let Setting { world, target, .. } = &setting;
    let owner = setting.owner().await;
    owner
        .batch_execute(
            "CREATE INDEX ON app.a ((own.one(1) + id)); CREATE INDEX ON app.part_1 (id) WHERE own.one(1) > 0; CREATE STATISTICS app.s ON (own.one(1) + id), x FROM app.part;
             INSERT INTO app.part VALUES (1, 1), (2, 2), (101, 1)",
        )
        .await
        .unwrap();
    let mut relay = world.pgshovel(["relay", "relay.yaml", "app"]).allow("a partition was attached").start().await;
    let worker = world.pgshovel(["replicate", "replicate.yaml", "app", "--bootstrap"]).start().await;
    // The source is not read to compare: the test is a superuser, too.
    setting.arrives("SELECT count(*) || ' ' || sum(x) FROM app.a", "50 1275").await;
    setting.arrives("SELECT string_agg(id::text, ',' ORDER BY id) FROM app.part", "1,2,101").await;
    setting.nobody_rose().await;
    // Of a partition without such an index, and of the whole table, TRUNCATE is captured.
    let error = owner.batch_execute("TRUNCATE app.part_1").await.unwrap_err();
    setting.nobody_rose().await;
    let said = error.as_db_error().unwrap();
    assert!(said.message().contains("calls a function") && said.hint().unwrap().contains("DELETE"), "{said:?}");
    owner.batch_execute("TRUNCATE app.part_2").await.unwrap();
    assert_eq!(setting.deleted().await, "101");
    owner
        .batch_execute("DROP INDEX app.part_1_id_idx; CREATE INDEX ON app.part_1 ((x + 1)) WHERE x > 0; TRUNCATE app.part_1")
        .await
        .unwrap();
    assert_eq!(setting.deleted().await, "101,1,2");
    // Statistics on expressions of the partition itself.
    owner
        .batch_execute("CREATE STATISTICS app.s2 ON (own.one(1) + id), x FROM app.part_1; INSERT INTO app.part VALUES (3, 3)")
        .await
        .unwrap();
    assert!(owner.batch_execute("TRUNCATE app.part_1").await.unwrap_err().as_db_error().unwrap().message().contains("calls a function"));
    owner.batch_execute("TRUNCATE app.part; INSERT INTO app.part VALUES (4, 4)").await.unwrap();
    setting.arrives("SELECT string_agg(id::text, ',' ORDER BY id) FROM app.part", "4").await;
    // One that is attached: whether it holds rows is looked up.
    owner
        .batch_execute(
            "CREATE TABLE app.late (id int PRIMARY KEY, x int); CREATE INDEX ON app.late ((own.one(1) + id)); INSERT INTO app.late VALUES (201, 1);
             ALTER TABLE app.part ATTACH PARTITION app.late FOR VALUES FROM (200) TO (300)",
        )
        .await
        .unwrap();
    relay.logs("a partition was attached, and is captured").await;
    setting.nobody_rose().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    // What COPY does not take, a superuser does not read for others.
    owner.batch_execute("ALTER TABLE app.a ADD twice int GENERATED ALWAYS AS (x * 2) STORED").await.unwrap();
    world.pgshovel(["set", "update", "app", "set.pgshovel"]).succeeds().await;
    target.execute("ALTER TABLE app.a ADD twice int").await;
    let load = world.pgshovel(["replicate", "replicate.yaml", "app", "--bootstrap"]);
    let ended = load.allow("it has generated columns").start().await.wait().await;
    assert!(ended.code != Some(0) && ended.stderr.contains("load as a role of less rights"), "{}", ended.stderr);
    setting.nobody_rose().await;
    drop(owner);
    setting.end().await;
}

/// TRUNCATE of a partition reads it, while its schema can be renamed. Before, a view in its
/// place ran as who made the set.
#[tokio::test(flavor = "multi_thread")]
async fn truncate_reads_the_partition_whatever_has_its_name() {
    let setting = Setting::new().await;
    let Setting { world, source, .. } = &setting;
    let (owner, other) = (setting.owner().await, setting.owner().await);
    owner.batch_execute("INSERT INTO app.part VALUES (1, 1), (2, 2), (101, 1)").await.unwrap();
    // The statement that reads waits here before it looks up the table to read.
    let gate = source.connect().await;
    gate.batch_execute(&format!("BEGIN; LOCK TABLE \"pgshovel:{}\".app IN ACCESS EXCLUSIVE MODE", world.cluster())).await.unwrap();
    let truncate = tokio::spawn(async move { owner.batch_execute("TRUNCATE app.part_1").await.map(|()| owner) });
    let waiting =
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.query LIKE 'TRUNCATE app.part_1%'";
    while source.value(waiting).await.as_deref() == Some("0") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other
        .batch_execute(
            "ALTER SCHEMA app RENAME TO hidden; CREATE SCHEMA app; CREATE VIEW app.part_1 AS SELECT 7 AS id, 8 AS x WHERE own.rise(); GRANT USAGE ON SCHEMA app TO PUBLIC; GRANT SELECT ON app.part_1 TO PUBLIC",
        )
        .await
        .unwrap();
    gate.batch_execute("COMMIT").await.unwrap();
    let owner = truncate.await.unwrap().unwrap();
    setting.nobody_rose().await;
    assert_eq!(setting.deleted().await, "1,2");
    other.batch_execute("DROP SCHEMA app CASCADE; ALTER SCHEMA hidden RENAME TO app").await.unwrap();

    // At any moment: what is truncated is captured, or the TRUNCATE fails.
    let until = Instant::now() + Duration::from_secs(4);
    let swap = tokio::spawn(async move {
        while Instant::now() < until {
            other.batch_execute(
                "ALTER SCHEMA app RENAME TO hidden; CREATE SCHEMA app CREATE VIEW app.part_1 AS SELECT 7 AS id, 8 AS x WHERE own.rise(); GRANT USAGE ON SCHEMA app TO PUBLIC; GRANT SELECT ON app.part_1 TO PUBLIC",
            ).await.unwrap();
            other.batch_execute("DROP SCHEMA app CASCADE; ALTER SCHEMA hidden RENAME TO app").await.unwrap();
        }
    });
    let (mut truncated, mut failed) = (Vec::new(), 0);
    for id in 3..99 {
        if Instant::now() > until {
            break;
        }
        // One of the names leads there.
        while owner.batch_execute(&format!("INSERT INTO app.part VALUES ({id}, 0)")).await.is_err() {}
        loop {
            match owner.batch_execute("TRUNCATE app.part_1").await {
                Ok(()) => break,
                Err(error) => {
                    let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                    // The last is PostgreSQL's own: "cache lookup failed for relation".
                    assert!(["42P01", "3F000", "42809", "55006", "42501", "XX000"].contains(&&*code), "{error:?}");
                    failed += 1;
                }
            }
        }
        truncated.push(id.to_string());
    }
    swap.await.unwrap();
    setting.nobody_rose().await;
    assert!(truncated.len() > 5, "{truncated:?} {failed}");
    assert_eq!(setting.deleted().await, format!("1,2,{}", truncated.join(",")));
    drop(owner);
    setting.end().await;
}

/// Listens before the server, and holds up what asks for a table's rows, once when it is `shut`.
async fn gate(port: u16, shut: Arc<AtomicBool>) -> (u16, Arc<Notify>, Arc<Notify>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let (reached, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&reached), Arc::clone(&open));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (tell, wait, shut) = (Arc::clone(&tell), Arc::clone(&wait), Arc::clone(&shut));
            tokio::spawn(async move {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                let ((mut from, mut to_client), (mut from_server, mut to)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from.read(&mut buffer).await {
                    if buffer[..count].windows(9).any(|window| window == b"TO STDOUT") && shut.swap(false, Ordering::Relaxed) {
                        tell.notify_one();
                        wait.notified().await;
                    }
                    if to.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (own, reached, open)
}

/// The loader has locked the table and looked at it, and its schema is renamed before it
/// reads. Before, a view there ran as who loads, and the rows of a table there were loaded.
#[tokio::test(flavor = "multi_thread")]
async fn the_loader_reads_nothing_else_of_the_tables_name() {
    let setting = Setting::new().await;
    let Setting { world, source, target, .. } = &setting;
    world.write(
        "set.pgshovel",
        &format!("database {{ dsn: {:?} }}\ntables {{ schema: \"app\" name: \"a\" primary_keys: \"id\" }}\n", source.dsn()),
    );
    world.pgshovel(["set", "update", "app", "set.pgshovel"]).succeeds().await;
    let shut = Arc::new(AtomicBool::new(false));
    let (port, reached, open) = gate(source.port(), Arc::clone(&shut)).await;
    let owner = setting.owner().await;
    let load = async |place: &str, says: &str| {
        shut.store(true, Ordering::Relaxed);
        let own = format!("host=127.0.0.1 port={port}");
        let load = world.pgshovel(["replicate", "replicate.yaml", "app", "--bootstrap", "--source-dsn", &own]);
        let mut worker = load.allow(says).allow("does not exist").start().await;
        reached.notified().await;
        owner
            .batch_execute(&format!(
                "ALTER SCHEMA app RENAME TO hidden; CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO PUBLIC; CREATE {place}; GRANT SELECT ON app.a TO PUBLIC"
            ))
            .await
            .unwrap();
        open.notify_one();
        worker.logs(says).await;
        setting.nobody_rose().await;
        assert_eq!(target.count("app.a").await, 0, "{place}");
        worker
    };
    let back = async || owner.batch_execute("DROP SCHEMA app CASCADE; ALTER SCHEMA hidden RENAME TO app").await.unwrap();
    let worker = load("VIEW app.a AS SELECT 7 AS id, 8 AS x WHERE own.rise()", "cannot copy from view").await;
    // There is no such table for the next snapshot.
    let ended = worker.wait().await;
    assert!(ended.code != Some(0) && ended.stderr.contains("does not exist"), "{}", ended.stderr);
    back().await;
    let place = "TABLE app.a (id int, x int); INSERT INTO app.a VALUES (7, 8); CREATE INDEX ON app.a ((own.one(1) + id))";
    let worker = load(place, "another table has its name").await;
    back().await;
    let _ = worker.terminate().await;
    setting.nobody_rose().await;
    let relay = world.pgshovel(["relay", "relay.yaml", "app"]).start().await;
    let worker = world.pgshovel(["replicate", "replicate.yaml", "app", "--bootstrap"]).start().await;
    target.equals(source, "app.a").await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    drop(owner);
    setting.end().await;
}
