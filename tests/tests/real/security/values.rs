//! Values of rows stay out of errors, logs and `/readyz`.

use tests::harness::World;

use crate::replicate::setup::configuration;

/// `left(encode(sha256('alice@example.org'), 'hex'), 12)`.
const DIGEST: &str = "7a64adf28737";

/// Before: `cannot insert the row (email = alice@example.org) of "app"."people"` stood in the
/// log and, for everybody, in `/readyz`.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_key_only_a_digest_is_named() {
    let world = World::start().await;
    let (source, target) = (world.source("values").await, world.target("values").await);
    for database in [&source, &target] {
        database.execute("CREATE TABLE people (email text PRIMARY KEY)").await;
    }
    let set = format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"people\" primary_keys: \"email\" }}\n", source.dsn());
    world.write("set.pgshovel", &set);
    world.write("relay.yaml", "stream: { path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }\n");
    world.write("replicate.yaml", &configuration(&target.uri(), ""));
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    world.pgshovel(["set", "create", "people", "set.pgshovel"]).succeeds().await;
    let relay = world.pgshovel(["relay", "relay.yaml", "people"]).start().await;
    let arguments = ["replicate", "replicate.yaml", "people", "--listen", "127.0.0.1:0"];
    let mut worker = world.pgshovel(arguments).allow("cannot insert the row").start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    target.execute("INSERT INTO people VALUES ('alice@example.org')").await;
    source.execute("INSERT INTO people VALUES ('alice@example.org')").await;
    let key = format!("(key {DIGEST}) of \\\"public\\\".\\\"people\\\" in the target: duplicate key");
    let said = worker.answers(503, &["cannot insert the row of event ", &key]).await;
    let event = said.split_once("the row of event ").unwrap().1.split(' ').next().unwrap();
    // Whoever may read the stream finds the row.
    let shown = world.pgshovel(["stream", "show", "replicate.yaml", "people"]).succeeds().await;
    let line = shown.lines().find(|line| line.contains(&format!(" event {event} "))).unwrap();
    assert!(line.contains("alice@example.org"), "{line}");
    let found = source.value("SELECT left(encode(sha256(convert_to(concat_ws('|', email), 'UTF8')), 'hex'), 12) FROM people").await;
    assert_eq!(found.as_deref(), Some(DIGEST));
    let metrics = worker.get("/metrics").await.1;
    let log = worker.log();
    for text in [&said, &log, &metrics, &relay.log()] {
        assert!(!text.contains("alice"), "{text}");
    }
    target.execute("DELETE FROM people").await;
    target.equals(&source, "public.people").await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// A function of the target may raise an error with any code, and any words. Before, only those
/// with codes of PL/pgSQL's own were kept out of the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_of_the_target_says_is_not_repeated() {
    let world = World::start().await;
    let (source, target) = (world.source("values").await, world.target("values").await);
    for database in [&source, &target] {
        database.execute("CREATE TABLE people (id int PRIMARY KEY, email text)").await;
    }
    let set = format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"people\" primary_keys: \"id\" }}\n", source.dsn());
    world.write("set.pgshovel", &set);
    world.write("relay.yaml", "stream: { path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }\n");
    world.write("replicate.yaml", &configuration(&target.uri(), ""));
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    world.pgshovel(["set", "create", "people", "set.pgshovel"]).succeeds().await;
    let relay = world.pgshovel(["relay", "relay.yaml", "people"]).start().await;
    source.execute("INSERT INTO people VALUES (1, 'alice@example.org')").await;
    for code in ["ZZ999", "23505", "42501", "55P03", "40001", "XX000", "22000", "58030"] {
        target
            .execute(&format!(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = NEW.email, DETAIL = NEW.email, HINT = NEW.email; END $$;
                 CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION refuse(); ALTER TABLE people ENABLE ALWAYS TRIGGER refuse"
            ))
            .await;
        let arguments = ["replicate", "replicate.yaml", "people", "--listen", "127.0.0.1:0"];
        let mut worker = world.pgshovel(arguments).allow("a function of the database raised an error").start().await;
        let said = worker.logs(&format!("(SQLSTATE {code})")).await;
        let ready = worker.get("/readyz").await.1;
        for text in [&said, &ready, &worker.log()] {
            assert!(!text.contains("alice"), "{code}: {text}");
        }
        let _ = worker.terminate().await;
    }
    target.execute("DROP TRIGGER refuse ON people").await;
    let worker = world.pgshovel(["replicate", "replicate.yaml", "people"]).start().await;
    target.equals(&source, "public.people").await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
