use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_created_listed_inspected_changed_and_dropped() {
    let (world, source) = setting().await;
    let before = traces(&source).await;
    assert!(world.pgshovel(["cluster", "initialize"]).succeeds().await.contains("exists"));

    let text = configuration(&format!("{} password=sesame", source.dsn()), &[("a", &[]), ("b", &["x"])]);
    world.write("one.pgshovel", &text);
    let script = world.pgshovel(["set", "create", "one", "one.pgshovel", "--dry-run", "--store-password"]).succeeds().await;
    assert!(script.contains("CREATE OR REPLACE TRIGGER") && script.contains("pgq.create_queue") && !script.contains("sesame"), "{script}");
    assert_eq!(traces(&source).await, before);
    world.pgshovel(["set", "create", "one", "one.pgshovel", "--store-password"]).succeeds().await;
    create(&world, "two", &configuration(&source.dsn(), &[("a", &[])])).await;

    let list = world.pgshovel(["set", "list"]).succeeds().await;
    assert!(list.contains("one") && list.contains("public.a, public.b") && !list.contains("sesame"), "{list}");
    let list: serde_json::Value = serde_json::from_str(&world.pgshovel(["set", "list", "--format", "json"]).succeeds().await).unwrap();
    assert_eq!(list[0]["name"], "one");
    assert_eq!(list[1]["tables"][0]["primary_keys"][0], "id");

    let masked = world.pgshovel(["set", "inspect", "one"]).succeeds().await;
    assert!(masked.contains("password=********") && !masked.contains("sesame"), "{masked}");
    world.write("masked.pgshovel", &masked);
    let refusal = world.pgshovel(["set", "update", "one", "masked.pgshovel"]).fails(3).await;
    assert!(refusal.contains("--show-secrets"), "{refusal}");
    let secret = world.pgshovel(["set", "inspect", "one", "--show-secrets"]).succeeds().await;
    assert!(secret.contains("sesame"), "{secret}");

    let version = list[0]["version"].as_str().unwrap();
    world.write("one.pgshovel", &secret.replace("\"x\"", "\"y\""));
    let refusal = world.pgshovel(["set", "update", "one@0123", "one.pgshovel", "--store-password"]).fails(1).await;
    assert!(refusal.contains("changed meanwhile") && refusal.contains(version), "{refusal}");
    let told = world.pgshovel(["set", "update", &format!("one@{version}"), "one.pgshovel", "--store-password"]).succeeds().await;
    assert!(told.contains("Added: public.b (y).") && told.contains("--bootstrap"), "{told}");
    world.pgshovel(["set", "drop", &format!("one@{version}")]).fails(1).await;

    let two = traces(&source).await;
    world.pgshovel(["set", "drop", "one"]).succeeds().await;
    let left = traces(&source).await;
    let expected: Vec<&str> = two.lines().filter(|line| !line.contains(":one") && !line.contains("one:b") && !line.contains('#')).collect();
    let without_functions: Vec<&str> = left.lines().filter(|line| !line.contains('#')).collect();
    assert_eq!(without_functions, expected);
    assert_eq!(left.lines().filter(|line| line.contains('#')).count(), 4, "{left}");

    source.execute("INSERT INTO a VALUES (1, 2, 'three')").await;
    let events = replay(&source, &format!("pgshovel:{}:two", world.cluster()), "public.a").await;
    assert_eq!(events, rows(&source, "a").await);
    world.pgshovel(["set", "drop", "two"]).succeeds().await;
    // PgQ keeps the names of consumers.
    assert_eq!(traces(&source).await.replace("consumer default", "").trim(), before);
    assert!(world.pgshovel(["cluster", "recover"]).succeeds().await.contains("nothing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_moves_to_another_database() {
    let (world, old) = setting().await;
    let new = world.source("admin").await;
    new.execute("CREATE TABLE a (id int PRIMARY KEY, x int, y text)").await;
    let (before_old, before_new) = (traces(&old).await, traces(&new).await);
    create(&world, "s", &configuration(&old.dsn(), &[("a", &[])])).await;
    world.write("moved.pgshovel", &configuration(&new.dsn(), &[("a", &[])]));
    let script = world.pgshovel(["set", "update", "s", "moved.pgshovel", "--dry-run"]).succeeds().await;
    assert_eq!(script.matches("PREPARE TRANSACTION").count(), 2, "{script}");
    world.pgshovel(["set", "update", "s", "moved.pgshovel"]).succeeds().await;
    assert_eq!(traces(&old).await.replace("consumer default", "").trim(), before_old);
    assert_ne!(traces(&new).await, before_new);
    new.execute("INSERT INTO a VALUES (1)").await;
    assert_eq!(replay(&new, &format!("pgshovel:{}:s", world.cluster()), "public.a").await, rows(&new, "a").await);

    // The same database by another name does not move.
    world.write("moved.pgshovel", &configuration(&new.uri(), &[("a", &[])]));
    let script = world.pgshovel(["set", "update", "s", "moved.pgshovel", "--dry-run"]).succeeds().await;
    assert!(!script.contains("PREPARE TRANSACTION") && !script.contains("CREATE OR REPLACE TRIGGER"), "{script}");
    world.pgshovel(["set", "update", "s", "moved.pgshovel"]).succeeds().await;

    // A server without prepared transactions takes no part in a move.
    let target = world.target("admin").await;
    let error = world.pgshovel(["set", "create", "t", "-"]).fails(3).await;
    assert!(error.contains("standard input is empty"), "{error}");
    world.write("target.pgshovel", &configuration(&target.dsn(), &[("a", &[])]));
    let error = world.pgshovel(["set", "update", "s", "target.pgshovel"]).fails(3).await;
    assert!(error.contains("PgQ is not installed") && error.contains("tables[0].name"), "{error}");
    world.pgshovel(["cluster", "upgrade", "--force"]).succeeds().await;
    world.pgshovel(["set", "drop", "s"]).succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_changes_all_databases_together() {
    let (world, one) = setting().await;
    let other = world.source("admin").await;
    other.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    create(&world, "one", &configuration(&one.dsn(), &[("a", &[])])).await;
    create(&world, "two", &configuration(&one.uri(), &[("b", &[])])).await;
    create(&world, "other", &configuration(&other.dsn(), &[("a", &[])])).await;
    let cluster = world.cluster();
    for database in [&one, &other] {
        database.execute(&format!("UPDATE pgshovel_{cluster}.configuration SET version = '0.0.9'")).await;
    }
    assert!(world.pgshovel(["cluster", "upgrade"]).succeeds().await.contains("already"));
    let script = world.pgshovel(["cluster", "upgrade", "--force", "--dry-run"]).succeeds().await;
    assert_eq!(script.matches("PREPARE TRANSACTION").count(), 2, "{script}");
    world.pgshovel(["cluster", "upgrade", "--force"]).succeeds().await;
    for database in [&one, &other] {
        let version = database.value(&format!("SELECT version FROM pgshovel_{cluster}.configuration")).await;
        assert_eq!(version.as_deref(), Some(pgshovel::registry::VERSION));
        assert!(!traces(database).await.contains("prepared"));
    }
    one.execute("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)").await;
    assert_eq!(replay(&one, &format!("pgshovel:{cluster}:two"), "public.b").await, rows(&one, "b").await);
}

/// Of cluster, set and tables, in every way of changing them.
#[tokio::test(flavor = "multi_thread")]
async fn the_longest_names_fit_everywhere() {
    let (world, one) = setting().await;
    let other = world.source("admin").await;
    let (cluster, set, table) = ("ü".repeat(27), "€".repeat(21), "ö".repeat(31));
    let before = traces(&one).await;
    for database in [&one, &other] {
        database.execute(&format!("CREATE TABLE IF NOT EXISTS \"{table}\" (id int PRIMARY KEY)")).await;
    }
    let run = |arguments: &[&str]| world.pgshovel([&["--cluster", &cluster], arguments].concat()).succeeds();
    run(&["cluster", "initialize"]).await;
    world.write("one.pgshovel", &configuration(&one.dsn(), &[(&table, &[])]));
    world.write("other.pgshovel", &configuration(&other.dsn(), &[(&table, &[])]));
    run(&["set", "create", &set, "one.pgshovel"]).await;
    run(&["set", "create", "second", "other.pgshovel"]).await;
    one.execute(&format!("INSERT INTO \"{table}\" VALUES (1)")).await;
    let key = one.value("SELECT ev_extra1 FROM pgq.event_1").await.unwrap();
    assert_eq!(key, format!("public.\"{table}\""));
    assert_eq!(replay(&one, &format!("pgshovel:{cluster}:{set}"), &key).await, rows(&one, &format!("\"{table}\"")).await);
    // Two databases, so two prepared transactions.
    run(&["cluster", "upgrade", "--force"]).await;
    run(&["set", "drop", &set]).await;
    run(&["set", "create", &set, "one.pgshovel"]).await;
    run(&["set", "update", &set, "other.pgshovel"]).await;
    assert_eq!(traces(&one).await.replace("consumer default", "").trim(), before);
    run(&["set", "drop", &set]).await;
    run(&["set", "drop", "second"]).await;
    for database in [&one, &other] {
        assert!(!traces(database).await.contains("schema pgshovel"));
    }
}
