//! A database whose owner has prepared what a set's role would read or call.

use tests::harness::{Database, World};

/// A database that an application's role owns; what that role calls makes it superuser, if
/// it is called by one.
async fn setting() -> (World, Database, String) {
    let world = World::start().await;
    world.zookeeper().await;
    let owner = format!("owner_{}", world.cluster());
    let source = world.source("prepared").await;
    source
        .execute(&format!(
            "CREATE TABLE a (id int PRIMARY KEY, x int); CREATE ROLE {owner} LOGIN; ALTER DATABASE {name} OWNER TO {owner};
             SET ROLE {owner}; CREATE SCHEMA own;
             CREATE FUNCTION own.rise() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
               IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE {owner} SUPERUSER; END IF; RETURN true; END $$;
             GRANT USAGE ON SCHEMA own TO PUBLIC; RESET ROLE",
            name = source.name()
        ))
        .await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    world.write("set.pgshovel", &format!("database {{ dsn: {:?} }}\ntables {{ name: \"a\" primary_keys: \"id\" }}\n", source.dsn()));
    (world, source, owner)
}

/// Every command that looks at the set's database is refused, and ran no code of the owner's.
async fn refused(world: &World, source: &Database, owner: &str, words: &str) {
    for arguments in [&["set", "create", "s", "set.pgshovel", "--dry-run"][..], &["set", "create", "s", "set.pgshovel"]] {
        let told = world.pgshovel(arguments.iter().copied()).fails(3).await;
        assert!(told.contains(words) && told.contains("could run code as the role postgres") && told.contains("drop the schema"), "{told}");
    }
    assert_eq!(source.value(&format!("SELECT rolsuper::text FROM pg_roles WHERE rolname = '{owner}'")).await.as_deref(), Some("false"));
}

