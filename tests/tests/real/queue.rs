//! The set's queue, read by `pgshovel::postgres::queue` from the real PgQ.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use pgshovel::error::{Next, Result};
use pgshovel::ports::Queue as _;
use pgshovel::postgres::catalog;
use pgshovel::postgres::event::value::Encoding;
use pgshovel::postgres::queue::{Queue, Settings};
use proto::batch::Batch;
use proto::interfaces::configurations::{DatabaseConfiguration, ReplicationSetConfiguration, TableConfiguration};
use proto::row::{Change, Mutation, Value};
use tests::harness::{Database, World, eventually};
use tests::matrix;

/// Far longer than a tick takes, far shorter than an idle queue's next tick.
const BEFORE_THE_IDLE_TICK: Duration = Duration::from_secs(45);

const QUEUE: &str = "pgshovel:c:s";

/// A set without triggers: its events are made by hand.
async fn set(world: &World) -> Database {
    let source = world.source("queue").await;
    source
        .execute(&format!(
            "SELECT pgq.create_queue('{QUEUE}'), pgq.register_consumer('{QUEUE}', 'default');
             CREATE SCHEMA pgshovel_c;
             CREATE TABLE pgshovel_c.relations (\"set\" text, version text, key text, schema text, \"table\" text, columns jsonb, identity text[],
                                                PRIMARY KEY (\"set\", version, key));
             CREATE TABLE pgshovel_c.configuration AS SELECT '07070707-0707-0707-0707-070707070707'::uuid AS node, system_identifier, oid AS database_oid
               FROM pg_control_system(), pg_database WHERE datname = current_database();
             CREATE TABLE items (id int PRIMARY KEY, name text);
             INSERT INTO pgshovel_c.relations VALUES ('s', 'v1', 'public.items', 'public', 'items',
                 '[{{\"name\": \"id\", \"type\": \"integer\", \"oid\": 23, \"encoding\": \"json\"}},
                   {{\"name\": \"name\", \"type\": \"text\", \"oid\": 25, \"encoding\": \"json\"}}]', '{{id}}');"
        ))
        .await;
    source
}

fn settings(source: &Database) -> Settings {
    Settings {
        dsn: source.dsn(),
        cluster: "c".to_owned(),
        set: "s".to_owned(),
        consumer: "default".to_owned(),
        rotation_period: Duration::ZERO,
    }
}

/// SQL that makes the event of an INSERT of the row `json`.
fn insert(json: &str) -> String {
    format!("SELECT pgq.insert_event('{QUEUE}', 'I', $${json}$$, 'public.items', NULL, 'v1', 'j1')")
}

async fn next(queue: &mut Queue) -> Batch {
    let mut batch = None;
    while batch.is_none() {
        queue.wait(Duration::from_secs(1)).await.unwrap();
        batch = queue.next().await.unwrap();
    }
    batch.unwrap()
}

async fn all(queue: &mut Queue, batch: &Batch) -> Result<Vec<Mutation>> {
    let mut all = Vec::new();
    loop {
        let some = queue.read(batch).await?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
    }
}

/// Reads batches, and finishes them, until one has mutations.
async fn mutations(queue: &mut Queue) -> (Batch, Vec<Mutation>) {
    loop {
        let batch = next(queue).await;
        let mutations = all(queue, &batch).await.unwrap();
        queue.finish(&batch).await.unwrap();
        if !mutations.is_empty() {
            return (batch, mutations);
        }
    }
}

#[tokio::test]
async fn an_open_batch_is_the_same_for_the_next_relay() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = Queue::open(settings(&source)).await.unwrap();
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    let batch = next(&mut queue).await;
    assert_eq!(batch.node, [7; 16]);
    assert_eq!(batch.end.id, batch.start.id + 1);
    let before = all(&mut queue, &batch).await.unwrap();
    // Read again from the beginning, and left in the middle.
    assert_eq!(all(&mut queue, &batch).await.unwrap(), before);
    let _ = queue.read(&batch).await.unwrap();
    drop(queue);

    let mut queue = eventually("the lock is free", BEFORE_THE_IDLE_TICK, || async {
        Queue::open(settings(&source)).await.map_err(|error| error.to_string())
    })
    .await;
    let again = queue.next().await.unwrap().unwrap();
    assert_eq!(again, batch);
    assert_eq!(all(&mut queue, &again).await.unwrap(), before);
    queue.finish(&again).await.unwrap();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].change, Change::Insert(vec![Value::Integer(1), Value::Text("a".to_owned())]));
}

#[tokio::test]
async fn one_session_holds_a_consumer() {
    let world = World::start().await;
    let source = set(&world).await;
    let _queue = Queue::open(settings(&source)).await.unwrap();
    let error = Queue::open(settings(&source)).await.unwrap_err();
    assert_eq!(error.next, Next::Retry);
    assert!(error.message.contains("pgshovel relay s") && error.message.contains("process "), "{error}");
    let error = Queue::open(Settings { consumer: "other".to_owned(), ..settings(&source) }).await.unwrap_err();
    assert_eq!(error.next, Next::Configure);
    assert!(error.message.contains("register_consumer"), "{error}");
    let error = Queue::open(Settings { set: "none".to_owned(), ..settings(&source) }).await.unwrap_err();
    assert_eq!(error.next, Next::Configure, "{error}");
}

#[tokio::test]
async fn a_batch_that_somebody_else_ends_stops_the_relay() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = Queue::open(settings(&source)).await.unwrap();
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    let batch = next(&mut queue).await;
    source.execute(&format!("SELECT pgq.finish_batch({})", batch.id)).await;
    let error = queue.finish(&batch).await.unwrap_err();
    assert_eq!(error.next, Next::Stop);
    assert!(error.message.contains("somebody else"), "{error}");
}

#[tokio::test]
async fn an_event_that_commits_after_a_tick_gets_one_too() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = Queue::open(settings(&source)).await.unwrap();
    let mut late = source.connect().await;
    let late = late.transaction().await.unwrap();
    late.batch_execute(&insert(r#"{"id":1,"name":"late"}"#)).await.unwrap();
    // Its event id is drawn, so the first tick covers it, without its event.
    let batch = next(&mut queue).await;
    assert_eq!(all(&mut queue, &batch).await.unwrap(), []);
    queue.finish(&batch).await.unwrap();
    late.commit().await.unwrap();
    let (batch, found) = tokio::time::timeout(BEFORE_THE_IDLE_TICK, mutations(&mut queue)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(batch.start.id > 1);
}

#[tokio::test]
async fn a_large_batch_comes_in_chunks_and_in_order() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = Queue::open(settings(&source)).await.unwrap();
    source
        .execute(&format!(
            "SELECT count(pgq.insert_event('{QUEUE}', 'I', row_to_json(r)::text, 'public.items', NULL, 'v1', 'j1'))
               FROM (SELECT id, repeat('x', 100) AS name FROM generate_series(1, 20000) AS id) AS r"
        ))
        .await;
    let (batch, first) = loop {
        // A tick may come while the events are made: its batch has none of them.
        let batch = next(&mut queue).await;
        let first = queue.read(&batch).await.unwrap();
        if !first.is_empty() {
            break (batch, first);
        }
        queue.finish(&batch).await.unwrap();
    };
    assert!(first.len() < 5000, "{}", first.len());
    let mut ids: Vec<u64> = first.iter().map(|mutation| mutation.id).collect();
    ids.extend(all(&mut queue, &batch).await.unwrap().iter().map(|mutation| mutation.id));
    assert_eq!(ids.len(), 20000);
    assert!(ids.is_sorted_by(|a, b| a < b));
    queue.finish(&batch).await.unwrap();
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_is_named() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = Queue::open(settings(&source)).await.unwrap();
    source.execute(&insert(r#"{"id":"secret","name":"a"}"#)).await;
    let batch = next(&mut queue).await;
    let error = all(&mut queue, &batch).await.unwrap_err();
    assert_eq!(error.next, Next::Stop);
    assert!(
        error.message.contains("table public.items") && error.message.contains("\"id\"") && !error.message.contains("secret"),
        "{error}"
    );
    // Its version is not recorded.
    source.execute("UPDATE pgshovel_c.relations SET version = 'v2'").await;
    let error = all(&mut queue, &batch).await.unwrap_err();
    assert!(error.message.contains("\"v1\""), "{error}");
}

#[tokio::test]
async fn rows_of_an_altered_table_take_their_types_from_the_catalog() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = Queue::open(settings(&source)).await.unwrap();
    source.execute("ALTER TABLE items ADD price numeric(9, 2), DROP name").await;
    source.execute(&insert(r#"{"id":1,"price":1.50}"#)).await;
    source.execute(&insert(r#"{"id":2,"price":2.50,"gone":true}"#)).await;
    source.execute(&insert(r#"{"id":3,"name":"b"}"#)).await;
    let (_, found) = mutations(&mut queue).await;
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(found[0].change, Change::Insert(vec![Value::Integer(1), text("1.50")]));
    assert_eq!(found[0].relation.columns[1].type_name, "numeric(9,2)");
    assert_eq!(found[1].change, Change::Insert(vec![Value::Integer(2), text("2.50"), text("t")]));
    assert_eq!(found[2].change, Change::Insert(vec![Value::Integer(3), text("b")]));
}

/// What a trigger writes, decoded, is what the type's output function prints.
#[tokio::test]
async fn values_are_postgresqls_text() {
    let world = World::start().await;
    let source = set(&world).await;
    source.execute("SET TimeZone = 'UTC'; SET lc_monetary = 'C'").await;
    source.execute(matrix::SCHEMA).await;
    source.execute(&matrix::table("public.matrix", "")).await;
    let wanted = TableConfiguration { name: "matrix".to_owned(), primary_keys: vec!["id".to_owned()], columns: Vec::new(), schema: None };
    let configuration = ReplicationSetConfiguration { database: DatabaseConfiguration { dsn: source.dsn() }, tables: vec![wanted] };
    let facts = catalog::read(source.client(), "none", "none", Some(&configuration)).await.unwrap();
    let columns = facts.tables[0].columns.iter().skip(1).map(|column| &column.described);
    let mut queue = Queue::open(settings(&source)).await.unwrap();
    let mut expected = Vec::new();
    for (index, (described, (name, values))) in columns.zip(matrix::TYPES).enumerate() {
        let version = format!("t{index}");
        let shape = serde_json::json!([{ "name": "a", "type": described.type_name, "oid": described.oid, "encoding": described.encoding }]);
        source
            .query(
                "INSERT INTO pgshovel_c.relations SELECT 's', $1, 'public.items', 'public', 'items', $2::text::jsonb, '{a}'",
                &[&version, &shape.to_string()],
            )
            .await;
        let data = match described.encoding {
            Encoding::Json => "row_to_json(v)",
            Encoding::Text => "json_build_object('a', format('%s', a))",
        };
        for value in *values {
            let row = format!("(SELECT CAST({value} AS {name}) AS a) AS v");
            let event =
                format!("SELECT pgq.insert_event('{QUEUE}', 'I', {data}::text, 'public.items', NULL, '{version}', 'j1') FROM {row}");
            source.execute(&event).await;
            expected.push((*name, source.value(&format!("SELECT format('%s', a) FROM {row}")).await.unwrap()));
        }
    }
    let mut found = Vec::new();
    while found.len() < expected.len() {
        found.extend(mutations(&mut queue).await.1);
    }
    for (mutation, (name, expected)) in found.iter().zip(&expected) {
        let Change::Insert(row) = &mutation.change else { panic!("{mutation:?}") };
        let same = match &row[0] {
            Value::Text(text) => text == expected,
            Value::Boolean(boolean) => expected == if *boolean { "t" } else { "f" },
            Value::Integer(integer) => *expected == integer.to_string(),
            Value::Float(float) if *name == "real" => {
                f64::from(expected.parse::<f32>().unwrap()).to_bits() == float.to_bits() || float.is_nan()
            }
            Value::Float(float) => expected.parse::<f64>().unwrap().to_bits() == float.to_bits() || float.is_nan(),
            Value::Bytes(bytes) => *expected == format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            Value::Null => false,
        };
        assert!(same, "{name}: {expected:.200?} came as {:.200?}", row[0]);
    }
}

/// PgQ loses the events of a REPEATABLE READ transaction whose snapshot is older
/// than a rotation and whose first write follows it. A relay that rotates waits.
#[tokio::test]
async fn a_rotation_waits_for_older_snapshots() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = Queue::open(Settings { rotation_period: Duration::from_millis(100), ..settings(&source) }).await.unwrap();
    let table = || source.value("SELECT queue_cur_table FROM pgq.queue");
    let mut old = source.connect().await;
    let old = old.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).start().await.unwrap();
    old.query_one("SELECT count(*) FROM items", &[]).await.unwrap();
    // A rotation begins once the consumer has left what was before the last one.
    let before = table().await;
    while table().await == before {
        source.execute(&insert(r#"{"id":1,"name":"load"}"#)).await;
        mutations(&mut queue).await;
    }
    // Batches that begin after the rotation, as under load.
    for id in 0..3 {
        source.execute(&insert(&format!(r#"{{"id":{id},"name":"load"}}"#))).await;
        mutations(&mut queue).await;
    }
    assert_eq!(source.value("SELECT queue_switch_step2 IS NULL FROM pgq.queue").await.as_deref(), Some("t"), "the rotation is still open");
    old.batch_execute(&insert(r#"{"id":9,"name":"old"}"#)).await.unwrap();
    old.commit().await.unwrap();
    let (_, found) = tokio::time::timeout(BEFORE_THE_IDLE_TICK, mutations(&mut queue)).await.unwrap();
    assert_eq!(found[0].change, Change::Insert(vec![Value::Integer(9), Value::Text("old".to_owned())]));
    // Nothing older is left, so the rotation ends, and the next one begins.
    let before = table().await;
    while table().await == before {
        source.execute(&insert(r#"{"id":1,"name":"load"}"#)).await;
        mutations(&mut queue).await;
    }
}
