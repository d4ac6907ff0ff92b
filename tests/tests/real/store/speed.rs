//! The plugin as a component in the host, and how fast it is. Run by hand:
//!
//!     cargo test -p pgshovel-tests --test real store::speed -- --ignored --nocapture

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::capabilities::Grants;
use pgshovel::capabilities::grants::{Resources, Secret};
use pgshovel::capabilities::origin::Snapshot;
use pgshovel::config::{Limits, Section};
use pgshovel::plugins::{Context, Engine, Options, loader, target};
use pgshovel::ports::{Loader as _, Target as _};
use proto::batch::Batch;
use proto::interfaces::common::Tick;
use proto::row::{Change, Mutation, Relation, Row, Value};
use tests::harness::{Database, World};
use tests::paths;

use super::origin::{NODE, snapshot, table};

fn section(name: &str, grants: Grants) -> Section {
    Section {
        name: name.to_owned(),
        file: "speed.yaml".into(),
        path: "postgresql.wasm".to_owned(),
        configuration: serde_json::json!({}),
        grants,
        limits: Limits::default(),
        sha256: None,
    }
}

fn context() -> Context {
    Context { cluster: "c".to_owned(), set: "s".to_owned() }
}

fn engine() -> Engine {
    Engine::new(Options { search: vec![paths::plugins().unwrap()], cache: None }).unwrap()
}

async fn open_target(engine: &Engine, database: &Database) -> target::Target {
    let grants = Grants { postgres: Resources::One(Secret::new(database.dsn())), ..Grants::default() };
    target::open(engine, &section("target", grants), &context()).await.unwrap()
}

async fn open_loader(engine: &Engine, snapshot: Snapshot) -> loader::Loader {
    loader::open(engine, &section("loader", Grants::default()), &context(), Arc::new(snapshot)).await.unwrap()
}

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, a int, b bigint, c text, d numeric(20,6), e timestamptz, f boolean, g jsonb)";

fn fill(rows: u64) -> String {
    format!(
        "INSERT INTO t SELECT n, n, n * 7, 'some text of row ' || n, n * 1.000001, '2024-01-01'::timestamptz + n * interval '1 second', \
         n % 2 = 0, jsonb_build_object('n', n) FROM generate_series(1, {rows}) n"
    )
}

/// Loads the table through both plugins; returns its relation and a row.
async fn load(source: &Database, target: &mut target::Target, engine: &Engine, max_rows: u32) -> (Arc<Relation>, Row, u64) {
    let mut loader = open_loader(engine, snapshot(source, vec![table("t", &[])]).await.unwrap()).await;
    let (sender, mut chunks) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        while let Some(chunk) = loader.next(max_rows).await.unwrap() {
            sender.send(chunk).await.unwrap();
        }
    });
    let mut seen = None;
    let mut rows = 0;
    while let Some(chunk) = chunks.recv().await {
        rows += chunk.rows.len() as u64;
        if let Some(row) = chunk.rows.last() {
            seen = Some((Arc::clone(&chunk.relation), row.clone()));
        }
        target.load(chunk, 1).await.unwrap();
    }
    let (relation, row) = seen.expect("the table has rows");
    (relation, row, rows)
}

/// Wall clock, and processor time of this process: the latter is what a busy machine
/// leaves comparable.
struct Watch {
    started: Instant,
    used: Duration,
}

impl Watch {
    fn start() -> Self {
        Self { started: Instant::now(), used: used() }
    }

    fn print(&self, what: &str, rows: u64) {
        let (elapsed, used) = (self.started.elapsed(), used() - self.used);
        let per_row = used.as_secs_f64() * 1e6 / rows as f64;
        println!("{what}: {:.0} rows/s, {per_row:.2} us of our processor time per row", rows as f64 / elapsed.as_secs_f64());
    }
}

/// See proc(5): user and system time in hundredths of a second.
fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

