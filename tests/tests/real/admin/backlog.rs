//! Queues that nobody reads, or not fast enough.

use std::time::Duration;

use tests::harness::{Running, eventually};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_nobody_reads_is_reported() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let check = |words: &str| world.pgshovel(["set", "check"].into_iter().chain(words.split(' ')));
    let quiet = check("s --lag-max 0").succeeds().await;
    assert!(quiet.contains("default") && quiet.contains("none"), "{quiet}");

    source.execute("INSERT INTO a SELECT i, i, repeat('x', 100) FROM generate_series(1, 1000) i").await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    let told = check("s --queue-bytes-max 100000").fails(1).await;
    for text in
        ["set \"s\"", &queue, "KiB of disk, more than 97.7 KiB", " unread events, the oldest ", "no relay reads them", "pgshovel relay"]
    {
        assert!(told.contains(text), "{text}: {told}");
    }
    check("s --queue-bytes-max 100000000 --lag-max 3600").succeeds().await;
    source.execute("SELECT pg_sleep(1.1)").await;
    let told = check("--all --lag-max 1").fails(1).await;
    assert!(told.contains(" s behind, more than 1 s"), "{told}");
    check("s --all").fails(2).await;
    check("nobody").fails(3).await;

    // Somebody else's consumer is named.
    source.execute(&format!("SELECT pgq.register_consumer('{queue}', 'stranger')")).await;
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ., mode: read-write } }\n");
    let relay = || {
        world.pgshovel(["relay", "relay.yaml", "s", "--queue-bytes-max", "100000", "--rotation-period", "1"]).allow("of disk, more than")
    };
    let mut relay = (relay().start().await, relay().start().await);
    for running in [&mut relay.0, &mut relay.1] {
        // The one that stands by says it too.
        let line = running.logs("of disk, more than").await;
        assert!(line.contains("WARN") && line.contains(&queue), "{line}");
    }
    let json = async || -> serde_json::Value { serde_json::from_str(&check("s --format json").succeeds().await).unwrap() };
    let found = eventually("the relay has read all", Duration::from_secs(90), || async {
        let found = json().await;
        let consumers = &found[0]["queue"]["consumers"];
        let read = consumers[0]["name"] == "default" && consumers[0]["unread_events"] == 0;
        if read { Ok(found) } else { Err(found.to_string()) }
    })
    .await;
    let (default, stranger) = (&found[0]["queue"]["consumers"][0], &found[0]["queue"]["consumers"][1]);
    assert!(default["relay"].as_str().unwrap().starts_with("pgshovel relay ") && stranger["relay"].is_null(), "{found}");
    source.execute("INSERT INTO a VALUES (2000, 1, '')").await;
    let told = eventually("the stranger is behind", Duration::from_secs(90), || async {
        let ended = check("s --lag-max 0").run().await;
        if ended.stderr.contains("consumer \"stranger\"") { Ok(ended.stderr) } else { Err(ended.stderr) }
    })
    .await;
    assert!(told.contains(&format!("pgq.unregister_consumer('{queue}', 'stranger')")), "{told}");
    terminate(relay).await;

    let list: serde_json::Value = serde_json::from_str(&world.pgshovel(["set", "list", "--format", "json"]).succeeds().await).unwrap();
    assert!(list[0]["queue"]["bytes"].as_u64().unwrap() > 100_000, "{list}");
    let table = world.pgshovel(["set", "inspect", "s", "--format", "table"]).succeeds().await;
    assert!(table.contains("stranger") && table.contains(" of disk, "), "{table}");
}

async fn terminate(relays: (Running, Running)) {
    for running in [relays.1, relays.0] {
        assert_eq!(running.terminate().await.code, Some(0));
    }
}

/// A database that is away is no reason for silence, nor for not showing the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_looked_at_is_reported() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let gone = world.source("gone").await;
    gone.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    create(&world, "gone", &configuration(&gone.dsn(), &[("a", &[])])).await;
    source.execute(&format!("DROP DATABASE {} WITH (FORCE)", gone.name())).await;
    let told = world.pgshovel(["set", "check", "--all"]).fails(1).await;
    assert!(told.contains("set \"gone\": its queue cannot be looked at") && !told.contains("set \"s\""), "{told}");
    let list: serde_json::Value = serde_json::from_str(&world.pgshovel(["set", "list", "--format", "json"]).succeeds().await).unwrap();
    assert!(list[0]["queue_error"].is_string() && list[1]["queue"].is_object(), "{list}");
}

/// What a migration puts in the place of a table has no triggers.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_replaced_is_reported() {
    let (world, source) = setting().await;
    source
        .execute("CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT")
        .await;
    let text = configuration(&source.dsn(), &[("a", &[]), ("b", &["x"]), ("part", &[])]);
    create(&world, "s", &text).await;
    let check = || world.pgshovel(["set", "check", "s"]);
    check().succeeds().await;
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ., mode: read-write } }\n");
    let mut relay = world.pgshovel(["relay", "relay.yaml", "s"]).allow("is unknown: run `set update`").start().await;
    source
        .execute(
            "CREATE TABLE new (LIKE a INCLUDING ALL); ALTER TABLE a RENAME TO old; ALTER TABLE new RENAME TO a;
             ALTER TABLE part DISABLE TRIGGER ALL",
        )
        .await;
    let told = check().fails(1).await;
    let words = [
        "set \"s\": the table public.a was renamed or replaced",
        "on public.part is disabled (and 4 more",
        "bootstrap the targets of public.a, public.part, public.part_1",
    ];
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
    let line = relay.logs("is unknown: run `set update`").await;
    assert!(line.contains("ERROR") && line.contains("public.a, public.part"), "{line}");
    source.execute("DROP TABLE old").await;
    world.write("set.pgshovel", &text);
    world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    check().succeeds().await;
    source.execute("INSERT INTO a VALUES (1, 2, 'three')").await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    assert_eq!(replay(&source, &queue, "public.a").await, rows(&source, "a").await);
    assert_eq!(relay.terminate().await.code, Some(0));
}
