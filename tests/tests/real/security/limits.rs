//! What a hostile component can make its host hold, and do to the servers that it reaches.
//!
//! `tests/fixtures/probe` does what its configuration says; `stream lint` opens a stream
//! and nothing else. Before, `limits` counted the component's own memory alone.

use std::time::{Duration, Instant};

use pgshovel::capabilities::postgres::Connection;
use tests::harness::{Database, Ended, World, eventually};

use crate::store::native::{LOCK_TIMEOUT, budget};

/// What each of the components may use.
pub const MEMORY_MIB: u64 = 16;

/// What the process takes at most beside the plugin's own memory: what it takes without a
/// plugin, and either what compiling takes (256 MiB) or what the host holds for it (64 MiB)
/// and the arguments of one call (as much again).
const CONSTANT_MIB: u64 = 320;

/// How a component ended, and the most memory that its host ever held, in MiB.
pub struct Outcome {
    pub ended: Ended,
    peak: u64,
    pub took: Duration,
}

/// Runs a stream whose section is this, in YAML's flow style.
pub async fn run(world: &World, name: &str, section: &str) -> Outcome {
    let file = format!("{name}.yaml");
    world.write(&file, &format!("stream: {section}\n"));
    let started = Instant::now();
    let program = world.pgshovel(["stream", "lint", &file, "set", "--wait", "1"]).allow("");
    let mut running = program.start().await;
    let mut peak = 0;
    while running.runs() {
        peak = peak.max(peak_of(running.pid()));
        assert!(started.elapsed() < Duration::from_secs(120), "{name} does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed();
    Outcome { ended: running.wait().await, peak, took }
}

fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024)
}

/// The probe with these orders, and a database of its own.
fn probe(database: &Database, orders: &str, limits: &str) -> String {
    format!(
        "{{ path: probe.wasm, configuration: {{ {orders} }}, grants: {{ postgres: \"{}\" }}, limits: {{ memory: {MEMORY_MIB}MiB{limits} }} }}",
        database.dsn()
    )
}

/// Ends in one named error, with the host's memory bounded.
pub async fn fails(world: &World, name: &str, section: &str, code: i32, says: &[&str]) -> Outcome {
    let outcome = run(world, name, section).await;
    let Outcome { ended, peak, took } = &outcome;
    println!("{name:<12} {peak:>5} MiB {:>6.1} s  {}", took.as_secs_f64(), ended.stderr.lines().last().unwrap_or_default());
    assert_eq!(ended.code, Some(code), "{name}: {}", tail(&ended.stderr));
    let last = ended.stderr.lines().last().unwrap_or_default();
    for text in says {
        assert!(last.contains(text), "{name}: {text:?} is not in {last:?}");
    }
    assert!(!ended.stderr.contains("panicked"), "{name}: {}", tail(&ended.stderr));
    assert!(*peak < MEMORY_MIB + CONSTANT_MIB, "{name}: the host held {peak} MiB");
    outcome
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(20).map(|line| &line[..line.floor_char_boundary(500)]).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Before: 40,000,000 rows without columns counted as nothing (1.7 GiB), a message of
/// 1 GB was read whole before it was refused (1.5 GiB), on three connections at once
/// (4.5 GiB), and a list of NULLs counted as nothing (2.9 GiB).
#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_sends_and_gets_is_bounded() {
    let world = World::without_servers();
    let database = world.target("limits").await;
    let memory = "raise limits.memory in the section `stream`";
    let sql = |order: &str, sql: &str| format!("next: {order}, sql: \"{sql}\"");
    for (name, orders, says) in [
        ("empty-rows", sql("query", "SELECT FROM generate_series(1, 20000) a, generate_series(1, 20000) b"), ["returns too much", memory]),
        (
            "null-rows",
            sql("query", "SELECT NULL, NULL, NULL FROM generate_series(1, 20000) a, generate_series(1, 20000) b"),
            ["returns too much", memory],
        ),
        ("bytes", sql("query", "SELECT repeat('x', 1000000) FROM generate_series(1, 1000)"), ["returns too much", memory]),
        ("message", sql("query", "SELECT repeat('x', 200000000)"), ["a message of 20000", memory]),
        ("messages", sql("submit", "SELECT repeat('x', 200000000)"), ["a message of 20000", memory]),
        (
            "notice",
            sql("submit", "DO 'BEGIN RAISE NOTICE USING MESSAGE = repeat(chr(120), 200000000); END'"),
            ["a message of 20000", memory],
        ),
        ("parameters", "next: parameters".to_owned(), ["100 rows of parameters", "stream: probe.wasm"]),
        ("statements", "next: statements".to_owned(), ["150 statements were prepared", "stream: probe.wasm"]),
        ("errors", "next: errors".to_owned(), ["500 errors", "stream: probe.wasm"]),
        ("reasons", "next: reasons".to_owned(), ["\\u{1b}…", "stream: probe.wasm"]),
    ] {
        fails(&world, name, &probe(&database, &orders, ", call: 60s"), 1, &says).await;
    }
    // Behind a statement that takes its time they wait, as long as the call may take.
    for order in ["nulls", "copies"] {
        let says = ["did not return within 4s", "raise limits.call"];
        fails(&world, order, &probe(&database, &format!("next: {order}"), ", call: 4s"), 1, &says).await;
    }
}

