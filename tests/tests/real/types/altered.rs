//! ALTER TABLE in the source while everything runs: no write fails, nothing wrong gets into
//! the target, and what cannot be applied waits until the target fits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tests::harness::{Database, World, eventually};
use tokio::task::JoinHandle;

use super::setup::{MEMORY, Pipeline, SOON, Stream, create_set, table};

const TABLES: [&str; 4] = ["plain", "named", "parted", "chosen"];

/// Whole rows, named columns, row triggers, and some columns of a table.
const SCHEMA: &str = "\
CREATE TABLE plain (id bigint PRIMARY KEY, number int, ratio real, yes boolean, at timestamp, price numeric(9, 2), gone text); \
CREATE TABLE named (id bigint PRIMARY KEY, number int, ratio real, yes boolean, at timestamp, price numeric(9, 2), gone text, tags text[]); \
CREATE TABLE parted (id bigint PRIMARY KEY, number int, ratio real, yes boolean, at timestamp, price numeric(9, 2), gone text) PARTITION BY HASH (id); \
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
CREATE TABLE parted_1 (gone text, at timestamp, price numeric(9, 2), yes boolean, ratio real, number int, id bigint NOT NULL); \
ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
CREATE TABLE chosen (id bigint PRIMARY KEY, number int, ratio real, yes boolean, at timestamp, price numeric(9, 2), gone text, other text)";

/// One session per table that writes without pause, and never may fail.
struct Writers {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(source: &Database) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = TABLES.map(|table| {
            let (dsn, stop, rounds) = (source.dsn(), Arc::clone(&stop), Arc::clone(&rounds));
            tokio::spawn(async move {
                let session = pgshovel::postgres::connect::connect(&dsn, "writer").await.unwrap();
                for id in 1_000_000.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let sql = format!("INSERT INTO {table} (id) VALUES ({id}), (-{id}); UPDATE {table} SET id = id + 0 WHERE id = {id}; DELETE FROM {table} WHERE id = -{id} OR id = {id} - 50");
                    session.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
                    rounds.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
                }
            })
        });
        Self { stop, rounds, tasks: tasks.into() }
    }

    /// Waits until every session has come round since now.
    async fn write_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        eventually("writes", SOON, || {
            let now = self.rounds.load(Ordering::Relaxed);
            async move { if now > before + 12 { Ok(()) } else { Err(format!("{now} rounds, {before} before")) } }
        })
        .await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn each(database: &Database, sql: &str) {
    for table in TABLES {
        database.execute(&sql.replace('#', table)).await;
    }
}

fn text(name: &str) -> String {
    format!("public.{name}")
}

async fn equal(pipeline: &Pipeline, source: &Database, columns: Option<&[&str]>) {
    for name in TABLES {
        pipeline.target.equals_in(source, &text(name), columns).await;
    }
}

struct Setting {
    _world: World,
    source: Database,
    pipeline: Pipeline,
}

impl Setting {
    async fn new() -> Self {
        let world = World::start().await;
        world.zookeeper().await;
        let (source, target) = (world.source("altered").await, world.target("altered").await);
        for database in [&source, &target] {
            database.execute(SCHEMA).await;
        }
        let columns: String =
            ["number", "ratio", "yes", "at", "price", "gone"].iter().map(|column| format!("columns: {column:?} ")).collect();
        let mut tables: String = TABLES[..3].iter().map(|name| table(name, &["id"], "")).collect();
        tables += &table("chosen", &["id"], &columns);
        world.pgshovel(["cluster", "initialize"]).succeeds().await;
        create_set(&world, &source, "altered", &tables).await;
        let mut pipeline = Pipeline::start(&world, "altered", Stream::File, target, MEMORY).await;
        pipeline.worker.logs("\"phase\":\"catching-up\"").await;
        pipeline.worker.allow("nothing goes on until this is mended");
        // Whoever mends a table in the worker's way; it tries again.
        pipeline.worker.allow("deadlock detected");
        Self { _world: world, source, pipeline }
    }

