//! Nobody forges an event, or loses one, by what capture is made of.

use tokio_postgres::Client;

use super::*;

/// All events of all sets, as text.
async fn events(source: &Database) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', ev_type, ev_extra1, ev_data, ev_extra2) FROM pgq.event_template e ORDER BY ev_id";
    source.query(sql, &[]).await.iter().map(|row| row.get(0)).collect()
}

async fn refused(client: &Client, sql: &str, code: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some(code), "{sql}: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_all_data_forges_nothing() {
    let (world, source) = setting().await;
    let cluster = world.cluster();
    source
        .execute(&format!(
            "CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT;
             CREATE ROLE reader_{cluster} LOGIN; GRANT pg_read_all_data TO reader_{cluster}; CREATE ROLE writer_{cluster} LOGIN; GRANT ALL ON a, part TO writer_{cluster};
             CREATE SCHEMA own AUTHORIZATION reader_{cluster}; GRANT TEMPORARY ON DATABASE {} TO reader_{cluster}",
            source.name()
        ))
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[]), ("b", &["x"]), ("part", &[])])).await;
    let names: Vec<(String, String)> = source
        .query("SELECT p.oid::regproc::text, oidvectortypes(p.proargtypes) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname LIKE 'pgshovel:%' AND p.prorettype = 'bool'::regtype ORDER BY 1", &[])
        .await
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let login = |role: &str| source.dsn().replace("user=postgres", &format!("user={role}_{cluster}"));
    let connect = async |role: &str| pgshovel::postgres::connect::connect(&login(role), "test").await.unwrap();
    let (reader, writer) = (connect("reader").await, connect("writer").await);
    // A table of its own, that it has written to, of the very shape.
    reader
        .batch_execute("CREATE TABLE own.a (id int, x int, y text); INSERT INTO own.a VALUES (1, 2, 'forged'); UPDATE own.a SET x = 3; DELETE FROM own.a; INSERT INTO own.a VALUES (1, 2, 'forged'); CREATE TABLE own.part (id int, x int); INSERT INTO own.part VALUES (1, 2)")
        .await
        .unwrap();
    let mut called = 0;
    for (name, types) in &names {
        // This one makes no event.
        if name.contains("as_known") || name.contains("is_current") || name.contains("is_below") || name.ends_with(":q\"") {
            continue;
        }
        for row in [
            "ROW(1, 2, 'forged')::public.a",
            "ROW(1, 2, 'forged')",
            "(SELECT t FROM own.a t LIMIT 1)",
            "NULL::public.a",
            "ROW(1, 2)::public.part",
            "(SELECT t FROM own.part t LIMIT 1)",
        ] {
            for leaf in ["'own.part'::regclass", "'public.part_1'::regclass", "'public.part'::regclass", "0", "NULL"] {
                let arguments: Vec<&str> = types
                    .split(", ")
                    .filter(|kind| !kind.is_empty())
                    .map(|kind| match kind {
                        "oid" => leaf,
                        "text" => "'public.part_1'",
                        _ => row,
                    })
                    .collect();
                let call = format!("SELECT {name}({})", arguments.join(", "));
                let error = reader.batch_execute(&call).await.expect_err(&call);
                let code = error.code().unwrap().code().to_owned();
                // A row without a type, or a type without a table, is none to begin with.
                assert!(["42501", "42P01", "42804", "0A000", "22004", "42846", "3F000"].contains(&code.as_str()), "{call}: {error:?}");
                refused_to_writer(&writer, &call).await;
                called += 1;
                if !types.contains("oid") {
                    break;
                }
            }
        }
    }
    assert!(called > 60, "{called}");
    for sql in [
        "SET track_counts = off".to_owned(),
        format!("INSERT INTO \"pgshovel:{cluster}\".s (ev_type) VALUES ('I')"),
        format!("INSERT INTO pgshovel_{cluster}.truncating VALUES (pg_current_xact_id(), 's', 'public.a')"),
        format!(
            "SELECT \"pgshovel:{cluster}\".altered('I', 's', 'public.a', 'v', 'public.a'::regclass, 'public.a'::regtype, NULL, NULL, '{{1}}', NULL::public.a, NULL)"
        ),
        format!("SELECT \"pgshovel:{cluster}\".truncated('s', 'public.a', 'v')"),
        format!("SELECT pgshovel_{cluster}.switch('s')"),
        format!("CREATE TRIGGER x BEFORE TRUNCATE ON own.a EXECUTE FUNCTION \"pgshovel:{cluster}\".\"s:b\"('public.a')"),
        "INSERT INTO pgq.event_template (ev_type) VALUES ('I')".to_owned(),
    ] {
        refused(&reader, &sql, "42501").await;
    }
    assert_eq!(events(&source).await, Vec::<String>::new());
    // Who may write is captured all the same.
    writer.batch_execute("INSERT INTO a VALUES (1); INSERT INTO part VALUES (1); TRUNCATE a").await.unwrap();
    assert_eq!(events(&source).await.len(), 3);
    drop((reader, writer));
    source.execute(&format!("DROP OWNED BY reader_{cluster}, writer_{cluster}; DROP ROLE reader_{cluster}, writer_{cluster}")).await;
}

