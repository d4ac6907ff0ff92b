//! The capability `postgres`: what a plugin gets of a database.

use pgshovel::capabilities::postgres::{Connection, Failure};
use proto::row::Value;
use tests::harness::{Database, World};

use super::native::{LOCK_TIMEOUT, budget};

async fn connection() -> (World, Database, Connection) {
    let world = World::without_servers();
    let database = world.target("connection").await;
    let connection = Connection::open(&database.dsn(), "connection test", LOCK_TIMEOUT, &budget()).await.unwrap();
    (world, database, connection)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn sqlstate<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Refused(error)) => error.sqlstate,
        other => panic!("not refused: {other:?}"),
    }
}

fn misuse<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Misuse(text) | Failure::Misconfigured(text)) => text,
        other => panic!("not misuse: {other:?}"),
    }
}

#[tokio::test]
async fn values_come_and_go_in_the_types_of_the_statement() {
    let (_world, _database, mut connection) = connection().await;
    let sql = "SELECT $1::int2, $2::numeric, $3::bytea, $4::timestamptz, $5::bool, $6::float4, $7::jsonb, $8::int8";
    let parameters = [
        Value::Integer(-7),
        text("1.10"),
        Value::Bytes(vec![0, 255]),
        text("2020-01-02 03:04:05+01"),
        Value::Boolean(true),
        Value::Float(0.5),
        text("{\"a\": 1}"),
        Value::Null,
    ];
    let rows = connection.query(sql, &parameters).await.unwrap();
    let expected = vec![
        Value::Integer(-7),
        text("1.10"),
        Value::Bytes(vec![0, 255]),
        text("2020-01-02 02:04:05+00"),
        Value::Boolean(true),
        Value::Float(0.5),
        text("{\"a\": 1}"),
        Value::Null,
    ];
    assert_eq!(rows, [expected]);
}

#[tokio::test]
async fn a_type_that_the_driver_does_not_know_comes_as_its_own_output() {
    let (_world, database, mut connection) = connection().await;
    database.execute("CREATE TYPE public.pair AS (a int, b text); CREATE TABLE public.t (id int, i inet, c char(4), p public.pair, r int4range[], g interval)").await;
    let sql = "INSERT INTO public.t VALUES (1, '10.0.0.1', 'ab', ROW(NULL, NULL), '{\"[1,3)\"}', '1 day -00:00:01'), (2, NULL, NULL, NULL, NULL, NULL) \
               RETURNING id, i, c, p, r, g, id";
    let rows = connection.query(sql, &[]).await.unwrap();
    let first = vec![
        Value::Integer(1),
        text("10.0.0.1"),
        text("ab  "),
        text("(,)"),
        text("{\"[1,3)\"}"),
        text("1 day -00:00:01"),
        Value::Integer(1),
    ];
    let mut second = vec![Value::Null; 7];
    second[0] = Value::Integer(2);
    second[6] = Value::Integer(2);
    assert_eq!(rows, [first, second]);
    // Asked twice, run once.
    assert_eq!(database.count("public.t").await, 2);
    let rows = connection.query("SELECT now() - $1::interval > '2000-01-01', '{1}'::int[];", &[text("1 s")]).await.unwrap();
    assert_eq!(rows, [[Value::Boolean(true), text("{1}")]]);
}

#[tokio::test]
async fn a_wrong_call_is_misuse_and_a_wrong_statement_is_refused() {
    let (_world, _database, mut connection) = connection().await;
    assert_eq!(sqlstate(connection.execute("SELECT nothing", &[]).await), "42703");
    assert_eq!(sqlstate(connection.query("SELECT $1::int", &[text("x")]).await), "22P02");
    assert_eq!(sqlstate(connection.execute_set("SELECT unnest($1::text[])::int", &[vec![Some("x".to_owned())]]).await), "22P02");
    let bytes = misuse(connection.query("SELECT $1::jsonb", &[Value::Bytes(b"{}".to_vec())]).await);
    assert!(bytes.contains("jsonb"), "{bytes}");
    assert!(misuse(connection.query("SELECT $1::int", &[]).await).contains("takes 1 parameters, 0 are given"));
    assert!(misuse(connection.execute_set("SELECT unnest($1::int[])", &[vec![]]).await).contains("$1::text[]"));
    assert!(misuse(connection.query("SELECT repeat('x', 1000000) FROM generate_series(1, 300)", &[]).await).contains("256MiB"));
    // None of it ends the session.
    assert_eq!(connection.query("SELECT 1", &[]).await.unwrap(), [[Value::Integer(1)]]);
    let dsn = "host=127.0.0.1 port=1 user=u password=secret";
    let away = Connection::open(dsn, "test", LOCK_TIMEOUT, &budget()).await.unwrap_err();
    assert!(matches!(&away, Failure::Unavailable(text) if !text.contains("secret") && text.contains("127.0.0.1:1")), "{away:?}");
}

