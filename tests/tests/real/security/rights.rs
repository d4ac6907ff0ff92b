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
             GRANT CREATE ON DATABASE {name} TO admin_{cluster}; GRANT app_{cluster} TO admin_{cluster}; GRANT pgq_admin, pg_read_all_stats TO admin_{cluster} WITH ADMIN OPTION;
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
    assert!(told.contains("GRANT pgq_admin") && told.contains("GRANT SELECT ON \"app\".\"accounts\" TO \"loader_role\""), "{told}");
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
        ("relay", "SELECT FROM app.accounts"),
        ("relay", "INSERT INTO app.notes VALUES (9)"),
        ("relay", "UPDATE pgshovel_@.sets SET version = 'x'"),
        ("relay", "DELETE FROM pgshovel_@.relations"),
        ("relay", "INSERT INTO \"pgshovel:@\".app (ev_type) VALUES ('I')"),
        ("relay", "CREATE TABLE public.mine (id int)"),
        ("relay", "COPY (SELECT 1) TO PROGRAM 'true'"),
        ("relay", "SELECT pg_read_file('PG_VERSION')"),
        ("loader", "SELECT FROM pgq.event_1"),
        ("loader", "SELECT FROM pgshovel_@.relations"),
        ("loader", "INSERT INTO app.notes VALUES (9)"),
        ("loader", "SELECT pgq.ticker('pgshovel:@:app')"),
        ("loader", "COPY (SELECT 1) TO PROGRAM 'true'"),
    ] {
        let client = pgshovel::postgres::connect::connect(&of(role), "test").await.unwrap();
        let error = client.batch_execute(&sql.replace('@', &cluster)).await.expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{role}: {sql}: {error:?}");
    }
    world.pgshovel(["set", "drop", SET]).succeeds().await;
    source.execute(&format!("DROP OWNED BY app_{cluster}, admin_{cluster}, relay_{cluster}, loader_{cluster} CASCADE; DROP ROLE app_{cluster}, admin_{cluster}, relay_{cluster}, loader_{cluster}")).await;
    target.execute(&format!("DROP OWNED BY sink_{cluster} CASCADE; DROP ROLE sink_{cluster}")).await;
}
