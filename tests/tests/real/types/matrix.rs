//! Every type with its nasty values, written by hostile sessions into hostile databases,
//! through bootstrap and stream, over a file and over Kafka.

use tests::harness::{Database, World};
use tests::matrix::{HOSTILE, HOSTILE_DATABASE, HOSTILE_TARGET, KEYS, SCHEMA, row_count, rows, table};

use super::setup::{self, MEMORY, Pipeline, Stream, create_set};

/// Statement triggers, and row triggers; `plain` holds what `row_to_json` prints exactly.
const TABLES: [&str; 2] = ["everything", "parted"];

fn key_table(index: usize) -> String {
    format!("key_{index}")
}

async fn prepare(database: &Database, settings: &[&str]) {
    for setting in HOSTILE_DATABASE.iter().chain(settings) {
        database.execute(&format!("ALTER DATABASE \"{}\" SET {setting}", database.name())).await;
    }
    database.execute(SCHEMA).await;
    database.execute(&table("public.everything", "")).await;
    database.execute(&table("public.parted", "PARTITION BY HASH (id)")).await;
    for part in 0..2 {
        let sql = format!("CREATE TABLE public.parted_{part} PARTITION OF public.parted FOR VALUES WITH (MODULUS 2, REMAINDER {part})");
        database.execute(&sql).await;
    }
    for (index, (kind, _)) in KEYS.iter().enumerate() {
        let sql = format!("CREATE TABLE public.{} (k {kind}, n int, v text, PRIMARY KEY (k, n))", key_table(index));
        database.execute(&sql).await;
    }
}

/// Sessions of a role without rights of its own, each with other settings.
struct Writers {
    sessions: Vec<tokio_postgres::Client>,
    turn: usize,
}

impl Writers {
    async fn start(source: &Database, role: &str) -> Self {
        source.execute(&format!("CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")).await;
        let mut sessions = Vec::new();
        for settings in HOSTILE {
            let session = pgshovel::postgres::connect::connect(&source.dsn().replace("user=postgres", &format!("user={role}")), "writer")
                .await
                .unwrap();
            session.batch_execute(settings).await.unwrap_or_else(|error| panic!("{settings}: {error:?}"));
            sessions.push(session);
        }
        Self { sessions, turn: 0 }
    }

    async fn write(&mut self, sql: &str) {
        self.turn += 1;
        let session = &self.sessions[self.turn % self.sessions.len()];
        session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql:.2000}: {error:?}"));
    }

    async fn insert(&mut self, first: usize) {
        for name in TABLES {
            for row in rows(&format!("public.{name}"), first) {
                self.write(&row).await;
            }
        }
    }
}

/// Inserts, and then changes that find their rows by the key.
async fn change_keys(writers: &mut Writers) {
    for (index, (kind, [one, two, three, same])) in KEYS.iter().enumerate() {
        let kind = kind.split(" COLLATE ").next().unwrap_or(kind);
        let (table, cast) = (format!("public.{}", key_table(index)), |value: &str| format!("CAST({value} AS {kind})"));
        let [one, two, three, same] = [one, two, three, same].map(|value| if *value == "NULL" { cast("true") } else { cast(value) });
        for sql in [
            format!(
                "INSERT INTO {table} SELECT k, n, 'new' FROM (VALUES ({one}), ({two}), ({three})) AS v (k), pg_catalog.generate_series(1, 3) n WHERE (k, n) IS NOT NULL ON CONFLICT DO NOTHING"
            ),
            format!("UPDATE {table} SET v = 'changed' WHERE n = 1"),
            // Equal to what it was, perhaps with another text.
            format!("UPDATE {table} SET k = {same} WHERE n = 2 AND v = 'new' AND k OPERATOR({}) {one}", equality(kind)),
            format!("DELETE FROM {table} WHERE n = 3"),
            format!("UPDATE {table} SET n = n + 10"),
        ] {
            writers.write(&sql).await;
        }
    }
}

/// `=` whatever the search path is.
fn equality(kind: &str) -> &'static str {
    if matches!(kind, "public.citext" | "public.hstore") { "public.=" } else { "pg_catalog.=" }
}

async fn compare(pipeline: &Pipeline, source: &Database) {
    for name in TABLES {
        pipeline.target.same_images(source, &format!("public.{name}"), &["id"]).await;
    }
    for (index, _) in KEYS.iter().enumerate() {
        pipeline.target.same_images(source, &format!("public.{}", key_table(index)), &["k", "n"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_in_the_same_image_over_file_and_kafka() {
    let world = World::start().await;
    let source = world.source("types").await;
    prepare(&source, &[]).await;
    let mut writers = Writers::start(&source, &format!("types_writer_{}", world.cluster())).await;
    let mut tables: String = TABLES.iter().map(|name| setup::table(name, &["id"], "")).collect();
    tables.extend((0..KEYS.len()).map(|index| setup::table(&key_table(index), &["k", "n"], "")));
    writers.insert(0).await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let mut pipelines = Vec::new();
    for (name, stream) in [("file", Stream::File), ("kafka", Stream::Kafka)] {
        create_set(&world, &source, name, &tables).await;
        let target = world.target(name).await;
        prepare(&target, &HOSTILE_TARGET).await;
        pipelines.push(Pipeline::start(&world, name, stream, target, MEMORY).await);
    }
    let count = row_count() as u64;
    for pipeline in &mut pipelines {
        pipeline.worker.logs("\"phase\":\"catching-up\"").await;
        assert_eq!(pipeline.target.count("public.everything").await, count);
        compare(pipeline, &source).await;
    }

    writers.insert(10_000).await;
    change_keys(&mut writers).await;
    // Values are old and new rows of updates: kept, moved to another row, taken away.
    for name in TABLES {
        for sql in [
            format!("UPDATE public.{name} SET c10 = 'note' WHERE id >= 10000 AND c10 IS NULL"),
            format!("UPDATE public.{name} SET id = id + 10000 WHERE id >= 10000 AND id % 2 = 0"),
            format!("DELETE FROM public.{name} WHERE id % 3 = 0"),
            format!("UPDATE public.{name} AS t SET id = -t.id WHERE id % 5 = 0"),
        ] {
            writers.write(&sql).await;
        }
    }
    for pipeline in &pipelines {
        compare(pipeline, &source).await;
        assert!(pipeline.target.count("public.everything").await > count / 2);
    }
    for pipeline in pipelines {
        assert!(!pipeline.relay.log().contains("differ from those of the configuration"), "{}", pipeline.name);
        pipeline.end().await;
    }
    drop(writers);
    source.execute(&format!("DROP OWNED BY types_writer_{0}; DROP ROLE types_writer_{0}", world.cluster())).await;
}
