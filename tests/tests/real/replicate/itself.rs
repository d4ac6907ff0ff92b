//! A target that is the source, or is captured itself.

use tests::harness::{Database, World};

use super::setup::{App, NAMES, SET, configuration};

#[tokio::test]
async fn a_worker_does_not_write_to_the_source_of_its_set() {
    let app = App::new().await;
    app.fill(50).await;
    let before = app.source.value("SELECT string_agg(a::text, ';' ORDER BY id) FROM accounts a").await;
    let relay = app.relay().await;
    let (port, name) = (app.source.port(), app.source.name());
    let refused = async |to: &str, arguments: &[&str]| {
        app.world.write("replicate.yaml", &configuration(to, ""));
        let text = app.worker(arguments).fails(1).await;
        assert!(text.contains("the target is the source: public.") && text.contains("is a table of the set"), "{text}");
        assert_eq!(app.source.value("SELECT string_agg(a::text, ';' ORDER BY id) FROM accounts a").await, before);
    };
    // However it is spelt.
    for to in [
        app.source.uri(),
        format!("host=localhost port={port} user=postgres dbname={name}"),
        format!("postgresql://postgres@localhost:{port}/{name}?sslmode=disable"),
    ] {
        refused(&to, &[]).await;
        refused(&to, &["--bootstrap"]).await;
    }
    assert_eq!(app.source.value("SELECT to_regnamespace('pgshovel')").await, None, "the target was touched");
    // With the state of a target that has all of it.
    app.world.write("replicate.yaml", &configuration(&app.target.uri(), ""));
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    let state: Vec<u8> = app.target.query("SELECT state FROM pgshovel.state", &[]).await[0].get(0);
    app.source.execute("CREATE SCHEMA pgshovel; CREATE TABLE pgshovel.state (cluster text, \"set\" text, state bytea NOT NULL, changed timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (cluster, \"set\"))").await;
    app.source.query("INSERT INTO pgshovel.state VALUES ($1, $2, $3) RETURNING 1", &[&app.world.cluster(), &SET, &state]).await;
    app.source.execute("INSERT INTO accounts (id, name) VALUES (-1, 'behind the state')").await;
    app.world.write("replicate.yaml", &configuration(&app.source.uri(), ""));
    let text = app.worker(&[]).fails(1).await;
    assert!(text.contains("the target is the source: public."), "{text}");
    let left: Vec<u8> = app.source.query("SELECT state FROM pgshovel.state", &[]).await[0].get(0);
    assert_eq!((left, app.source.count("accounts").await), (state, 51));
    app.source.execute("DROP SCHEMA pgshovel CASCADE").await;
    // Tables of the same database that are not in the set.
    app.source.execute("CREATE SCHEMA copy; CREATE TABLE copy.accounts (LIKE accounts INCLUDING ALL); CREATE TABLE copy.\"Line items\" (LIKE \"Line items\" INCLUDING ALL)").await;
    app.world.write("replicate.yaml", &configuration(&app.source.uri(), "  configuration: { schemas: { public: copy } }\n"));
    let worker = app.worker(&[]).start().await;
    app.source.execute("UPDATE accounts SET name = 'copied'").await;
    tests::harness::eventually("the copy", super::setup::SOON, || async {
        let difference = "SELECT count(*) FROM (TABLE accounts EXCEPT TABLE copy.accounts) d";
        let rows = (app.source.value(difference).await, app.source.count("copy.accounts").await);
        if rows == (Some("0".to_owned()), 51) { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// The source's schema with all that `set create` made there, in a database without PgQ.
async fn dump_into(source: &Database, target: &Database, world: &World) {
    let dump = source.run("pg_dump", &["--schema-only", "--exclude-schema=pgq", "--exclude-schema=pgq_node"]).await;
    let dump: String = dump.lines().filter(|line| !line.contains("EXTENSION")).map(|line| format!("{line}\n")).collect();
    let file = world.write("dump.sql", &dump);
    let copy = std::env::temp_dir().join(format!("dump-{}.sql", target.name()));
    std::fs::copy(file, &copy).unwrap();
    // Without PgQ's tables the view of the set is not made, and the triggers are.
    target.run("psql", &["--quiet", &format!("--file={}", copy.display())]).await;
    std::fs::remove_file(copy).unwrap();
}

#[tokio::test]
async fn triggers_of_a_dumped_schema_wait_until_they_are_dropped() {
    let app = App::new().await;
    app.fill(50).await;
    let copy = app.world.target("copy").await;
    dump_into(&app.source, &copy, &app.world).await;
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal";
    assert_ne!(copy.value(triggers).await.as_deref(), Some("0"));
    app.world.write("replicate.yaml", &configuration(&copy.uri(), ""));
    let relay = app.relay().await;
    let named = "has triggers that capture changes for another database";
    let mut worker = app.worker(&["--listen", "127.0.0.1:0"]).allow(named).start().await;
    let said = worker.answers(503, &[named, "DROP TRIGGER"]).await;
    for name in NAMES {
        assert_eq!(copy.count(name).await, 0);
    }
    // The statements that it says are all that is needed.
    let said = said.split_once("let the owner run: ").unwrap().1.replace("\\\"", "\u{1}");
    let statements = said.split('"').next().unwrap().replace('\u{1}', "\"");
    copy.execute(&statements).await;
    assert_eq!(copy.value(triggers).await.as_deref(), Some("0"));
    for name in NAMES {
        copy.equals(&app.source, name).await;
    }
    worker.answers(200, &[]).await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_target_may_be_the_source_of_another_set() {
    let app = App::new().await;
    app.fill(50).await;
    let middle = app.world.source("middle").await;
    middle.execute("CREATE TABLE accounts (id bigint PRIMARY KEY, name text, balance numeric(12, 2), active boolean); CREATE TABLE \"Line items\" (account bigint, number integer, \"what it was\" text, price float8, made timestamptz, PRIMARY KEY (account, number))").await;
    let set = std::fs::read_to_string(app.world.folder().join("set.pgshovel")).unwrap();
    app.world.write("second.pgshovel", &set.replace(&app.source.dsn(), &middle.dsn()));
    app.world.pgshovel(["set", "create", "second", "second.pgshovel"]).succeeds().await;
    app.world.write("first.yaml", &configuration(&middle.uri(), ""));
    let relays = [app.relay().await, app.world.pgshovel(["relay", "relay.yaml", "second"]).start().await];
    let workers = [
        app.world.pgshovel(["replicate", "first.yaml", SET]).start().await,
        app.world.pgshovel(["replicate", "replicate.yaml", "second"]).start().await,
    ];
    app.equal().await;
    app.source.execute("UPDATE accounts SET name = 'passed on'; DELETE FROM \"Line items\" WHERE number = 2").await;
    app.equal().await;
    for running in workers.into_iter().chain(relays) {
        assert_eq!(running.terminate().await.code, Some(0));
    }
}
