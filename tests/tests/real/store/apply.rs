//! Batches into a target: every hazard of applying sets of rows.

use std::time::Duration;

use pgshovel_plugin_postgresql::pgshovel::plugin::types::Change;
use tests::harness::{Database, World, eventually};

use super::native::*;

async fn target(sql: &str) -> (World, Database) {
    let world = World::without_servers();
    let database = world.target("store").await;
    database.execute(sql).await;
    (world, database)
}

async fn rows(database: &Database, table: &str) -> String {
    let sql = format!("SELECT coalesce(string_agg(r::text, ' ' ORDER BY r::text), '') FROM {table} r");
    database.value(&sql).await.unwrap()
}

fn insert(id: &str, value: &str) -> Change {
    Change::Insert(texts([Some(id), Some(value)]))
}

fn change(id: &str, value: &str) -> Change {
    update(texts([Some(id), None]), texts([Some(id), Some(value)]))
}

fn rekey(from: &str, to: &str) -> Change {
    update(texts([Some(from), Some("")]), texts([Some(to), Some(to)]))
}

fn delete(id: &str) -> Change {
    Change::Delete(texts([Some(id), None]))
}

#[tokio::test(flavor = "multi_thread")]
async fn several_changes_of_one_row_are_their_net_effect() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text, own int DEFAULT 5)").await;
    let mut session = open(&database).await;
    let relation = relation("t", &["id", "v"], &[0]);
    assert_eq!(session.load_state().unwrap(), None);
    run(&mut session, &relation, vec![insert("1", "a"), insert("2", "b"), insert("3", "c")], None, "s1").unwrap();
    database.execute("UPDATE t SET own = 6").await;
    let changes = vec![
        change("1", "x"),
        change("1", "y"),
        delete("2"),
        insert("2", "again"),
        insert("4", "d"),
        delete("4"),
        delete("3"),
        insert("5", "e"),
    ];
    run(&mut session, &relation, changes, Some("s1"), "s2").unwrap();
    // The row that went and came back has the target's default again.
    assert_eq!(rows(&database, "t").await, "(1,y,6) (2,again,5) (5,e,5)");
    assert_eq!(session.load_state().unwrap().as_deref(), Some(b"s2".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_change_and_unique_values_that_are_handed_over_arrive() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE)").await;
    let mut session = open(&database).await;
    let relation = relation("t", &["id", "v"], &[0]);
    session.load_state().unwrap();
    let many = (1..=50).map(|id| insert(&id.to_string(), &format!("v{id}"))).collect();
    run(&mut session, &relation, many, None, "s1").unwrap();
    // v1 and v2 change places by way of a third value; 48 rows move up one.
    let swap = vec![change("1", "tmp"), change("2", "v1"), change("1", "v2")];
    run(&mut session, &relation, swap, Some("s1"), "s2").unwrap();
    let chain = (3..=50).rev().map(|id| rekey(&id.to_string(), &(id + 1).to_string())).chain([insert("3", "new"), change("3", "newer")]);
    run(&mut session, &relation, chain.collect(), Some("s2"), "s3").unwrap();
    assert_eq!(
        database.value("SELECT string_agg(id || v, ',' ORDER BY id) FROM t WHERE id < 6").await.as_deref(),
        Some("1v2,2v1,3newer,44,55")
    );
    assert_eq!(database.count("t").await, 51);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_missing_stops_with_its_key_and_changes_nothing() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let relation = relation("t", &["id", "v"], &[0]);
    let mut session = open(&database).await;
    session.load_state().unwrap();
    run(&mut session, &relation, vec![insert("1", "secret")], None, "s1").unwrap();
    for (lost, expected) in [
        (change("42", "secret"), "cannot update the row of event 2 (key 73475cb40a56) of \"public\".\"t\" in the target: it is not there"),
        (delete("43"), "cannot delete the row of event 2 (key 44cb730c4204) of \"public\".\"t\" in the target: it is not there"),
        (insert("1", "secret"), "cannot insert the row of event 2 (key 6b86b273ff34) of \"public\".\"t\" in the target: duplicate key"),
    ] {
        let mut session = open(&database).await;
        assert_eq!(session.load_state().unwrap().as_deref(), Some(b"s1".as_slice()));
        let text = blocked(run(&mut session, &relation, vec![insert("9", "x"), lost], Some("s1"), "s2"));
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("secret"), "{text}");
        session.rollback().unwrap();
        assert_eq!(rows(&database, "t").await, "(1,secret)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_fit_names_its_row_and_not_itself() {
    let (_world, database) = target(
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(3)); CREATE TABLE n (id int PRIMARY KEY, v smallint NOT NULL CHECK (v > 0)); \
         CREATE DOMAIN short AS varchar(3); CREATE TABLE d (id int PRIMARY KEY, v short)",
    )
    .await;
    for (table, bad, expected) in [
        ("t", "secret", "value too long for type character varying(3) (SQLSTATE 22001)"),
        ("d", "secret", "value too long for type character varying(3) (SQLSTATE 22001)"),
        ("n", "secret", "invalid input syntax for type smallint: (a value) (SQLSTATE 22P02)"),
        ("n", "-77", "violates check constraint"),
    ] {
        let relation = relation(table, &["id", "v"], &[0]);
        let mut session = open(&database).await;
        session.load_state().unwrap();
        let text = blocked(run(&mut session, &relation, vec![insert("1", "1"), insert("2", bad)], None, "s"));
        assert!(text.contains("of event 2 (key d4735e3a265e)") && text.contains(expected), "{text}");
        assert!(!text.contains(bad), "{text}");
        session.rollback().unwrap();
        // The bootstrap names it too.
        let mut session = open(&database).await;
        session.load_state().unwrap();
        session.load(&relation, vec![texts([Some("1"), Some("1")]), texts([Some("2"), Some(bad)])]).unwrap();
        let text = blocked(session.commit(None, b"s".to_vec()));
        assert!(text.contains("the row (key d4735e3a265e)") && text.contains(expected) && !text.contains(bad), "{text}");
        session.rollback().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncates_are_applied_in_their_place() {
    let (_world, database) = target(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t); INSERT INTO t VALUES (1, 'old')",
    )
    .await;
    let mut session = open(&database).await;
    session.load_state().unwrap();
    let relation = relation("t", &["id", "v"], &[0]);
    // The server refuses to truncate what a foreign key refers to.
    let changes = vec![insert("2", "gone"), Change::Truncate, insert("2", "kept"), change("2", "kept still")];
    run(&mut session, &relation, changes, None, "s").unwrap();
    assert_eq!(rows(&database, "t").await, "(2,\"kept still\")");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_is_fenced() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let relation = relation("t", &["id", "v"], &[0]);
    let (mut one, mut other) = (open(&database).await, open(&database).await);
    one.load_state().unwrap();
    other.load_state().unwrap();
    one.begin().unwrap();
    let retry = |result| match result {
        Err(pgshovel_plugin_postgresql::pgshovel::plugin::types::Error::Retry(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(retry(other.begin()).contains("another worker"));
    other.rollback().unwrap();
    one.apply(std::slice::from_ref(&relation), mutations([insert("1", "a")])).unwrap();
    one.commit(None, b"s1".to_vec()).unwrap();
    // It believes that there is no state.
    assert!(retry(other.begin()).contains("another worker is at work"));
    other.rollback().unwrap();
    other.load_state().unwrap();
    other.begin().unwrap();
    assert!(stop(other.commit(Some(b"s0".to_vec()), b"s2".to_vec())).contains("another worker is at work"));
    other.rollback().unwrap();
    assert_eq!(one.load_state().unwrap().as_deref(), Some(b"s1".as_slice()));
    // Who takes over ends the session of one that stands still in a transaction.
    one.begin().unwrap();
    one.apply(std::slice::from_ref(&relation), mutations([insert("2", "b")])).unwrap();
    let held = format!("{:?}", other.load_state().unwrap_err());
    assert!(held.contains("its session was ended"), "{held}");
    let mut third = open(&database).await;
    eventually("the lock is free", Duration::from_secs(60), || {
        let state = third.load_state().map_err(|error| format!("{error:?}"));
        async move { state }
    })
    .await;
    third.begin().unwrap();
    third.commit(Some(b"s1".to_vec()), b"s2".to_vec()).unwrap();
    assert!(one.commit(Some(b"s1".to_vec()), b"s3".to_vec()).is_err());
    assert_eq!(database.count("t").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_lacks_is_named_with_the_remedy() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW w AS TABLE t").await;
    let mut session = open(&database).await;
    session.load_state().unwrap();
    session.begin().unwrap();
    let lacking = |session: &mut Target, table, columns: &[&str]| blocked(session.apply(&[relation(table, columns, &[0])], Vec::new()));
    let text = lacking(&mut session, "t", &["id", "v"]);
    assert!(text.contains("public.t") && text.contains("\"v\"") && text.contains("ADD COLUMN"), "{text}");
    let text = lacking(&mut session, "missing", &["id"]);
    assert!(text.contains("no table public.missing") && text.contains("pg_dump"), "{text}");
    assert!(lacking(&mut session, "w", &["id"]).contains("is no table"));
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_and_identity_columns_and_odd_names_are_written() {
    let (_world, database) = target(
        "CREATE SCHEMA \"s\"\"x\"; CREATE TABLE \"s\"\"x\".\"select\" (\"from \"\"id\" int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         \"$1\" text, twice int GENERATED ALWAYS AS (\"from \"\"id\" * 2) STORED, extra int DEFAULT 9)",
    )
    .await;
    let mut session = open_with(&database, r#"{"schemas": {"public": "s\"x"}}"#).await.unwrap();
    session.load_state().unwrap();
    let relation = relation("select", &["twice", "from \"id", "$1"], &[1]);
    let row = |id: &str, value: &str| texts([Some("0"), Some(id), Some(value)]);
    let changes = vec![
        Change::Insert(row("7", "a")),
        Change::Insert(row("8", "b")),
        update(row("7", "a"), row("7", "c")),
        update(row("8", "b"), row("9", "b")),
        Change::Delete(row("7", "c")),
        Change::Insert(row("7", "d")),
    ];
    run(&mut session, &relation, changes, None, "s").unwrap();
    session.begin().unwrap();
    session.apply(std::slice::from_ref(&relation), mutations([update(row("9", "b"), row("10", "e"))])).unwrap();
    session.commit(Some(b"s".to_vec()), b"t".to_vec()).unwrap();
    assert_eq!(rows(&database, "\"s\"\"x\".\"select\"").await, "(10,e,20,9) (7,d,14,9)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_skip_foreign_keys_writes_in_order() {
    let (_world, database) = target(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE child (id int PRIMARY KEY, v int NOT NULL REFERENCES t ON DELETE CASCADE); \
         CREATE TABLE seen (what text); \
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (TG_OP || NEW.v); RETURN NEW; END $$; \
         CREATE TRIGGER see AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION see()",
    )
    .await;
    let role = format!("plain_{}", database.name());
    database
        .execute(&format!(
            "CREATE ROLE \"{role}\" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON t, child, seen TO \"{role}\"; \
             GRANT CREATE ON DATABASE \"{}\" TO \"{role}\"",
            database.name()
        ))
        .await;
    let dsn = format!("host=127.0.0.1 port={} user={role} dbname={}", database.port(), database.name());
    assert!(matches!(
        open_as(&dsn, r#"{"triggers": "skip"}"#).await,
        Err(pgshovel_plugin_postgresql::pgshovel::plugin::types::Error::Stop(text)) if text.contains("GRANT SET ON PARAMETER")
    ));
    let mut session = open_as(&dsn, "{}").await.unwrap();
    session.load_state().unwrap();
    let parent = relation("t", &["id", "v"], &[0]);
    let child = pgshovel_plugin_postgresql::pgshovel::plugin::types::Relation { id: 2, ..relation("child", &["id", "v"], &[0]) };
    let mut changes = mutations([
        insert("1", "a"),
        Change::Insert(texts([Some("10"), Some("1")])),
        change("1", "b"),
        insert("2", "c"),
        update(texts([Some("10"), Some("1")]), texts([Some("10"), Some("2")])),
        delete("1"),
        delete("2"),
        // It went with its parent.
        Change::Delete(texts([Some("10"), Some("2")])),
    ]);
    for index in [1, 4, 7] {
        changes[index].relation = 2;
    }
    session.begin().unwrap();
    session.apply(&[parent, child], changes).unwrap();
    session.commit(None, b"s".to_vec()).unwrap();
    assert_eq!(rows(&database, "child").await, "");
    assert_eq!(rows(&database, "seen").await, "(INSERTa) (INSERTc) (UPDATEb)");
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_security_that_hides_rows_is_told_with_the_remedy() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ENABLE ROW LEVEL SECURITY").await;
    let role = format!("plain_{}", database.name());
    let name = database.name();
    database
        .execute(&format!("CREATE ROLE \"{role}\" LOGIN; GRANT ALL ON t TO \"{role}\"; GRANT CREATE ON DATABASE \"{name}\" TO \"{role}\""))
        .await;
    let dsn = format!("host=127.0.0.1 port={} user={role} dbname={name}", database.port());
    let mut session = open_as(&dsn, "{}").await.unwrap();
    session.load_state().unwrap();
    let relation = relation("t", &["id", "v"], &[0]);
    let text = blocked(run(&mut session, &relation, vec![insert("1", "a")], None, "s"));
    assert!(text.contains("row-level security") && text.contains("BYPASSRLS") && !text.contains("grant the role"), "{text}");
    session.rollback().unwrap();
    let text = blocked(session.load(&relation, vec![texts([Some("1"), Some("a")])]));
    assert!(text.contains("row-level security") && text.contains("BYPASSRLS"), "{text}");
    drop(session);
    database.execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_1600_columns_is_written() {
    let columns: Vec<String> = (0..1600).map(|column| format!("c{column} int{}", if column == 0 { " PRIMARY KEY" } else { "" })).collect();
    let (_world, database) = target(&format!("CREATE TABLE wide ({})", columns.join(", "))).await;
    let names: Vec<String> = (0..1600).map(|column| format!("c{column}")).collect();
    let relation = relation("wide", &names.iter().map(String::as_str).collect::<Vec<_>>(), &[0]);
    let row = |id: i64, rest: i64| {
        use pgshovel_plugin_postgresql::pgshovel::plugin::types::Value;
        (0..1600).map(|column| Value::Integer(if column == 0 { id } else { rest })).collect::<Vec<_>>()
    };
    let mut session = open(&database).await;
    session.load_state().unwrap();
    session.load(&relation, vec![row(1, 1), row(2, 2)]).unwrap();
    session.commit(None, b"s".to_vec()).unwrap();
    run(&mut session, &relation, vec![update(row(1, 1), row(1, 3)), Change::Insert(row(3, 3)), Change::Delete(row(2, 2))], Some("s"), "t")
        .unwrap();
    assert_eq!(database.value("SELECT string_agg(c0 || ':' || c1599, ' ' ORDER BY c0) FROM wide").await.as_deref(), Some("1:3 3:3"));
}

/// Autovacuum may look at a table whose bootstrap is not committed yet: statistics then
/// say that it is empty. Each row is to be found by its key nonetheless.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_taken_for_empty_is_read_by_key() {
    const ROWS: usize = 3000;
    let (_world, database) = target(
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text); CREATE TYPE answer AS ENUM ('yes', 'no')",
    )
    .await;
    let keys = [
        ("whole", "bigint", "#"),
        ("exact", "numeric", "#.50"),
        ("words", "text", "key #"),
        ("fixed", "char(9)", "k#"),
        ("named", "uuid", "00000000-0000-0000-0000-00000000#"),
        ("bounded", "positive", "#"),
        ("ranged", "int4range", "[#,9999)"),
        ("composed", "pair", "(#,b)"),
    ];
    for (table, r#type, key) in keys {
        database.execute(&format!("CREATE TABLE {table} (id {type}, also answer, v text, PRIMARY KEY (id, also))")).await;
        let id = |row: usize| key.replace('#', &(1000 + row).to_string());
        let relation = relation(table, &["id", "also", "v"], &[0, 1]);
        let mut session = open(&database).await;
        session.load_state().unwrap();
        for rows in [0..ROWS / 2, ROWS / 2..ROWS] {
            session.load(&relation, rows.map(|row| texts([Some(&id(row)), Some("no"), Some("old")])).collect()).unwrap();
        }
        database.execute(&format!("ANALYZE {table}")).await;
        session.commit(None, b"s".to_vec()).unwrap();
        let of = format!("FROM pg_class WHERE oid = '{table}'::regclass");
        assert_eq!(database.value(&format!("SELECT relpages > 5 AND reltuples = 0 {of}")).await.as_deref(), Some("t"));
        let row = |row: usize, value: &str| texts([Some(&id(row)), Some("no"), Some(value)]);
        let updates = (0..ROWS).map(|at| update(row(at, "old"), row(at, "new"))).collect();
        run(&mut session, &relation, updates, Some("s"), "t").unwrap();
        let deletes = (1..ROWS).map(|at| Change::Delete(row(at, "new"))).collect();
        run(&mut session, &relation, deletes, Some("t"), "u").unwrap();
        drop(session);
        assert_eq!(database.value(&format!("SELECT string_agg(v, ' ') FROM {table}")).await.as_deref(), Some("new"));
        // A session's figures are there when it has ended.
        eventually("the index's figures", Duration::from_secs(60), || async {
            let sql = format!("SELECT idx_scan || ' ' || idx_tup_read FROM pg_stat_user_indexes WHERE relname = '{table}'");
            let figures = database.value(&sql).await.unwrap();
            let (scans, read) = figures.split_once(' ').unwrap();
            let (scans, read) = (scans.parse::<usize>().unwrap(), read.parse::<usize>().unwrap());
            if read < 2 * ROWS - 1 {
                return Err(figures);
            }
            assert!(scans >= 2 * ROWS - 1 && read < 4 * ROWS, "{table}: {scans} scans read {read} entries");
            Ok(())
        })
        .await;
        database.execute("DELETE FROM pgshovel.state").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_leaves_the_last_commit() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let relation = relation("t", &["id", "v"], &[0]);
    let mut session = open(&database).await;
    session.load_state().unwrap();
    run(&mut session, &relation, vec![insert("1", "a")], None, "s1").unwrap();
    session.begin().unwrap();
    // More than one part, so that some of it is at the server.
    session.apply(std::slice::from_ref(&relation), mutations((2..10_000).map(|id| insert(&id.to_string(), "b")))).unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND pid <> pg_backend_pid() AND datname = current_database()";
    assert_eq!(database.value(end).await.as_deref(), Some("t"));
    let lost = session.commit(Some(b"s1".to_vec()), b"s2".to_vec());
    assert!(matches!(lost, Err(pgshovel_plugin_postgresql::pgshovel::plugin::types::Error::Retry(_))), "{lost:?}");
    // The server may still be ending the lost session, which has locks.
    let mut session = eventually("the next session", Duration::from_secs(60), || async {
        let mut session = open(&database).await;
        match session.load_state() {
            Ok(state) => {
                assert_eq!(state.as_deref(), Some(b"s1".as_slice()));
                Ok(session)
            }
            Err(error) => Err(format!("{error:?}")),
        }
    })
    .await;
    assert_eq!(rows(&database, "t").await, "(1,a)");
    run(&mut session, &relation, vec![insert("2", "b")], Some("s1"), "s2").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_replaces_what_a_table_held_and_nothing_before_its_commit() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old'), (7, 'old')").await;
    let relation = relation("t", &["id", "v"], &[0]);
    for (configuration, state) in [("{}", "one"), (r#"{"empty": "truncate"}"#, "two")] {
        let mut session = open_with(&database, configuration).await.unwrap();
        let mut before = session.load_state().unwrap();
        if before.is_none() {
            // Whose rows these are is not known, until the operator says so.
            let text = stop(session.load(&relation, Vec::new()));
            assert!(text.contains("\"t\" of the target holds rows") && text.contains("--bootstrap"), "{text}");
            session.rollback().unwrap();
            session.commit(None, b"claim".to_vec()).unwrap();
            before = Some(b"claim".to_vec());
            assert_eq!(database.count("t").await, 2);
        }
        let row = |id: u32| texts([Some(&*id.to_string()), Some("a\tb\\N")]);
        session.load(&relation, (1..1500).map(row).collect()).unwrap();
        session.load(&relation, (1500..3000).map(row).collect()).unwrap();
        session.rollback().unwrap();
        assert!(database.count("t").await == if state == "one" { 2 } else { 2999 });
        session.load(&relation, (1..1500).map(row).collect()).unwrap();
        session.load(&relation, Vec::new()).unwrap();
        session.load(&relation, (1500..3000).map(row).collect()).unwrap();
        session.commit(before, state.as_bytes().to_vec()).unwrap();
        assert_eq!(database.value("SELECT count(*) || min(v) || max(v) FROM t").await.as_deref(), Some("2999a\tb\\Na\tb\\N"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferrable_value_may_be_exchanged_and_is_still_unique() {
    let (_world, database) = target("CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE DEFERRABLE)").await;
    let relation = relation("t", &["id", "v"], &[0]);
    let mut session = open(&database).await;
    session.load_state().unwrap();
    session.load(&relation, vec![texts([Some("1"), Some("a")]), texts([Some("2"), Some("b")])]).unwrap();
    session.commit(None, b"s1".to_vec()).unwrap();
    let swap = vec![change("1", "b"), change("2", "a"), insert("3", "c")];
    run(&mut session, &relation, swap, Some("s1"), "s2").unwrap();
    let expected = "(1,b) (2,a) (3,c)";
    assert_eq!(rows(&database, "t").await, expected);
    let text = blocked(run(&mut session, &relation, vec![change("3", "d"), insert("4", "a")], Some("s2"), "s3"));
    assert!(text.contains("t_v_key"), "{text}");
    session.rollback().unwrap();
    session.load_state().unwrap();
    session.load(&relation, vec![texts([Some("1"), Some("a")]), texts([Some("2"), Some("a")])]).unwrap();
    let text = blocked(session.commit(Some(b"s2".to_vec()), b"s3".to_vec()));
    assert!(text.contains("t_v_key"), "{text}");
    session.rollback().unwrap();
    assert_eq!(rows(&database, "t").await, expected);
}
