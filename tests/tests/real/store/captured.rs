//! A target that is the source, and one that is captured: told apart, and refused where
//! what is written would be captured again and is not meant to be.

use pgshovel_plugin_postgresql::pgshovel::plugin::types::Error;
use tests::harness::{Database, World};

use super::native::*;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE SCHEMA copy; CREATE TABLE copy.t (id int PRIMARY KEY, v int)";

/// The server's identifier and the database's OID.
async fn identity(database: &Database) -> (u64, u32) {
    let server = database.value("SELECT system_identifier FROM pg_control_system()").await.unwrap();
    let oid = database.value("SELECT oid FROM pg_database WHERE datname = current_database()").await.unwrap();
    (server.parse().unwrap(), oid.parse().unwrap())
}

fn set() -> Vec<(String, String)> {
    vec![("public".to_owned(), "t".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_the_source_is_refused_before_it_is_changed() {
    let world = World::without_servers();
    let database = world.target("itself").await;
    database.execute(TABLES).await;
    let (server, oid) = identity(&database).await;
    let t = relation("t", &["id", "v"], &[0]);
    // Another server, or another database of it, may have the same tables.
    for (server, oid) in [(server + 1, oid), (server, oid + 1)] {
        open(&database).await.set_source(server, oid, set(), false).unwrap();
    }
    let mut session = open(&database).await;
    assert_eq!(session.load_state().unwrap(), None);
    let text = stop(session.set_source(server, oid, set(), false));
    assert!(text.contains("the target is the source: public.t") && text.contains("key schemas"), "{text}");
    // Transforms may give the table another name, or not.
    let mut session = open(&database).await;
    session.load_state().unwrap();
    session.set_source(server, oid, set(), true).unwrap();
    stop(session.load(&t, Vec::new()));
    assert_eq!(database.value("SELECT to_regnamespace('pgshovel')").await, None, "the target was touched");
    session.load(&relation("other", &["id", "v"], &[0]), Vec::new()).unwrap_err();
    // Another schema of the same database.
    let mut session = open_with(&database, r#"{"schemas": {"public": "copy"}}"#).await.unwrap();
    session.load_state().unwrap();
    session.set_source(server, oid, set(), false).unwrap();
    session.load(&t, vec![texts([Some("1"), Some("1")])]).unwrap();
    session.commit(None, b"s".to_vec()).unwrap();
    assert_eq!(database.count("copy.t").await, 1);
    // Unless the set has the table that is there, too.
    let both = [set(), vec![("copy".to_owned(), "t".to_owned())]].concat();
    stop(session.set_source(server, oid, both, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_cannot_ask_which_server_it_is_stops() {
    let world = World::without_servers();
    let database = world.target("itself").await;
    database.execute(TABLES).await;
    let (server, oid) = identity(&database).await;
    let role = format!("plain_{}", database.name());
    // Of this database alone: its catalog says who may execute the function.
    database.execute(&format!("CREATE ROLE \"{role}\" LOGIN; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")).await;
    let dsn = format!("host=127.0.0.1 port={} user={role} dbname={}", database.port(), database.name());
    let mut session = open_as(&dsn, "{}").await.unwrap();
    session.set_source(server, oid + 1, set(), false).unwrap();
    let text = stop(session.set_source(server + 1, oid, set(), false));
    assert!(text.contains("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system()"), "{text}");
    drop(session);
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

/// Triggers that capture `t` and a partitioned table, in both forms, for a database whose
/// identity is an expression.
fn capture(schema: &str, trigger: &str, oid: &str) -> String {
    format!(
        "CREATE SCHEMA \"{schema}\"; CREATE TABLE \"{schema}\".configuration AS \
           SELECT gen_random_uuid() AS node, (SELECT system_identifier FROM pg_control_system()) AS system_identifier, ({oid})::oid AS database_oid; \
         CREATE TABLE IF NOT EXISTS public.fired (what text); \
         CREATE FUNCTION \"{schema}\".now() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.fired VALUES ('when'); RETURN false; END$$; \
         CREATE FUNCTION \"{schema}\".later() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.fired VALUES ('after'); RETURN NULL; END$$; \
         CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'never'; END$$; \
         CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT; \
         CREATE TRIGGER \"{trigger}i\" AFTER INSERT ON t FOR EACH ROW WHEN (\"{schema}\".now()) EXECUTE FUNCTION public.never(); \
         CREATE TRIGGER \"{trigger}r\" AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION \"{schema}\".later(); \
         ALTER TABLE t ENABLE ALWAYS TRIGGER \"{trigger}i\"; ALTER TABLE p ENABLE ALWAYS TRIGGER \"{trigger}r\""
    )
}

const HERE: &str = "SELECT oid FROM pg_database WHERE datname = current_database()";

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_are_left_over_from_a_dump_are_named_and_not_fired() {
    let world = World::without_servers();
    let database = world.target("captured").await;
    database.execute(TABLES).await;
    database.execute(&capture("pgshovel_x", "pgshovel:x:s:", "1")).await;
    let mut session = open(&database).await;
    session.load_state().unwrap();
    let drops = ["DROP TRIGGER \"pgshovel:x:s:i\" ON public.t", "DROP TRIGGER \"pgshovel:x:s:r\" ON public.p"];
    // A partition has a clone of the trigger.
    for table in ["t", "p", "p1"] {
        let text = blocked(session.load(&relation(table, &["id", "v"], &[0]), vec![texts([Some("1"), Some("1")])]));
        assert!(drops.iter().all(|drop| text.contains(drop)) && !text.contains("ON public.p1"), "{text}");
    }
    // The schema that they call may be without its table, or the table not be ours.
    database.execute("ALTER TABLE pgshovel_x.configuration RENAME COLUMN database_oid TO d").await;
    blocked(session.load(&relation("t", &["id", "v"], &[0]), Vec::new()));
    session.rollback().unwrap();
    for drop in drops {
        database.execute(drop).await;
    }
    for table in ["t", "p"] {
        session.load(&relation(table, &["id", "v"], &[0]), vec![texts([Some("1"), Some("1")])]).unwrap();
    }
    session.commit(None, b"s".to_vec()).unwrap();
    assert_eq!(database.count("fired").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_set_captures_may_be_written_to() {
    let world = World::without_servers();
    let database = world.target("captured").await;
    database.execute(TABLES).await;
    database.execute(&capture("pgshovel_c", "pgshovel:c:other:", HERE)).await;
    let mut session = open(&database).await;
    session.load_state().unwrap();
    session.load(&relation("t", &["id", "v"], &[0]), vec![texts([Some("1"), Some("1")])]).unwrap();
    session.commit(None, b"s".to_vec()).unwrap();
    assert_eq!(database.value("SELECT what FROM fired").await.as_deref(), Some("when"));
    // A role that may not ask is told how, and what to do if it is a copy.
    let role = format!("plain_{}", database.name());
    database
        .execute(&format!("CREATE ROLE \"{role}\" LOGIN; GRANT ALL ON t, fired, pgshovel.state TO \"{role}\"; GRANT USAGE ON SCHEMA pgshovel TO \"{role}\""))
        .await;
    let dsn = format!("host=127.0.0.1 port={} user={role} dbname={}", database.port(), database.name());
    let mut session = open_as(&dsn, "{}").await.unwrap();
    session.load_state().unwrap();
    let load = |session: &mut Target| session.load(&relation("t", &["id", "v"], &[0]), vec![texts([Some("2"), Some("1")])]);
    let text = blocked(load(&mut session));
    assert!(text.contains("GRANT USAGE ON SCHEMA \"pgshovel_c\"") && text.contains("DROP TRIGGER"), "{text}");
    database
        .execute(&format!("GRANT USAGE ON SCHEMA pgshovel_c TO \"{role}\"; GRANT SELECT ON pgshovel_c.configuration TO \"{role}\""))
        .await;
    load(&mut session).unwrap();
    session.rollback().unwrap();
    drop(session);
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
    // The set that is replicated itself.
    database.execute("ALTER TRIGGER \"pgshovel:c:other:i\" ON t RENAME TO \"pgshovel:c:s:i\"").await;
    let mut session = open(&database).await;
    session.load_state().unwrap();
    let refused: Result<(), Error> = session.load(&relation("t", &["id", "v"], &[0]), Vec::new());
    assert!(stop(refused).contains("captured for the set \"s\""));
}
