//! What people do to tables and triggers behind a set's back: it is captured all the same,
//! or said with its remedy within ten seconds.

use std::time::Duration;

use tests::harness::eventually;

use super::*;

/// What is done, what `set check` then says, and what `set update` needs first.
const TAMPERINGS: &[(&str, &str, &str)] = &[
    ("ALTER TABLE a DISABLE TRIGGER \"@:i\"", "the trigger \"@:i\" on public.a is disabled", ""),
    ("ALTER TABLE a DISABLE TRIGGER ALL; ALTER TABLE a ENABLE TRIGGER ALL", "on public.a is enabled but not ALWAYS", ""),
    ("ALTER TABLE a ENABLE REPLICA TRIGGER \"@:u\"", "the trigger \"@:u\" on public.a is enabled but not ALWAYS", ""),
    ("DROP TRIGGER \"@:d\" ON a", "the table public.a has no trigger \"@:d\"", ""),
    ("DROP TRIGGER \"@:b\" ON a; DROP TRIGGER \"@:t\" ON a", "the table public.a has no trigger \"@:b\"", ""),
    ("ALTER TRIGGER \"@:i\" ON a RENAME TO first", "the trigger \"@:i\" on public.a was renamed, and still captures", ""),
    (
        "CREATE OR REPLACE TRIGGER \"@:u\" AFTER UPDATE ON a FOR EACH ROW WHEN (false) EXECUTE FUNCTION \"pgshovel:#\".never()",
        "the table public.a has no trigger \"@:u\"",
        "",
    ),
    ("REASSIGN OWNED BY postgres TO stranger_#", "has another owner", ""),
    (
        "DO $$ BEGIN EXECUTE (SELECT format('ALTER FUNCTION %s OWNER TO stranger_#', p.oid::regprocedure) FROM pg_proc p WHERE p.proname LIKE 'a\\#%:i'); END $$",
        "or a function that it calls was replaced, or has another owner",
        "",
    ),
    (
        "CREATE OR REPLACE FUNCTION \"pgshovel:#\".altered(kind text, in_set text, key text, version text, configured oid, row_type oid, leaf oid, captured int2[], \"identity\" int2[], n record, o record) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
        "or a function that it calls was replaced",
        "",
    ),
    ("ALTER TABLE a SET UNLOGGED", "the table public.a was set unlogged", "ALTER TABLE a SET LOGGED"),
    ("ALTER TABLE part_1 DISABLE TRIGGER ALL", "on public.part_1 is disabled", ""),
    (
        "ALTER TABLE a DISABLE TRIGGER ALL; ALTER TABLE a ENABLE ALWAYS TRIGGER \"@:b\", ENABLE ALWAYS TRIGGER \"@:t\", ENABLE ALWAYS TRIGGER \"@:i\", ENABLE ALWAYS TRIGGER \"@:u\", ENABLE ALWAYS TRIGGER \"@:d\"",
        "on public.a is as it has to be again, but was changed",
        "",
    ),
    (
        "ALTER TABLE part_1 DISABLE TRIGGER \"@:i\"; ALTER TABLE part_1 ENABLE ALWAYS TRIGGER \"@:i\"",
        "\"@:i\" on public.part_1 is as it has to be again, but was changed",
        "",
    ),
    ("ALTER TABLE part DISABLE TRIGGER \"@:u\"", "on public.part is disabled", ""),
    ("DROP SCHEMA \"pgshovel:#\" CASCADE", "the table public.b has no trigger", ""),
    ("ALTER TABLE a RENAME TO other", "the table public.a was renamed or replaced by another one", "ALTER TABLE other RENAME TO a"),
];

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_are_not_as_they_have_to_be_are_said_and_mended() {
    let (world, source) = setting().await;
    let cluster = world.cluster();
    source
        .execute(&format!(
            "CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT; CREATE ROLE stranger_{cluster}"
        ))
        .await;
    let text = configuration(&source.dsn(), &[("a", &[]), ("b", &["x"]), ("part", &[])]);
    create(&world, "s", &text).await;
    let check = || world.pgshovel(["set", "check", "s"]);
    check().succeeds().await;
    let queue = format!("pgshovel:{cluster}:s");
    for (index, (tampering, words, first)) in TAMPERINGS.iter().enumerate() {
        // REASSIGN OWNED takes the database too, where it is run by its owner.
        if tampering.starts_with("REASSIGN") {
            source
                .execute(&format!(
                    "CREATE ROLE owner_{cluster} SUPERUSER; DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = '\"pgshovel:{cluster}\"'::regnamespace LOOP
                         EXECUTE format('ALTER FUNCTION %s OWNER TO owner_{cluster}', f); END LOOP; END $$;
                     REASSIGN OWNED BY owner_{cluster} TO stranger_{cluster}; DROP ROLE owner_{cluster}"
                ))
                .await;
        } else {
            source.execute(&fill(tampering, &cluster)).await;
        }
        let told = check().fails(1).await;
        let words = fill(words, &cluster);
        assert!(told.contains(&words) && told.contains("run `set update`"), "{tampering}: {told}");
        let loses = !words.contains("still captures");
        assert_eq!(told.contains("bootstrap the targets"), loses, "{tampering}: {told}");
        source.execute(&fill(first, &cluster)).await;
        world.write("set.pgshovel", &text);
        if tampering.contains(" TO stranger_") {
            // What the stranger could replace is not called.
            let told = world.pgshovel(["set", "update", "s", "set.pgshovel"]).fails(3).await;
            assert!(told.contains(&format!("belongs to stranger_{cluster}")), "{told}");
            source.execute(&format!("REASSIGN OWNED BY stranger_{cluster} TO postgres")).await;
        }
        let told = world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
        // What was put back by hand was never wrong to the update.
        assert_eq!(told.contains("--bootstrap"), loses && first.is_empty(), "{tampering}: {told}");
        check().succeeds().await;
        source.execute(&format!("TRUNCATE a, part; INSERT INTO a VALUES ({index}), (-1); UPDATE a SET x = 3; DELETE FROM a WHERE id = -1; INSERT INTO part VALUES (1, 2); UPDATE part SET x = 4")).await;
        assert_eq!(replay(&source, &queue, "public.a").await, rows(&source, "a").await, "{tampering}");
        assert_eq!(replay(&source, &queue, "public.part").await, rows(&source, "part").await, "{tampering}");
    }
    source.execute(&format!("DROP OWNED BY stranger_{cluster}; DROP ROLE stranger_{cluster}")).await;
}

