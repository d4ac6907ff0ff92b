//! Plugins that are not written in Rust, from `examples/`.

use std::process::Command;
use std::sync::Arc;

use pgshovel::config::{self, ReplicateConfiguration};
use pgshovel::error::Next;
use pgshovel::plugins::{Context, Engine, Options, target, transform};
use pgshovel::ports::{Chunk, Guarantee, Target as _, Transform as _};
use proto::row::{Change, Column, Mutation, Relation, Value, oid};
use tests::harness::{Database, World};
use tests::paths;

use super::batch;

/// Runs a command in a folder of `examples/`, and shows what it said if it failed.
fn succeeds(folder: &str, program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(paths::repository().join("examples").join(folder)).output().unwrap();
    assert!(output.status.success(), "{program}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// The other sections are not opened.
fn configuration(world: &World, sections: &str) -> ReplicateConfiguration {
    let others = "stream: { path: file.wasm }\nloader: { path: postgresql.wasm }\n";
    config::replicate(&world.write("replicate.yaml", &format!("{others}{sections}"))).unwrap()
}

/// Python's runtime takes a while to compile: once for all tests, and kept.
fn engine() -> Engine {
    let cache = paths::build().unwrap().join("plugin-cache");
    Engine::new(Options { search: vec![paths::plugins().unwrap()], cache: Some(cache) }).unwrap()
}

fn context(world: &World) -> Context {
    Context { cluster: world.cluster(), set: "s".into() }
}

fn people() -> Arc<Relation> {
    let column = |name: &str, type_name: &str, type_oid| Column { name: name.into(), type_name: type_name.into(), type_oid };
    Arc::new(Relation {
        schema: "public".into(),
        table: "people".into(),
        columns: vec![column("id", "bigint", oid::INT8), column("email", "text", oid::TEXT), column("photo", "bytea", oid::BYTEA)],
        identity: vec![0],
        version: "1".into(),
    })
}

fn person(id: i64, email: &str) -> Vec<Value> {
    vec![Value::Integer(id), Value::Text(email.into()), Value::Bytes(vec![0, 255])]
}

fn mutation(id: u64, change: Change) -> Mutation {
    Mutation { id, relation: people(), change, transaction: 7_000_000_000, timestamp_us: 1_500_000, version: 1_500_001 }
}

mod python {
    use super::*;

    #[test]
    fn its_pure_part_passes_its_own_test() {
        succeeds("python-target", "python3", &["-B", "-m", "unittest", "test_history.py"]);
    }

    async fn open(world: &World, database: &Database) -> target::Target {
        let section = format!("target: {{ path: history.wasm, grants: {{ postgres: \"{}\" }} }}\n", database.uri());
        target::open(&engine(), &configuration(world, &section).target, &context(world)).await.unwrap()
    }

    async fn operations(database: &Database) -> Vec<String> {
        let rows = database
            .query(
                "SELECT concat_ws(' ', operation, event, before ->> 'email', after ->> 'email') FROM history.changes ORDER BY number",
                &[],
            )
            .await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    #[tokio::test]
    async fn a_target_keeps_the_history_of_rows() {
        let world = World::without_servers();
        let database = world.target("history").await;
        let mut target = open(&world, &database).await;
        assert_eq!(target.guarantee().await.unwrap(), Guarantee::Transactional);
        assert_eq!(target.load_state().await.unwrap(), None);

        target.load(Chunk { relation: people(), rows: vec![person(1, "a@x"), person(2, "b@x")], estimated_rows: None }, 7).await.unwrap();
        assert_eq!(database.count("history.changes").await, 0, "visible before the commit");
        target.commit(None, b"loaded").await.unwrap();

        target.begin(&batch(4)).await.unwrap();
        let changes = vec![
            mutation(10, Change::Insert(person(3, "c@x"))),
            mutation(11, Change::Update { before: person(1, "a@x"), after: person(1, "\u{e4}@x \"quoted\"") }),
        ];
        target.apply(changes).await.unwrap();
        target.apply(vec![mutation(12, Change::Delete(person(2, "b@x"))), mutation(13, Change::Truncate)]).await.unwrap();
        target.commit(Some(b"loaded"), b"one batch").await.unwrap();

        let expected = ["load a@x", "load b@x", "insert 10 c@x", "update 11 a@x ä@x \"quoted\"", "delete 12 b@x", "truncate 13"];
        assert_eq!(operations(&database).await, expected);
        let described = database
            .value("SELECT concat_ws(' ', relation, node, start_tick, end_tick, transaction, made_at AT TIME ZONE 'UTC', after -> 'id', after ->> 'photo') FROM history.changes WHERE event = 10")
            .await;
        let expected = r#""public"."people" 07070707-0707-0707-0707-070707070707 4 5 7000000000 1970-01-01 00:00:01.5 3 \x00ff"#;
        assert_eq!(described.as_deref(), Some(expected));
    }

    #[tokio::test]
    async fn what_is_not_committed_leaves_nothing() {
        let world = World::without_servers();
        let database = world.target("history").await;
        let mut target = open(&world, &database).await;
        target.commit(None, b"empty").await.unwrap();
        target.begin(&batch(1)).await.unwrap();
        target.apply(vec![mutation(1, Change::Truncate)]).await.unwrap();
        target.rollback().await.unwrap();
        target.begin(&batch(1)).await.unwrap();
        target.apply(vec![mutation(1, Change::Truncate)]).await.unwrap();
        // As after a crash: the session is gone in the middle of a batch.
        drop(target);
        let mut target = open(&world, &database).await;
        assert_eq!(target.load_state().await.unwrap().as_deref(), Some(&b"empty"[..]));
        assert_eq!(operations(&database).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_second_worker_stops() {
        let world = World::without_servers();
        let database = world.target("history").await;
        let (mut one, mut other) = (open(&world, &database).await, open(&world, &database).await);
        one.commit(None, b"one").await.unwrap();
        other.begin(&batch(1)).await.unwrap();
        other.apply(vec![mutation(1, Change::Truncate)]).await.unwrap();
        let refused = other.commit(Some(b"other"), b"next").await.unwrap_err();
        assert_eq!(refused.next, Next::Stop);
        assert!(refused.message.contains("only one worker"), "{refused}");
        assert_eq!(one.load_state().await.unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(operations(&database).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_wrong_configuration_is_named() {
        let world = World::without_servers();
        let database = world.target("history").await;
        let section =
            format!("target: {{ path: history.wasm, configuration: {{ schma: a }}, grants: {{ postgres: \"{}\" }} }}\n", database.uri());
        let refused = target::open(&engine(), &configuration(&world, &section).target, &context(&world)).await.unwrap_err();
        assert_eq!(refused.next, Next::Configure);
        assert!(refused.message.contains("`schma`"), "{refused}");
    }
}

mod c {
    use super::*;

    #[test]
    fn its_pure_part_passes_its_own_test() {
        let world = World::without_servers();
        let program = world.folder().join("test").to_str().unwrap().to_owned();
        let sources = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-o", &program, "test.c", "digest.c", "settings.c"];
        succeeds("c-transform", "cc", &sources);
        succeeds("c-transform", &program, &[]);
    }

    async fn open(world: &World, columns: &str) -> pgshovel::error::Result<transform::Transform> {
        let section = format!(
            "target: {{ path: postgresql.wasm }}\ntransforms: [{{ path: redact.wasm, configuration: {{ key: Jefe, columns: {{ {columns} }} }} }}]\n"
        );
        transform::open(&engine(), &configuration(world, &section).transforms[0], &context(world)).await
    }

    /// HMAC-SHA-256 under the key `Jefe`: RFC 4231, test case 2.
    const TEXT: &str = "what do ya want for nothing?";
    const HASH: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[tokio::test]
    async fn a_transform_redacts_columns() {
        let world = World::without_servers();
        let mut redact = open(&world, "public.people.email: hash, public.people.photo: \"null\"").await.unwrap();
        let redacted = |id| vec![Value::Integer(id), Value::Text(HASH.into()), Value::Null];
        let given = vec![
            mutation(1, Change::Insert(person(1, TEXT))),
            mutation(2, Change::Update { before: person(1, TEXT), after: person(2, TEXT) }),
            mutation(3, Change::Delete(person(2, TEXT))),
            mutation(4, Change::Truncate),
            mutation(5, Change::Insert(vec![Value::Integer(3), Value::Null, Value::Null])),
        ];
        let expected = vec![
            mutation(1, Change::Insert(redacted(1))),
            mutation(2, Change::Update { before: redacted(1), after: redacted(2) }),
            mutation(3, Change::Delete(redacted(2))),
            mutation(4, Change::Truncate),
            mutation(5, Change::Insert(vec![Value::Integer(3), Value::Null, Value::Null])),
        ];
        // More than once: memory that is not freed, or freed twice, shows.
        for _ in 0..200 {
            assert_eq!(redact.transform(given.clone()).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_redacted_is_a_wrong_configuration() {
        let world = World::without_servers();
        for (columns, named) in [
            ("public.people.mail: hash", "public.people.mail is not among the columns"),
            ("public.people.id: hash", "cannot hash public.people.id"),
            ("public.people.id: \"null\"", "it identifies the row"),
        ] {
            let mut redact = open(&world, columns).await.unwrap();
            let refused = redact.transform(vec![mutation(1, Change::Truncate)]).await.unwrap_err();
            assert_eq!(refused.next, Next::Configure);
            assert!(refused.message.contains(named), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_wrong_configuration_is_named() {
        let world = World::without_servers();
        let refused = open(&world, "email: hash").await.unwrap_err();
        assert_eq!(refused.next, Next::Configure);
        assert!(refused.message.contains("schema.table.column, not email"), "{refused}");
    }
}
