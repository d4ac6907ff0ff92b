//! What the demo does, phase by phase.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use tests::compare::{Comparison, compare};
use tests::figures::{Log, Progress, Queue, Rate};
use tests::screen::{Screen, grouped};
use tests::servers::{Fleet, Process};
use tests::stage::{Stage, Stream};

use super::example;

const SET: &str = "pgbench";
const CLUSTER: &str = "default";
const TABLES: [&str; 3] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers"];
/// pgbench's own script changes one row in each of the tables per transaction.
const CHANGES_PER_TRANSACTION: u64 = 3;
const CLIENTS: u64 = 4;
/// How long the bootstrap may take.
const LOADS_WITHIN: Duration = Duration::from_secs(900);
/// How long the worker may lag behind when the load is over.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(300);
/// How long relay and worker may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The processes under watch, and what is known of them.
struct Watch {
    queue: Queue,
    relay: Process,
    relay_log: Log,
    worker: Process,
    worker_log: Log,
    relayed: Rate,
    applied: Rate,
}

pub async fn run(screen: &mut Screen, fleet: &Arc<Fleet>, folder: &Path, stream: Stream) -> Result<()> {
    let started = Instant::now();
    let scale = setting("PGSHOVEL_DEMO_SCALE", 5)?;
    let seconds = Duration::from_secs(setting("PGSHOVEL_DEMO_SECONDS", 15)?);
    screen.say(match stream {
        Stream::File => "pgshovel: a pgbench database and its copy, through a log in a folder",
        Stream::Kafka => "pgshovel: a pgbench database and its copy, through Apache Kafka",
    });
    screen.say("");

    screen.begin("starting private servers");
    let stage = Stage::set(fleet, stream).await?;
    example::copy(&stage, folder, stream)?;
    screen.done(match stream {
        Stream::File => "source and target PostgreSQL, ZooKeeper started",
        Stream::Kafka => "source and target PostgreSQL, ZooKeeper, Kafka started",
    });

    example::make_roles(&stage, folder).await?;

    screen.begin("pgbench -i");
    example::initialize(&stage.source, "source", "dtgp", scale).await?;
    example::initialize(&stage.target, "target", "dtp", scale).await?;
    let rows = scale * (100_000 + 1 + 10);
    screen.done(&format!("pgbench tables: {} rows in the source, 0 in the target", grouped(rows)));

    let create = ["set", "create", SET, "set.pgshovel", "--relay-role", "shovel_relay", "--loader-role", "shovel_loader"];
    for arguments in [&["cluster", "initialize"][..], &create] {
        let shown = format!("pgshovel {}", arguments.join(" "));
        screen.begin(&shown);
        stage.administer(arguments).await?;
        screen.done(&shown);
    }

    let queue = connect(&stage.source.dsn("source"), "demo").await?;
    let queue = Queue::open(queue, &format!("pgshovel:{CLUSTER}:{SET}")).await?;
    screen.begin("starting relay, worker and load");
    let relay = stage.follow("relay", "relay.yaml", SET, "shovel_relay")?;
    let worker = stage.follow("replicate", "replicate.yaml", SET, "shovel_loader")?;
    let mut load = example::load(&stage, CLIENTS, LOADS_WITHIN + seconds)?;
    screen.done(&format!("relay, worker, and pgbench -c {CLIENTS} started"));
    let (relay_log, worker_log) = (Log::new(relay.log()), Log::new(worker.log()));
    let mut watch = Watch { queue, relay, relay_log, worker, worker_log, relayed: Rate::default(), applied: Rate::default() };

    screen.begin("loading what was there before");
    let loaded = watch.during(screen, &mut load, |worker| worker.text("phase", "phase").is_some_and(|phase| phase != "bootstrap")).await?;
    screen.done(&format!("{} rows loaded from one snapshot, under load", grouped(loaded)));

    screen.begin("following");
    let until = Instant::now() + seconds;
    watch.during(screen, &mut load, |_| Instant::now() > until).await?;
    let transactions = stop_load(&stage, &mut load).await?;
    let changes = transactions * CHANGES_PER_TRANSACTION;
    screen.done(&format!("load over: {} transactions, {} changed rows", grouped(transactions), grouped(changes)));

    screen.begin("catching up");
    watch.catch_up(screen, &stage, changes).await?;
    screen.done("worker caught up");

    screen.begin("stopping relay and worker");
    let (relayed, applied) = watch.stop().await?;
    screen.done("relay and worker stopped");

    screen.begin("comparing");
    let found = comparisons(&stage).await?;
    screen.done("compared by a query of its own, all columns of all rows");
    screen.say("");
    report(screen, &found);
    screen.say("");
    verdict(&found, changes, relayed, applied)?;
    let rows: u64 = found.iter().map(|table| table.target_rows).sum();
    let (rows, took) = (grouped(rows), started.elapsed().as_secs_f64());
    let loaded = grouped(relayed.saturating_sub(applied));
    let (relayed, applied) = (grouped(relayed), grouped(applied));
    screen.verdict(&format!(
        "{rows} rows equal; {relayed} changes relayed, {applied} applied, {loaded} came with the loaded rows; {took:.0} s"
    ));
    Ok(())
}