/// Before, a record of a type of the reader's own was turned into JSON by a cast of the
/// reader's own, as the role that had created the set: a superuser in every example.
#[tokio::test(flavor = "multi_thread")]
async fn no_code_of_a_caller_runs() {
    let (world, source) = setting().await;
    let cluster = world.cluster();
    source
        .execute(&format!(
            "CREATE TABLE whole (id int PRIMARY KEY, x int); CREATE TABLE named (id int PRIMARY KEY, x int[]); CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT;
             CREATE ROLE reader_{cluster} LOGIN; GRANT pg_read_all_data TO reader_{cluster}; GRANT ALL ON whole, named, part TO reader_{cluster};
             CREATE SCHEMA own AUTHORIZATION reader_{cluster}"
        ))
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("whole", &[]), ("named", &["x"]), ("part", &[])])).await;
    let functions: Vec<(String, String, String)> = source
        .query("SELECT p.oid::regproc::text, right(p.proname, 1), oidvectortypes(p.proargtypes) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname LIKE 'pgshovel:%' AND p.proname ~ ':[iud]$' ORDER BY 1", &[])
        .await
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(functions.len(), 9);
    let login = source.dsn().replace("user=postgres", &format!("user=reader_{cluster}"));
    let connect = async || pgshovel::postgres::connect::connect(&login, "test").await.unwrap();
    let reader = connect().await;
    reader
        .batch_execute(
            "CREATE TYPE own.mood AS ENUM ('a');
             CREATE FUNCTION own.said(who text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'P0666', MESSAGE = who; END $$; GRANT USAGE ON SCHEMA own TO PUBLIC;
             CREATE FUNCTION own.evil(own.mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM own.said(current_user::text); RETURN '1'; END $$;
             CREATE FUNCTION own.evil_text(own.mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM own.said(current_user::text); RETURN '1'; END $$;
             CREATE CAST (own.mood AS json) WITH FUNCTION own.evil(own.mood); CREATE CAST (own.mood AS text) WITH FUNCTION own.evil_text(own.mood);
             CREATE TYPE own.pair AS (id int, x own.mood); CREATE TABLE own.whole (id int, x own.mood); CREATE DOMAIN own.checked AS int CHECK (own.said(current_user::text) IS NULL);",
        )
        .await
        .unwrap();
    // The one that PostgreSQL counts, whatever is written.
    const WRITES: &str = "INSERT INTO whole VALUES (1); UPDATE whole SET x = 2; DELETE FROM whole; INSERT INTO named VALUES (1); UPDATE named SET x = '{2}'; DELETE FROM named; INSERT INTO part VALUES (1); UPDATE part SET x = 2; DELETE FROM part";
    let mut called = 0;
    for (name, letter, types) in &functions {
        for row in ["ROW(1, 'a'::own.mood)", "ROW(1, 'a'::own.mood)::own.pair", "ROW(1, 'a'::own.mood)::own.whole"] {
            for genuine in ["", "ROW(1, 2)::whole", "ROW(1, '{2}')::named", "ROW(1, 2)::part"] {
                let rows = match (letter.as_str(), genuine) {
                    (_, "") => vec![vec![row, row]],
                    ("u", _) => vec![vec![row, genuine], vec![genuine, row]],
                    _ => continue,
                };
                for mut rows in rows {
                    if letter != "u" {
                        rows.truncate(1);
                    }
                    let mut arguments = rows.join(", ");
                    if types.contains("oid") {
                        arguments.push_str(", 'part_1'::regclass");
                    }
                    // With a plan that the triggers made, and as the first of a session.
                    for session in [&reader, &connect().await] {
                        let before = if std::ptr::eq(session, &reader) { WRITES } else { "SELECT 1" };
                        let sql = format!("BEGIN; {before}; SELECT {name}({arguments})");
                        let error = session.batch_execute(&sql).await.expect_err(&sql);
                        let code = error.code().unwrap().code().to_owned();
                        assert!(["42501", "42804"].contains(&code.as_str()), "{sql}: {error:?}");
                        session.batch_execute("ROLLBACK").await.unwrap();
                        called += 1;
                    }
                }
            }
        }
    }
    assert!(called > 50, "{called}");
    assert_eq!(events(&source).await, Vec::<String>::new());
    // What runs as the functions' role could do nothing with it.
    let role = format!("pgshovel:{cluster}");
    let sql = format!(
        "SELECT concat_ws(' ', c.relname, has_table_privilege('{role}', c.oid, 'INSERT'), has_table_privilege('{role}', c.oid, 'UPDATE, DELETE, TRUNCATE')) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname !~ '^pg_|^information_schema$' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (has_table_privilege('{role}', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') OR c.relnamespace <> 'pgq'::regnamespace AND has_table_privilege('{role}', c.oid, 'SELECT')) ORDER BY 1"
    );
    let may: Vec<String> = source.query(&sql, &[]).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(may, ["s t f", "truncating t t"]);
    let sql = format!(
        "SELECT rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR has_database_privilege(oid, current_database(), 'CREATE') OR has_schema_privilege(oid, 'pgshovel:{cluster}', 'CREATE') OR has_schema_privilege(oid, 'pgshovel_{cluster}', 'CREATE') FROM pg_roles WHERE rolname = '{role}'"
    );
    assert!(!source.query(&sql, &[]).await[0].get::<_, bool>(0));
    drop(reader);
    source.execute(&format!("DROP OWNED BY reader_{cluster} CASCADE; DROP ROLE reader_{cluster}")).await;
}

/// A table's owner is not who made the set. Before, the triggers that a partition gets could
/// be cloned by the set's role only.
#[tokio::test(flavor = "multi_thread")]
async fn a_tables_owner_makes_and_attaches_partitions() {
    let (world, source) = setting().await;
    let cluster = world.cluster();
    source
        .execute(&format!(
            "CREATE ROLE owner_{cluster} LOGIN; CREATE SCHEMA own AUTHORIZATION owner_{cluster}; SET ROLE owner_{cluster};
             CREATE TABLE own.part (id int PRIMARY KEY, x int, y text) PARTITION BY RANGE (id); RESET ROLE"
        ))
        .await;
    let text = configuration(&source.dsn(), &[("part", &[])]).replace("name: \"part\"", "name: \"part\" schema: \"own\"");
    create(&world, "s", &text).await;
    let owner = pgshovel::postgres::connect::connect(&source.dsn().replace("user=postgres", &format!("user=owner_{cluster}")), "test")
        .await
        .unwrap();
    owner
        .batch_execute(
            "CREATE TABLE own.part_1 PARTITION OF own.part FOR VALUES FROM (0) TO (10);
             CREATE TABLE own.part_2 (id int PRIMARY KEY, x int, y text); ALTER TABLE own.part ATTACH PARTITION own.part_2 FOR VALUES FROM (10) TO (20);
             INSERT INTO own.part VALUES (1), (11); UPDATE own.part SET x = 3; DELETE FROM own.part WHERE id = 1;",
        )
        .await
        .unwrap();
    assert_eq!(events(&source).await.len(), 5);
    owner.batch_execute("ALTER TABLE own.part DETACH PARTITION own.part_2; INSERT INTO own.part_2 VALUES (12)").await.unwrap();
    assert_eq!(events(&source).await.len(), 5);
    drop(owner);
    source.execute(&format!("DROP OWNED BY owner_{cluster} CASCADE; DROP ROLE owner_{cluster}")).await;
}

/// While a partition is being detached CONCURRENTLY, sessions write to it as a partition.
/// Before, their writes failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_being_detached_is_written_to() {
    let (world, source) = setting().await;
    source
        .execute("CREATE TABLE part (id int PRIMARY KEY, x int, y text) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)")
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("part", &[])])).await;
    let (old, new, detaching) = (source.connect().await, source.connect().await, source.connect().await);
    old.batch_execute("BEGIN; INSERT INTO part VALUES (1)").await.unwrap();
    let waiting = tokio::spawn(async move { detaching.batch_execute("ALTER TABLE part DETACH PARTITION part_1 CONCURRENTLY").await });
    let pending = "SELECT count(*)::int FROM pg_inherits WHERE inhdetachpending";
    while new.query_one(pending, &[]).await.unwrap().get::<_, i32>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    new.batch_execute("INSERT INTO part_1 VALUES (2); UPDATE part_1 SET x = 1 WHERE id = 2").await.unwrap();
    old.batch_execute("INSERT INTO part_1 VALUES (3); UPDATE part_1 SET x = 1 WHERE id = 3; DELETE FROM part_1 WHERE id = 1; COMMIT")
        .await
        .unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(events(&source).await.len(), 6);
    new.batch_execute("INSERT INTO part_1 VALUES (4)").await.unwrap();
    assert_eq!(events(&source).await.len(), 6);
}

