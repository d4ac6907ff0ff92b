use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgshovel::postgres::queue::Settings;
use proto::row::Change;
use tests::harness::eventually;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn neither_role_nor_settings_of_a_writer_change_what_is_captured() {
    let (world, source) = setting().await;
    let writer = format!("writer_{}", world.cluster());
    source
        .execute(&format!(
            "CREATE ROLE {writer} LOGIN; CREATE TABLE t (id int PRIMARY KEY, f float8, i interval, b bytea, d timestamptz, m money, a float8[], j json);
             GRANT ALL ON t TO {writer}; ALTER ROLE {writer} SET extra_float_digits = -10; ALTER ROLE {writer} SET IntervalStyle = sql_standard;
             ALTER ROLE {writer} SET DateStyle = 'SQL, DMY'; ALTER ROLE {writer} SET bytea_output = escape; ALTER ROLE {writer} SET TimeZone = 'Asia/Kolkata';
             ALTER ROLE {writer} SET search_path = pg_temp; GRANT TEMPORARY ON DATABASE {} TO {writer}",
            source.name()
        ))
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("t", &[])])).await;
    let dsn = source.dsn().replace("user=postgres", &format!("user={writer}"));
    let session = pgshovel::postgres::connect::connect(&dsn, "test").await.unwrap();
    session
        .batch_execute(
            "CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
             CREATE TEMP TABLE pg_class (id int); CREATE TEMP TABLE new_rows (id int);
             INSERT INTO public.t VALUES (1, 0.1::float8 + 0.2::float8, '1 year 2 days 03:04:05', '\\x00ff', '2020-01-02 03:04:05+00', '1.50', '[2:3]={0.1,NaN}', '{\"a\": \"\\u0000\", \"a\": 1e400}')",
        )
        .await
        .unwrap();
    source.execute("SET session_replication_role = replica; INSERT INTO t (id) VALUES (2); RESET session_replication_role").await;
    let prefix = source.value("SELECT queue_data_pfx FROM pgq.queue").await.unwrap();
    let data = source.value(&format!("SELECT string_agg(ev_data, E'\\n' ORDER BY ev_id) FROM {prefix}")).await.unwrap();
    assert_eq!(
        data,
        r#"{"id":1,"f":0.30000000000000004,"i":"1 year 2 days 03:04:05","b":"\\x00ff","d":"2020-01-02T03:04:05+00:00","m":"$1.50","a":"[2:3]={0.1,NaN}","j":"{\"a\": \"\\u0000\", \"a\": 1e400}"}
{"id":2,"f":null,"i":null,"b":null,"d":null,"m":null,"a":null,"j":null}"#
    );
    drop(session);
    source.execute(&format!("DROP OWNED BY {writer}; DROP ROLE {writer}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_write_is_captured() {
    let (world, source) = setting().await;
    source
        .execute(
            "CREATE TABLE part (id int PRIMARY KEY, x int, y text) PARTITION BY RANGE (id);
             CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
             CREATE TABLE part_2 (y text, id int NOT NULL, x int); ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (100) TO (200);
             CREATE TABLE parent (id int PRIMARY KEY, x int); CREATE TABLE child (y text, PRIMARY KEY (id)) INHERITS (parent);
             CREATE TABLE \"odd \"\" Näme\" (id int PRIMARY KEY, slot int, data text, \"new\" text, \"pgshovel_slot\" int, \"$pgshovel$\" json);",
        )
        .await;
    let tables: Vec<(&str, &[&str])> = vec![("a", &[]), ("part", &[]), ("child", &[]), ("odd \" Näme", &[]), ("b", &["x"])];
    create(&world, "s", &configuration(&source.dsn(), &tables)).await;
    source
        .execute(
            "INSERT INTO a SELECT i, i FROM generate_series(1, 100) i; UPDATE a SET id = -id; UPDATE a SET id = id + 205; DELETE FROM a WHERE id % 3 = 0;
             INSERT INTO a VALUES (110, 1, 'new'), (111, 1, 'new') ON CONFLICT (id) DO UPDATE SET y = 'met';
             MERGE INTO a USING (VALUES (110), (300)) v (id) ON a.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id);
             INSERT INTO part SELECT i * 50, i FROM generate_series(0, 3) i; INSERT INTO part_2 VALUES ('direct', 198, 1); UPDATE part SET id = id + 1;
             UPDATE part SET id = id + 178 WHERE id = 1; CREATE TABLE part_3 PARTITION OF part FOR VALUES FROM (200) TO (300);
             INSERT INTO part VALUES (250); INSERT INTO part_3 VALUES (251);
             INSERT INTO part SELECT i FROM generate_series(20, 30) i; TRUNCATE part_1; INSERT INTO part VALUES (21, 22);
             TRUNCATE part, part_2; INSERT INTO part VALUES (5, 6), (105, 106); TRUNCATE part_2;
             INSERT INTO child VALUES (1, 2, 'c'); UPDATE parent SET x = 3; INSERT INTO parent VALUES (9);
             INSERT INTO \"odd \"\" Näme\" VALUES (1, 2, 'd', 'n', 3, 'null'); UPDATE \"odd \"\" Näme\" SET slot = 5;
             BEGIN; INSERT INTO a VALUES (999); SAVEPOINT s; INSERT INTO a VALUES (998); ROLLBACK TO s; COMMIT;
             BEGIN; INSERT INTO a VALUES (997); ROLLBACK;
             TRUNCATE b; INSERT INTO b VALUES (1, 1, 'y')",
        )
        .await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    for table in ["a", "part", "child"] {
        assert_eq!(replay(&source, &queue, &format!("public.{table}")).await, rows(&source, table).await, "{table}");
    }
    let odd = replay(&source, &queue, "public.\"odd \"\" Näme\"").await;
    assert_eq!(odd.len(), 1);
    assert_eq!((&odd["1"]["slot"], &odd["1"]["$pgshovel$"]), (&5.into(), &"null".into()));

    let kinds = "SELECT string_agg(ev_type, '' ORDER BY ev_id) FROM (SELECT ev_id, ev_type FROM @ WHERE ev_extra1 = 'public.part' ORDER BY ev_id DESC LIMIT 5) e";
    let prefix = source.value("SELECT queue_data_pfx FROM pgq.queue").await.unwrap();
    assert_eq!(source.value(&kinds.replace('@', &prefix)).await.as_deref(), Some("ITIID"));

    // An update of no captured column is no event.
    let count = format!("SELECT count(*) FROM {prefix} WHERE ev_extra1 = 'public.b'");
    let before = source.value(&count).await;
    source.execute("UPDATE b SET y = 'other'; UPDATE b SET x = x").await;
    assert_eq!(source.value(&count).await, before);
    source.execute("UPDATE b SET x = x + 1").await;
    assert_ne!(source.value(&count).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_alter_table_makes_a_write_fail_or_unseen() {
    let (world, source) = setting().await;
    source
        .execute("CREATE TABLE odd (id int PRIMARY KEY, j jsonb, x int, d text); CREATE DOMAIN yes AS bool; ALTER TABLE odd ADD ok yes")
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[]), ("odd", &[]), ("b", &["x", "y"])])).await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    // One session, so that its functions have cached plans.
    for change in [
        "SELECT 1",
        "ALTER TABLE # ADD added int DEFAULT 7",
        "ALTER TABLE # DROP COLUMN x",
        "ALTER TABLE # RENAME COLUMN added TO renamed",
        "ALTER TABLE # ALTER COLUMN renamed TYPE text",
    ] {
        for table in ["a", "odd", "b"] {
            source.execute(&change.replace('#', table)).await;
            source.execute(&format!("INSERT INTO {table} (id) SELECT coalesce(max(id), 0) + 1 FROM {table}; UPDATE {table} SET id = -id; UPDATE {table} SET id = -id + 1; DELETE FROM {table} WHERE id = 2")).await;
        }
    }
    source
        .execute("ALTER TABLE odd DROP COLUMN j; ALTER TABLE odd ALTER COLUMN ok TYPE int USING 1; INSERT INTO odd (id) VALUES (1000)")
        .await;
    for table in ["a", "odd", "b"] {
        let replayed: Vec<String> = replay(&source, &queue, &format!("public.{table}")).await.into_keys().collect();
        let present: Vec<String> = rows(&source, table).await.into_keys().collect();
        assert_eq!(replayed, present, "{table}");
    }
    // What the same configuration means has changed, so its events have another version.
    world.write("set.pgshovel", &configuration(&source.dsn(), &[("a", &[]), ("odd", &[]), ("b", &["y"])]));
    world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    source.execute("ALTER TABLE a ADD again json").await;
    world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    let cluster = world.cluster();
    let version = source.value(&format!("SELECT version FROM pgshovel_{cluster}.sets")).await.unwrap();
    assert!(version.ends_with(".2"), "{version}");
    let encoding = source
        .value(&format!("SELECT columns FROM pgshovel_{cluster}.relations WHERE key = 'public.a' AND version = '{version}'"))
        .await
        .unwrap();
    assert!(encoding.contains("\"again\"") && encoding.contains("\"text\""), "{encoding}");
}

