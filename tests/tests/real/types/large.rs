//! Large rows and transactions: they arrive, and memory does not grow with a transaction.
//!
//! `PGSHOVEL_TEST_EVENTS` and `PGSHOVEL_TEST_ROW_MB` make them larger than a test of every
//! day can have them: 5000000 and 100 are what the README promises.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
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

/// The value does not compress to nothing.
fn insert(id: u32, mb: u64) -> String {
    let values = mb * 1_000_000 / 32;
    format!("INSERT INTO big SELECT {id}, 1, string_agg(md5(n::text), '') FROM generate_series(1, {values}) n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_row_is_loaded_inserted_updated_and_deleted() {
    is_loaded_inserted_updated_and_deleted("big", Stream::File, size("PGSHOVEL_TEST_ROW_MB", 24)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_row_passes_kafka() {
    // An update holds it twice, and Kafka takes messages of up to 104 MB.
    is_loaded_inserted_updated_and_deleted("bigger", Stream::Kafka, size("PGSHOVEL_TEST_ROW_MB", 24).min(50)).await;
}

async fn is_loaded_inserted_updated_and_deleted(name: &'static str, stream: Stream, mb: u64) {
    let (world, source, target) = setting(name).await;
    source.execute(&insert(1, mb)).await;
    let mut pipeline = Pipeline::start(&world, name, stream, target, if mb > 24 { MORE_MEMORY } else { MEMORY }).await;
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

/// Of what is too large for the stream or for a plugin, nothing is lost: it waits for
/// what the message says to raise.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_waits_for_a_larger_limit() {
    let (world, source, target) = setting("limits").await;
    let brokers = world.kafka().await;
    let topic = world.topic("limits").await;
    let files = |memory: &str| {
        let stream = format!("stream: {{ path: kafka.wasm, configuration: {{ topic: {topic} }}, grants: {{ kafka: \"{brokers}\" }} }}");
        let target = format!("grants: {{ postgres: \"{}\" }}, limits: {{ memory: {memory} }}", target.uri());
        world.write(
            "limits.yaml",
            &format!("{stream}\nloader: {{ path: postgresql.wasm }}\ntarget: {{ path: postgresql.wasm, {target} }}\n"),
        );
    };
    files("32MiB");
    let mut relay = world.pgshovel(["relay", "limits.yaml", "limits"]).allow("larger than the broker takes").start().await;
    relay.logs("relayed").await;
    let mut worker = world.pgshovel(["replicate", "limits.yaml", "limits"]).allow("its 32MiB of memory").start().await;
    worker.logs("\"phase\":\"catching-up\"").await;

    // Kafka's own default is 1 MiB.
    source.execute(&insert(1, 20)).await;
    let ended = relay.wait().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&topic) && ended.stderr.contains("raise the topic's `max.message.bytes`"), "{}", ended.stderr);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let larger = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "104000000");
    for altered in admin.alter_configs([&larger], &AdminOptions::new()).await.unwrap() {
        altered.unwrap();
    }
    let relay = world.pgshovel(["relay", "limits.yaml", "limits"]).start().await;

    let ended = worker.wait().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("raise limits.memory in the section `target`"), "{}", ended.stderr);
    assert_eq!(target.count("public.big").await, 0);
    files(MEMORY);
    let worker = world.pgshovel(["replicate", "limits.yaml", "limits"]).start().await;
    target.equals(&source, "public.big").await;
    for running in [worker, relay] {
        assert_eq!(running.terminate().await.code, Some(0));
    }
}
