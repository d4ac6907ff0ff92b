//! Administration, relay and loader, each with a connection string of its own.

use super::*;
use tests::servers::postgres::WITH_PASSWORD;

/// The set's connection string holds neither user nor password; each process brings its own.
/// Relay and loader go by another way to the same database, with less than administration has.
///
/// Before, one connection string served all three, so relay and loader were the tables'
/// owner; PGUSER was not read, and without `user=` the password file was not asked (finding 8).
#[tokio::test]
async fn each_process_has_its_own_role() {
    let world = World::start().await;
    world.zookeeper().await;
    let server = Postgres::create(&world.fleet(), "roles", SETTINGS).unwrap();
    let (source, target) = (world.source_of(&server, "app").await, world.target("app").await);
    for database in [&source, &target] {
        database.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    }
    source.execute(&format!("CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD 'sesame'; CREATE ROLE loading LOGIN")).await;
    world.write(
        "s.pgshovel",
        &format!(
            "database {{ dsn: \"host=127.0.0.1 port={} dbname={}\" }}\ntables {{ name: \"a\" primary_keys: \"id\" }}\n",
            server.port,
            source.name()
        ),
    );
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let roles = ["--relay-role", WITH_PASSWORD, "--loader-role", "loading"];
    world.pgshovel(["set", "create", "s", "s.pgshovel"].into_iter().chain(roles)).env("PGUSER", "postgres").succeeds().await;
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n");
    world.write("replicate.yaml", &crate::replicate::setup::configuration(&target.uri(), ""));
    // By another name of the same server, which only the relay was told.
    let own = format!("postgresql://{WITH_PASSWORD}:sesame@localhost:{}?connect_timeout=5", server.port);
    let relay = world.pgshovel(["relay", "relay.yaml", "s"]).env("PGSHOVEL_SOURCE_DSN", own).start().await;
    source.execute("INSERT INTO a VALUES (1)").await;
    let worker = world.pgshovel(["replicate", "replicate.yaml", "s", "--source-dsn", "user=loading"]).start().await;
    target.equals(&source, "public.a").await;
    source.execute("INSERT INTO a VALUES (2)").await;
    target.equals(&source, "public.a").await;
    let users = "SELECT string_agg(DISTINCT usename::text, ',') FROM pg_stat_activity WHERE application_name LIKE 'pgshovel relay%'";
    assert_eq!(source.value(users).await.as_deref(), Some(WITH_PASSWORD));
    assert!(!relay.log().contains("sesame"));
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    // Without user=, the password file has the password of PGUSER.
    let file = world.write("pgpass", &format!("127.0.0.1:{}:*:{WITH_PASSWORD}:sesame\n", server.port));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let listed = world.pgshovel(["set", "list", "--format", "json"]).env("PGUSER", WITH_PASSWORD);
    assert!(listed.env("PGPASSFILE", &file).succeeds().await.contains("\"consumers\""));
    // What is wrong with it is said at once.
    for (own, word) in [("user=x password=sesame", "names no host"), ("host=a sslmode=some", "sslmode takes"), ("a", "no value")] {
        let said = world.pgshovel(["set", "list", "--source-dsn", own]).fails(3).await;
        assert!(said.contains("--source-dsn (PGSHOVEL_SOURCE_DSN)") && said.contains(word) && !said.contains("sesame"), "{said}");
    }
}