#[tokio::test]
async fn what_is_submitted_runs_in_order_and_is_answered_in_order() {
    let (_world, database, mut connection) = connection().await;
    database.execute("CREATE TABLE public.t (id int PRIMARY KEY, v text)").await;
    let column = |values: &[Option<&str>]| values.iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>();
    let insert = "INSERT INTO public.t SELECT a::int, b FROM unnest($1::text[], $2::text[]) AS v (a, b)";
    connection.submit("BEGIN", vec![]).await.unwrap();
    connection.submit(insert, vec![column(&[Some("1"), Some("2")]), column(&[None, Some("{\"\\,NULL")])]).await.unwrap();
    connection.submit_copy("COPY public.t FROM STDIN", "3\tc\n4\t\\N\n5\te\n".into()).await.unwrap();
    connection.submit("SAVEPOINT a", vec![]).await.unwrap();
    connection.submit(insert, vec![vec![], vec![]]).await.unwrap();
    assert_eq!(connection.settle().await.unwrap(), [Ok(0), Ok(2), Ok(3), Ok(0), Ok(0)]);
    connection.submit_copy("COPY public.t FROM STDIN", "6\n".into()).await.unwrap();
    connection.submit("UPDATE public.t SET v = 'x'", vec![]).await.unwrap();
    let answers = connection.settle().await.unwrap();
    let states: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_err().sqlstate).collect();
    assert_eq!(states, ["22P04", "25P02"]);
    connection.execute("ROLLBACK TO SAVEPOINT a", &[]).await.unwrap();
    connection.execute("COMMIT", &[]).await.unwrap();
    assert_eq!(
        database.value("SELECT string_agg(id || coalesce(v, '-'), ' ' ORDER BY id) FROM public.t").await.as_deref(),
        Some("1- 2{\"\\,NULL 3c 4- 5e")
    );
    assert_eq!(connection.settle().await.unwrap(), []);
}

#[tokio::test]
async fn a_session_that_the_server_ended_is_unavailable() {
    let (_world, database, mut connection) = connection().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'connection test' AND datname = current_database()";
    connection.execute("BEGIN", &[]).await.unwrap();
    connection.submit("SELECT pg_sleep(600)", vec![]).await.unwrap();
    assert_eq!(database.value(end).await.as_deref(), Some("1"));
    assert!(matches!(connection.settle().await, Err(Failure::Unavailable(_))));
    assert!(matches!(connection.execute("COMMIT", &[]).await, Err(Failure::Unavailable(_))));
    assert!(matches!(connection.query("SELECT 1", &[]).await, Err(Failure::Unavailable(_))));
}

#[tokio::test]
async fn sessions_run_with_pinned_settings() {
    let (_world, database, _) = connection().await;
    database.execute(&format!("ALTER DATABASE \"{}\" SET DateStyle = 'SQL, DMY'", database.name())).await;
    database.execute(&format!("ALTER DATABASE \"{}\" SET search_path = public", database.name())).await;
    database.execute(&format!("ALTER DATABASE \"{}\" SET idle_session_timeout = '1min'", database.name())).await;
    let mut connection = Connection::open(&database.dsn(), "connection test", LOCK_TIMEOUT, &budget()).await.unwrap();
    let rows =
        connection.query("SELECT current_setting('DateStyle'), current_setting('search_path'), current_setting('TimeZone'), current_setting('idle_session_timeout')", &[]).await;
    assert_eq!(rows.unwrap(), [[text("ISO, YMD"), text("pg_catalog, pg_temp"), text("UTC"), text("0")]]);
}
