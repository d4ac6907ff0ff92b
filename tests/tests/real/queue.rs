//! The set's queue, read by `pgshovel::postgres::queue` from the real PgQ.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use pgshovel::error::{Next, Result};
use pgshovel::observe::Status;
use pgshovel::ports::Queue as _;
use pgshovel::postgres::event::value::Encoding;
use pgshovel::postgres::queue::{Queue, Settings};
use pgshovel::postgres::trust::Schemas;
use pgshovel::postgres::{catalog, schema};
use proto::batch::Batch;
use proto::interfaces::configurations::{DatabaseConfiguration, ReplicationSetConfiguration, TableConfiguration};
use proto::row::{Change, Mutation, Value};
use tests::harness::{Database, World, eventually};
use tests::matrix;

/// Far longer than a tick takes, far shorter than an idle queue's next tick.
const BEFORE_THE_IDLE_TICK: Duration = Duration::from_secs(45);

pub const QUEUE: &str = "pgshovel:c:s";

/// A set without triggers: its events are made by hand.
pub async fn set(world: &World) -> Database {
    let source = world.source("queue").await;
    let (schema, queue, view) = (schema::create("c", Schemas::default()), schema::create_queue("c", "s"), schema::create_view("c", "s"));
    source
        .execute(&format!(
            "{role} {schema} {queue} {view}
             {identify}
             CREATE TABLE items (id int PRIMARY KEY, name text);
             INSERT INTO pgshovel_c.relations VALUES ('s', 'v1', 'public.items', 'public', 'items',
                 '[{{\"name\": \"id\", \"type\": \"integer\", \"oid\": 23, \"encoding\": \"json\"}},
                   {{\"name\": \"name\", \"type\": \"text\", \"oid\": 25, \"encoding\": \"json\"}}]', '{{id}}');",
            role = schema::create_role("c"),
            identify = schema::identify("c", uuid::Uuid::from_bytes([7; 16]), "id", "0")
        ))
        .await;
    source
}

pub fn settings(source: &Database) -> Settings {
    Settings {
        dsn: source.dsn(),
        cluster: "c".to_owned(),
        set: "s".to_owned(),
        consumer: "default".to_owned(),
        rotation_period: Duration::ZERO,
        queue_bytes_max: None,
        status: Status::new("relay", "s"),
    }
}

/// As a relay does that leads.
pub async fn open(settings: Settings) -> Result<Queue> {
    Queue::open(settings, 7, std::future::ready(true)).await
}

/// SQL that makes the event of an INSERT of the row `json`.
pub fn insert(json: &str) -> String {
    event("'I'", &format!("$${json}$$"), "'v1'")
}

/// SQL that makes an event of the table `items`, as triggers do.
fn event(kind: &str, data: &str, version: &str) -> String {
    format!(
        "INSERT INTO \"pgshovel:c\".s (ev_time, ev_type, ev_data, ev_extra1, ev_extra3, ev_extra4) VALUES (now(), {kind}, {data}, 'public.items', {version}, 'j1')"
    )
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
pub async fn mutations(queue: &mut Queue) -> (Batch, Vec<Mutation>) {
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
    let mut queue = open(settings(&source)).await.unwrap();
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    let batch = next(&mut queue).await;
    assert_eq!(batch.node, [7; 16]);
    assert_eq!(batch.end.id, batch.start.id + 1);
    let before = all(&mut queue, &batch).await.unwrap();
    // Read again from the beginning, and left in the middle.
    assert_eq!(all(&mut queue, &batch).await.unwrap(), before);
    let _ = queue.read(&batch).await.unwrap();
    drop(queue);

    let mut queue =
        eventually("the lock is free", BEFORE_THE_IDLE_TICK, || async { open(settings(&source)).await.map_err(|error| error.to_string()) })
            .await;
    let again = queue.next().await.unwrap().unwrap();
    assert_eq!(again, batch);
    assert_eq!(all(&mut queue, &again).await.unwrap(), before);
    queue.finish(&again).await.unwrap();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].change, Change::Insert(vec![Value::Integer(1), Value::Text("a".to_owned())]));
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_told() {
    let world = World::start().await;
    let source = set(&world).await;
    let error = open(Settings { consumer: "other".to_owned(), ..settings(&source) }).await.unwrap_err();
    assert_eq!(error.next, Next::Configure);
    assert!(error.message.contains("register_consumer"), "{error}");
    let error = open(Settings { set: "none".to_owned(), ..settings(&source) }).await.unwrap_err();
    assert_eq!(error.next, Next::Configure, "{error}");
    assert_eq!(source.count("pgshovel_c.relays").await, 0);
}

#[tokio::test]
async fn a_batch_that_somebody_else_ends_stops_the_relay() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = open(settings(&source)).await.unwrap();
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
    let mut queue = open(settings(&source)).await.unwrap();
    let mut late = source.connect().await;
    let late = late.transaction().await.unwrap();
    late.batch_execute(&insert(r#"{"id":1,"name":"late"}"#)).await.unwrap();
    // The tick's sequence has passed the late one.
    source.execute(&insert(r#"{"id":2,"name":"early"}"#)).await;
    let (first, found) = mutations(&mut queue).await;
    assert_eq!(found.iter().map(identity).collect::<Vec<_>>(), [2]);
    late.commit().await.unwrap();
    let (second, found) = tokio::time::timeout(BEFORE_THE_IDLE_TICK, mutations(&mut queue)).await.unwrap();
    assert_eq!(found.iter().map(identity).collect::<Vec<_>>(), [1]);
    assert!(second.start.id >= first.end.id);
}

/// The first id that PgQ draws looks as if it was not drawn.
#[tokio::test]
async fn the_first_event_of_all_may_be_under_way_when_the_relay_starts() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut late = source.connect().await;
    let late = late.transaction().await.unwrap();
    late.batch_execute(&insert(r#"{"id":1,"name":"first"}"#)).await.unwrap();
    source.execute(&format!("SELECT pgq.set_queue_config('{QUEUE}', 'external_ticker', 'true')")).await;
    source.execute(&format!("SELECT pgq.ticker('{QUEUE}', 2, now(), 1)")).await;
    let mut queue = open(settings(&source)).await.unwrap();
    eventually("the relay's ticker", BEFORE_THE_IDLE_TICK, || async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%ticker' AND query LIKE '%drawn%'";
        if source.value(sql).await.as_deref() != Some("0") { Ok(()) } else { Err("it has not looked yet".to_owned()) }
    })
    .await;
    late.commit().await.unwrap();
    let (_, found) = tokio::time::timeout(BEFORE_THE_IDLE_TICK, mutations(&mut queue)).await.unwrap();
    assert_eq!(found.iter().map(identity).collect::<Vec<_>>(), [1]);
}

/// How many batches of a queue may be empty, that was made after `since`: those of the idle tick.
fn idle_ticks(since: Instant) -> u64 {
    since.elapsed().as_secs() / 60
}

/// Transactions elsewhere, a long one among them, and one of this database that writes
/// something else, make no tick.
#[tokio::test]
async fn an_idle_queue_beside_a_busy_database_is_not_ticked() {
    const TRANSACTIONS: i32 = 3000;
    let world = World::start().await;
    let since = Instant::now();
    let (source, other) = (set(&world).await, world.source("other").await);
    let mut queue = open(settings(&source)).await.unwrap();
    let (mut here, mut there) = (source.connect().await, other.connect().await);
    let (here, there) = (here.transaction().await.unwrap(), there.transaction().await.unwrap());
    here.batch_execute("INSERT INTO items VALUES (1, 'not captured')").await.unwrap();
    there.batch_execute("CREATE TABLE long_one (a int)").await.unwrap();
    // Both are under way at its tick.
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    let (first, _) = mutations(&mut queue).await;
    other.execute("CREATE TABLE busy (a int)").await;
    let busy = format!(
        "DO $$ BEGIN FOR i IN 1..{TRANSACTIONS} LOOP INSERT INTO busy VALUES (i); COMMIT; PERFORM pg_sleep(0.001); END LOOP; END $$"
    );
    other.execute(&busy).await;
    here.commit().await.unwrap();
    there.commit().await.unwrap();
    other.execute(&busy).await;
    source.execute(&insert(r#"{"id":2,"name":"b"}"#)).await;
    let (last, found) = mutations(&mut queue).await;
    assert_eq!(found.iter().map(identity).collect::<Vec<_>>(), [2]);
    let empty = last.end.id - first.end.id - 1;
    assert!(empty <= idle_ticks(since), "{empty} empty batches");
}

/// Events are drawn long before they are committed, or are rolled back, while other
/// transactions come and go: each batch has an event.
#[tokio::test(flavor = "multi_thread")]
async fn no_batch_of_a_changing_queue_is_empty() {
    const EVENTS: i64 = 200;
    let world = World::start().await;
    let since = Instant::now();
    let (source, other) = (set(&world).await, world.source("other").await);
    let mut queue = open(settings(&source)).await.unwrap();
    other.execute("CREATE TABLE busy (a int)").await;
    let elsewhere = tokio::spawn(async move {
        loop {
            other.execute("INSERT INTO busy VALUES (1)").await;
        }
    });
    let writers: Vec<_> = futures_util::future::join_all((0..4).map(|_| source.connect())).await;
    for (writer, client) in (0..).zip(writers) {
        tokio::spawn(async move {
            for id in (0..EVENTS).filter(|id| id % 4 == writer) {
                let event = insert(&format!(r#"{{"id":{id},"name":"n"}}"#));
                client.batch_execute(&format!("BEGIN; {event}; SELECT pg_sleep(random() * 0.03); COMMIT")).await.unwrap();
                client.batch_execute(&format!("BEGIN; {event}; SELECT pg_sleep(random() * 0.03); ROLLBACK")).await.unwrap();
            }
        });
    }
    let (mut ids, mut empty) = (Vec::new(), 0);
    while i64::try_from(ids.len()).unwrap() < EVENTS {
        let batch = next(&mut queue).await;
        let found = all(&mut queue, &batch).await.unwrap();
        queue.finish(&batch).await.unwrap();
        empty += u64::from(found.is_empty());
        ids.extend(found.iter().map(identity));
    }
    elsewhere.abort();
    ids.sort_unstable();
    assert_eq!(ids, (0..EVENTS).collect::<Vec<_>>());
    assert!(empty <= idle_ticks(since), "{empty} empty batches");
}

/// Of old ticks that all have passed one a second is kept.
#[tokio::test]
async fn old_ticks_are_thinned_out() {
    let world = World::start().await;
    let source = set(&world).await;
    source.execute(&format!("SELECT pgq.register_consumer('{QUEUE}', 'slow')")).await;
    source
        .execute(&format!(
            "INSERT INTO pgq.tick (tick_queue, tick_id, tick_time, tick_event_seq)
               SELECT queue_id, i, date_trunc('second', now()) - interval '1 hour' + i * interval '100 milliseconds', 1
                 FROM pgq.queue, generate_series(10, 99) i WHERE queue_name = '{QUEUE}';
             UPDATE pgq.subscription SET sub_last_tick = CASE WHEN co_name = 'slow' THEN 80 ELSE 99 END FROM pgq.consumer WHERE co_id = sub_consumer"
        ))
        .await;
    let _queue = open(settings(&source)).await.unwrap();
    let expected: Vec<String> = (19..=69).step_by(10).chain(79..=99).map(|id: i64| id.to_string()).collect();
    eventually("the ticks that are kept", BEFORE_THE_IDLE_TICK, || async {
        let ids = source.value("SELECT string_agg(tick_id::text, ' ' ORDER BY tick_id) FROM pgq.tick WHERE tick_id BETWEEN 2 AND 99").await;
        if ids == Some(expected.join(" ")) { Ok(()) } else { Err(format!("{ids:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_large_batch_comes_in_chunks_and_in_order() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = open(settings(&source)).await.unwrap();
    source
        .execute(
            "INSERT INTO \"pgshovel:c\".s (ev_time, ev_type, ev_data, ev_extra1, ev_extra3, ev_extra4) SELECT now(), 'I', row_to_json(r)::text, 'public.items', 'v1', 'j1'
               FROM (SELECT id, repeat('x', 100) AS name FROM generate_series(1, 20000) AS id) AS r"
        )
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
    let mut queue = open(settings(&source)).await.unwrap();
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
    let mut queue = open(settings(&source)).await.unwrap();
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
    let mut queue = open(settings(&source)).await.unwrap();
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
            let event = format!(
                "INSERT INTO \"pgshovel:c\".s (ev_time, ev_type, ev_data, ev_extra1, ev_extra3, ev_extra4) SELECT now(), 'I', {data}::text, 'public.items', '{version}', 'j1' FROM {row}"
            );
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

/// Which of its tables the queue calls the current one.
pub async fn current_table(source: &Database) -> Option<String> {
    source.value(&format!("SELECT queue_cur_table FROM pgq.queue WHERE queue_name = '{QUEUE}'")).await
}

/// A rotation begins once the consumer has left what was before the last one.
async fn rotated(source: &Database, queue: &mut Queue) {
    let before = current_table(source).await;
    while current_table(source).await == before {
        source.execute(&insert(r#"{"id":1,"name":"load"}"#)).await;
        mutations(queue).await;
    }
}

fn rotating(source: &Database) -> Settings {
    Settings { rotation_period: Duration::from_millis(100), ..settings(source) }
}

/// PgQ loses the events of a REPEATABLE READ transaction whose snapshot is older
/// than a rotation and whose first write follows it (see `pgqd.rs`, which shows it).
/// The view that triggers write through has no snapshot.
#[tokio::test]
async fn an_older_snapshot_writes_to_the_current_table() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = open(rotating(&source)).await.unwrap();
    for rotations in 1..=4 {
        let mut old = source.connect().await;
        let old = old.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).start().await.unwrap();
        old.query_one("SELECT count(*) FROM items", &[]).await.unwrap();
        for _ in 0..rotations {
            rotated(&source, &mut queue).await;
        }
        old.batch_execute(&insert(r#"{"id":9,"name":"old"}"#)).await.unwrap();
        old.commit().await.unwrap();
        let (_, found) = tokio::time::timeout(BEFORE_THE_IDLE_TICK, mutations(&mut queue)).await.unwrap();
        assert_eq!(found[0].change, Change::Insert(vec![Value::Integer(9), Value::Text("old".to_owned())]), "after {rotations} rotations");
    }
}

/// Who has written to the current table may write to it again, also a transaction that is
/// prepared: no rotation passes it. Others write meanwhile.
#[tokio::test]
async fn a_rotation_waits_for_those_who_have_written() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = open(rotating(&source)).await.unwrap();
    rotated(&source, &mut queue).await;
    let writer = source.connect().await;
    let gid = format!("prepared {}", source.name());
    writer.batch_execute(&format!("BEGIN; {}; PREPARE TRANSACTION '{gid}'", insert(r#"{"id":9,"name":"prepared"}"#))).await.unwrap();
    let before = current_table(&source).await;
    for id in 0..20 {
        source.execute(&insert(&format!(r#"{{"id":{id},"name":"load"}}"#))).await;
        mutations(&mut queue).await;
    }
    assert_eq!(current_table(&source).await, before, "rotated past a transaction that may write on");
    source.execute(&format!("COMMIT PREPARED '{gid}'")).await;
    let (_, found) = tokio::time::timeout(BEFORE_THE_IDLE_TICK, mutations(&mut queue)).await.unwrap();
    assert_eq!(found[0].change, Change::Insert(vec![Value::Integer(9), Value::Text("prepared".to_owned())]));
    rotated(&source, &mut queue).await;
}

/// PgQ's own rotation, called by hand, both steps at once and again and again: an event
/// is read from whatever table it is in, and the relay lets triggers follow.
#[tokio::test]
async fn a_rotation_by_hand_loses_nothing() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = open(settings(&source)).await.unwrap();
    let writer = source.connect().await;
    writer.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM items").await.unwrap();
    let mut seen = Vec::new();
    for id in 0..60 {
        source
            .execute(&format!(
                "UPDATE pgq.queue SET queue_rotation_period = '0', queue_switch_time = '-infinity' WHERE queue_name = '{QUEUE}'"
            ))
            .await;
        source.execute(&format!("SELECT pgq.maint_rotate_tables_step1('{QUEUE}')")).await;
        source.execute("SELECT pgq.maint_rotate_tables_step2()").await;
        source.execute(&insert(&format!(r#"{{"id":{id},"name":"load"}}"#))).await;
        if id == 30 {
            writer.batch_execute(&format!("{}; COMMIT", insert(r#"{"id":-1,"name":"old"}"#))).await.unwrap();
        }
        seen.extend(mutations(&mut queue).await.1.iter().map(identity));
    }
    while seen.len() < 61 {
        seen.extend(tokio::time::timeout(BEFORE_THE_IDLE_TICK, mutations(&mut queue)).await.unwrap().1.iter().map(identity));
    }
    seen.sort_unstable();
    assert_eq!(seen, (-1..60).collect::<Vec<_>>(), "lost or repeated");
}

/// A relay whose leadership is over may be paused, and hold the consumer for ever.
#[tokio::test]
async fn the_last_relay_that_led_has_the_queue() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut old = open(settings(&source)).await.unwrap();
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    let batch = next(&mut old).await;
    let mut new = open(settings(&source)).await.unwrap();
    assert!(new.epoch() > old.epoch());
    let error = old.finish(&batch).await.unwrap_err();
    assert_eq!(error.next, Next::Retry, "{error}");
    // It may not take the consumer back.
    let error = Queue::open(settings(&source), 7, std::future::ready(false)).await.unwrap_err();
    assert!(error.next == Next::Retry && error.message.contains("leadership"), "{error}");
    assert_eq!(new.next().await.unwrap(), Some(batch.clone()));
    new.finish(&batch).await.unwrap();
}

/// A tick that sees less than the one before it makes PgQ deliver events twice.
#[tokio::test]
async fn ticks_in_a_wrong_order_repeat_no_event() {
    let world = World::start().await;
    let source = set(&world).await;
    let mut queue = open(settings(&source)).await.unwrap();
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    mutations(&mut queue).await;
    // Somebody lets others tick this queue: in a transaction with an old snapshot.
    source
        .execute(&format!(
            "SELECT pgq.set_queue_config('{QUEUE}', 'external_ticker', 'false'), pgq.set_queue_config('{QUEUE}', 'ticker_max_lag', '0')"
        ))
        .await;
    let old = source.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM items").await.unwrap();
    source.execute(&insert(r#"{"id":2,"name":"b"}"#)).await;
    assert_eq!(mutations(&mut queue).await.1.len(), 1);
    old.batch_execute(&format!("SELECT pgq.ticker('{QUEUE}'); COMMIT")).await.unwrap();
    let inverted = "SELECT count(*) FROM pgq.tick a JOIN pgq.tick b ON b.tick_id = a.tick_id + 1
                     WHERE txid_snapshot_xmax(b.tick_snapshot) < txid_snapshot_xmax(a.tick_snapshot)";
    assert_eq!(source.value(inverted).await.as_deref(), Some("1"));
    source.execute(&insert(r#"{"id":3,"name":"c"}"#)).await;
    // Also for a relay that did not see the ticks before.
    drop(queue);
    let mut queue =
        eventually("the lock is free", BEFORE_THE_IDLE_TICK, || async { open(settings(&source)).await.map_err(|error| error.to_string()) })
            .await;
    let (_, found) = mutations(&mut queue).await;
    assert_eq!(
        found.iter().map(|mutation| mutation.change.clone()).collect::<Vec<_>>(),
        [Change::Insert(vec![Value::Integer(3), Value::Text("c".to_owned())])]
    );
}

/// Two relays, each with a consumer of its own and each making ticks, and somebody who
/// calls PgQ's ticker too: each gets each event once.
#[tokio::test(flavor = "multi_thread")]
async fn several_tickers_lose_and_repeat_nothing() {
    const EVENTS: i64 = 600;
    let world = World::start().await;
    let source = set(&world).await;
    source.execute(&format!("SELECT pgq.register_consumer('{QUEUE}', 'second')")).await;
    let rotating = Settings { rotation_period: Duration::from_millis(300), ..settings(&source) };
    let queues = [rotating.clone(), Settings { consumer: "second".to_owned(), ..rotating }].map(open);
    let queues = futures_util::future::try_join_all(queues).await.unwrap();
    let (ticker, writer) = (source.connect().await, source.connect().await);
    let ticking = tokio::spawn(async move {
        loop {
            // Refused, since the queue is the relays' to tick; or passed over.
            let _ = ticker.batch_execute(&format!("SELECT pgq.ticker('{QUEUE}')")).await;
            ticker.batch_execute("SELECT pgq.ticker()").await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let writing = tokio::spawn(async move {
        for id in 0..EVENTS {
            writer.batch_execute(&insert(&format!(r#"{{"id":{id},"name":"n"}}"#))).await.unwrap();
        }
    });
    let reading = queues.into_iter().map(|mut queue| async move {
        let mut ids = Vec::new();
        while i64::try_from(ids.len()).unwrap() < EVENTS {
            ids.extend(mutations(&mut queue).await.1.iter().map(identity));
        }
        ids
    });
    let all = tokio::time::timeout(Duration::from_secs(120), futures_util::future::join_all(reading)).await.unwrap();
    writing.await.unwrap();
    ticking.abort();
    for ids in all {
        assert_eq!(ids, (0..EVENTS).collect::<Vec<_>>());
    }
}

pub fn identity(mutation: &Mutation) -> i64 {
    match &mutation.change {
        Change::Insert(row) => match row[0] {
            Value::Integer(id) => id,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A role that may not keep PgQ's maintenance from the queue: it must not advance it,
/// since rotations begin behind the consumer.
#[tokio::test]
async fn a_queue_that_others_rotate_is_refused() {
    let world = World::start().await;
    let source = set(&world).await;
    let role = format!("reader_{}", source.name());
    source
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT pgq_reader TO {role}; GRANT USAGE ON SCHEMA pgshovel_c TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA pgshovel_c TO {role}; GRANT INSERT, UPDATE ON pgshovel_c.relays TO {role};
             GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}"
        ))
        .await;
    let limited = Settings { dsn: source.dsn().replace("user=postgres", &format!("user={role}")), ..settings(&source) };
    source.execute(&format!("SELECT pgq.set_queue_config('{QUEUE}', 'rotation_period', '2 hours')")).await;
    let error = open(limited.clone()).await.unwrap_err();
    assert_eq!(error.next, Next::Configure);
    assert!(error.message.contains("--relay-role") && error.message.contains("'rotation_period', '100 years'"), "{error}");
    source.execute(&format!("SELECT pgq.set_queue_config('{QUEUE}', 'rotation_period', '100 years')")).await;
    let mut queue = open(limited).await.unwrap();
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    // Somebody else has to tick.
    source.execute(&format!("SELECT pgq.set_queue_config('{QUEUE}', 'ticker_max_lag', '0')")).await;
    source.execute(&format!("SELECT pgq.ticker('{QUEUE}')")).await;
    assert_eq!(mutations(&mut queue).await.1.len(), 1);
    drop(queue);
    source.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