fn fill(text: &str, cluster: &str) -> String {
    text.replace('@', &format!("pgshovel:{cluster}:s")).replace("\\#", "\u{0}").replace('#', cluster).replace('\u{0}', "#")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_says_within_ten_seconds_what_is_wrong_and_when_it_is_over() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ., mode: read-write } }\n");
    let mut relay = world.pgshovel(["relay", "relay.yaml", "s"]).allow("is disabled").start().await;
    relay.logs("this relay makes the queue's ticks").await;
    source.execute("ALTER TABLE a DISABLE TRIGGER ALL").await;
    let line = tokio::time::timeout(Duration::from_secs(60), relay.logs("is disabled")).await.unwrap();
    assert!(line.contains("ERROR") && line.contains("public.a") && line.contains("--bootstrap"), "{line}");
    world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    relay.logs("all triggers of the set are as they have to be again").await;
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// No kind of trigger stops fitting.
#[tokio::test(flavor = "multi_thread")]
async fn a_captured_table_may_become_a_partition_a_parent_and_a_child() {
    let (world, source) = setting().await;
    source.execute("CREATE TABLE whole (id int PRIMARY KEY, x int, y text) PARTITION BY RANGE (id)").await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[]), ("b", &[]), ("c", &["x"])])).await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    let same = async |what: &str| {
        for table in ["a", "b"] {
            assert_eq!(
                replay(&source, &queue, &format!("public.{table}")).await,
                rows(&source, &format!("ONLY {table}")).await,
                "{what}: {table}"
            );
        }
        let captured: Vec<String> = replay(&source, &queue, "public.c").await.into_keys().collect();
        assert_eq!(captured, rows(&source, "ONLY c").await.into_keys().collect::<Vec<_>>(), "{what}: c");
    };
    let write = "INSERT INTO a VALUES (@1, 1), (@2, 2), (@3, 3) ON CONFLICT DO NOTHING; UPDATE a SET y = 'u' WHERE id = @2; DELETE FROM a WHERE id = @3";
    source.execute(&write.replace('@', "1")).await;
    same("a plain table").await;
    source
        .execute("ALTER TABLE whole ATTACH PARTITION a FOR VALUES FROM (0) TO (1000); CREATE TABLE rest PARTITION OF whole DEFAULT")
        .await;
    source.execute(&write.replace('@', "2")).await;
    source
        .execute("INSERT INTO whole VALUES (31, 1), (32, 2), (5000, 3); UPDATE whole SET id = 33 WHERE id = 5000; UPDATE whole SET id = 6000 WHERE id = 31; UPDATE whole SET x = 9; DELETE FROM whole WHERE id = 32; TRUNCATE rest")
        .await;
    same("a partition").await;
    source.execute("TRUNCATE whole").await;
    same("truncated through its whole").await;
    source.execute(&write.replace('@', "4")).await;
    source.execute("ALTER TABLE whole DETACH PARTITION a; INSERT INTO whole VALUES (77)").await;
    source.execute(&write.replace('@', "5")).await;
    same("detached").await;
    source
        .execute("CREATE TABLE child (z int, PRIMARY KEY (id)) INHERITS (b); INSERT INTO child VALUES (1, 2, 'of the child', 3); INSERT INTO b VALUES (1, 2, 'of the parent'); UPDATE b SET x = 7; DELETE FROM b WHERE id = 1; INSERT INTO b VALUES (2)")
        .await;
    same("a parent").await;
    source.execute("CREATE TABLE above (id int, x int); ALTER TABLE c INHERIT above; INSERT INTO c VALUES (1, 2); UPDATE above SET x = 5; DELETE FROM above WHERE x = 4").await;
    same("a child").await;
    source.execute("TRUNCATE b; TRUNCATE above; INSERT INTO b VALUES (3)").await;
    same("truncated with its children").await;
    world.pgshovel(["set", "check", "s"]).succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_and_go_with_rows_are_said() {
    let (world, source) = setting().await;
    source
        .execute(
            "CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id);
             CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100); CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
             INSERT INTO part SELECT i FROM generate_series(0, 199) i; ANALYZE part_1, part_2;
             CREATE TABLE part_3 (id int PRIMARY KEY, x int); INSERT INTO part_3 SELECT i FROM generate_series(200, 249) i; ANALYZE part_3",
        )
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("part", &[])])).await;
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ., mode: read-write } }\n");
    let mut relay = world.pgshovel(["relay", "relay.yaml", "s"]).allow("a partition was").start().await;
    relay.logs("this relay makes the queue's ticks").await;
    source.execute("ALTER TABLE part ATTACH PARTITION part_3 FOR VALUES FROM (200) TO (300)").await;
    let line = relay.logs("a partition was attached").await;
    assert!(line.contains("public.part_3") && line.contains("about 50") && line.contains("bootstrap"), "{line}");
    // One that is made as a partition has nothing from before; one of two steps may.
    source.execute("CREATE TABLE part_4 PARTITION OF part FOR VALUES FROM (300) TO (400); INSERT INTO part VALUES (301), (302)").await;
    let line = relay.logs("public.part_4").await;
    assert!(line.contains("INFO") && line.contains("is captured"), "{line}");
    source
        .execute("BEGIN; CREATE TABLE part_5 (LIKE part INCLUDING ALL); INSERT INTO part_5 VALUES (401); ALTER TABLE part ATTACH PARTITION part_5 FOR VALUES FROM (400) TO (500); INSERT INTO part VALUES (402); COMMIT")
        .await;
    let line = relay.logs("public.part_5").await;
    assert!(line.contains("WARN") && line.contains("bootstrap"), "{line}");
    source
        .execute("CREATE TABLE part_6 (id int PRIMARY KEY, x int); ALTER TABLE part ATTACH PARTITION part_6 FOR VALUES FROM (500) TO (600)")
        .await;
    let line = relay.logs("public.part_6").await;
    assert!(line.contains("INFO"), "{line}");
    source.execute("ALTER TABLE part DETACH PARTITION part_1").await;
    let line = relay.logs("a partition was detached").await;
    assert!(line.contains("public.part_1") && line.contains("about 100"), "{line}");
    source.execute("DROP TABLE part_2").await;
    let line = relay.logs("a partition was dropped").await;
    assert!(line.contains("public.part_2") && line.contains("about 100"), "{line}");
    // What is detached is truncated without an event of the whole table; what is attached, with them.
    let prefix = source.value("SELECT queue_data_pfx FROM pgq.queue").await.unwrap();
    let count = format!("SELECT count(*) FROM {prefix} WHERE ev_extra1 = 'public.part' AND ev_type = 'D'");
    source.execute("TRUNCATE part_1").await;
    assert_eq!(source.value(&count).await.as_deref(), Some("0"));
    source.execute("TRUNCATE part_3").await;
    assert_eq!(source.value(&count).await.as_deref(), Some("50"));
    world.pgshovel(["set", "check", "s"]).succeeds().await;
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// The rows of a partition are captured before it is truncated. What a trigger writes to it
/// after that would stay in the targets.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_before_truncate_that_writes_to_the_partition_is_refused() {
    let (world, source) = setting().await;
    source
        .execute(
            "CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
             CREATE TABLE part_2 PARTITION OF part DEFAULT; CREATE TABLE other (id int); INSERT INTO part VALUES (1, 1), (200, 2);
             CREATE FUNCTION writes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE TG_ARGV[0]; RETURN NULL; END $$;
             CREATE TRIGGER zz BEFORE TRUNCATE ON other EXECUTE FUNCTION writes('INSERT INTO part VALUES (50)');
             CREATE TRIGGER aa AFTER TRUNCATE ON part_1 EXECUTE FUNCTION writes('INSERT INTO part VALUES (60)')",
        )
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("part", &[])])).await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    source.execute("DELETE FROM part; INSERT INTO part VALUES (1, 1), (200, 2)").await;
    let prefix = source.value("SELECT queue_data_pfx FROM pgq.queue").await.unwrap();
    source.execute(&format!("DELETE FROM {prefix} WHERE ev_type = 'D'")).await;
    let error = source.connect().await.batch_execute("TRUNCATE part_1, other").await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("BEFORE TRUNCATE writes to public.part"), "{error:?}");
    // What other triggers do harms nothing.
    source.execute("TRUNCATE other; DELETE FROM part WHERE id = 50; TRUNCATE part_1; TRUNCATE part_1, part_2; TRUNCATE part_1; BEGIN; TRUNCATE part_1; SAVEPOINT s; TRUNCATE part_1; ROLLBACK TO s; TRUNCATE part; COMMIT; INSERT INTO part VALUES (3), (300); TRUNCATE part_1").await;
    assert_eq!(replay(&source, &queue, "public.part").await, rows(&source, "part").await);
    world.pgshovel(["set", "check", "s"]).succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_partition_is_refused_or_said() {
    let (world, source) = setting().await;
    source
        .execute(
            "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; CREATE TABLE part (id int, x int) PARTITION BY LIST (id);
             CREATE TABLE part_1 (id int PRIMARY KEY, x int); ALTER TABLE part ATTACH PARTITION part_1 DEFAULT; CREATE TABLE keyed (id int PRIMARY KEY) PARTITION BY LIST (id);
             CREATE TABLE keyed_1 PARTITION OF keyed DEFAULT; CREATE FOREIGN TABLE far_1 (id int, x int) SERVER far",
        )
        .await;
    source.execute("ALTER TABLE part ATTACH PARTITION far_1 FOR VALUES IN (7)").await;
    world.write("set.pgshovel", &configuration(&source.dsn(), &[("part", &[])]));
    let told = world.pgshovel(["set", "create", "s", "set.pgshovel"]).fails(3).await;
    assert!(told.contains("public.far_1, a partition of public.part, is a foreign table"), "{told}");
}