fn batch(end: u64) -> Batch {
    let tick = |id| Tick { id, ..Tick::default() };
    Batch { id: 1, node: [7; 16], start: tick(end - 1), end: tick(end), source: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_components_load_and_apply() {
    let world = World::without_servers();
    let (source, store) = (world.source("wasm").await, world.target("wasm").await);
    source.execute(&format!("{NODE}; {TABLE}; {}", fill(5000))).await;
    store.execute(TABLE).await;
    let engine = engine();
    let mut target = open_target(&engine, &store).await;
    assert_eq!(target.load_state().await.unwrap(), None);
    let (relation, row, rows) = load(&source, &mut target, &engine, 700).await;
    assert_eq!(rows, 5000);
    target.commit(None, b"loaded").await.unwrap();
    store.equals(&source, "public.t").await;
    let mutation = |id, change| Mutation { id, relation: Arc::clone(&relation), change, transaction: 1, timestamp_us: 0, version: 0 };
    target.begin(&batch(2)).await.unwrap();
    target.apply(vec![mutation(1, Change::Delete(row.clone()))]).await.unwrap();
    target.rollback().await.unwrap();
    store.equals(&source, "public.t").await;
    target.begin(&batch(2)).await.unwrap();
    target.apply(vec![mutation(1, Change::Delete(row.clone()))]).await.unwrap();
    target.commit(Some(b"loaded"), b"applied").await.unwrap();
    assert_eq!(store.count("t").await, 4999);
    let mut again = open_target(&engine, &store).await;
    assert_eq!(again.load_state().await.unwrap().as_deref(), Some(b"applied".as_slice()));
    again.begin(&batch(3)).await.unwrap();
    let error = again.apply(vec![mutation(9, Change::Delete(row))]).await;
    let error = match error {
        Ok(()) => again.commit(Some(b"applied"), b"x").await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.next, pgshovel::error::Next::Blocked);
    assert!(error.message.contains("(key 0f8eb4b72b6e)") && error.message.contains("event 9"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, decides nothing"]
async fn figures() {
    const ROWS: u64 = 500_000;
    const PER_CALL: usize = 1000;
    const PER_BATCH: usize = 10_000;
    let world = World::without_servers();
    let (source, store) = (world.source("speed").await, world.target("speed").await);
    source.execute(&format!("{NODE}; {TABLE}; {}; VACUUM ANALYZE t", fill(ROWS))).await;
    store.execute(TABLE).await;
    let engine = engine();
    let mut target = open_target(&engine, &store).await;
    target.load_state().await.unwrap();
    let watch = Watch::start();
    let (relation, row, rows) = load(&source, &mut target, &engine, 2000).await;
    target.commit(None, b"0").await.unwrap();
    watch.print("bootstrap", rows);

    let keyed = |key: i64| {
        let mut row = row.clone();
        row[0] = Value::Integer(key);
        row[1] = Value::Integer(key * 3 % 1_000_003);
        row
    };
    let of = |id: u64, change| Mutation { id, relation: Arc::clone(&relation), change, transaction: id / 100, timestamp_us: 0, version: 0 };
    let random = |n: i64| n * 7_919 % ROWS as i64 + 1;
    type Workload<'a> = Box<dyn Fn(i64) -> Change + 'a>;
    let workloads: [(&str, Workload); 3] = [
        ("inserts", Box::new(|n| Change::Insert(keyed(1_000_000 + n)))),
        ("updates, random keys", Box::new(|n| Change::Update { before: keyed(random(n)), after: keyed(random(n)) })),
        (
            "mixed",
            Box::new(|n| match n % 3 {
                0 => Change::Insert(keyed(2_000_000 + n)),
                1 => Change::Update { before: keyed(random(n)), after: keyed(random(n)) },
                _ => Change::Delete(keyed(2_000_000 + n - 2)),
            }),
        ),
    ];
    let mut state = 0u64;
    for (name, change) in workloads {
        let batches: Vec<Vec<Vec<Mutation>>> = (0..20)
            .map(|batch| {
                let numbers: Vec<i64> = (batch * PER_BATCH as i64..(batch + 1) * PER_BATCH as i64).collect();
                numbers.chunks(PER_CALL).map(|chunk| chunk.iter().map(|n| of(*n as u64, change(*n))).collect()).collect()
            })
            .collect();
        let watch = Watch::start();
        for batch_of_calls in batches {
            target.begin(&batch(state + 1)).await.unwrap();
            for mutations in batch_of_calls {
                target.apply(mutations).await.unwrap();
            }
            target.commit(Some(state.to_string().as_bytes()), (state + 1).to_string().as_bytes()).await.unwrap();
            state += 1;
        }
        watch.print(name, 20 * PER_BATCH as u64);
    }
}