/// Without USAGE the functions cannot be named.
async fn refused_to_writer(writer: &Client, call: &str) {
    refused(writer, call.split(" FROM own").next().filter(|_| !call.contains("own.")).unwrap_or("SELECT FROM own.a"), "42501").await;
}

/// Everything that a session can put before the names in a function.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_change_nothing() {
    let (world, source) = setting().await;
    source
        .execute(
            "CREATE TABLE part (id int PRIMARY KEY, x int, y text) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT;
             CREATE TABLE many (id int PRIMARY KEY, x timestamptz DEFAULT '2026-01-01', \"n\" text, \"o\" text, \"x.*\" text, \"pgshovel:row\" int, \"new\" int[], tableoids int);
             CREATE SCHEMA evil;
             CREATE FUNCTION evil.bad() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'code of the writer runs'; END $$;
             CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT evil.bad(); SELECT NULL::timestamptz';
             CREATE FUNCTION evil.row_to_json(record) RETURNS json LANGUAGE plpgsql AS 'BEGIN PERFORM evil.bad(); RETURN NULL; END';
             CREATE FUNCTION evil.format(text, int[]) RETURNS text LANGUAGE sql AS 'SELECT evil.bad(); SELECT NULL::text';
             CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.bad(); SELECT true';
             CREATE FUNCTION evil.same(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.bad(); SELECT true';
             CREATE FUNCTION evil.more(int8, int4) RETURNS boolean LANGUAGE sql AS 'SELECT evil.bad(); SELECT true';
             CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text); CREATE OPERATOR evil.<> (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text);
             CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = oid, RIGHTARG = oid); CREATE OPERATOR evil.<> (FUNCTION = evil.same, LEFTARG = oid, RIGHTARG = oid);
             CREATE OPERATOR evil.> (FUNCTION = evil.more, LEFTARG = int8, RIGHTARG = int4);
             CREATE FUNCTION evil.pg_stat_get_xact_tuples_inserted(oid) RETURNS int8 LANGUAGE sql AS 'SELECT evil.bad(); SELECT 1::int8';
             CREATE DOMAIN evil.text AS pg_catalog.text CHECK (VALUE IS NULL); CREATE DOMAIN evil.json AS pg_catalog.json CHECK (VALUE IS NULL);",
        )
        .await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[]), ("b", &["x"]), ("part", &[]), ("many", &[])])).await;
    let queue = format!("pgshovel:{}:s", world.cluster());
    let session = source.connect().await;
    let hostile = "SET search_path = evil, pg_temp, public, pg_catalog; SET standard_conforming_strings = off; SET transform_null_equals = on; SET plan_cache_mode = force_generic_plan;
        SET plpgsql.extra_errors = 'all'; SET plpgsql.variable_conflict = use_column; SET quote_all_identifiers = on; SET row_security = off; SET check_function_bodies = off";
    let temporary = "CREATE TEMP TABLE s (id int); CREATE TEMP TABLE pg_class (id int); CREATE TEMP TABLE pg_attribute (id int); CREATE TEMP TABLE event_1_0 (id int); CREATE TEMP TABLE x (id int); CREATE TEMP TABLE y (id int)";
    for (round, setting) in [
        "SELECT 1",
        hostile,
        temporary,
        "SET search_path = pg_temp",
        "SET search_path = evil",
        "ALTER TABLE public.a ADD z int; ALTER TABLE public.part ADD z int; ALTER TABLE public.b DROP x",
    ]
    .iter()
    .enumerate()
    {
        session.batch_execute(setting).await.unwrap();
        for table in ["a", "b", "part", "many"] {
            let write = format!(
                "INSERT INTO public.{table} (id) VALUES ({round}1), ({round}2), ({round}3); UPDATE public.{table} SET id = OPERATOR(pg_catalog.-) id WHERE id OPERATOR(pg_catalog.=) {round}2; DELETE FROM public.{table} WHERE id OPERATOR(pg_catalog.=) {round}3"
            );
            session.batch_execute(&write).await.unwrap_or_else(|error| panic!("{setting}: {write}: {error:?}"));
            let (found, wanted) = (replay(&source, &queue, &format!("public.{table}")).await, rows(&source, table).await);
            assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{setting}: {table}");
        }
    }
    session.batch_execute("TRUNCATE public.part_1, public.a").await.unwrap();
    assert!(replay(&source, &queue, "public.part").await.is_empty() && replay(&source, &queue, "public.a").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sets_over_one_table_each_capture_it() {
    let (world, source) = setting().await;
    create(&world, "one", &configuration(&source.dsn(), &[("a", &[])])).await;
    create(&world, "two", &configuration(&source.dsn(), &[("a", &["x"]), ("b", &[])])).await;
    create(&world, "truncating", &configuration(&source.dsn(), &[("a", &[])])).await;
    source.execute("INSERT INTO a VALUES (1, 1), (2, 2); TRUNCATE a; INSERT INTO a VALUES (1), (3); UPDATE a SET id = id + 1; ALTER TABLE a ADD z int; UPDATE a SET x = 5").await;
    for set in ["one", "two", "truncating"] {
        let found = replay(&source, &format!("pgshovel:{}:{set}", world.cluster()), "public.a").await;
        assert_eq!(found.keys().collect::<Vec<_>>(), rows(&source, "a").await.keys().collect::<Vec<_>>(), "{set}");
    }
    world.pgshovel(["set", "drop", "one"]).succeeds().await;
    source.execute("TRUNCATE a; INSERT INTO a VALUES (9)").await;
    for set in ["two", "truncating"] {
        assert_eq!(replay(&source, &format!("pgshovel:{}:{set}", world.cluster()), "public.a").await.len(), 1, "{set}");
    }
}

/// Sets come and go while the tables are written.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_fails_while_a_set_is_created_and_dropped() {
    let (world, source) = setting().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = Vec::new();
    for number in 0..3 {
        let (session, stopped) = (source.connect().await, stopped.clone());
        writers.push(tokio::spawn(async move {
            let mut id = number;
            while !*stopped.borrow() {
                id += 3;
                let sql = format!("BEGIN; INSERT INTO a VALUES ({id}); UPDATE a SET x = 1 WHERE id = {id}; INSERT INTO b VALUES ({id}); DELETE FROM b WHERE id = {id}; COMMIT");
                session.batch_execute(&sql).await.unwrap();
            }
            id
        }));
    }
    let text = configuration(&source.dsn(), &[("a", &[]), ("b", &["x"])]);
    for _ in 0..5 {
        create(&world, "s", &text).await;
        world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
        world.pgshovel(["set", "drop", "s"]).succeeds().await;
    }
    stop.send(true).unwrap();
    for writer in writers {
        assert!(writer.await.unwrap() > 3);
    }
}