impl Watch {
    /// Shows progress while the load goes on, until the worker's log says `done`;
    /// returns how many rows the worker has loaded.
    async fn during(&mut self, screen: &mut Screen, load: &mut Process, mut done: impl FnMut(&Log) -> bool) -> Result<u64> {
        loop {
            if let Some(status) = load.exited()? {
                return Err(Error::stop(Code::ToolFailed, format!("pgbench ended too early ({status}):\n{}", load.tail())));
            }
            let progress = self.look(screen).await?;
            if done(&self.worker_log) {
                return Ok(self.worker_log.count("phase", "rows").unwrap_or(0));
            }
            let speed = speed(load).map_or_else(String::new, |speed| format!("pgbench {speed} tx/s · "));
            let line = self.line(progress);
            screen.progress(&format!("{speed}{line}"));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Returns when the relay has finished all that was captured, and the sums of
    /// both sides agree.
    async fn catch_up(&mut self, screen: &mut Screen, stage: &Stage, changes: u64) -> Result<()> {
        let started = Instant::now();
        let source = connect(&stage.source.dsn("source"), "demo").await?;
        let target = connect(&stage.target.dsn("target"), "demo").await?;
        loop {
            let progress = self.look(screen).await?;
            // What the stop of the load rolled back has taken event numbers too.
            if progress.captured < changes {
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!("pgbench changed {changes} rows, but {} changes were captured", progress.captured),
                ));
            }
            if progress.relayed == progress.captured && sums(&source).await? == sums(&target).await? {
                return Ok(());
            }
            if started.elapsed() > CATCHES_UP_WITHIN {
                let seconds = CATCHES_UP_WITHIN.as_secs();
                let tails = format!("relay:\n{}worker:\n{}", self.relay.tail(), self.worker.tail());
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!("the worker has not caught up after {seconds} s; the logs end with\n{tails}"),
                ));
            }
            let line = self.line(progress);
            screen.progress(&line);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops relay and worker as an operator does; returns how many mutations
    /// each of them says it has handled.
    async fn stop(&mut self) -> Result<(u64, u64)> {
        for process in [&mut self.relay, &mut self.worker] {
            process.signal("TERM")?;
        }
        for process in [&mut self.relay, &mut self.worker] {
            let asked = Instant::now();
            let status = loop {
                if let Some(status) = process.exited()? {
                    break status;
                }
                if asked.elapsed() > STOPS_WITHIN {
                    return Err(Error::stop(
                        Code::ToolFailed,
                        format!("{} does not stop; its log ends with:\n{}", process.name, process.tail()),
                    ));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            if !status.success() {
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!("{} ended with {status}; its log ends with:\n{}", process.name, process.tail()),
                ));
            }
        }
        self.relay_log.follow()?;
        self.worker_log.follow()?;
        let total = |log: &Log| log.count("ended", "mutations").unwrap_or(0);
        Ok((total(&self.relay_log), total(&self.worker_log)))
    }

