//! `make bench`: how fast and how large, on private servers, with the file stream.
//! The rows are compared at the end: a wrong result has no speed.
//!
//! usage: bench [ROWS], default 1,000,000

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use tests::compare::compare;
use tests::figures::{Log, Queue};
use tests::screen::{Screen, grouped};
use tests::servers::{Fleet, Process};
use tests::stage::{Stage, Stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::Client;

const SET: &str = "bench";
const QUEUE: &str = "pgshovel:default:bench";
/// A consumer of the benchmark's own: its batches are still there when the relay
/// has finished them.
const WITNESS: &str = "bench";
const ROWS_PER_TRANSACTION: u64 = 100;
/// Ends a run that hangs.
const AT_MOST: Duration = Duration::from_secs(1800);
const LOOK_EVERY: Duration = Duration::from_millis(20);

const TABLE: &str = "CREATE TABLE wide (id bigint PRIMARY KEY, a integer NOT NULL, b text, c numeric(20, 4), d timestamptz, e boolean, f float8, g varchar(40))";
const ROWS: &str = "INSERT INTO wide SELECT i, 0, 'row number ' || i, i * 1.0001, timestamptz '2024-01-01 00:00+00' + i * interval '1 second', i % 2 = 0, \
     sqrt(i), md5(i::text) FROM generate_series(1, $rows) i";
const FILES: [(&str, &str); 2] = [
    ("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n"),
    (
        "replicate.yaml",
        "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-only } }\nloader: { path: postgresql.wasm }\n\
         target:\n  path: postgresql.wasm\n  grants: { postgres: \"$target\" }\n",
    ),
];

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    match guarded(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failed(&error.message);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn guarded(screen: &mut Screen) -> Result<()> {
    let rows = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse());
    let rows = rows.map_err(|error| Error::usage(Code::ToolFailed, format!("usage: bench [ROWS]: {error}")))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot handle signals: {error}")))?;
    let fleet = Arc::new(Fleet::new()?);
    let result = tokio::select! {
        result = bench(screen, &fleet, rows) => result,
        _ = interrupt.recv() => Err(Error::stop(Code::ToolFailed, "interrupted; all that was started is stopped")),
        () = tokio::time::sleep(AT_MOST) => Err(Error::stop(Code::ToolFailed, format!("not done after {} s", AT_MOST.as_secs()))),
    };
    drop(fleet);
    result
}

async fn bench(screen: &mut Screen, fleet: &Arc<Fleet>, rows: u64) -> Result<()> {
    screen.begin("starting private servers");
    let stage = Stage::set(fleet, Stream::File).await?;
    let source = connect(&stage.source.dsn("source"), "bench").await?;
    let target = connect(&stage.target.dsn("target"), "bench").await?;
    for (name, text) in FILES {
        stage.write(name, &text.replace("$target", &stage.target.dsn("target")))?;
    }
    let set = format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"wide\" primary_keys: \"id\" }}\n", stage.source.dsn("source"));
    stage.write("set.pgshovel", &set)?;
    screen.done("source and target PostgreSQL, ZooKeeper started");

    screen.begin("filling the table");
    run(&target, TABLE).await?;
    run(&source, &format!("{TABLE}; {}; ANALYZE wide", ROWS.replace("$rows", &rows.to_string()))).await?;
    stage.administer(&["cluster", "initialize"]).await?;
    stage.administer(&["set", "create", SET, "set.pgshovel"]).await?;
    run(&source, &format!("SELECT pgq.register_consumer('{QUEUE}', '{WITNESS}')")).await?;
    let queue = Queue::open(connect(&stage.source.dsn("source"), "bench").await?, QUEUE).await?;
    screen.done(&format!("{} rows of 8 columns in the source", grouped(rows)));

    let mut relay = stage.follow("relay", "relay.yaml", SET, "postgres")?;
    screen.begin("bootstrap");
    let loaded = bootstrap(&stage, rows).await?;
    screen.done("bootstrap");
    end(&mut relay).await?;

    screen.begin("changing every row, 100 in a transaction");
    run(&source, "SET synchronous_commit = off").await?;
    run(&source, &changes(rows)).await?;
    screen.done(&format!("{} events in the queue", grouped(queue.progress().await?.captured)));

    screen.begin("relay");
    let relayed = relay_all(&stage, &queue, rows).await?;
    screen.done("relay");

    screen.begin("COPY of the same batches to /dev/null");
    let copied = copy(&source).await?;
    screen.done("COPY of the same batches to /dev/null");

    screen.begin("worker");
    let applied = apply(&stage, &target, rows).await?;
    screen.done("worker");

    screen.begin("comparing");
    let found = compare(&stage.source.dsn("source"), &stage.target.dsn("target"), "public.wide", None).await?;
    if let Some(difference) = found.difference {
        return Err(Error::stop(Code::ToolFailed, format!("source and target differ: {difference}")));
    }
    screen.done(&format!("{} rows equal in source and target", grouped(found.target_rows)));

    report(screen, rows, &loaded, &relayed, copied, &applied);
    Ok(())
}

/// What one process took.
struct Cost {
    took: Duration,
    /// Of its resident memory.
    peak_mib: u64,
}