/// Before, three views of the right names made their owner a superuser, at `set create
/// --dry-run` already; and whoever owned the schema replaced functions in it later.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_clusters_schemas_is_not_used() {
    let (world, source, owner) = setting().await;
    let cluster = world.cluster();
    let as_owner = async |sql: &str| source.execute(&format!("SET ROLE {owner}; {sql}; RESET ROLE")).await;
    as_owner(&format!("CREATE SCHEMA pgshovel_{cluster}")).await;
    refused(&world, &source, &owner, &format!("the schema pgshovel_{cluster} belongs to {owner}")).await;
    as_owner(&format!(
        "CREATE VIEW pgshovel_{cluster}.configuration AS SELECT own.rise() AS singleton, gen_random_uuid() AS node, 'x'::text AS cluster, '0'::text AS version, 1::int8 AS system_identifier, 1::oid AS database_oid;
         CREATE VIEW pgshovel_{cluster}.sets AS SELECT 's'::text AS name, 'v'::text AS version, 'c'::text AS change, 1::int8 AS epoch WHERE own.rise();
         CREATE VIEW pgshovel_{cluster}.relations AS SELECT 's'::text AS set WHERE own.rise(); GRANT ALL ON ALL TABLES IN SCHEMA pgshovel_{cluster} TO PUBLIC"
    ))
    .await;
    refused(&world, &source, &owner, &format!("the schema pgshovel_{cluster} belongs to {owner}")).await;
    // The schema alone is given away, to look better.
    source.execute(&format!("ALTER SCHEMA pgshovel_{cluster} OWNER TO postgres")).await;
    refused(&world, &source, &owner, &format!("the table or view pgshovel_{cluster}.configuration is none of ours")).await;
    source.execute(&format!("DROP SCHEMA pgshovel_{cluster} CASCADE")).await;
    as_owner(&format!("CREATE SCHEMA \"pgshovel:{cluster}\"; CREATE FUNCTION \"pgshovel:{cluster}\".is_below(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT own.rise()'")).await;
    refused(&world, &source, &owner, &format!("the schema \"pgshovel:{cluster}\" belongs to {owner}")).await;
    source.execute(&format!("ALTER SCHEMA \"pgshovel:{cluster}\" OWNER TO postgres")).await;
    refused(&world, &source, &owner, "the function \"pgshovel:").await;
    source.execute(&format!("DROP SCHEMA \"pgshovel:{cluster}\" CASCADE")).await;

    // A set that is there: whatever of it somebody else owns, or a superuser has made worse.
    world.pgshovel(["set", "create", "s", "set.pgshovel"]).succeeds().await;
    world.write("relay.yaml", "stream:\n  path: file.wasm\n  grants: { files: { path: ., mode: read-write } }\n");
    for (worse, words, better) in [
        ("ALTER TABLE @.sets OWNER TO #", "the table or view @.sets belongs to #", "ALTER TABLE @.sets OWNER TO postgres"),
        (
            "ALTER FUNCTION @.switch(text) OWNER TO #",
            "the function @.switch(text) belongs to #",
            "ALTER FUNCTION @.switch(text) OWNER TO postgres",
        ),
        (
            "ALTER TABLE @.relations ENABLE ROW LEVEL SECURITY",
            "the table or view @.relations has row-level security",
            "ALTER TABLE @.relations DISABLE ROW LEVEL SECURITY",
        ),
        ("CREATE RULE r AS ON UPDATE TO @.sets DO ALSO SELECT own.rise()", "the table or view @.sets has a rule", "DROP RULE r ON @.sets"),
        (
            "CREATE FUNCTION own.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM own.rise(); RETURN NEW; END'; CREATE TRIGGER t BEFORE INSERT ON @.sets FOR EACH ROW EXECUTE FUNCTION own.fires()",
            "the table or view @.sets has a trigger",
            "DROP TRIGGER t ON @.sets; DROP FUNCTION own.fires()",
        ),
        (
            "CREATE TABLE @.another (id int); ALTER TABLE @.another OWNER TO #",
            "the table or view @.another belongs to #",
            "DROP TABLE @.another",
        ),
    ] {
        let fill = |text: &str| text.replace('@', &format!("pgshovel_{cluster}")).replace('#', &owner);
        source.execute(&fill(worse)).await;
        for arguments in
            [&["set", "update", "s", "set.pgshovel", "--dry-run"][..], &["set", "drop", "s", "--dry-run"], &["relay", "relay.yaml", "s"]]
        {
            let told = world.pgshovel(arguments.iter().copied()).fails(3).await;
            assert!(told.contains(&fill(words)), "{worse}: {arguments:?}: {told}");
        }
        source.execute(&fill(better)).await;
    }
    world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    assert_eq!(source.value(&format!("SELECT rolsuper::text FROM pg_roles WHERE rolname = '{owner}'")).await.as_deref(), Some("false"));
    source.execute(&format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}", source.name())).await;
}

/// PgQ is called by name, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_pgq_of_somebody_elses_making_is_not_used() {
    let (world, source, owner) = setting().await;
    source.execute("DROP EXTENSION pgq CASCADE").await;
    source
        .execute(&format!(
            "SET ROLE {owner}; CREATE SCHEMA pgq; GRANT USAGE ON SCHEMA pgq TO PUBLIC;
             CREATE VIEW pgq.queue AS SELECT 1 AS queue_id, 3 AS queue_ntables, 'x'::text AS queue_name WHERE own.rise(); CREATE TABLE pgq.event_template (ev_id int8);
             CREATE FUNCTION pgq.create_queue(text) RETURNS int LANGUAGE sql AS 'SELECT own.rise()::int'; GRANT ALL ON ALL TABLES IN SCHEMA pgq TO PUBLIC; RESET ROLE"
        ))
        .await;
    refused(&world, &source, &owner, &format!("the schema pgq belongs to {owner}")).await;
    source.execute("ALTER SCHEMA pgq OWNER TO postgres").await;
    refused(&world, &source, &owner, "pgq.").await;
    source.execute(&format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}", source.name())).await;
}