/// The catalog is as old to a REPEATABLE READ transaction as its snapshot; the table
/// that it writes to is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_older_than_an_alteration_is_captured_as_its_rows_are() {
    let (world, source) = setting().await;
    source
        .execute(
            "CREATE TABLE odd (id int PRIMARY KEY, j jsonb, x int, y text);
             CREATE TABLE part (id int PRIMARY KEY, x int, y text) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100)",
        )
        .await;
    let tables: [(&str, &[&str]); 4] = [("a", &[]), ("odd", &[]), ("b", &["x", "y"]), ("part", &[])];
    create(&world, "s", &configuration(&source.dsn(), &tables)).await;
    let settings = Settings { cluster: world.cluster(), ..crate::queue::settings(&source) };
    let mut queue = crate::queue::open(settings).await.unwrap();
    let mut id = 0;
    for change in [
        // What is rolled back leaves its mark in the catalog, and changes nothing.
        "BEGIN; ALTER TABLE # DROP COLUMN x, ADD gone int; ROLLBACK",
        "ALTER TABLE # ADD added numeric(9, 2) DEFAULT 7.25",
        "ALTER TABLE # ALTER COLUMN x TYPE text USING 'x' || x",
        "ALTER TABLE # ALTER COLUMN added TYPE numeric(12, 4)",
        "ALTER TABLE # ALTER COLUMN y TYPE varchar(9) COLLATE \"C\"",
        "ALTER TABLE # ADD many timestamp(2)[], ADD span interval(3), ADD months interval year to month, ADD bits bit(4), ADD \"Blank\" char(5)",
        "ALTER TABLE # RENAME COLUMN y TO renamed",
        "CREATE TYPE color_of_# AS ENUM ('red'); ALTER TABLE # ADD color color_of_# DEFAULT 'red'",
        "ALTER TABLE # DROP COLUMN x",
    ] {
        for (table, columns) in tables {
            let old = source.connect().await;
            // It is how types are written, too.
            old.batch_execute("SET quote_all_identifiers = on; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM c")
                .await
                .unwrap();
            source.execute(&change.replace('#', table)).await;
            if table == "part" && id > 0 {
                source.execute(&format!("CREATE TABLE part_{id} PARTITION OF part FOR VALUES FROM ({id}00) TO ({id}99)")).await;
            }
            id += 1;
            let row = if table == "part" && id > 4 { (id - 1) * 100 } else { id };
            let writes = format!(
                "INSERT INTO {table} (id) VALUES ({row}), ({row} + 1); UPDATE {table} SET id = {row} + 2 WHERE id = {row}; DELETE FROM {table} WHERE id = {row} + 1; COMMIT"
            );
            old.batch_execute(&writes).await.unwrap_or_else(|error| panic!("{table}: {change}: {error:?}"));
            let catalog = format!(
                "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped {}",
                if columns.is_empty() { "" } else { "AND attname IN ('id', 'x', 'y', 'renamed')" }
            );
            let there_are = source.value(&catalog).await.unwrap();
            let (_, found) = crate::queue::mutations(&mut queue).await;
            let kinds = found.iter().map(|mutation| match mutation.change {
                Change::Insert(_) => 'I',
                Change::Update { .. } => 'U',
                Change::Delete(_) => 'D',
                Change::Truncate => 'T',
            });
            assert_eq!(kinds.collect::<String>(), "IIUD", "{table}: {change}");
            for mutation in found {
                let columns =
                    mutation.relation.columns.iter().map(|column| format!("{} {}", column.name, column.type_name.replace("public.", "")));
                assert_eq!(columns.collect::<Vec<_>>().join(", "), there_are, "{table}: {change}");
            }
            let described = source.value("SELECT bool_or(ev_extra4 <> 'j1') FROM pgq.event_template").await;
            assert_eq!(described.as_deref(), Some(if id > 4 { "t" } else { "f" }), "{table}: {change}");
            source.execute(&format!("DELETE FROM {table}")).await;
            crate::queue::mutations(&mut queue).await;
        }
    }
}