    /// Waits until the worker says `difference`; then mends the target by `remedy`.
    async fn mends(&mut self, difference: &str, remedy: &str) {
        self.pipeline.worker.logs(difference).await;
        each(&self.pipeline.target, remedy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_goes_or_changes_is_waited_for() {
    let mut setting = Setting::new().await;
    let writers = Writers::start(&setting.source);
    writers.write_on().await;
    let insert = "INSERT INTO # (id, number, ratio, yes, at, gone) VALUES";
    each(&setting.source, &format!("{insert} (1, 7, 0.1, true, '2020-01-02 03:04:05', 'a'), (2, NULL, 'NaN', false, 'infinity', NULL)"))
        .await;

    // Another modifier alone, which the target would round to its own.
    let priced = Some(&["id", "price"][..]);
    let widen = "ALTER TABLE # ALTER price TYPE numeric(12, 4)";
    each(&setting.source, widen).await;
    each(&setting.source, "UPDATE # SET price = 1.2345 WHERE id = 1; INSERT INTO # (id, price) VALUES (7, 0.0001)").await;
    setting.mends("\\\"price\\\" is numeric(12,4) in the source and numeric(9,2) in the target", widen).await;
    equal(&setting.pipeline, &setting.source, priced).await;
    // The catalog that this transaction sees does not have it yet.
    let old = setting.source.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let widen = "ALTER TABLE # ALTER price TYPE numeric(14, 6)";
    each(&setting.source, widen).await;
    for table in TABLES {
        old.batch_execute(&format!("INSERT INTO {table} (id, price) VALUES (8, 0.000001)")).await.unwrap();
    }
    old.batch_execute("COMMIT").await.unwrap();
    setting.mends("\\\"price\\\" is numeric(14,6) in the source and numeric(12,4) in the target", widen).await;
    equal(&setting.pipeline, &setting.source, priced).await;

    // What the domain is over is not known in the target: a plain type there might round.
    for database in [&setting.source, &setting.pipeline.target] {
        database.execute("CREATE DOMAIN exact AS numeric(16, 8)").await;
    }
    let retype = "ALTER TABLE # ALTER price TYPE exact";
    each(&setting.source, retype).await;
    each(&setting.source, "UPDATE # SET price = 0.00000001 WHERE id = 7").await;
    setting.mends("\\\"price\\\" is public.exact in the source and numeric(14,6) in the target", retype).await;
    equal(&setting.pipeline, &setting.source, priced).await;

    // Added: two, so that the plain table gets one whose JSON is not its text.
    each(&setting.source, "ALTER TABLE # ADD extra int[] DEFAULT '{1,NULL}', ADD doc json").await;
    each(&setting.source, &format!("{insert} (3, 3, 3, true, NULL, NULL); UPDATE # SET extra = '[2:2]={{9}}', doc = 'null' WHERE id = 1; UPDATE # SET doc = '{{\"a\" : 1}}' WHERE id = 3")).await;
    writers.write_on().await;
    setting
        .mends(
            "lacks what the source captures: \\\"extra\\\" integer[], \\\"doc\\\" json",
            "ALTER TABLE # ADD extra int[] DEFAULT '{1,NULL}', ADD doc json",
        )
        .await;
    for name in &TABLES[..3] {
        setting.pipeline.target.equals_in(&setting.source, &text(name), Some(&["id", "number", "extra", "doc"])).await;
    }

    // Retyped: each old value reads as one of the new type, and is another one.
    let retype =
        "ALTER TABLE # ALTER number TYPE text USING '00' || number, ALTER ratio TYPE float8, ALTER yes TYPE text, ALTER at TYPE text";
    each(&setting.source, retype).await;
    each(&setting.source, &format!("{insert} (4, '007', 0.1, 'true', '2020-01-02T03:04:05', 'x'); UPDATE # SET number = '0.50', yes = 'NO', ratio = 1e-7 WHERE id = 2")).await;
    writers.write_on().await;
    setting.mends("\\\"number\\\" is text in the source and integer in the target", retype).await;
    equal(&setting.pipeline, &setting.source, Some(&["id", "number", "ratio", "yes", "at"])).await;

    // Renamed: the remedy is to rename, which keeps what the rows have.
    each(&setting.source, "ALTER TABLE # RENAME number TO amount").await;
    each(&setting.source, "UPDATE # SET amount = 'renamed' WHERE id = 1; INSERT INTO # (id, amount) VALUES (5, 'new')").await;
    writers.write_on().await;
    setting.mends("RENAME COLUMN, if it was one of \\\"number\\\"", "SELECT 1").await;
    writers.stop().await;
    // Rows of both names are in the same batch perhaps: what is old has to pass first.
    each(&setting.pipeline.target, "ALTER TABLE # ADD amount text").await;
    eventually("the rename's batch", SOON, || async {
        let (one, five) = ("SELECT amount FROM plain WHERE id = 1", "SELECT count(*) FROM chosen WHERE amount = 'new'");
        let found = (setting.pipeline.target.value(one).await, setting.pipeline.target.value(five).await);
        if found == (Some("renamed".to_owned()), Some("1".to_owned())) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    // Locked first: the worker, which may wait for one of these rows, has the table's weaker lock.
    each(&setting.pipeline.target, "LOCK TABLE #; UPDATE # SET amount = number WHERE amount IS NULL; ALTER TABLE # DROP number").await;
    equal(&setting.pipeline, &setting.source, Some(&["id", "amount", "ratio", "yes", "at"])).await;

    // Dropped: the target keeps what it has, until it drops it too.
    let writers = Writers::start(&setting.source);
    each(&setting.source, "LOCK TABLE #; DELETE FROM # WHERE id >= 1000000; ALTER TABLE # DROP gone").await;
    writers.write_on().await;
    writers.stop().await;
    each(&setting.source, "INSERT INTO # (id, amount) VALUES (6, 'six')").await;
    equal(&setting.pipeline, &setting.source, Some(&["id", "amount", "ratio", "yes", "at"])).await;
    each(&setting.pipeline.target, "ALTER TABLE # DROP gone").await;
    each(&setting.source, "UPDATE # SET amount = 'end'").await;
    for name in &TABLES[..3] {
        setting.pipeline.target.equals(&setting.source, &text(name)).await;
    }
    equal(&setting.pipeline, &setting.source, Some(&["id", "amount", "ratio", "yes", "at"])).await;
    setting.pipeline.end().await;
}

/// A key that is dropped, and a name that a table has no more: events go on, and are
/// applied once the set says what identifies a row.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_dropped_waits_for_another() {
    let world = World::start().await;
    world.zookeeper().await;
    let (source, target) = (world.source("keyed").await, world.target("keyed").await);
    for database in [&source, &target] {
        database
            .execute("CREATE TABLE keyed (id int PRIMARY KEY, code text NOT NULL UNIQUE, n int); INSERT INTO keyed VALUES (0, 'zero', 0)")
            .await;
    }
    target.execute("DELETE FROM keyed").await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    create_set(&world, &source, "keyed", &table("keyed", &["id"], "")).await;
    let mut pipeline = Pipeline::start(&world, "keyed", Stream::File, target, MEMORY).await;
    pipeline.worker.logs("\"phase\":\"catching-up\"").await;
    // Without its constraint a key is a key.
    source.execute("ALTER TABLE keyed DROP CONSTRAINT keyed_pkey; INSERT INTO keyed VALUES (1, 'one', 1), (2, 'two', 2); UPDATE keyed SET n = 3 WHERE id = 2").await;
    pipeline.target.equals(&source, "public.keyed").await;

    pipeline.worker.allow("nothing goes on until this is mended");
    pipeline.relay.allow("a column that identified");
    source.execute("ALTER TABLE keyed DROP COLUMN id; UPDATE keyed SET n = n + 10; DELETE FROM keyed WHERE code = 'one'; INSERT INTO keyed VALUES ('four', 4)").await;
    let Pipeline { target, relay, worker, .. } = pipeline;
    let ended = relay.wait().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for text in ["public.keyed", "a column that identified its rows was dropped", "other primary_keys by `set update`"] {
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    }
    world.write("keyed.pgshovel", &format!("database {{ dsn: {:?} }}\n{}", source.dsn(), table("keyed", &["code"], "")));
    world.pgshovel(["set", "update", "keyed", "keyed.pgshovel"]).succeeds().await;
    let relay = world.pgshovel(["relay", "keyed.yaml", "keyed"]).allow("a column that identified").start().await;
    target.execute("ALTER TABLE keyed DROP COLUMN id").await;
    target.equals(&source, "public.keyed").await;

    // Its events keep the name that the configuration gives it.
    source.execute("ALTER TABLE keyed RENAME TO renamed; UPDATE renamed SET n = -n").await;
    eventually("changes of the renamed table", SOON, || async {
        let found = target.value("SELECT string_agg(code || n, ' ' ORDER BY code) FROM keyed").await;
        if found.as_deref() == Some("four-4 two-13 zero-10") { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
