//! Rows of a bootstrap into tables that refer to each other.

use pgshovel_plugin_postgresql::pgshovel::plugin::types::{Change, Error, Relation, Row, Value};
use tests::harness::{Database, World};

use super::native::*;

const ROWS: i64 = 60_000;

/// A role that may do what applying takes, and not skip foreign keys.
struct Plain {
    world: World,
    database: Database,
    role: String,
}

impl Plain {
    async fn new(tables: &str) -> Self {
        let world = World::without_servers();
        let database = world.target("load").await;
        let role = format!("plain_{}", database.name());
        database
            .execute(&format!(
                "{tables}; CREATE ROLE \"{role}\" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO \"{role}\"; \
                 GRANT CREATE ON DATABASE \"{}\" TO \"{role}\"",
                database.name()
            ))
            .await;
        Self { world, database, role }
    }

    async fn open(&self, configuration: &str) -> Target {
        let dsn = format!("host=127.0.0.1 port={} user={} dbname={}", self.database.port(), self.role, self.database.name());
        open_as(&dsn, configuration).await.unwrap()
    }

    async fn end(self) {
        self.database.execute(&format!("DROP OWNED BY \"{0}\"; DROP ROLE \"{0}\"", self.role)).await;
        drop(self.world);
    }
}

/// A row and the one that it refers to.
fn pairs(rows: impl IntoIterator<Item = (i64, i64)>) -> Vec<Row> {
    rows.into_iter().map(|(id, to)| vec![Value::Integer(id), Value::Integer(to)]).collect()
}

