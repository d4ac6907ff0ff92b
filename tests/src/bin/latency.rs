//! `make bench`: how long a change takes from the commit in the source until the target
//! shows it, beside PostgreSQL's own logical replication in the same run; what a set costs
//! that nothing changes; and how many batches of it are empty while another database of
//! the server is busy. On private servers, with the file stream and with Kafka.
//!
//! usage: latency [SECONDS], default 20, of each measurement

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::screen::Screen;
use tests::servers::{Fleet, Process};
use tests::stage::{Stage, Stream, finish};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::{Client, Row};

/// Sessions that write, and transactions of all of them a second: at random moments.
const WRITERS: i32 = 4;
const RATE: f64 = 200.0;
/// How often the target is looked at: what is measured is too long by half of it.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What is not visible by then is lost.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);
/// After the last change, until the set counts as idle.
const SETTLES: Duration = Duration::from_secs(10);
/// Sessions of pgbench in the other database.
const BUSY: &str = "2";
/// Of a set that is changed a little beside it, transactions a second.
const SLOW_RATE: f64 = 10.0;
/// Ends a run that hangs.
const AT_MOST: Duration = Duration::from_secs(1800);
/// Linux's, whatever the machine (man 5 proc, `utime`).
const CLOCK_TICKS: f64 = 100.0;

const TABLE: &str = "(writer integer, number bigint, made timestamptz NOT NULL DEFAULT clock_timestamp(), a integer, b text, c numeric, \
     d timestamptz, e boolean, PRIMARY KEY (writer, number))";
const INSERT: &str = "(writer, number, a, b, c, d, e) VALUES ($1, $2, 7, 'some text of a row', 1.5, now(), true)";

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
    let seconds = std::env::args().nth(1).map_or(Ok(20), |text| text.parse());
    let seconds = seconds.map_err(|error| Error::usage(Code::ToolFailed, format!("usage: latency [SECONDS]: {error}")))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot handle signals: {error}")))?;
    let fleet = Arc::new(Fleet::new()?);
    let result = tokio::select! {
        result = bench(screen, &fleet, Duration::from_secs(seconds)) => result,
        _ = interrupt.recv() => Err(Error::stop(Code::ToolFailed, "interrupted; all that was started is stopped")),
        () = sleep(AT_MOST) => Err(Error::stop(Code::ToolFailed, format!("not done after {} s", AT_MOST.as_secs()))),
    };
    drop(fleet);
    result
}

async fn bench(screen: &mut Screen, fleet: &Arc<Fleet>, each: Duration) -> Result<()> {
    screen.begin("starting private servers");
    let mut stage = Stage::set(fleet, Stream::Kafka).await?;
    let settings = connect(&stage.source.dsn("source"), "bench").await?;
    run(&settings, "ALTER SYSTEM SET wal_level = 'logical'").await?;
    run(&settings, "CREATE DATABASE other").await?;
    stage.source.stop()?;
    stage.source.start()?;
    stage.administer(&["cluster", "initialize"]).await?;
    screen.done("source and target PostgreSQL, ZooKeeper, Kafka started");

    let native = native(screen, &stage, each).await?;
    let file = ours(screen, &stage, "file", each).await?;
    let kafka = ours(screen, &stage, "kafka", each).await?;

    screen.say("");
    screen.say(&format!("{:<52}{:>10}{:>10}{:>10}", "from commit to visible in the target, ms", "p50", "p99", "most"));
    for (name, times) in [("native logical replication", &native), ("with the file stream", &file.busy), ("with Kafka", &kafka.busy)] {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|part| quantile(times, part));
        screen.say(&format!("{name:<52}{p50:>10.1}{p99:>10.1}{most:>10.1}"));
    }
    screen.say("");
    screen.say(&format!("{:<52}{:>10}{:>10}", "", "file", "Kafka"));
    let lines: [Line; 8] = [
        ("at 200 transactions a second: batches a second", |ours| ours.batches),
        ("  CPU of relay and worker, % of a core", |ours| ours.loaded.cpu),
        ("idle: CPU of relay and worker, % of a core", |ours| ours.idle.cpu),
        ("  transactions a second in the source", |ours| ours.idle.transactions),
        ("first change after it, ms", |ours| ours.first),
        ("idle beside a busy database: batches a minute", |ours| ours.beside.0),
        ("10 transactions a second beside it: batches a second", |ours| ours.slow.0),
        ("  of them empty", |ours| ours.slow.1),
    ];
    for (name, value) in lines {
        screen.say(&format!("{name:<52}{:>10.2}{:>10.2}", value(&file), value(&kafka)));
    }
    Ok(())
}