    /// Takes in the logs, shows complaints, and makes sure that both processes run.
    async fn look(&mut self, screen: &mut Screen) -> Result<Progress> {
        for (process, log) in [(&mut self.relay, &mut self.relay_log), (&mut self.worker, &mut self.worker_log)] {
            let ended = process.exited()?;
            log.follow()?;
            for complaint in log.complaints.drain(..) {
                screen.say(&format!("  {}: {complaint}", process.name));
            }
            if let Some(status) = ended {
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!("{} ended ({status}); its log ends with:\n{}", process.name, process.tail()),
                ));
            }
        }
        let progress = self.queue.progress().await?;
        self.relayed.add(progress.relayed);
        self.applied.add(self.applied());
        Ok(progress)
    }

    /// Mutations that the worker has handed to the target, as it says every 2 s.
    fn applied(&self) -> u64 {
        self.worker_log.count("replicated", "mutations").unwrap_or(0)
    }

    fn line(&self, progress: Progress) -> String {
        let (captured, relayed) = (grouped(progress.captured), grouped(progress.relayed));
        let relay = format!("captured {captured} · relayed {relayed} ({:.0}/s)", self.relayed.per_second());
        if self.worker_log.text("phase", "phase") == Some("bootstrap") {
            return format!("{relay} · {}", self.loading());
        }
        let lag = self.worker_log.number("replicated", "lag_seconds").map_or_else(String::new, |lag| format!(" · lag {lag:.1} s"));
        format!("{relay} · applied {} ({:.0}/s){lag}", grouped(self.applied()), self.applied.per_second())
    }

    fn loading(&self) -> String {
        let (Some(table), Some(rows)) = (self.worker_log.text("loaded", "table"), self.worker_log.count("loaded", "rows")) else {
            return "loading".to_owned();
        };
        let of = self.worker_log.count("loaded", "estimated").map_or_else(String::new, |rows| format!(" of about {}", grouped(rows)));
        format!("loaded {}{of} rows of {table}", grouped(rows))
    }
}

/// Returns how many transactions the load has committed in all.
async fn stop_load(stage: &Stage, load: &mut Process) -> Result<u64> {
    load.stop()?;
    let source = connect(&stage.source.dsn("source"), "demo").await?;
    loop {
        if let Some(count) = example::transactions(&source).await? {
            return Ok(count);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The transactions per second that pgbench has printed last.
fn speed(load: &Process) -> Option<String> {
    let log = std::fs::read_to_string(load.log()).ok()?;
    let line = log.lines().rev().find(|line| line.starts_with("progress: "))?;
    line.split(", ").nth(1)?.strip_suffix(" tps").map(str::to_owned)
}

/// A cheap sign of equality: every transaction of pgbench adds the same amount to
/// one row of each table.
async fn sums(client: &tokio_postgres::Client) -> Result<String> {
    let sql = "SELECT concat_ws(' ', (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), \
               (SELECT sum(tbalance) FROM pgbench_tellers))";
    client.query_one(sql, &[]).await.map(|row| row.get(0)).map_err(|error| explain(&error).context("comparing sums"))
}

async fn comparisons(stage: &Stage) -> Result<Vec<Comparison>> {
    let (source, target) = (stage.source.dsn("source"), stage.target.dsn("target"));
    let mut found = Vec::new();
    for table in TABLES {
        found.push(compare(&source, &target, &format!("public.{table}"), None).await?);
    }
    Ok(found)
}

fn report(screen: &mut Screen, found: &[Comparison]) {
    screen.say(&format!("  {:<26}{:>12}{:>12}", "table", "source", "target"));
    for table in found {
        let verdict = table.difference.as_deref().unwrap_or("equal");
        let (source, target) = (grouped(table.source_rows), grouped(table.target_rows));
        screen.say(&format!("  {:<26}{source:>12}{target:>12}  {verdict}", table.table));
    }
}

fn verdict(found: &[Comparison], changes: u64, relayed: u64, applied: u64) -> Result<()> {
    if let Some(table) = found.iter().find(|table| !table.equal()) {
        return Err(Error::stop(Code::ToolFailed, format!("source and target differ in {}", table.table)));
    }
    if found.iter().any(|table| table.source_rows == 0) || changes == 0 || relayed < changes || applied == 0 {
        return Err(Error::stop(
            Code::ToolFailed,
            format!("the rows are equal, but of {changes} changes {relayed} were relayed and {applied} applied"),
        ));
    }
    Ok(())
}

fn setting(name: &str, default: u64) -> Result<u64> {
    let Some(text) = std::env::var_os(name) else { return Ok(default) };
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|&number| number > 0);
    number.ok_or_else(|| Error::usage(Code::ToolFailed, format!("{name} must be a positive number, not {text:?}")))
}
