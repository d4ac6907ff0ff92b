//! Large rows and transactions: they arrive, and memory does not grow with a transaction.

use tests::harness::{Running, World};

use super::setup::{Pipeline, Stream, create_set, table};

const MIB: u64 = 1 << 20;

/// The most memory that a process ever had, in bytes.
fn peak(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn large_transactions_and_rows_arrive_in_bounded_memory() {
    let world = World::start().await;
    world.zookeeper().await;
    let (source, target) = (world.source("large").await, world.target("large").await);
    for database in [&source, &target] {
        database
            .execute("CREATE TABLE many (id bigint PRIMARY KEY, v text); CREATE TABLE big (id int PRIMARY KEY, n int, v text, b bytea)")
            .await;
    }
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    create_set(&world, &source, "large", &(table("many", &["id"], "") + &table("big", &["id"], ""))).await;
    let large = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500000) n)";
    source.execute(&format!("INSERT INTO big SELECT 1, 1, v, convert_to(v, 'UTF8') FROM {large} AS l (v)")).await;
    let mut pipeline = Pipeline::start(&world, "large", Stream::File, target, "").await;
    pipeline.worker.logs("\"phase\":\"catching-up\"").await;
    pipeline.target.equals(&source, "public.big").await;
    source.execute("UPDATE big SET n = 2; INSERT INTO big SELECT 2, 2, v, NULL FROM big; UPDATE big SET id = id + 10 WHERE id = 2").await;
    pipeline.target.equals(&source, "public.big").await;
    source.execute("DELETE FROM big").await;
    pipeline.target.equals(&source, "public.big").await;
    let before = [peak(&pipeline.relay), peak(&pipeline.worker)];

    source
        .execute(
            "BEGIN; INSERT INTO many SELECT n, 'row ' || n FROM generate_series(1, 150000) n; UPDATE many SET v = v || '!';
             DELETE FROM many WHERE id % 2 = 0; INSERT INTO many SELECT n, 'again' FROM generate_series(2, 100000, 2) n; COMMIT",
        )
        .await;
    pipeline.target.equals(&source, "public.many").await;
    let after = [peak(&pipeline.relay), peak(&pipeline.worker)];
    println!("peak MiB before the transaction {:?}, after {:?}", before.map(|bytes| bytes / MIB), after.map(|bytes| bytes / MIB));
    for (process, (before, after)) in ["relay", "worker"].into_iter().zip(before.into_iter().zip(after)) {
        assert!(after < before + 64 * MIB, "the {process} grew from {before} to {after} bytes");
    }
    pipeline.end().await;
}
