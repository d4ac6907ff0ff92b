//! Every process with the rights that it needs, and no more.

use tests::harness::World;

use crate::replicate::setup::{SET, configuration};

/// Before, one connection string served the administrator, the relay and the loader, and
/// every example was a superuser's.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_a_superuser_and_everything_works() {
    let world = World::start().await;
    world.zookeeper().await;
    let cluster = world.cluster();
    let (source, target) = (world.source("rights").await, world.target("rights").await);
    const TABLES: &str =
        "CREATE TABLE accounts (id bigint PRIMARY KEY, name text, secret text); CREATE TABLE notes (id int PRIMARY KEY, x int)";
    // What a superuser does once.
    source
        .execute(&format!(
            "CREATE ROLE app_{cluster}; CREATE ROLE admin_{cluster} LOGIN; CREATE ROLE relay_{cluster} LOGIN; CREATE ROLE loader_{cluster} LOGIN;
             CREATE ROLE \"pgshovel:{cluster}\" NOLOGIN; GRANT \"pgshovel:{cluster}\" TO admin_{cluster}; ALTER DEFAULT PRIVILEGES IN SCHEMA pgq GRANT USAGE ON SEQUENCES TO \"pgshovel:{cluster}\";
             GRANT CREATE ON DATABASE {name} TO admin_{cluster}; GRANT app_{cluster} TO admin_{cluster}; GRANT pgq_admin TO admin_{cluster}; GRANT pgq_reader, pg_read_all_stats TO admin_{cluster} WITH ADMIN OPTION;
             CREATE SCHEMA app AUTHORIZATION app_{cluster}; SET ROLE app_{cluster}; SET search_path = app; {TABLES}; INSERT INTO accounts SELECT i, 'n' || i, 'hidden' FROM generate_series(1, 500) i;
             CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100); RESET ROLE",
            name = source.name()
        ))
        .await;
    target
        .execute(&format!(
            "CREATE ROLE sink_{cluster} LOGIN; CREATE SCHEMA pgshovel AUTHORIZATION sink_{cluster}; CREATE SCHEMA app; SET search_path = app; {TABLES}; CREATE TABLE part (id int PRIMARY KEY);
             GRANT USAGE ON SCHEMA app TO sink_{cluster}; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA app TO sink_{cluster}"
        ))
        .await;
    let of = |role: &str| source.dsn().replace("user=postgres", &format!("user={role}_{cluster}"));
    let set = format!(
        "database {{ dsn: {:?} }}\ntables {{ schema: \"app\" name: \"accounts\" primary_keys: \"id\" columns: \"name\" }}\ntables {{ schema: \"app\" name: \"notes\" primary_keys: \"id\" }}\n\
         tables {{ schema: \"app\" name: \"part\" primary_keys: \"id\" }}\n",
        of("admin")
    );
    world.write("set.pgshovel", &set);
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
    world.write("replicate.yaml", &configuration(&target.uri().replace("postgres@", &format!("sink_{cluster}@")), ""));
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let (relay_role, loader_role) = (format!("relay_{cluster}"), format!("loader_{cluster}"));
    let told = world.pgshovel(["set", "create", SET, "set.pgshovel"]).succeeds().await;
    assert!(
        told.contains("GRANT pgq_reader, pg_read_all_stats TO") && told.contains("GRANT SELECT ON \"app\".\"accounts\" TO \"loader_role\""),
        "{told}"
    );
    // PgQ itself lets roles of the database become its owner, as it comes: that is said, with what closes it.
    let (_, remedy) = told.split_once("find names by the search_path").unwrap();
    let (remedy, _) = remedy.split_once("END $$;").unwrap();
    let (_, remedy) = remedy.split_once("DO $$").unwrap();
    source.execute(&format!("DO $$ {remedy} END $$;")).await;
    world.pgshovel(["set", "drop", SET]).succeeds().await;
    let told = world.pgshovel(["set", "create", SET, "set.pgshovel"]).succeeds().await;
    assert!(!told.contains("WARNING"), "{told}");
    let roles = ["--relay-role", &relay_role, "--loader-role", &loader_role];
    world.pgshovel([&["set", "update", SET, "set.pgshovel"][..], &roles].concat()).succeeds().await;

    let as_role = |role: &str| format!("user={role}_{cluster}");
    let mut relay = world
        .pgshovel(["relay", "relay.yaml", SET, "--rotation-period", "1"])
        .env("PGSHOVEL_SOURCE_DSN", as_role("relay"))
        .allow("TRUNCATE of this partition alone is not captured")
        .start()
        .await;
    relay.logs("this relay makes the queue's ticks").await;
    let mut worker =
        world.pgshovel(["replicate", "replicate.yaml", SET, "--bootstrap"]).env("PGSHOVEL_SOURCE_DSN", as_role("loader")).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    source.execute("SET search_path = app; INSERT INTO accounts VALUES (1000, 'new'); UPDATE accounts SET name = 'changed' WHERE id < 10; DELETE FROM accounts WHERE id = 20; INSERT INTO notes VALUES (1), (2); TRUNCATE notes; INSERT INTO notes VALUES (3); INSERT INTO part VALUES (1), (2); TRUNCATE part_1; INSERT INTO part VALUES (3)").await;
    source
        .execute(&format!(
            "SET search_path = app; SET ROLE app_{cluster}; CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200); RESET ROLE; INSERT INTO part VALUES (101)"
        ))
        .await;
    relay.logs("the queue's tables are rotated").await;
    source.execute("INSERT INTO app.notes VALUES (4)").await;
    // The relay looks the new column's type up.
    target.execute("ALTER TABLE app.notes ADD y int").await;
    source.execute("ALTER TABLE app.notes ADD y int; INSERT INTO app.notes VALUES (5, 6, 7)").await;
    for (table, columns) in [("accounts", "id, name"), ("notes", "id, x, y"), ("part", "id")] {
        let sql = format!("SELECT md5(string_agg(concat_ws(' ', {columns}), ';' ORDER BY id)) FROM app.{table}");
        tests::harness::eventually(table, crate::replicate::setup::SOON, || async {
            let (from, to) = (source.value(&sql).await, target.value(&sql).await);
            if from == to { Ok(()) } else { Err(format!("{from:?} {to:?}")) }
        })
        .await;
    }
    let told = world.pgshovel(["set", "check", SET]).env("PGSHOVEL_SOURCE_DSN", as_role("relay")).fails(1).await;
    assert!(told.contains("the partition app.part_2 is new, and TRUNCATE of it alone is not captured"), "{told}");
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    // The administrator mends what the relay had no right to.
    world.pgshovel(["set", "update", SET, "set.pgshovel"]).succeeds().await;
    world.pgshovel(["set", "check", SET]).env("PGSHOVEL_SOURCE_DSN", as_role("relay")).succeeds().await;

    // What is not needed is not allowed.
    for (role, sql) in [
        ("relay", "SET ROLE pgq_admin"),
        ("relay", "UPDATE pgq.queue SET queue_data_pfx = 'app.accounts'"),
        ("relay", "UPDATE pgq.subscription SET sub_last_tick = 1"),
        ("relay", "DELETE FROM pgq.tick"),
        ("relay", "INSERT INTO pgq.tick SELECT * FROM pgq.tick"),
        ("relay", "SELECT pgq.ticker('pgshovel:@:app')"),
        ("relay", "SELECT pgq.ticker('pgshovel:@:app', 1000000, now(), 1)"),
        ("relay", "SELECT pgq.set_queue_config('pgshovel:@:app', 'rotation_period', '1 s')"),
        ("relay", "SELECT pgq.maint_rotate_tables_step1('pgshovel:@:app')"),
        ("relay", "SELECT pgq.insert_event('pgshovel:@:app', 'I', '{}')"),
        ("relay", "SELECT pgq.drop_queue('pgshovel:@:app', true)"),
        ("relay", "SELECT nextval((SELECT queue_event_seq FROM pgq.queue WHERE queue_name = 'pgshovel:@:app'))"),
        ("relay", "SELECT pgshovel_@.switch('app')"),
        ("relay", "SELECT \"pgshovel:@\".rows_of('app.part_1'::regclass, 'SELECT 1')"),
        ("relay", "CREATE OR REPLACE FUNCTION pgshovel_@.own(in_set text) RETURNS boolean LANGUAGE sql AS 'SELECT true'"),
        ("loader", "SELECT pgshovel_@.own('app')"),
        ("relay", "SELECT FROM app.accounts"),
        ("relay", "INSERT INTO app.notes VALUES (9)"),
        ("relay", "UPDATE pgshovel_@.sets SET version = 'x'"),
        ("relay", "DELETE FROM pgshovel_@.relations"),
        ("relay", "INSERT INTO \"pgshovel:@\".app (ev_type) VALUES ('I')"),
        ("relay", "CREATE TABLE public.mine (id int)"),
        ("relay", "COPY (SELECT 1) TO PROGRAM 'true'"),
        ("relay", "SELECT pg_read_file('PG_VERSION')"),
        ("loader", "SELECT FROM pgq.event_template"),
        ("loader", "SELECT FROM pgshovel_@.relations"),
        ("loader", "INSERT INTO app.notes VALUES (9)"),
        ("loader", "SELECT pgq.ticker('pgshovel:@:app')"),
        ("loader", "COPY (SELECT 1) TO PROGRAM 'true'"),
    ] {
        let client = pgshovel::postgres::connect::connect(&of(role), "test").await.unwrap();
        let error = client.batch_execute(&sql.replace('@', &cluster)).await.expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{role}: {sql}: {error:?}");
    }
    // Of its own set's queue it may do what a relay does, and of no other: names are no SQL.
    source.execute("SELECT pgq.create_queue('other'); UPDATE pgq.queue SET queue_ticker_paused = true WHERE queue_name = 'other'").await;
    let before = "SELECT string_agg(md5(t::text), ',' ORDER BY tick_queue, tick_id) || (SELECT md5(string_agg(q::text, ',' ORDER BY queue_id)) FROM pgq.queue q) FROM pgq.tick t";
    let kept = source.value(before).await;
    let client = pgshovel::postgres::connect::connect(&of("relay"), "test").await.unwrap();
    for name in ["../other", "' OR true --", "%", "', 1); UPDATE pgq.queue SET queue_ntables = 9; --", "app_", "APP", ""] {
        for sql in ["own($1)", "draw_first($1)", "tick($1, 1)", "thin($1, 0)", "forget($1, 'app.part_1')"] {
            client.query(&format!("SELECT pgshovel_{cluster}.{sql}"), &[&name]).await.unwrap();
        }
        // There is no such queue to rotate.
        assert!(client.query(&format!("SELECT pgshovel_{cluster}.rotate($1, true)"), &[&name]).await.is_err());
        assert!(client.query(&format!("SELECT pgshovel_{cluster}.rotate($1, false)"), &[&name]).await.is_err());
    }
    // A partition is looked into by who has locked it, and that takes a right on it.
    for table in ["app.part_1", "app.accounts", "pg_catalog.pg_authid"] {
        let sql = format!(
            "SELECT pgshovel_{cluster}.holds_rows('app', (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname || '.' || relname = $1))"
        );
        assert_eq!(client.query_one(&sql, &[&table]).await.unwrap().get::<_, Option<bool>>(0), None, "{table}");
    }
    assert_eq!(source.value(before).await, kept);
    drop(client);
    world.pgshovel(["set", "drop", SET]).succeeds().await;
    source.execute(&format!("DROP OWNED BY app_{cluster}, admin_{cluster}, relay_{cluster}, loader_{cluster} CASCADE; DROP ROLE app_{cluster}, admin_{cluster}, relay_{cluster}, loader_{cluster}")).await;
    target.execute(&format!("DROP OWNED BY sink_{cluster} CASCADE; DROP ROLE sink_{cluster}")).await;
}
