use super::*;
use tests::servers::postgres::WITH_PASSWORD;

/// Refused, with this exit code and these words, and nothing changed.
async fn refused(world: &World, source: &Database, arguments: &[&str], code: i32, words: &[&str]) {
    let before = traces(source).await;
    let program = world.pgshovel(arguments.iter().map(|argument| (*argument).to_owned()));
    let error = program.fails(code).await;
    for word in words {
        assert!(error.contains(word), "{arguments:?} should say {word:?}:\n{error}");
    }
    assert_eq!(traces(source).await, before, "{arguments:?}");
    let cluster = connect(world).await;
    assert!(cluster.in_flight().await.unwrap().is_empty(), "{arguments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_with_all_its_problems() {
    let (world, source) = setting().await;
    source
        .execute(
            "CREATE TABLE keyless (id int NOT NULL, x int); CREATE TABLE nullable (id int UNIQUE);
             CREATE VIEW view AS SELECT * FROM a; CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
             CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
             CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9);",
        )
        .await;
    let tables: Vec<(&str, &[&str])> = vec![
        ("a", &["z"]),
        ("aa", &[]),
        ("keyless", &[]),
        ("nullable", &[]),
        ("view", &[]),
        ("parent", &[]),
        ("unlogged", &[]),
        ("part", &[]),
        ("part_1", &[]),
        ("a", &[]),
    ];
    world.write("wrong.pgshovel", &configuration(&source.dsn(), &tables));
    let words = [
        "8 problems",
        "tables[0].columns[0]: public.a has no column",
        "tables[1].name: the table public.aa does not exist; did you mean \\\"a\\\"?",
        "tables[2].primary_keys: nothing keeps two rows",
        "tables[3].primary_keys[0]: the column",
        "tables[4].name: public.view is a view",
        "tables[6].name: public.unlogged is an unlogged table",
        "tables[8].name: public.part_1 is a partition of public.part",
        "tables[9]: the table public.a is given twice",
    ];
    let words: Vec<String> = words.iter().map(|word| word.replace("\\\"", "\"")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    refused(&world, &source, &["set", "create", "s", "wrong.pgshovel"], 3, &words).await;
    refused(&world, &source, &["set", "create", "s", "wrong.pgshovel", "--dry-run"], 3, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_an_encoding_is_refused() {
    let (world, _) = setting().await;
    let ascii = world.source_in("ascii", "ENCODING 'SQL_ASCII'").await;
    ascii.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    world.write("ascii.pgshovel", &configuration(&ascii.dsn(), &[("a", &[])]));
    refused(
        &world,
        &ascii,
        &["set", "create", "s", "ascii.pgshovel"],
        3,
        &["database.dsn: the encoding of the database", "is SQL_ASCII", "restore it"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_named() {
    let (world, source) = setting().await;
    let good = configuration(&source.dsn(), &[("a", &[])]);
    world.write("good.pgshovel", &good);
    world.write("empty.pgshovel", "\n");
    world.write("unknown.pgshovel", &good.replace("primary_keys", "primary_key"));
    world.write("torn.pgshovel", good.trim_end().trim_end_matches('}'));
    world.write("no-tables.pgshovel", &configuration(&source.dsn(), &[]));
    world.write("dsn.pgshovel", &configuration("host=a port=x", &[("a", &[])]));
    world.write("down.pgshovel", &configuration("host=127.0.0.1 port=1 dbname=x user=x", &[("a", &[])]));
    world.write("nobody.pgshovel", &configuration(&source.dsn().replace("user=postgres", "user=nobody"), &[("a", &[])]));
    let database = source.dsn().replace(source.name(), "no_such_database");
    world.write("nowhere.pgshovel", &configuration(&database, &[("a", &[])]));
    let create = |file: &'static str| ["set", "create", "s", file];
    refused(&world, &source, &create("missing.pgshovel"), 3, &["missing.pgshovel", "No such file"]).await;
    refused(&world, &source, &create("empty.pgshovel"), 3, &["empty.pgshovel is empty"]).await;
    refused(&world, &source, &create("unknown.pgshovel"), 3, &["unknown.pgshovel, line 2, column 20", "primary_keys"]).await;
    refused(&world, &source, &create("torn.pgshovel"), 3, &["torn.pgshovel, line"]).await;
    refused(&world, &source, &create("no-tables.pgshovel"), 3, &["tables: there is none"]).await;
    refused(&world, &source, &create("dsn.pgshovel"), 3, &["connection string"]).await;
    refused(&world, &source, &create("down.pgshovel"), 4, &["127.0.0.1:1/x"]).await;
    refused(&world, &source, &create("nobody.pgshovel"), 3, &["nobody"]).await;
    refused(&world, &source, &create("nowhere.pgshovel"), 3, &["no_such_database"]).await;
    for (name, word) in [("a/b", "'/'"), ("a@b", "'@'"), ("a:b", "':'"), ("", "is empty"), ("x\u{1}", "control")] {
        refused(&world, &source, &["set", "create", name, "good.pgshovel"], 2, &[word]).await;
    }
    refused(&world, &source, &["set", "create", &"x".repeat(64), "good.pgshovel"], 2, &["64 bytes, 63 are allowed"]).await;
    refused(&world, &source, &["set", "update", "s", "good.pgshovel"], 3, &["the set \"s\" does not exist", "set create"]).await;
    super::create(&world, "bank", &good).await;
    refused(&world, &source, &["set", "inspect", "bnak"], 3, &["did you mean \"bank\"?"]).await;
    refused(&world, &source, &["set", "drop", "bnak"], 3, &["did you mean \"bank\"?"]).await;
    refused(&world, &source, &["set", "create", "bank", "good.pgshovel"], 3, &["exists already"]).await;
    refused(&world, &source, &["--cluster", "nope", "set", "list"], 3, &["the cluster \"nope\" does not exist", "cluster initialize"])
        .await;
    refused(&world, &source, &["--cluster", "zookeeper", "set", "list"], 2, &["belongs to ZooKeeper"]).await;
    refused(&world, &source, &["--zookeeper-hosts", "127.0.0.1:1", "set", "list"], 4, &["127.0.0.1:1"]).await;
    refused(&world, &source, &["--zookeeper-hosts", "127.0.0.1:x", "set", "list"], 2, &["127.0.0.1:x"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_or_another_cluster_is_refused() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let cluster = connect(&world).await;
    let revision = cluster.cluster_revision().await.unwrap();
    let mut configuration = cluster.configuration().await.unwrap();
    let own = configuration.clone();
    configuration.version = "99.0.0".to_owned();
    cluster.set_configuration(&configuration, revision).await.unwrap();
    for arguments in [&["set", "list"][..], &["set", "inspect", "s"], &["set", "drop", "s"], &["cluster", "recover"]] {
        refused(&world, &source, arguments, 3, &["99.0.0", "cluster upgrade"]).await;
    }
    refused(&world, &source, &["cluster", "upgrade"], 3, &["later than this", "--force"]).await;
    world.pgshovel(["cluster", "upgrade", "--force"]).succeeds().await;

    // A ZooKeeper that was set up anew does not take over what an older one left.
    let revision = cluster.cluster_revision().await.unwrap();
    let mut other = own.clone();
    other.id = Some("another".to_owned());
    cluster.set_configuration(&other, revision).await.unwrap();
    refused(&world, &source, &["set", "update", "s", "set.pgshovel"], 3, &["another cluster of this name"]).await;
    refused(&world, &source, &["set", "drop", "s"], 1, &["another cluster of this name"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_lacks_is_named() {
    let (world, source) = setting().await;
    let role = format!("weak_{}", world.cluster());
    source.execute(&format!("CREATE ROLE {role} LOGIN; CREATE TABLE own (id int PRIMARY KEY); ALTER TABLE own OWNER TO {role}")).await;
    let dsn = source.dsn().replace("user=postgres", &format!("user={role}"));
    world.write("weak.pgshovel", &configuration(&dsn, &[("own", &[]), ("a", &[])]));
    let words = ["may not use PgQ", "GRANT pgq_admin TO", "may not create a schema", "does not own public.a"];
    refused(&world, &source, &["set", "create", "s", "weak.pgshovel"], 3, &words).await;
    // All that it takes, and no superuser.
    source
        .execute(&format!("GRANT pgq_admin TO {role}; GRANT CREATE ON DATABASE {} TO {role}; ALTER TABLE a OWNER TO {role}", source.name()))
        .await;
    let told = world.pgshovel(["set", "create", "s", "weak.pgshovel"]).fails(3).await;
    let remedies: Vec<&str> =
        told.lines().filter_map(|line| line.split_once(": CREATE ").or(line.split_once(": ALTER "))).map(|(_, rest)| rest).collect();
    assert_eq!(remedies.len(), 2, "{told}");
    source.execute(&format!("CREATE {}; ALTER {}", remedies[0], remedies[1])).await;
    world.pgshovel(["set", "create", "s", "weak.pgshovel"]).succeeds().await;
    source.execute("INSERT INTO own VALUES (1)").await;
    assert_eq!(replay(&source, &format!("pgshovel:{}:s", world.cluster()), "public.own").await, rows(&source, "own").await);
    world.pgshovel(["set", "drop", "s"]).succeeds().await;
    source.execute(&format!("REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Without it, whoever may use the schema could forge events.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_count_is_refused() {
    let (world, source) = setting().await;
    source.execute(&format!("ALTER DATABASE {} SET track_counts = off", source.name())).await;
    world.write("set.pgshovel", &configuration(&source.dsn(), &[("a", &[])]));
    refused(&world, &source, &["set", "create", "s", "set.pgshovel"], 3, &["track_counts is off", "set it to on"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_is_told_and_not_repeated() {
    let (world, source) = setting().await;
    source.execute(&format!("CREATE ROLE {WITH_PASSWORD} LOGIN SUPERUSER PASSWORD 'sesame'")).await;
    let dsn = |password: &str| source.dsn().replace("user=postgres", &format!("user={WITH_PASSWORD} password={password}"));
    world.write("wrong.pgshovel", &configuration(&dsn("parsley"), &[("a", &[])]));
    refused(
        &world,
        &source,
        &["set", "create", "s", "wrong.pgshovel", "--store-password"],
        3,
        &["password authentication failed", WITH_PASSWORD, source.name()],
    )
    .await;
    let error = world.pgshovel(["set", "create", "s", "wrong.pgshovel", "--store-password"]).fails(3).await;
    assert!(!error.contains("parsley"), "{error}");
    world.write("right.pgshovel", &configuration(&dsn("sesame"), &[("a", &[])]));
    world.pgshovel(["set", "create", "s", "right.pgshovel", "--store-password"]).succeeds().await;
    world.pgshovel(["set", "drop", "s"]).succeeds().await;
    source.execute(&format!("DROP OWNED BY {WITH_PASSWORD}; DROP ROLE {WITH_PASSWORD}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_whose_database_is_gone_is_dropped_by_force() {
    let (world, source) = setting().await;
    let gone = world.source("gone").await;
    gone.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    create(&world, "s", &configuration(&gone.dsn(), &[("a", &[])])).await;
    source.execute(&format!("DROP DATABASE {} WITH (FORCE)", gone.name())).await;
    refused(&world, &source, &["set", "drop", "s"], 3, &["does not exist", "set drop s --force"]).await;
    world.pgshovel(["set", "drop", "s", "--force"]).allow("without its database").succeeds().await;
    let list = world.pgshovel(["set", "list", "--format", "json"]).succeeds().await;
    assert_eq!(list.trim(), "[]");
}