/// TRUNCATE of a partition takes rows that the role of the set may not see.
#[tokio::test(flavor = "multi_thread")]
async fn truncate_under_row_security_is_captured_whole_or_refused() {
    let (world, source) = setting().await;
    let cluster = world.cluster();
    let secured = "CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT;
        INSERT INTO part SELECT i, i FROM generate_series(1, 10) i;
        ALTER TABLE part_1 ENABLE ROW LEVEL SECURITY; ALTER TABLE part_1 FORCE ROW LEVEL SECURITY; CREATE POLICY few ON part_1 USING (x < 3)";
    source.execute(secured).await;
    create(&world, "s", &configuration(&source.dsn(), &[("part", &[])])).await;
    source.execute("TRUNCATE part_1").await;
    let prefix = source.value("SELECT queue_data_pfx FROM pgq.queue").await.unwrap();
    assert_eq!(source.value(&format!("SELECT count(*) FROM {prefix} WHERE ev_type = 'D'")).await.as_deref(), Some("10"));

    // Another cluster, of a role that owns the tables and is subject to the policy.
    let limited = world.source("limited").await;
    let name = limited.name();
    limited
        .execute(&format!(
            "CREATE ROLE owner_{cluster} LOGIN; GRANT pgq_admin, pg_monitor TO owner_{cluster}; GRANT CREATE ON DATABASE {name} TO owner_{cluster}; GRANT CREATE ON SCHEMA public TO owner_{cluster};
             GRANT \"pgshovel:{cluster}\" TO owner_{cluster}; ALTER DEFAULT PRIVILEGES IN SCHEMA pgq GRANT USAGE ON SEQUENCES TO \"pgshovel:{cluster}\";
             SET ROLE owner_{cluster}; {secured}; RESET ROLE"
        ))
        .await;
    let dsn = limited.dsn().replace("user=postgres", &format!("user=owner_{cluster}"));
    world.write("limited.pgshovel", &configuration(&dsn, &[("part", &[])]));
    let told = world.pgshovel(["set", "create", "limited", "limited.pgshovel"]).fails(3).await;
    assert!(told.contains("row-level security hides rows of public.part_1") && told.contains("BYPASSRLS"), "{told}");
    limited.execute("ALTER TABLE part_1 NO FORCE ROW LEVEL SECURITY").await;
    world.pgshovel(["set", "create", "limited", "limited.pgshovel"]).succeeds().await;
    let prefix = limited.value("SELECT queue_data_pfx FROM pgq.queue").await.unwrap();
    let count = format!("SELECT count(*) FROM {prefix} WHERE ev_type = 'D'");
    limited.execute("TRUNCATE part_1; INSERT INTO part SELECT i, i FROM generate_series(1, 10) i").await;
    assert_eq!(limited.value(&count).await.as_deref(), Some("10"));
    // A policy that comes later cannot hide a row without a word.
    limited.execute("ALTER TABLE part_1 FORCE ROW LEVEL SECURITY").await;
    let error = limited.connect().await.batch_execute("TRUNCATE part_1").await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("row-level security"), "{error:?}");
    world.pgshovel(["set", "drop", "limited"]).succeeds().await;
    limited.execute(&format!("DROP OWNED BY owner_{cluster}; DROP ROLE owner_{cluster}")).await;
}

