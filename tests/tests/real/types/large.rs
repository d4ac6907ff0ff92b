//! Large rows and transactions: they arrive, and memory does not grow with a transaction.
//!
//! `PGSHOVEL_TEST_EVENTS` and `PGSHOVEL_TEST_ROW_MB` make them larger than a test of every
//! day can have them: 5000000 and 100 are what the README promises.

use std::time::{Duration, Instant};

use tests::harness::{Database, Running, World, eventually};

use super::setup::{MEMORY, Pipeline, Stream, create_set, table};

const MIB: u64 = 1 << 20;

/// What a row larger than usual takes: see `pgshovel set create --help`.
const MORE_MEMORY: &str = "1GiB";

fn size(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

/// The most memory that a process ever had, in MiB.
fn peak(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024 / MIB
}

async fn setting(name: &'static str) -> (World, Database, Database) {
    let world = World::start().await;
    world.zookeeper().await;
    let (source, target) = (world.source(name).await, world.target(name).await);
    for database in [&source, &target] {
        database.execute("CREATE TABLE many (id bigint PRIMARY KEY, v text); CREATE TABLE big (id int PRIMARY KEY, n int, v text)").await;
    }
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    create_set(&world, &source, name, &(table("many", &["id"], "") + &table("big", &["id"], ""))).await;
    (world, source, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_arrives_in_bounded_memory() {
    let (world, source, target) = setting("many").await;
    let mut pipeline = Pipeline::start(&world, "many", Stream::File, target, MEMORY).await;
    pipeline.worker.logs("\"phase\":\"catching-up\"").await;
    // Whatever size it has, a transaction of so many events takes no more than one of these.
    source.execute("INSERT INTO many SELECT -n, 'row ' || n FROM generate_series(1, 50000) n").await;
    pipeline.target.equals(&source, "public.many").await;
    let before = [peak(&pipeline.relay), peak(&pipeline.worker)];
    let rows = size("PGSHOVEL_TEST_EVENTS", 200_000) / 5 * 2;
    let started = Instant::now();
    source
        .execute(&format!(
            "BEGIN; INSERT INTO many SELECT n, 'row ' || n FROM generate_series(1, {rows}) n; UPDATE many SET v = v || '!' WHERE id > 0;
             DELETE FROM many WHERE id > 0 AND id % 2 = 0; COMMIT"
        ))
        .await;
    let written = started.elapsed();
    eventually("the transaction in the target", Duration::from_secs(3600), || async {
        let found = pipeline.target.count("many WHERE id > 0").await;
        if found == rows / 2 { Ok(()) } else { Err(format!("{found} rows")) }
    })
    .await;
    let arrived = started.elapsed();
    pipeline.target.equals(&source, "public.many").await;
    let after = [peak(&pipeline.relay), peak(&pipeline.worker)];
    println!(
        "{} events: written in {written:?}, arrived in {arrived:?}; relay and worker at most {after:?} MiB, {before:?} before",
        rows * 5 / 2
    );
    for (process, (before, after)) in ["relay", "worker"].into_iter().zip(before.into_iter().zip(after)) {
        assert!(after < before + 128, "the {process} grew from {before} to {after} MiB");
    }
    pipeline.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_row_is_loaded_inserted_updated_and_deleted() {
    let (world, source, target) = setting("big").await;
    let mb = size("PGSHOVEL_TEST_ROW_MB", 24);
    // Does not compress to nothing.
    let row = format!("(SELECT string_agg(md5(n::text), '') FROM generate_series(1, {}) n)", mb * 1_000_000 / 32);
    source.execute(&format!("INSERT INTO big SELECT 1, 1, v FROM {row} AS l (v)")).await;
    let mut pipeline = Pipeline::start(&world, "big", Stream::File, target, if mb > 24 { MORE_MEMORY } else { MEMORY }).await;
    pipeline.worker.logs("\"phase\":\"catching-up\"").await;
    assert_eq!(pipeline.target.count("public.big").await, 1);
    for change in [
        "UPDATE big SET n = 2",
        "INSERT INTO big SELECT 2, 2, v FROM big",
        "UPDATE big SET id = id + 10 WHERE id = 2",
        "DELETE FROM big WHERE id = 1",
    ] {
        source.execute(change).await;
        pipeline.target.equals(&source, "public.big").await;
    }
    println!("a row of {mb} MB: relay and worker at most {} and {} MiB", peak(&pipeline.relay), peak(&pipeline.worker));
    pipeline.end().await;
}