/// Before: the server's 150 places were all taken, those for superusers too.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_few() {
    let world = World::without_servers();
    let database = world.target("limits").await;
    let says = ["8 connections: misuse: the plugin holds 8 connections", "raise limits.connections in the section `stream`"];
    fails(&world, "eight", &probe(&database, "next: connections", ""), 1, &says).await;
    let says = ["3 connections: misuse: the plugin holds 3 connections"];
    fails(&world, "three", &probe(&database, "next: connections", ", connections: 3"), 1, &says).await;
}

/// Sessions that this process has left in the server.
async fn sessions(database: &Database, application: &str) -> u64 {
    let from = format!("pg_stat_activity WHERE datname = current_database() AND application_name = '{application}'");
    database.count(&from).await
}

/// Before: the statement went on for as long as it took, with its locks, against the next
/// attempt; a plugin that asked to be started again left one session more each time.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_connection_does_ends_with_it() {
    let world = World::without_servers();
    let database = world.target("limits").await;
    let sleep = "SELECT pg_sleep(600)";
    // It catches what cancels it.
    let stubborn = "DO 'BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END'";
    for (application, sql, calls) in [("given up", sleep, true), ("submitted", sleep, false), ("stubborn", stubborn, true)] {
        let budget = budget();
        let mut connection = Connection::open(&database.dsn(), application, LOCK_TIMEOUT, &budget).await.unwrap();
        // Large enough to be counted on its way.
        connection.query("SELECT repeat('x', 100000)", &[]).await.unwrap();
        let settings = "SELECT set_config('statement_timeout', '0', false), set_config('client_connection_check_interval', '0', false)";
        connection.query(settings, &[]).await.unwrap();
        if calls {
            tokio::time::timeout(Duration::from_secs(1), connection.execute(sql, &[])).await.unwrap_err();
        } else {
            connection.submit(sql, vec![]).await.unwrap();
        }
        assert_eq!(sessions(&database, application).await, 1, "{application}");
        assert!(budget.bytes() > 0, "{application}");
        drop(connection);
        eventually(&format!("the end of the session {application}"), Duration::from_secs(20), || async {
            let left = sessions(&database, application).await;
            if left == 0 { Ok(()) } else { Err(format!("{left} sessions")) }
        })
        .await;
        eventually("all is given back", Duration::from_secs(5), || async {
            let left = budget.bytes();
            if left == 0 { Ok(()) } else { Err(format!("{left} bytes")) }
        })
        .await;
    }
    // One that has its answer says goodbye as ever.
    let mut connection = Connection::open(&database.dsn(), "idle", LOCK_TIMEOUT, &budget()).await.unwrap();
    connection.execute("SELECT 1", &[]).await.unwrap();
    drop(connection);
    eventually("the end of the idle session", Duration::from_secs(20), || async {
        let left = sessions(&database, "idle").await;
        if left == 0 { Ok(()) } else { Err(format!("{left} sessions")) }
    })
    .await;
}

/// The end of the process does not leave it behind either: before, for 11 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_with_the_process() {
    let world = World::without_servers();
    let database = world.target("limits").await;
    let orders = "next: forever, sql: \"SELECT pg_sleep(600)\"";
    let says = ["`next` did not return within 1s", "raise limits.call"];
    fails(&world, "forever", &probe(&database, orders, ", call: 1s"), 1, &says).await;
    eventually("the end of the session", Duration::from_secs(5), || async {
        let left = database.count("pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgshovel stream%'").await;
        if left == 0 { Ok(()) } else { Err(format!("{left} sessions")) }
    })
    .await;
}

/// Before: 123 MB in 3 s, and a new instance began a new count.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_logs_is_bounded() {
    let world = World::without_servers();
    let section = format!(
        "{{ path: probe.wasm, configuration: {{ next: log-flood }}, limits: {{ memory: {MEMORY_MIB}MiB }}, grants: {{ postgres: \"host=/nowhere\" }} }}"
    );
    let Outcome { ended, took, .. } = fails(&world, "flood", &section, 1, &["4000 lines were logged"]).await;
    let most = (took.as_secs() as usize + 2) * (300 << 10);
    assert!(ended.stderr.len() < most, "{} bytes in {took:?}", ended.stderr.len());
}

/// What a component says reaches a terminal escaped.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_says_steers_no_terminal() {
    let world = World::without_servers();
    let section = format!(
        "{{ path: probe.wasm, configuration: {{ next: escapes }}, limits: {{ memory: {MEMORY_MIB}MiB }}, grants: {{ postgres: \"host=/nowhere\" }} }}"
    );
    let said = r"\u{1b}]0;title\u{7}\nforged line\u{202e}";
    fails(&world, "escapes", &section, 1, &[said]).await;
}
