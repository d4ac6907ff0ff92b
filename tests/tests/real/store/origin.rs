//! The set's tables as of one snapshot, and from there into a target.

use pgshovel::capabilities::origin::{CURSORS_MAX, Cursor, Snapshot};
use pgshovel::error::Next;
use pgshovel_plugin_postgresql::pgshovel::plugin::types::Change;
use proto::interfaces::configurations::{DatabaseConfiguration, ReplicationSetConfiguration, TableConfiguration};
use proto::row::{Row, Value};
use tests::harness::{Database, World};

use super::native::{mutations, open, relation_of, run, to_plugin, update};

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
    let first = snapshot.cursor("public", "t").unwrap();
    source.execute("UPDATE t SET w = 'late'; INSERT INTO t VALUES (0, 'late', 'late'); INSERT INTO part VALUES (3)").await;
    let columns: Vec<&str> = snapshot.tables()[0].relation.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["id", "w"]);
    assert_eq!(snapshot.tables()[0].relation.identity, [0]);
    assert_eq!(snapshot.tables()[0].estimated_rows, 5000);
    for cursor in [first, snapshot.cursor("public", "t").unwrap()] {
        let mut ids = Vec::new();
        for row in all(cursor).await {
            assert_eq!(row[1], Value::Text("w".to_owned()));
            ids.push(row[0].clone());
        }
        assert_eq!(ids.len(), 5000);
    }
    assert_eq!(all(snapshot.cursor("public", "part").unwrap()).await, [[Value::Integer(1)], [Value::Integer(2)]]);
    assert_eq!(all(snapshot.cursor("public", "parent").unwrap()).await, [[Value::Integer(1)]]);
    assert!(all(snapshot.cursor("public", "empty").unwrap()).await.is_empty());
    // A table that was rewritten since shows no rows to the snapshot.
    for (rewritten, sql) in [("empty", "TRUNCATE empty"), ("parent", "ALTER TABLE parent ALTER id TYPE bigint"), ("part", "TRUNCATE p1")] {
        source.execute(sql).await;
        let error = snapshot.cursor("public", rewritten).unwrap().fetch(10).await.unwrap_err();
        assert!(error.next == Next::Retry && error.message.contains(rewritten) && error.message.contains("another one"), "{error}");
    }
    source.execute("ALTER TABLE t RENAME w TO x").await;
    assert_eq!(snapshot.cursor("public", "t").unwrap().fetch(10).await.unwrap_err().next, Next::Retry);
    source.execute("ALTER TABLE t RENAME x TO w").await;
    let open: Vec<Cursor> = (0..CURSORS_MAX).map(|_| snapshot.cursor("public", "t").unwrap()).collect();
    assert_eq!(snapshot.cursor("public", "t").unwrap_err().next, Next::Stop);
    assert_eq!(snapshot.cursor("public", "other").unwrap_err().next, Next::Stop);
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
    let error = opened.cursor("public", "t").unwrap().fetch(10).await.unwrap_err();
    assert!(error.next == Next::Stop && error.message.contains("public.t") && error.message.contains("row-level security"), "{error}");
    drop(opened);
    source.execute("DROP OWNED BY hidden_reader; DROP ROLE hidden_reader").await;
}