/// What a line of the table says of a set.
type Line = (&'static str, fn(&Ours) -> f64);

/// What was measured of a set.
struct Ours {
    busy: Vec<Duration>,
    /// A second.
    batches: f64,
    loaded: Cost,
    idle: Cost,
    first: f64,
    /// Batches a minute.
    beside: (f64, f64),
    /// Batches a second, and how many of all were empty.
    slow: (f64, f64),
}

struct Cost {
    cpu: f64,
    transactions: f64,
}

/// PostgreSQL's own, of a table that no set has.
async fn native(screen: &mut Screen, stage: &Stage, each: Duration) -> Result<Vec<Duration>> {
    screen.begin("native logical replication");
    let (source, target) = clients(stage).await?;
    run(&source, &format!("CREATE TABLE native {TABLE}")).await?;
    run(&target, &format!("CREATE TABLE native {TABLE}")).await?;
    run(&source, "CREATE PUBLICATION bench FOR TABLE native").await?;
    run(&target, &format!("CREATE SUBSCRIPTION bench CONNECTION '{}' PUBLICATION bench", stage.source.dsn("source"))).await?;
    first(stage, "native").await?;
    let times = load(stage, "native", RATE, each).await?;
    run(&target, "DROP SUBSCRIPTION bench").await?;
    screen.done(&format!("native logical replication: {} transactions", times.len()));
    Ok(times)
}

async fn ours(screen: &mut Screen, stage: &Stage, name: &str, each: Duration) -> Result<Ours> {
    let (source, target) = clients(stage).await?;
    let (mut relay, mut worker) = start(stage, &source, &target, name).await?;
    let measured = measure(screen, stage, &source, name, each, [&relay, &worker]).await;
    for process in [&mut relay, &mut worker] {
        process.stop()?;
    }
    measured.map_err(|error| Error::stop(Code::ToolFailed, format!("{error}; the logs end with:\n{}\n{}", relay.tail(), worker.tail())))
}

async fn measure(
    screen: &mut Screen,
    stage: &Stage,
    source: &Client,
    name: &str,
    each: Duration,
    processes: [&Process; 2],
) -> Result<Ours> {
    screen.begin(&format!("{name}: under load"));
    first(stage, name).await?;
    let from = mark(source, name, processes).await?;
    let busy = load(stage, name, RATE, each).await?;
    let to = mark(source, name, processes).await?;
    let (batches, loaded) = (to.batches(&from) / to.seconds(&from), to.cost(&from));
    screen.done(&format!("{name}: {} transactions under load", busy.len()));

    screen.begin(&format!("{name}: idle"));
    sleep(SETTLES).await;
    let from = mark(source, name, processes).await?;
    sleep(each.max(Duration::from_secs(30))).await;
    let idle = mark(source, name, processes).await?.cost(&from);
    let first = first(stage, name).await?.as_secs_f64() * 1000.0;
    screen.done(&format!("{name}: idle"));

    screen.begin(&format!("{name}: beside a busy database"));
    let mut busy_one = pgbench(stage).await?;
    let from = mark(source, name, processes).await?;
    sleep(Duration::from_secs(60)).await;
    let to = mark(source, name, processes).await?;
    let beside = (to.batches(&from) * 60.0 / to.seconds(&from), 0.0);
    load(stage, name, SLOW_RATE, each.min(Duration::from_secs(50))).await?;
    let last = mark(source, name, processes).await?;
    let slow = (last.batches(&to) / last.seconds(&to), empty(source, name, &to, &last).await?);
    busy_one.stop()?;
    screen.done(&format!("{name}: beside a busy database"));
    Ok(Ours { busy, batches, loaded, idle, first, beside, slow })
}

async fn start(stage: &Stage, source: &Client, target: &Client, name: &str) -> Result<(Process, Process)> {
    for client in [source, target] {
        run(client, &format!("CREATE TABLE {name} {TABLE}")).await?;
    }
    let stream = |mode: &str| match (&stage.kafka, name) {
        (Some(kafka), "kafka") => format!("stream:\n  path: kafka.wasm\n  grants: {{ kafka: \"{}\" }}\n", kafka.bootstrap()),
        _ => format!("stream:\n  path: file.wasm\n  grants: {{ files: {{ path: ./stream, mode: {mode} }} }}\n"),
    };
    stage.write("relay.yaml", &stream("read-write"))?;
    let store = format!(
        "loader: {{ path: postgresql.wasm }}\ntarget:\n  path: postgresql.wasm\n  grants: {{ postgres: \"{}\" }}\n",
        stage.target.dsn("target")
    );
    stage.write("replicate.yaml", &(stream("read-only") + &store))?;
    let dsn = stage.source.dsn("source");
    stage.write(
        "set.pgshovel",
        &format!("database {{ dsn: \"{dsn}\" }}\ntables {{ name: \"{name}\" primary_keys: \"writer\" primary_keys: \"number\" }}\n"),
    )?;
    stage.administer(&["set", "create", name, "set.pgshovel"]).await?;
    Ok((stage.follow("relay", "relay.yaml", name, "postgres")?, stage.follow("replicate", "replicate.yaml", name, "postgres")?))
}

/// One change, and how long it takes.
async fn first(stage: &Stage, table: &str) -> Result<Duration> {
    let (source, target) = clients(stage).await?;
    let number = last(&source, table, -1).await? + 1;
    let insert = source.prepare(&format!("INSERT INTO {table} {INSERT}")).await.map_err(|error| explain(&error))?;
    source.execute(&insert, &[&-1, &number]).await.map_err(|error| explain(&error))?;
    let committed = Instant::now();
    let sql = format!("SELECT FROM {table} WHERE writer = -1 AND number = $1");
    let look = target.prepare(&sql).await.map_err(|error| explain(&error))?;
    while target.query_opt(&look, &[&number]).await.map_err(|error| explain(&error))?.is_none() {
        if committed.elapsed() > ARRIVES_WITHIN {
            return Err(Error::stop(Code::ToolFailed, format!("a row of {table} has not arrived within {} s", ARRIVES_WITHIN.as_secs())));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(committed.elapsed())
}

/// When what was committed: by writer and number.
type Commits = Arc<Mutex<BTreeMap<(i32, i64), Instant>>>;

/// From the answer to COMMIT until a session that looks all the time sees the row.
async fn load(stage: &Stage, table: &str, rate: f64, during: Duration) -> Result<Vec<Duration>> {
    let commits = Commits::default();
    let until = Instant::now() + during;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (dsn, table, commits) = (stage.source.dsn("source"), table.to_owned(), Arc::clone(&commits));
        writers.spawn(async move { write(&dsn, &table, writer, rate / f64::from(WRITERS), until, &commits).await });
    }
    let target = connect(&stage.target.dsn("target"), "bench").await?;
    let sql = format!("SELECT w, (SELECT max(number) FROM {table} WHERE writer = w) FROM generate_series(0, {WRITERS} - 1) w");
    let look = target.prepare(&sql).await.map_err(|error| explain(&error))?;
    let mut times = Vec::new();
    loop {
        let rows = target.query(&look, &[]).await.map_err(|error| explain(&error))?;
        let now = Instant::now();
        let late = arrive(&commits, &rows, now, &mut times);
        let over = late == 0 && now > until && writers.is_empty();
        while let Some(ended) = writers.try_join_next() {
            ended.map_err(|error| Error::bug(error.to_string()))??;
        }
        if over {
            return Ok(times);
        }
        if now > until + ARRIVES_WITHIN {
            return Err(Error::stop(
                Code::ToolFailed,
                format!("{late} rows of {table} have not arrived within {} s", ARRIVES_WITHIN.as_secs()),
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Takes those that `rows` has out of what was committed; how many are left.
fn arrive(commits: &Commits, rows: &[Row], now: Instant, times: &mut Vec<Duration>) -> usize {
    let mut waiting = commits.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows {
        let Some(number) = row.get::<_, Option<i64>>(1) else { continue };
        let arrived: Vec<_> = waiting.range((row.get(0), i64::MIN)..=(row.get(0), number)).map(|(key, at)| (*key, *at)).collect();
        for (key, at) in arrived {
            waiting.remove(&key);
            times.push(now.saturating_duration_since(at));
        }
    }
    waiting.len()
}

async fn write(dsn: &str, table: &str, writer: i32, rate: f64, until: Instant, commits: &Commits) -> Result<()> {
    let source = connect(dsn, "bench").await?;
    let mut number = last(&source, table, writer).await?;
    let insert = source.prepare(&format!("INSERT INTO {table} {INSERT}")).await.map_err(|error| explain(&error))?;
    let mut random = StdRng::seed_from_u64(u64::from(writer.unsigned_abs()));
    let mut due = Instant::now();
    loop {
        due += Duration::from_secs_f64(-random.random::<f64>().max(1e-9).ln() / rate);
        if due >= until {
            return Ok(());
        }
        sleep_until(due).await;
        number += 1;
        source.execute(&insert, &[&writer, &number]).await.map_err(|error| explain(&error))?;
        let committed = Instant::now();
        commits.lock().unwrap_or_else(PoisonError::into_inner).insert((writer, number), committed);
    }
}

/// The highest number of `writer`.
async fn last(source: &Client, table: &str, writer: i32) -> Result<i64> {
    let sql = format!("SELECT coalesce(max(number), 0) FROM {table} WHERE writer = {writer}");
    Ok(source.query_one(&sql, &[]).await.map_err(|error| explain(&error))?.get(0))
}

/// pgbench in the database `other`, until it is stopped.
async fn pgbench(stage: &Stage) -> Result<Process> {
    finish(stage.source.client("pgbench", "other").args(["-i", "-q"]), "pgbench -i").await?;
    let mut command = stage.source.client("pgbench", "other");
    stage.process("pgbench", "pgbench", command.args(["-n", "-c", BUSY, "-T", "3600"]), "TERM")
}

/// What is counted, at a moment.
struct Mark {
    at: Instant,
    tick: i64,
    /// In the source's database.
    transactions: i64,
    /// Of both processes, in clock ticks.
    cpu: u64,
}

impl Mark {
    fn seconds(&self, since: &Self) -> f64 {
        (self.at - since.at).as_secs_f64()
    }

    fn batches(&self, since: &Self) -> f64 {
        (self.tick - since.tick) as f64
    }

    fn cost(&self, since: &Self) -> Cost {
        let seconds = self.seconds(since);
        let cpu = (self.cpu - since.cpu) as f64 / CLOCK_TICKS / seconds * 100.0;
        Cost { cpu, transactions: (self.transactions - since.transactions) as f64 / seconds }
    }
}

/// The statements of this look are some of the transactions that the next one counts.
async fn mark(source: &Client, set: &str, processes: [&Process; 2]) -> Result<Mark> {
    let sql = "SELECT (SELECT max(tick_id) FROM pgq.tick JOIN pgq.queue ON queue_id = tick_queue WHERE queue_name = $1), xact_commit
                 FROM pg_stat_database WHERE datname = current_database()";
    let row = source.query_one(sql, &[&format!("pgshovel:default:{set}")]).await.map_err(|error| explain(&error))?;
    let mut cpu = 0;
    for process in processes {
        cpu += clock_ticks(process)?;
    }
    Ok(Mark { at: Instant::now(), tick: row.get(0), transactions: row.get(1), cpu })
}

/// utime and stime of proc(5).
fn clock_ticks(process: &Process) -> Result<u64> {
    let path = format!("/proc/{}/stat", process.pid());
    let text = std::fs::read_to_string(&path).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot read {path}: {error}")))?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    field(11)
        .zip(field(12))
        .map(|(user, system)| user + system)
        .ok_or_else(|| Error::stop(Code::ToolFailed, format!("{path} has no utime")))
}

/// How many batches between the two marks have no event.
async fn empty(source: &Client, set: &str, from: &Mark, to: &Mark) -> Result<f64> {
    let sql = "SELECT queue_data_pfx FROM pgq.queue WHERE queue_name = $1";
    let queue = format!("pgshovel:default:{set}");
    let row = source.query_one(sql, &[&queue]).await.map_err(|error| explain(&error))?;
    let sql = format!(
        "SELECT count(*) FROM (SELECT tick_id, tick_snapshot AS now, lag(tick_snapshot) OVER (ORDER BY tick_id) AS before
                                 FROM pgq.tick JOIN pgq.queue ON queue_id = tick_queue WHERE queue_name = $1 AND tick_id BETWEEN $2 AND $3) t
          WHERE tick_id > $2 AND NOT EXISTS (SELECT FROM {} WHERE txid_visible_in_snapshot(ev_txid, now) AND NOT txid_visible_in_snapshot(ev_txid, before))",
        row.get::<_, &str>(0)
    );
    let row = source.query_one(&sql, &[&queue, &from.tick, &to.tick]).await.map_err(|error| explain(&error))?;
    Ok(row.get::<_, i64>(0) as f64)
}

fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

async fn clients(stage: &Stage) -> Result<(Client, Client)> {
    Ok((connect(&stage.source.dsn("source"), "bench").await?, connect(&stage.target.dsn("target"), "bench").await?))
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|error| explain(&error).context(sql))
}
