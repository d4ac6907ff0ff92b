//! The set's tables as of one snapshot, and from there into a target.

use pgshovel::capabilities::origin::{Cursor, Snapshot};
use pgshovel::config::Limits;
use pgshovel::error::Next;
use pgshovel_plugin_postgresql::pgshovel::plugin::types::Change;
use proto::interfaces::configurations::{DatabaseConfiguration, ReplicationSetConfiguration, TableConfiguration};
use proto::row::{Row, Value};
use tests::harness::{Database, World};
use tests::matrix;

use super::native::{LOCK_TIMEOUT, budget, mutations, open, relation_of, run, to_plugin, update};

/// What an administrator's commands leave in the source, as far as a snapshot reads it.
pub const NODE: &str = "\
CREATE SCHEMA pgshovel_c; CREATE TABLE pgshovel_c.configuration (node uuid, system_identifier bigint, database_oid oid); \
INSERT INTO pgshovel_c.configuration SELECT gen_random_uuid(), system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()) \
FROM pg_control_system()";

pub fn table(name: &str, columns: &[&str]) -> TableConfiguration {
    TableConfiguration {
        name: name.to_owned(),
        primary_keys: vec!["id".to_owned()],
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        schema: None,
    }
}

pub async fn snapshot(source: &Database, tables: Vec<TableConfiguration>) -> pgshovel::error::Result<Snapshot> {
    let configuration = ReplicationSetConfiguration { database: DatabaseConfiguration { dsn: source.dsn() }, tables };
    Snapshot::open("c", "s", &configuration).await
}