/// Its worker fires triggers that are ALWAYS, row by row, also while it copies a table.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_subscription_writes_is_captured() {
    let world = World::start().await;
    world.zookeeper().await;
    let publisher =
        tests::servers::Postgres::create(&world.fleet(), "publisher", &["wal_level = logical", "max_prepared_transactions = 10"]).unwrap();
    let origin = world.source_of(&publisher, "origin").await;
    let source = world.source("admin").await;
    origin.execute(TABLES).await;
    source.execute(TABLES).await;
    origin.execute("INSERT INTO a SELECT i, i FROM generate_series(1, 50) i; CREATE PUBLICATION p FOR TABLE a").await;
    origin.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    source.execute(&format!("CREATE SUBSCRIPTION s CONNECTION '{}' PUBLICATION p WITH (create_slot = false)", origin.dsn())).await;
    origin.execute("INSERT INTO a VALUES (100); UPDATE a SET x = -x WHERE id < 20; DELETE FROM a WHERE id > 40").await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    let arrived = async || {
        eventually("the subscription's rows", Duration::from_secs(60), || async {
            let (found, wanted) = (rows(&source, "a").await, rows(&origin, "a").await);
            if found == wanted { Ok(()) } else { Err(format!("{} of {} rows", found.len(), wanted.len())) }
        })
        .await;
        assert_eq!(replay(&source, &queue, "public.a").await, rows(&source, "a").await);
    };
    arrived().await;
    origin.execute("TRUNCATE a; INSERT INTO a VALUES (7)").await;
    arrived().await;
    world.pgshovel(["set", "check", "s"]).succeeds().await;
    source.execute("ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s").await;
}
