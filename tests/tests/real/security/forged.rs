//! Nobody writes into a set's queue but its triggers.

use tests::harness::World;

/// PgQ gives its role pgq_writer a function that inserts events. Before, a member of it
/// forged changes, and stopped the relay for good with an event that was none.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_pgq_writer_inserts_no_event() {
    let world = World::start().await;
    world.zookeeper().await;
    let cluster = world.cluster();
    let source = world.source("forged").await;
    source.execute(&format!("CREATE TABLE a (id int PRIMARY KEY, x int); CREATE ROLE writer_{cluster} LOGIN; GRANT pgq_writer TO writer_{cluster}; GRANT INSERT ON a TO writer_{cluster}")).await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    world.write("set.pgshovel", &format!("database {{ dsn: {:?} }}\ntables {{ name: \"a\" primary_keys: \"id\" }}\n", source.dsn()));
    world.pgshovel(["set", "create", "s", "set.pgshovel"]).succeeds().await;
    let queue = format!("pgshovel:{cluster}:s");
    let refuse = async || {
        let dsn = source.dsn().replace("user=postgres", &format!("user=writer_{cluster}"));
        let writer = pgshovel::postgres::connect::connect(&dsn, "test").await.unwrap();
        for sql in [
            format!("SELECT pgq.insert_event('{queue}', 'I', '{{\"id\":4242}}', 'public.a', NULL, 'v', 'j1')"),
            format!("SELECT pgq.insert_event('{queue}', 'poison', 'x')"),
            format!("SELECT pgq.insert_event_raw('{queue}', 1, now(), NULL, NULL, 'I', 'x', NULL, NULL, NULL, NULL)"),
            format!("SELECT pgq.current_event_table('{queue}')"),
            format!("SELECT pgq.event_retry_raw('{queue}', 'default', now(), 1, now(), 0, 'I', 'x', NULL, NULL, NULL, NULL)"),
            format!("SELECT pgq.set_queue_config('{queue}', 'disable_insert', 'false')"),
            format!("UPDATE pgq.queue SET queue_disable_insert = false WHERE queue_name = '{queue}'"),
            "INSERT INTO pgq.event_template (ev_type) VALUES ('I')".to_owned(),
            format!("INSERT INTO \"pgshovel:{cluster}\".s (ev_type) VALUES ('I')"),
        ] {
            writer.batch_execute(&sql).await.expect_err(&sql);
        }
        // Its rows are captured, since triggers do not ask PgQ.
        writer.batch_execute("INSERT INTO a VALUES ((random() * 1e9)::int, 1)").await.unwrap();
    };
    refuse().await;
    // Whoever may change the queue's settings does not keep it open: a relay closes it again.
    source.execute(&format!("UPDATE pgq.queue SET queue_disable_insert = false WHERE queue_name = '{queue}'")).await;
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ., mode: read-write } }\n");
    let mut relay = world.pgshovel(["relay", "relay.yaml", "s"]).start().await;
    relay.logs("this relay makes the queue's ticks").await;
    let closed = format!("SELECT queue_disable_insert::text FROM pgq.queue WHERE queue_name = '{queue}'");
    while source.value(&closed).await.as_deref() != Some("true") {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    refuse().await;
    assert_eq!(relay.terminate().await.code, Some(0));
    assert_eq!(source.value("SELECT count(*) FROM pgq.event_template").await.as_deref(), Some("2"));
    source.execute(&format!("DROP OWNED BY writer_{cluster}; DROP ROLE writer_{cluster}")).await;
}