async fn all(mut cursor: Cursor) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let some = cursor.fetch(100).await.unwrap();
        assert!(some.len() <= 100);
        if some.is_empty() {
            return rows;
        }
        rows.extend(some);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_sees_the_rows_of_the_snapshot() {
    let world = World::without_servers();
    let source = world.source("origin").await;
    source.execute(NODE).await;
    source
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text, w text); INSERT INTO t SELECT n, 'v' || n, 'w' FROM generate_series(1, 5000) n; \
             CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF part FOR VALUES FROM (0) TO (10); \
             INSERT INTO part VALUES (1), (2); \
             CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent); INSERT INTO parent VALUES (1); \
             INSERT INTO child VALUES (2); CREATE TABLE empty (id int PRIMARY KEY); ANALYZE t",
        )
        .await;
    let tables = vec![table("t", &["w"]), table("part", &[]), table("parent", &[]), table("empty", &[])];
    let xmax = async || source.value("SELECT txid_snapshot_xmax(txid_current_snapshot())").await.unwrap().parse::<u64>().unwrap();
    let before = xmax().await;
    let snapshot = snapshot(&source, tables).await.unwrap();
    let taken: u64 = snapshot.state().snapshot.split(':').nth(1).unwrap().parse().unwrap();
    // Other tests have transactions on the same server.
    assert!((before..=xmax().await).contains(&taken), "{taken}");
    let first = snapshot.cursor("public", "t", LOCK_TIMEOUT, &budget()).unwrap();
    source.execute("UPDATE t SET w = 'late'; INSERT INTO t VALUES (0, 'late', 'late'); INSERT INTO part VALUES (3)").await;
    let columns: Vec<&str> = snapshot.tables()[0].relation.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["id", "w"]);
    assert_eq!(snapshot.tables()[0].relation.identity, [0]);
    assert_eq!(snapshot.tables()[0].estimated_rows, Some(5000));
    for cursor in [first, snapshot.cursor("public", "t", LOCK_TIMEOUT, &budget()).unwrap()] {
        let mut ids = Vec::new();
        for row in all(cursor).await {
            assert_eq!(row[1], Value::Text("w".to_owned()));
            ids.push(row[0].clone());
        }
        assert_eq!(ids.len(), 5000);
    }
    assert_eq!(all(snapshot.cursor("public", "part", LOCK_TIMEOUT, &budget()).unwrap()).await, [[Value::Integer(1)], [Value::Integer(2)]]);
    assert_eq!(all(snapshot.cursor("public", "parent", LOCK_TIMEOUT, &budget()).unwrap()).await, [[Value::Integer(1)]]);
    assert!(all(snapshot.cursor("public", "empty", LOCK_TIMEOUT, &budget()).unwrap()).await.is_empty());
    // A table that was rewritten since shows no rows to the snapshot.
    for (rewritten, sql) in [("empty", "TRUNCATE empty"), ("parent", "ALTER TABLE parent ALTER id TYPE bigint"), ("part", "TRUNCATE p1")] {
        source.execute(sql).await;
        let error = snapshot.cursor("public", rewritten, LOCK_TIMEOUT, &budget()).unwrap().fetch(10).await.unwrap_err();
        assert!(error.next == Next::Retry && error.message.contains(rewritten) && error.message.contains("another one"), "{error}");
    }
    source.execute("ALTER TABLE t RENAME w TO x").await;
    assert_eq!(snapshot.cursor("public", "t", LOCK_TIMEOUT, &budget()).unwrap().fetch(10).await.unwrap_err().next, Next::Retry);
    source.execute("ALTER TABLE t RENAME x TO w").await;
    let few = budget();
    let open: Vec<Cursor> =
        (0..Limits::default().connections).map(|_| snapshot.cursor("public", "t", LOCK_TIMEOUT, &few).unwrap()).collect();
    let error = snapshot.cursor("public", "t", LOCK_TIMEOUT, &few).unwrap_err();
    assert!(error.next == Next::Stop && error.message.contains("limits.connections"), "{error}");
    assert_eq!(snapshot.cursor("public", "other", LOCK_TIMEOUT, &budget()).unwrap_err().next, Next::Stop);
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_does_not_fit_the_database_is_refused() {
    let world = World::without_servers();
    let source = world.source("origin").await;
    source.execute(NODE).await;
    source.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    for (wanted, named) in [(table("missing", &[]), "public.missing"), (table("t", &["v"]), "no column v")] {
        let error = snapshot(&source, vec![wanted]).await.unwrap_err();
        assert_eq!(error.next, Next::Stop);
        assert!(error.message.contains(named) && error.message.contains("set update"), "{error}");
    }
    source.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE ROLE hidden_reader LOGIN; GRANT SELECT ON t TO hidden_reader; GRANT USAGE ON SCHEMA pgshovel_c TO hidden_reader; GRANT SELECT ON pgshovel_c.configuration TO hidden_reader; GRANT EXECUTE ON FUNCTION pg_control_system() TO hidden_reader").await;
    let dsn = source.dsn().replace("user=postgres", "user=hidden_reader");
    let configuration = ReplicationSetConfiguration { database: DatabaseConfiguration { dsn }, tables: vec![table("t", &[])] };
    let opened = Snapshot::open("c", "s", &configuration).await.unwrap();
    let error = opened.cursor("public", "t", LOCK_TIMEOUT, &budget()).unwrap().fetch(10).await.unwrap_err();
    assert!(
        error.next == Next::Stop
            && error.message.contains("public.t")
            && error.message.contains("row-level security")
            && error.message.contains("BYPASSRLS"),
        "{error}"
    );
    drop(opened);
    source.execute("DROP OWNED BY hidden_reader; DROP ROLE hidden_reader").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_exactly() {
    let world = World::without_servers();
    let (source, target) = (world.source("types").await, world.target("types").await);
    source.execute(NODE).await;
    for database in [&source, &target] {
        database.execute(matrix::SCHEMA).await;
        database.execute(&matrix::table("t", "")).await;
        database.execute("CREATE TABLE keyed (id public.citext PRIMARY KEY, v int)").await;
    }
    // Sessions with other settings wrote the rows: it makes no difference.
    source.execute(matrix::HOSTILE[0]).await;
    for row in matrix::rows("t", 0) {
        source.execute(&row).await;
    }
    source.execute("INSERT INTO keyed VALUES ('A', 1)").await;
    let snapshot = snapshot(&source, vec![table("t", &[]), table("keyed", &[])]).await.unwrap();
    let mut session = open(&target).await;
    session.load_state().unwrap();
    let mut relations = Vec::new();
    for table in snapshot.tables() {
        let relation = relation_of(&table.relation);
        let rows = all(snapshot.cursor(&table.relation.schema, &table.relation.table, LOCK_TIMEOUT, &budget()).unwrap()).await;
        let rows: Vec<_> = rows.iter().map(|row| row.iter().map(to_plugin).collect()).collect();
        session.load(&relation, rows.clone()).unwrap();
        relations.push((relation, rows));
    }
    session.commit(None, b"loaded".to_vec()).unwrap();
    assert_eq!(target.count("t").await, matrix::row_count() as u64);
    target.same_images(&source, "public.t", &["id"]).await;
    // The same rows by way of sets: all updated in place, then deleted and inserted again.
    let (relation, rows) = &relations[0];
    target.execute("UPDATE t SET c10 = 'lost'").await;
    run(&mut session, relation, rows.iter().map(|row| update(row.clone(), row.clone())).collect(), Some("loaded"), "updated").unwrap();
    target.same_images(&source, "public.t", &["id"]).await;
    run(&mut session, relation, rows.iter().map(|row| Change::Delete(row.clone())).collect(), Some("updated"), "deleted").unwrap();
    assert_eq!(target.count("t").await, 0);
    run(&mut session, relation, rows.iter().map(|row| Change::Insert(row.clone())).collect(), Some("deleted"), "inserted").unwrap();
    target.same_images(&source, "public.t", &["id"]).await;
    // A key of an extension's type is found by that type's own equality.
    let (relation, rows) = &relations[1];
    session.begin().unwrap();
    session.apply(std::slice::from_ref(relation), mutations(rows.iter().map(|row| update(row.clone(), row.clone())))).unwrap();
    session.commit(Some(b"inserted".to_vec()), b"end".to_vec()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_others_refer_to_come_first() {
    let world = World::without_servers();
    let source = world.source("origin").await;
    source.execute(NODE).await;
    source
        .execute(
            "CREATE TABLE a (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE a1 PARTITION OF a DEFAULT; \
             CREATE TABLE b (id int PRIMARY KEY REFERENCES a); CREATE TABLE c (id int PRIMARY KEY REFERENCES b, own int REFERENCES c); \
             CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE y (id int PRIMARY KEY REFERENCES x); ALTER TABLE x ADD FOREIGN KEY (id) REFERENCES y",
        )
        .await;
    let wanted = ["c", "x", "b", "y", "a"].map(|name| table(name, &[])).to_vec();
    let snapshot = snapshot(&source, wanted).await.unwrap();
    let names: Vec<&str> = snapshot.tables().iter().map(|table| table.relation.table.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "x", "y"]);
}