/// From the start of the process until the loaded rows are committed.
async fn bootstrap(stage: &Stage, rows: u64) -> Result<Cost> {
    let mut worker = stage.follow("replicate", "replicate.yaml", SET, "postgres")?;
    let mut log = Log::new(worker.log());
    let started = Instant::now();
    while log.text("phase", "phase").is_none_or(|phase| phase == "bootstrap") {
        alive(&mut worker)?;
        tokio::time::sleep(LOOK_EVERY).await;
        log.follow()?;
    }
    let cost = Cost { took: started.elapsed(), peak_mib: peak_mib(&worker)? };
    if log.count("phase", "rows") != Some(rows) {
        return Err(Error::stop(Code::ToolFailed, format!("the worker has loaded {:?} rows, not {rows}", log.count("phase", "rows"))));
    }
    end(&mut worker).await?;
    Ok(cost)
}

/// From the start of the process until PgQ knows that all is finished.
async fn relay_all(stage: &Stage, queue: &Queue, rows: u64) -> Result<Cost> {
    let mut relay = stage.follow("relay", "relay.yaml", SET, "postgres")?;
    let started = Instant::now();
    while queue.progress().await?.relayed < rows {
        alive(&mut relay)?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let cost = Cost { took: started.elapsed(), peak_mib: peak_mib(&relay)? };
    end(&mut relay).await?;
    Ok(cost)
}

/// From the start of the process until the row that was changed last has arrived.
async fn apply(stage: &Stage, target: &Client, rows: u64) -> Result<Cost> {
    let mut worker = stage.follow("replicate", "replicate.yaml", SET, "postgres")?;
    let started = Instant::now();
    let last = i64::try_from(rows).map_err(|error| Error::usage(Code::ToolFailed, format!("{rows} rows: {error}")))?;
    loop {
        alive(&mut worker)?;
        let row = target.query_one("SELECT a FROM wide WHERE id = $1", &[&last]).await.map_err(|error| explain(&error))?;
        if row.get::<_, i32>(0) == 1 {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let cost = Cost { took: started.elapsed(), peak_mib: peak_mib(&worker)? };
    end(&mut worker).await?;
    Ok(cost)
}

/// How long the witness's batches take when nothing is done with them.
async fn copy(source: &Client) -> Result<Duration> {
    let mut took = Duration::ZERO;
    let next = format!("SELECT pgq.next_batch('{QUEUE}', '{WITNESS}')");
    loop {
        let row = source.query_one(&next, &[]).await.map_err(|error| explain(&error))?;
        let Some(batch) = row.get::<_, Option<i64>>(0) else { return Ok(took) };
        let row = source.query_one("SELECT pgq.batch_event_sql($1)", &[&batch]).await.map_err(|error| explain(&error))?;
        let sql: String = row.get(0);
        let started = Instant::now();
        run(source, &format!("COPY ({sql}) TO '/dev/null' (FORMAT binary)")).await?;
        took += started.elapsed();
        run(source, &format!("SELECT pgq.finish_batch({batch})")).await?;
    }
}

fn changes(rows: u64) -> String {
    format!(
        "DO $$ BEGIN FOR lowest IN 1..{rows} BY {ROWS_PER_TRANSACTION} LOOP \
         UPDATE wide SET a = a + 1 WHERE id >= lowest AND id < lowest + {ROWS_PER_TRANSACTION}; COMMIT; END LOOP; END $$"
    )
}

fn report(screen: &mut Screen, rows: u64, loaded: &Cost, relayed: &Cost, copied: Duration, applied: &Cost) {
    screen.say("");
    screen.say(&format!("{:<40}{:>10}{:>12}{:>12}{:>10}", "", "seconds", "per second", "floor", "MiB"));
    let rate = |took: Duration| rows as f64 / took.as_secs_f64();
    let half_of_copy = (rate(copied) / 2.0).max(100_000.0);
    for (what, cost, floor) in [
        ("rows loaded by the bootstrap", loaded, 100_000.0),
        ("events relayed into the file stream", relayed, half_of_copy),
        ("mutations applied to PostgreSQL", applied, 40_000.0),
    ] {
        let (seconds, rate) = (cost.took.as_secs_f64(), grouped(rate(cost.took) as u64));
        screen.say(&format!("{what:<40}{seconds:>10.1}{rate:>12}{:>12}{:>10}", grouped(floor as u64), cost.peak_mib));
    }
    let (seconds, rate) = (copied.as_secs_f64(), grouped(rate(copied) as u64));
    screen.say(&format!("{:<40}{seconds:>10.1}{rate:>12}", "for comparison: COPY to /dev/null"));
}

fn alive(process: &mut Process) -> Result<()> {
    match process.exited()? {
        None => Ok(()),
        Some(status) => {
            Err(Error::stop(Code::ToolFailed, format!("{} ended ({status}); its log ends with:\n{}", process.name, process.tail())))
        }
    }
}

/// Stops it as an operator does.
async fn end(process: &mut Process) -> Result<()> {
    process.signal("TERM")?;
    loop {
        if let Some(status) = process.exited()? {
            let failed =
                || Error::stop(Code::ToolFailed, format!("{} ended ({status}); its log ends with:\n{}", process.name, process.tail()));
            return if status.success() { Ok(()) } else { Err(failed()) };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// VmHWM of proc(5): the most that was ever resident.
fn peak_mib(process: &Process) -> Result<u64> {
    let path = format!("/proc/{}/status", process.pid());
    let text = std::fs::read_to_string(&path).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {path}: {error}")))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib / 1024).ok_or_else(|| Error::stop(Code::ToolFailed, format!("{path} has no VmHWM")))
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|error| explain(&error).context(sql))
}