fn send(session: &mut Target, relation: &Relation, rows: &[Row]) -> Result<(), Error> {
    rows.chunks(2000).try_for_each(|chunk| session.load(relation, chunk.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_may_refer_to_rows_that_come_later() {
    for timing in ["", "DEFERRABLE"] {
        let tables = format!(
            "CREATE TABLE parent (id int PRIMARY KEY, v int); CREATE TABLE child (id int PRIMARY KEY, v int NOT NULL REFERENCES parent {timing}); \
             CREATE TABLE self (id int PRIMARY KEY, v int NOT NULL REFERENCES self {timing}); CREATE INDEX ON self (v); \
             CREATE TABLE a (id int PRIMARY KEY, v int NOT NULL); CREATE TABLE b (id int PRIMARY KEY, v int NOT NULL REFERENCES a ON DELETE RESTRICT {timing}); \
             ALTER TABLE a ADD FOREIGN KEY (v) REFERENCES b ON DELETE RESTRICT {timing}; CREATE INDEX ON a (v); CREATE INDEX ON b (v); CREATE INDEX ON child (v)"
        )
        .replace("ON DELETE RESTRICT DEFERRABLE", "DEFERRABLE");
        let plain = Plain::new(&tables).await;
        // Each row of `self` refers to the next one, and the last one to the first.
        let circle = pairs((1..=ROWS).map(|id| (id, id % ROWS + 1)));
        let few = pairs((1..=3000).map(|id| (id, 3001 - id)));
        let order = [("child", &few), ("self", &circle), ("b", &few), ("a", &few), ("parent", &few)];
        let mut state = None;
        // The second time the tables hold what the first one brought, and the third time too.
        for (number, configuration) in ["{}", "{}", r#"{"empty": "truncate"}"#].into_iter().enumerate() {
            let mut session = plain.open(configuration).await;
            assert_eq!(session.load_state().unwrap(), state);
            // What refers comes last here, and is in the way of what it refers to.
            for (table, _) in order.iter().rev() {
                session.load(&relation(table, &["id", "v"], &[0]), Vec::new()).unwrap();
            }
            for (table, rows) in order {
                send(&mut session, &relation(table, &["id", "v"], &[0]), rows).unwrap();
            }
            let next = format!("s{number}").into_bytes();
            session.commit(state, next.clone()).unwrap();
            state = Some(next);
            for (table, rows) in order {
                let expected = format!("{} {}", rows.len(), rows.len() * (rows.len() + 1) / 2);
                let found = plain.database.value(&format!("SELECT count(*) || ' ' || sum(v) FROM {table}")).await;
                assert_eq!(found, Some(expected), "{table} {timing} {configuration}");
            }
        }
        plain.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_must_be_written_as_origin_takes_rows_in_any_order_too() {
    let world = World::without_servers();
    let database = world.target("load").await;
    database
        .execute("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL REFERENCES t, UNIQUE (id) DEFERRABLE, UNIQUE (v) DEFERRABLE)")
        .await;
    let mut session = open(&database).await;
    session.load_state().unwrap();
    let relation = relation("t", &["id", "v"], &[0]);
    send(&mut session, &relation, &pairs((1..=5000).map(|id| (id, id % 5000 + 1)))).unwrap();
    session.commit(None, b"s".to_vec()).unwrap();
    assert_eq!(database.count("t").await, 5000);
    assert_eq!(database.value("SELECT count(*) FROM t JOIN t AS next ON next.id = t.v").await.as_deref(), Some("5000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_error_is_the_one_that_is_told() {
    let plain = Plain::new(
        "CREATE TABLE t (id int PRIMARY KEY, v smallint); CREATE TABLE other (id int PRIMARY KEY, v int); \
         CREATE TABLE child (id int PRIMARY KEY, v int NOT NULL REFERENCES other)",
    )
    .await;
    let (t, other, child) =
        (relation("t", &["id", "v"], &[0]), relation("other", &["id", "v"], &[0]), relation("child", &["id", "v"], &[0]));
    let told = |result: Result<(), Error>, expected: &[&str]| {
        let text = blocked(result);
        assert!(expected.iter().all(|expected| text.contains(expected)) && !text.contains("25P02"), "{text}");
    };
    // Under way when the next table is met.
    let mut session = plain.open("{}").await;
    session.load_state().unwrap();
    session.load(&t, pairs([(1, 1), (2, 99_999)])).unwrap();
    told(session.load(&other, pairs([(1, 1)])), &["(key d4735e3a265e)", "22003"]);
    session.rollback().unwrap();
    // A row without the one that it refers to, which no other row brings either.
    session.load(&child, pairs([(1, 7), (2, 8)])).unwrap();
    session.load(&other, pairs([(7, 7)])).unwrap();
    told(session.commit(None, b"s".to_vec()), &["child_v_fkey", "23503", "in the set"]);
    session.rollback().unwrap();
    // Another error of a chunk whose rows refer to later ones.
    plain.database.execute("ALTER TABLE child ADD CHECK (id < 10)").await;
    let mut session = plain.open("{}").await;
    session.load_state().unwrap();
    session.load(&child, pairs([(1, 7), (11, 7)])).unwrap();
    told(session.load(&other, pairs([(7, 7)])), &["child_id_check", "23514"]);
    session.rollback().unwrap();
    // Of a batch, too: more than one part, and then a table that is not known yet.
    session.begin().unwrap();
    let rows = (1..=4001).map(|id| Change::Insert(pairs([(id, if id == 3 { 99_999 } else { 1 })]).remove(0)));
    session.apply(std::slice::from_ref(&t), mutations(rows)).unwrap();
    told(
        session.apply(std::slice::from_ref(&other), mutations([Change::Insert(pairs([(1, 1)]).remove(0))])),
        &["(key 4e07408562be)", "22003"],
    );
    session.rollback().unwrap();
    // A role that may not put rows aside.
    plain.database.execute(&format!("REVOKE TEMPORARY ON DATABASE \"{}\" FROM PUBLIC", plain.database.name())).await;
    session.load(&child, pairs([(1, 7)])).unwrap();
    told(session.load(&other, pairs([(7, 7)])), &["GRANT TEMPORARY ON DATABASE", "DEFERRABLE"]);
    session.rollback().unwrap();
    assert_eq!(plain.database.count("child").await, 0);
    drop(session);
    plain.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_outside_are_not_deleted_with_those_they_refer_to() {
    let plain = Plain::new("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").await;
    plain.database.execute("CREATE TABLE outside (id int REFERENCES t); INSERT INTO outside VALUES (1)").await;
    for configuration in ["{}", r#"{"empty": "truncate"}"#] {
        let mut session = plain.open(configuration).await;
        if session.load_state().unwrap().is_none() {
            session.commit(None, b"s".to_vec()).unwrap();
        }
        let t = relation("t", &["id", "v"], &[0]);
        session.load(&t, Vec::new()).unwrap();
        let text = blocked(session.load(&t, pairs([(1, 1)])));
        assert!(text.contains("cannot empty") && text.contains("\"t\"") && text.contains("foreign key"), "{text}");
        session.rollback().unwrap();
        assert_eq!(plain.database.count("outside").await, 1);
    }
    plain.end().await;
}
