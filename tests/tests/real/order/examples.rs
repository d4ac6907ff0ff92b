//! What once went wrong, from the source into a target.

use tests::harness::World;

use crate::types::setup::{MEMORY, Pipeline, Stream, create_set, table};

/// Makes the tables in source and target, writes `before` and `change` while relay and worker
/// run, and waits until all rows are equal.
async fn arrives(schema: &str, tables: &[&str], before: &str, change: &str) {
    let world = World::start().await;
    world.zookeeper().await;
    let (source, target) = (world.source("order").await, world.target("order").await);
    source.execute(schema).await;
    // As after pg_dump --schema-only: with the triggers and foreign keys.
    target.execute(schema).await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let configuration: String = tables.iter().map(|name| table(name, &["id"], "")).collect();
    create_set(&world, &source, "s", &configuration).await;
    source.execute(before).await;
    let mut pipeline = Pipeline::start(&world, "s", Stream::File, target, MEMORY).await;
    for name in tables {
        pipeline.target.equals(&source, &format!("public.{name}")).await;
    }
    // What is written from here on is not of the loaded rows.
    pipeline.worker.logs("\"phase\":\"catching-up\"").await;
    source.execute(change).await;
    for name in tables {
        pipeline.target.equals(&source, &format!("public.{name}")).await;
    }
    world.pgshovel(["stream", "lint", "s.yaml", "s", "--strict", "--wait", "1"]).succeeds().await;
    pipeline.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_foreign_keys_cause_arrives() {
    arrives(
        "CREATE TABLE users (id int PRIMARY KEY);
         CREATE TABLE docs (id int PRIMARY KEY, owner int REFERENCES users ON DELETE CASCADE, editor int REFERENCES users ON DELETE SET NULL)",
        &["users", "docs"],
        "INSERT INTO users VALUES (1), (2), (3); INSERT INTO docs VALUES (1, 2, 1), (2, 1, 2), (3, 3, 1)",
        "DELETE FROM users WHERE id IN (1, 2)",
    )
    .await;
}

/// A trigger that writes to its own row.
fn counting(table: &str) -> String {
    format!(
        "CREATE TABLE h (id int PRIMARY KEY, v int, n int DEFAULT 0) {table};
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE h SET n = n + 1 WHERE id = NEW.id; RETURN NULL; END$$;
         CREATE TRIGGER z AFTER UPDATE OF v ON h FOR EACH ROW EXECUTE FUNCTION f();
         CREATE TRIGGER a AFTER UPDATE OF v ON h FOR EACH ROW EXECUTE FUNCTION f()"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_does_to_its_own_row_arrives() {
    arrives(&counting(""), &["h"], "INSERT INTO h VALUES (1, 1), (2, 1)", "UPDATE h SET v = 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_does_to_its_own_row_of_a_partition_arrives() {
    let partitions = "PARTITION BY RANGE (id); CREATE TABLE h_1 PARTITION OF h FOR VALUES FROM (0) TO (2); \
                      CREATE TABLE h_2 PARTITION OF h FOR VALUES FROM (2) TO (9)";
    arrives(
        &counting(partitions),
        &["h"],
        "INSERT INTO h VALUES (1, 1), (2, 1)",
        "UPDATE h SET v = 2; UPDATE h SET v = 3, id = id + 1 WHERE id = 2",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_one_statement_deletes_and_inserts_arrives() {
    arrives(
        "CREATE TABLE c (id int PRIMARY KEY, v text)",
        &["c"],
        "INSERT INTO c VALUES (1, 'old')",
        "WITH d AS (DELETE FROM c WHERE id = 1 RETURNING id) INSERT INTO c SELECT 1, 'new' WHERE EXISTS (SELECT FROM d)",
    )
    .await;
}

/// A transaction that does not see all rows of a partition cannot say which ones it takes away.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_not_truncated_by_who_does_not_see_it() {
    let world = World::start().await;
    world.zookeeper().await;
    let source = world.source("order").await;
    source
        .execute(
            "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (9);
             CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (9) TO (99); INSERT INTO p VALUES (1), (2), (10)",
        )
        .await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    create_set(&world, &source, "s", &table("p", &["id"], "")).await;
    let events =
        || source.value("SELECT string_agg(ev_type || coalesce(ev_data, ev_extra2, ''), ' ' ORDER BY ev_id) FROM pgq.event_template");
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let old = source.connect().await;
        old.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM p")).await.unwrap();
        source.execute("DELETE FROM p WHERE id = 1; INSERT INTO p VALUES (1)").await;
        let error = old.batch_execute("TRUNCATE p_1").await.unwrap_err();
        let refusal = error.as_db_error().unwrap();
        let (message, hint) = (refusal.message(), refusal.hint().unwrap_or_default());
        assert!(
            message.contains("TRUNCATE of the partition public.p_1") && message.ends_with(isolation) && hint.contains("READ COMMITTED"),
            "{error:?}"
        );
    }
    // The whole table is one event, whatever there is in it.
    let old = source.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM p").await.unwrap();
    source.execute("INSERT INTO p VALUES (3)").await;
    old.batch_execute("TRUNCATE p; COMMIT").await.unwrap();
    source.execute("INSERT INTO p VALUES (4), (11); TRUNCATE p_1").await;
    let expected = r#"D{"id":1} I{"id":1} D{"id":1} I{"id":1} I{"id":3} T I{"id":4} I{"id":11} D{"id":4}"#;
    assert_eq!(events().await.as_deref(), Some(expected));
}