/// Whether a database is a copy is read in what other clusters left there. Before, a cast of
/// the type of a column in there ran.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_clusters_table_holds_is_not_cast() {
    let (world, source, owner) = setting().await;
    source
        .execute(&format!(
            "SET ROLE {owner}; CREATE SCHEMA \"pgshovel:evil\"; CREATE SCHEMA pgshovel_evil; CREATE TYPE own.e AS ENUM ('x');
             CREATE FUNCTION own.number(own.e) RETURNS bigint LANGUAGE sql AS 'SELECT own.rise()::int::bigint'; CREATE CAST (own.e AS bigint) WITH FUNCTION own.number(own.e) AS IMPLICIT;
             CREATE TABLE pgshovel_evil.configuration (node uuid, cluster text, version text, system_identifier own.e, database_oid oid); INSERT INTO pgshovel_evil.configuration VALUES (NULL, 'c', 'v', 'x', 1);
             CREATE FUNCTION \"pgshovel:evil\".f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TABLE own.t (id int); CREATE TRIGGER t BEFORE INSERT ON own.t EXECUTE FUNCTION \"pgshovel:evil\".f();
             GRANT USAGE ON SCHEMA pgshovel_evil TO PUBLIC; GRANT ALL ON pgshovel_evil.configuration TO PUBLIC; RESET ROLE"
        ))
        .await;
    world.pgshovel(["set", "create", "s", "set.pgshovel", "--dry-run"]).succeeds().await;
    world.pgshovel(["set", "create", "s", "set.pgshovel"]).succeeds().await;
    world.pgshovel(["set", "drop", "s"]).succeeds().await;
    assert_eq!(source.value(&format!("SELECT rolsuper::text FROM pg_roles WHERE rolname = '{owner}'")).await.as_deref(), Some("false"));
    source.execute(&format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}", source.name())).await;
}

/// The owner of a database sets what its sessions begin with. Before, a session that had become
/// the owner trusted the owner.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_the_database_sets_is_refused() {
    let (world, source, owner) = setting().await;
    source.execute(&format!("ALTER DATABASE {} SET role = '{owner}'", source.name())).await;
    let told = world.pgshovel(["set", "create", "s", "set.pgshovel", "--dry-run"]).fails(3).await;
    assert!(told.contains(&format!("connected as postgres and is the role {owner}")), "{told}");
    source
        .execute(&format!(
            "ALTER DATABASE {name} RESET role; ALTER DATABASE {name} OWNER TO postgres; DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}",
            name = source.name()
        ))
        .await;
}

/// Whoever may create an operator has it found before PostgreSQL's, by its types or by the
/// database's search_path. Before, what tells whether there is a pool ran it, as whoever connected:
/// its owner was a superuser after `set create --dry-run`.
#[tokio::test(flavor = "multi_thread")]
async fn operators_of_others_are_not_used() {
    let (world, source, owner) = setting().await;
    let (target, elsewhere) = (world.target("prepared").await, world.source("elsewhere").await);
    target.execute("CREATE TABLE a (id int PRIMARY KEY, x int)").await;
    let from = source.name().to_owned();
    source
        .execute(&format!(
            "SET ROLE {owner};
             CREATE FUNCTION own.joined(text, timestamptz) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM own.rise(); RETURN pg_catalog.concat($1, $2); END $$;
             CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = timestamptz, FUNCTION = own.joined);
             CREATE FUNCTION own.same(int4, int4) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM own.rise(); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
             CREATE OPERATOR own.= (LEFTARG = int4, RIGHTARG = int4, FUNCTION = own.same);
             ALTER DATABASE {from} SET search_path = own, public, pg_catalog; RESET ROLE"
        ))
        .await;
    world.write("relay.yaml", "stream: { path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }\n");
    world.write(
        "replicate.yaml",
        &format!(
            "stream: {{ path: file.wasm, grants: {{ files: {{ path: ./stream, mode: read-only }} }} }}\nloader: {{ path: postgresql.wasm }}\n\
             target: {{ path: postgresql.wasm, grants: {{ postgres: \"{}\" }} }}\n",
            target.uri()
        ),
    );
    world.pgshovel(["set", "create", "s", "set.pgshovel", "--dry-run"]).succeeds().await;
    world.pgshovel(["set", "create", "s", "set.pgshovel"]).succeeds().await;
    let relay = world.pgshovel(["relay", "relay.yaml", "s"]).start().await;
    let mut worker = world.pgshovel(["replicate", "replicate.yaml", "s"]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    world.pgshovel(["set", "check", "s"]).succeeds().await;
    // Whoever asks in the database itself would use the operators.
    let rolsuper = format!("SELECT rolsuper::text FROM pg_roles WHERE rolname = '{owner}'");
    assert_eq!(elsewhere.value(&rolsuper).await.as_deref(), Some("false"));
    elsewhere.execute(&format!("ALTER DATABASE {from} RESET search_path; ALTER DATABASE {from} OWNER TO postgres")).await;
    world.pgshovel(["set", "drop", "s"]).succeeds().await;
    source.execute(&format!("DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}")).await;
}