/// `pg_dump` and restore: the copy's triggers write in the copy, whatever its OIDs, and no
/// write fails; a set cannot be made there, and is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_can_be_written() {
    let (world, source) = setting().await;
    source
        .execute("CREATE TABLE part (id int PRIMARY KEY, x int, y text) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part DEFAULT; INSERT INTO a SELECT i, i FROM generate_series(1, 20) i; INSERT INTO part SELECT i, i FROM generate_series(1, 20) i")
        .await;
    let text = configuration(&source.dsn(), &[("a", &[]), ("b", &["x"]), ("part", &[])]);
    create(&world, "s", &text).await;
    source.execute("UPDATE a SET x = 3; UPDATE part SET x = 3").await;
    let before = events(&source).await;
    let copy = world.source("copy").await;
    copy.execute("DROP EXTENSION pgq CASCADE; CREATE TABLE shift (id int); DROP TABLE shift").await;
    let dump = source.run("pg_dump", &[]).await;
    world.write("dump.sql", &dump);
    copy.run("psql", &["--quiet", "--set=ON_ERROR_STOP=1", &format!("--file={}", world.folder().join("dump.sql").display())]).await;
    copy.execute("INSERT INTO a VALUES (100); UPDATE a SET x = 4; DELETE FROM a WHERE id = 5; INSERT INTO b VALUES (1, 1); UPDATE b SET x = 2; INSERT INTO part VALUES (100); UPDATE part SET x = 4; TRUNCATE part_1; TRUNCATE a, part").await;
    assert_eq!(events(&source).await, before);
    world.write("copy.pgshovel", &configuration(&copy.dsn(), &[("a", &[])]));
    let told = world.pgshovel(["set", "create", "copied", "copy.pgshovel"]).fails(3).await;
    assert!(told.contains("is a copy of node"), "{told}");
    // To another cluster the copy says where its triggers write, and what helps.
    let other = |arguments: [&str; 4]| world.pgshovel(arguments).env("PGSHOVEL_CLUSTER", format!("other_{}", world.cluster()));
    world.pgshovel(["cluster", "initialize"]).env("PGSHOVEL_CLUSTER", format!("other_{}", world.cluster())).succeeds().await;
    let told = other(["set", "create", "copied", "copy.pgshovel"]).fails(3).await;
    assert!(told.contains("write every change into the queues that were copied with it"), "{told}");
    copy.execute(told.split("run: ").nth(1).unwrap()).await;
    let told = other(["set", "create", "copied", "copy.pgshovel"]).fails(3).await;
    copy.execute(told.split("run ").nth(1).unwrap()).await;
    other(["set", "create", "copied", "copy.pgshovel"]).succeeds().await;
    copy.execute("INSERT INTO a VALUES (1)").await;
    // Only the rows, as into tables that are there: the triggers are left not ALWAYS.
    let rows = source.run("pg_dump", &["--data-only", "--disable-triggers", "--table=a"]).await;
    source.execute("TRUNCATE a").await;
    world.write("rows.sql", &rows);
    source.run("psql", &["--quiet", "--set=ON_ERROR_STOP=1", &format!("--file={}", world.folder().join("rows.sql").display())]).await;
    let told = world.pgshovel(["set", "check", "s"]).fails(1).await;
    assert!(told.contains("not ALWAYS") && told.contains("bootstrap the targets of public.a again"), "{told}");
}