/// Whoever bootstraps a target meanwhile does not see what it writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_older_than_its_set_is_captured() {
    let (world, source) = setting().await;
    let old = source.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM c").await.unwrap();
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[]), ("b", &["x"])])).await;
    old.batch_execute("INSERT INTO a VALUES (1, 2, 'three'); INSERT INTO b VALUES (1, 2, 'three'); TRUNCATE b; COMMIT").await.unwrap();
    let queue = format!("pgshovel:{}:s", world.cluster());
    assert_eq!(replay(&source, &queue, "public.a").await, rows(&source, "a").await);
    let events = source.value(
        "SELECT string_agg(ev_type || coalesce(ev_data, ''), ' ' ORDER BY ev_id) FROM pgq.event_template WHERE ev_extra1 = 'public.b'",
    );
    assert_eq!(events.await.as_deref(), Some(r#"I{"id":1,"x":2} T"#));
}

/// Writes to a table until it is told to stop, and counts its statements.
fn write(source: &Database, table: &'static str, stop: &Arc<AtomicBool>, count: &Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    let (dsn, stop, count) = (source.dsn(), Arc::clone(stop), Arc::clone(count));
    tokio::spawn(async move {
        let session = pgshovel::postgres::connect::connect(&dsn, "writer").await.unwrap();
        let sql = format!(
            "INSERT INTO {table} SELECT i, 0, 'new' FROM generate_series((SELECT coalesce(max(id), 0) + 1 FROM {table}), (SELECT coalesce(max(id), 0) + 3 FROM {table})) i;
             UPDATE {table} SET x = x + 1 WHERE id % 7 = 0; DELETE FROM {table} WHERE id % 11 = 3"
        );
        while !stop.load(Ordering::Relaxed) {
            session.batch_execute(&sql).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_under_load_loses_nothing() {
    let (world, source) = setting().await;
    let text = |tables: &[(&str, &[&str])]| configuration(&source.dsn(), tables);
    create(&world, "s", &text(&[("a", &[]), ("b", &["x", "y"])])).await;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers = ["a", "b", "c"].map(|table| write(&source, table, &stop, &count));
    let shapes: [&[(&str, &[&str])]; 4] = [
        &[("a", &[]), ("b", &["x", "y"]), ("c", &[])],
        &[("a", &["x", "y"]), ("b", &[])],
        &[("a", &[]), ("b", &["y", "x"]), ("c", &["x"])],
        &[("a", &["x", "y"]), ("b", &["x", "y"])],
    ];
    for shape in shapes {
        let written = count.load(Ordering::Relaxed);
        eventually("writes between updates", std::time::Duration::from_secs(60), || async {
            if count.load(Ordering::Relaxed) > written + 5 { Ok(()) } else { Err("few writes".to_owned()) }
        })
        .await;
        world.write("next.pgshovel", &text(shape));
        world.pgshovel(["set", "update", "s", "next.pgshovel"]).succeeds().await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let queue = format!("pgshovel:{}:s", world.cluster());
    for table in ["a", "b"] {
        let expected = rows(&source, table).await;
        assert!(expected.len() > 10, "{table}: {}", expected.len());
        assert_eq!(replay(&source, &queue, &format!("public.{table}")).await, expected, "{table}");
    }
    assert!(!traces(&source).await.contains("trigger c "));
}