/// A command waits for locks, and the table that it waited for may be another one then. Before,
/// each write to the new one failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_anothers_place_meanwhile_can_be_written() {
    let (world, source, owner) = setting().await;
    for round in 0..6_u64 {
        let session = source.connect().await;
        let table: u32 = session.query_one("SELECT 'a'::regclass::oid", &[]).await.unwrap().get(0);
        session.batch_execute("BEGIN; ALTER TABLE a RENAME TO a_old; CREATE TABLE a (id int PRIMARY KEY, x int)").await.unwrap();
        let create = world.pgshovel(["set", "create", "s", "set.pgshovel"]);
        let (_, created) = tokio::join!(
            async {
                // At moments before it, and when the command waits for the lock.
                if round < 3 {
                    tokio::time::sleep(std::time::Duration::from_millis(100 * round)).await;
                } else {
                    let waiting = "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND relation = $1";
                    while session.query_one(waiting, &[&table]).await.unwrap().get::<_, i32>(0) == 0 {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                }
                session.batch_execute("COMMIT").await.unwrap();
            },
            create.succeeds()
        );
        assert!(created.contains("created the set"), "{created}");
        source.execute("INSERT INTO a VALUES (1, 2); UPDATE a SET x = 3; DELETE FROM a").await;
        assert_eq!(source.value("SELECT count(*) FROM pgq.event_template").await.as_deref(), Some("3"));
        world.pgshovel(["set", "drop", "s"]).succeeds().await;
        source.execute("DROP TABLE a_old").await;
    }
    source.execute(&format!("ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}", source.name())).await;
}

/// The loader waits for a table's lock, and its owner may put a view in its place. Before, the
/// function in the view ran as the loader's role.
#[tokio::test(flavor = "multi_thread")]
async fn the_loader_reads_no_view_in_a_tables_place() {
    use crate::replicate::setup::App;
    let app = App::new().await;
    app.fill(10).await;
    app.source
        .execute(
            "CREATE FUNCTION f() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'code of the owner runs'; END $$",
        )
        .await;
    let session = app.source.connect().await;
    session.batch_execute("BEGIN; LOCK accounts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let worker = app.worker(&["--bootstrap"]).allow("another table has its name").start().await;
    let waiting = "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND relation = 'accounts'::regclass";
    while session.query_one(waiting, &[]).await.unwrap().get::<_, i32>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    session
        .batch_execute("ALTER TABLE accounts RENAME TO hidden; CREATE VIEW accounts AS SELECT * FROM hidden WHERE f(); COMMIT")
        .await
        .unwrap();
    let ended = worker.wait().await;
    assert!(ended.stderr.contains("another table has its name") && !ended.stderr.contains("code of the owner runs"), "{}", ended.stderr);
    assert_ne!(ended.code, Some(0));
}