/// A column of each kind of type, with values that lose something on a careless way.
const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768"]),
    ("integer", &["2147483647"]),
    ("bigint", &["-9223372036854775808", "9007199254740993"]),
    ("real", &["0.1", "'NaN'", "'-Infinity'", "3.4028235e38", "1e-45", "'-0'"]),
    ("double precision", &["0.30000000000000004", "'NaN'", "'Infinity'", "5e-324", "1.7976931348623157e308", "'-0'"]),
    ("numeric", &["12345678901234567890123456789.000000000100", "'NaN'", "'-Infinity'", "1e-1000", "0.10"]),
    ("numeric(20,6)", &["12345678901234.123456"]),
    ("money", &["'-1234.56'"]),
    ("text", &["''", "E'\\\\N'", "E'a\\tb\\nc\\rd\\\\e'", "E'\\x01\\x7f'", "'é😀'", "'\\.'"]),
    ("varchar(9)", &["' x '"]),
    ("char(5)", &["'a'", "'abcde'"]),
    ("\"char\"", &["'x'"]),
    ("name", &["'n'"]),
    ("bytea", &["'\\x'", "'\\x00ff5c0a'"]),
    ("date", &["'0044-03-15 BC'", "'infinity'", "'5874897-12-31'"]),
    ("time", &["'24:00:00'", "'00:00:00.000001'"]),
    ("timetz", &["'01:02:03.5+05:30'"]),
    ("timestamp", &["'4714-11-24 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'-infinity'"]),
    ("timestamptz", &["'2020-02-29 12:00:00.000001-11:30'", "'1890-01-01 00:00:00+00'", "'infinity'"]),
    ("interval", &["'1 year -2 days 03:00:00.000001'", "'-178000000 years'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &["'{\"a\" : 1, \"a\": \"\\u0000\"}'", "'null'"]),
    ("jsonb", &["'{\"b\": 1.10, \"a\": [null]}'", "'null'"]),
    ("xml", &["'<a>x &amp; y</a>'", "'text'"]),
    ("inet", &["'10.0.0.1'", "'10.0.0.1/8'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(3)", &["B'101'"]),
    ("varbit", &["B''", "B'0001'"]),
    ("point", &["'(0.1,-0)'"]),
    ("line", &["'{1,2,3}'"]),
    ("box", &["'((1,1),(0,0))'"]),
    ("path", &["'[(0,0),(1,1)]'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),1.5>'"]),
    ("tsvector", &["'a:1A b''c'"]),
    ("tsquery", &["'a & !b'"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
    ("numrange", &["'(1.10,2]'"]),
    ("datemultirange", &["'{[2020-01-01,2020-02-01),[2021-01-01,)}'"]),
    ("integer[]", &["'{}'", "'[0:1][2:3]={{1,NULL},{3,4}}'"]),
    ("text[]", &["ARRAY['', 'NULL', NULL, 'a,\"b\"\\c', E'\\n']"]),
    ("bytea[]", &["ARRAY['\\x00'::bytea]"]),
    ("varchar(3)[]", &["'{abc}'"]),
    ("public.mood", &["'so so'"]),
    ("public.mood[]", &["'{\"so so\"}'"]),
    ("public.pair", &["ROW(1, NULL)", "ROW(NULL, NULL)", "ROW(2, E'a\"b\\\\,(')"]),
    ("public.short", &["'abc'"]),
    ("public.positive", &["7"]),
    ("public.hstore", &["'a=>1, \"b c\"=>NULL'"]),
    ("public.citext", &["'MiXed'"]),
    ("oid", &["4294967295"]),
    ("regclass", &["'pg_class'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("xid8", &["'18446744073709551615'"]),
];

const CREATE_TYPES: &str = "\
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE TYPE public.mood AS ENUM ('so so', 'good'); \
CREATE TYPE public.pair AS (a int, b text); CREATE DOMAIN public.short AS varchar(3); CREATE DOMAIN public.positive AS int CHECK (VALUE > 0)";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_exactly() {
    let world = World::without_servers();
    let (source, target) = (world.source("types").await, world.target("types").await);
    source.execute(NODE).await;
    let columns: Vec<String> = TYPES.iter().enumerate().map(|(index, (name, _))| format!("c{index} {name}")).collect();
    for database in [&source, &target] {
        database.execute(CREATE_TYPES).await;
        database
            .execute(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, {}); CREATE TABLE keyed (id public.citext PRIMARY KEY, v int)",
                columns.join(", ")
            ))
            .await;
    }
    // Sessions with other settings wrote the rows: it makes no difference.
    source.execute("SET DateStyle = 'SQL, DMY'; SET IntervalStyle = sql_standard; SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = 0; SET bytea_output = escape").await;
    source.execute("INSERT INTO t (id) VALUES (0)").await;
    let mut id = 0u64;
    for (column, (name, values)) in TYPES.iter().enumerate() {
        for value in *values {
            id += 1;
            source.execute(&format!("INSERT INTO t (id, c{column}) VALUES ({id}, CAST({value} AS {name}))")).await;
        }
    }
    source.execute("INSERT INTO keyed VALUES ('A', 1)").await;
    let snapshot = snapshot(&source, vec![table("t", &[]), table("keyed", &[])]).await.unwrap();
    let mut session = open(&target).await;
    session.load_state().unwrap();
    let mut relations = Vec::new();
    for table in snapshot.tables() {
        let relation = relation_of(&table.relation);
        let rows = all(snapshot.cursor(&table.relation.schema, &table.relation.table).unwrap()).await;
        let rows: Vec<_> = rows.iter().map(|row| row.iter().map(to_plugin).collect()).collect();
        session.load(&relation, rows.clone()).unwrap();
        relations.push((relation, rows));
    }
    session.commit(None, b"loaded".to_vec()).unwrap();
    assert_eq!(target.count("t").await, id + 1);
    target.equals(&source, "public.t").await;
    // The same rows by way of sets: all updated in place, then deleted and inserted again.
    let (relation, rows) = &relations[0];
    target.execute("UPDATE t SET c9 = 'lost'").await;
    run(&mut session, relation, rows.iter().map(|row| update(row.clone(), row.clone())).collect(), Some("loaded"), "updated").unwrap();
    target.equals(&source, "public.t").await;
    run(&mut session, relation, rows.iter().map(|row| Change::Delete(row.clone())).collect(), Some("updated"), "deleted").unwrap();
    assert_eq!(target.count("t").await, 0);
    run(&mut session, relation, rows.iter().map(|row| Change::Insert(row.clone())).collect(), Some("deleted"), "inserted").unwrap();
    target.equals(&source, "public.t").await;
    // A key of an extension's type is found by that type's own equality.
    let (relation, rows) = &relations[1];
    session.begin().unwrap();
    session.apply(std::slice::from_ref(relation), mutations(rows.iter().map(|row| update(row.clone(), row.clone())))).unwrap();
    session.commit(Some(b"inserted".to_vec()), b"end".to_vec()).unwrap();
}
