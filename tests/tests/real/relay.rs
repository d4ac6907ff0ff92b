//! The relay, between the real PgQ and the file stream.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use pgshovel::config::{self, Section};
use pgshovel::plugins::{Context, Engine, Options, stream, writer};
use pgshovel::ports::{Stream as _, Writer as _};
use proto::batch::Batch;
use proto::batch::step::{self, Action, Reader, Skip};
use proto::interfaces::common::Tick;
use proto::row::{Change, Value};
use tests::harness::{Database, Running, World, eventually};
use tests::paths;

const SET: &str = "app";

/// Far longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(90);

const CONFIGURATION: &str = "stream:\n  path: file.wasm\n  grants: { files: { path: ./stream, mode: read-write } }\n";

/// What a stream holds, read from its beginning as its grammar says.
#[derive(Debug, Default)]
struct Contents {
    /// The rows of `public.items` that the committed batches leave.
    rows: BTreeMap<i64, String>,
    batches: u64,
    mutations: u64,
    rollbacks: u64,
    discarded: u64,
}

struct App {
    world: World,
    source: Database,
}

impl App {
    /// A set of the table `items`, made as a user makes it.
    async fn new() -> Self {
        let world = World::start().await;
        let source = world.source("app").await;
        source.execute("CREATE TABLE items (id bigint PRIMARY KEY, name text)").await;
        world.write("set.pgshovel", &set_file(&source));
        world.write("relay.yaml", CONFIGURATION);
        std::fs::create_dir_all(world.folder().join("stream")).unwrap();
        world.pgshovel(["cluster", "initialize"]).succeeds().await;
        world.pgshovel(["set", "create", SET, "set.pgshovel"]).succeeds().await;
        Self { world, source }
    }

    async fn relay(&self) -> Running {
        self.world.pgshovel(["relay", "relay.yaml", SET]).start().await
    }

    /// Inserts rows, many to a transaction.
    async fn insert(&self, ids: std::ops::Range<i64>) {
        let (first, last) = (ids.start, ids.end - 1);
        self.source.execute(&format!("INSERT INTO items SELECT id, 'name ' || id FROM generate_series({first}, {last}) AS id")).await;
    }

    async fn read(&self) -> Result<Contents, String> {
        read(self.world.folder(), &self.world.cluster()).await
    }

    /// Waits until the stream holds the rows of the source.
    async fn arrives(&self) -> Contents {
        let expected: BTreeMap<i64, String> =
            self.source.query("SELECT id, name FROM items", &[]).await.iter().map(|row| (row.get(0), row.get(1))).collect();
        eventually("the source's rows in the stream", SOON, || async {
            let contents = self.read().await?;
            if contents.rows == expected { Ok(contents) } else { Err(format!("{} rows of {}", contents.rows.len(), expected.len())) }
        })
        .await
    }
}

fn set_file(source: &Database) -> String {
    format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"items\" primary_keys: \"id\" }}\n", source.dsn())
}

/// Reads the stream through the plugin that a worker would use.
async fn read(folder: &Path, cluster: &str) -> Result<Contents, String> {
    let section = config::relay(&folder.join("relay.yaml")).map_err(|error| error.message)?.stream;
    let engine = Engine::new(Options { search: vec![paths::plugins().map_err(|error| error.message)?], cache: None });
    let context = Context { cluster: cluster.to_owned(), set: SET.to_owned() };
    let mut stream = stream::open(&engine.map_err(|error| error.message)?, &section, &context).await.map_err(|error| error.message)?;
    stream.seek(None).await.map_err(|error| error.message)?;
    let mut reader = Reader::new(step::Options::default());
    let (mut contents, mut open) = (Contents::default(), BTreeMap::new());
    loop {
        let entries = stream.next(1000, Duration::ZERO).await.map_err(|error| error.message)?;
        if entries.is_empty() {
            return Ok(contents);
        }
        for entry in entries.iter() {
            let message = proto::codec::decode(entry.message).map_err(|error| error.to_string())?;
            consume(&mut contents, &mut open, reader.step(message).map_err(|violation| violation.to_string())?)?;
        }
    }
}

fn consume(contents: &mut Contents, open: &mut BTreeMap<i64, String>, action: Action) -> Result<(), String> {
    match action {
        Action::Begin { discard, .. } => {
            contents.discarded += u64::from(discard);
            open.clone_from(&contents.rows);
        }
        Action::Apply(mutation) => {
            contents.mutations += 1;
            let row = |row: &[Value]| match row {
                [Value::Integer(id), Value::Text(name)] => Ok((*id, name.clone())),
                row => Err(format!("not a row of items: {row:?}")),
            };
            match &mutation.change {
                Change::Insert(after) => {
                    let (id, name) = row(after)?;
                    if open.insert(id, name).is_some() {
                        return Err(format!("row {id} was inserted twice"));
                    }
                }
                Change::Update { before, after } => {
                    open.remove(&row(before)?.0).ok_or("a row that was updated is missing")?;
                    open.extend([row(after)?]);
                }
                Change::Delete(before) => drop(open.remove(&row(before)?.0).ok_or("a row that was deleted is missing")?),
                Change::Truncate => open.clear(),
            }
        }
        Action::Commit => {
            contents.batches += 1;
            contents.rows = std::mem::take(open);
        }
        Action::Rollback => contents.rollbacks += 1,
        Action::Skip(Skip::Priming) => return Err("the stream begins inside a batch".to_owned()),
        Action::Skip(_) => {}
    }
    Ok(())
}

/// Bytes in the files of a folder and of those in it.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().map_or(0, |data| data.len()) }).sum()
}

/// A number of a line of the relay's JSON log.
fn number(line: &str, field: &str) -> u64 {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line[field].as_u64().unwrap_or_else(|| panic!("{field} in {line}"))
}

#[tokio::test]
async fn changes_of_every_kind_reach_the_stream() {
    let app = App::new().await;
    // Before the first relay ever ran.
    app.insert(0..10).await;
    let mut relay = app.relay().await;
    app.source.execute("UPDATE items SET name = 'new' WHERE id < 5; UPDATE items SET id = id + 100 WHERE id > 7").await;
    app.source.execute("BEGIN; DELETE FROM items WHERE id = 5; INSERT INTO items VALUES (5, 'again'); COMMIT").await;
    let contents = app.arrives().await;
    assert_eq!((contents.rollbacks, contents.discarded), (0, 0));
    app.source.execute("TRUNCATE items").await;
    app.insert(0..3).await;
    app.arrives().await;
    let line = relay.logs("\"relayed\"").await;
    for field in ["batches", "mutations", "bytes", "tick"] {
        number(&line, field);
    }
    assert!(line.contains("\"lag_seconds\":"), "{line}");
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_relay_that_is_killed_in_a_batch_is_followed_by_another() {
    let app = App::new().await;
    let stream = app.world.folder().join("stream");
    for round in 0..4 {
        // One transaction, and so one batch, of many chunks.
        app.insert(round * 100_000..round * 100_000 + 60_000).await;
        let before = size(&stream);
        let mut relay = app.relay().await;
        // Of a message that the one before had half written.
        relay.allow("which were never flushed");
        eventually("a part of the batch in the stream", SOON, || async {
            let now = size(&stream);
            if now > before + (1 << 20) { Ok(()) } else { Err(format!("{now} bytes after {before}")) }
        })
        .await;
        relay.kill().await;
    }
    let mut relay = app.relay().await;
    relay.allow("which were never flushed");
    let contents = app.arrives().await;
    assert_eq!(contents.rows.len(), 240_000);
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_second_relay_stands_by_and_takes_over() {
    let app = App::new().await;
    let mut first = app.relay().await;
    let epoch = number(&first.logs("\"leading\"").await, "epoch");
    let mut second = app.relay().await;
    second.logs("standing by").await;
    app.insert(0..100).await;
    app.arrives().await;
    assert!(!second.log().contains("\"leading\""));
    first.kill().await;
    // The server may still hold the dead relay's session, and its lock with it.
    second.allow("waiting to try again");
    second.allow("which were never flushed");
    app.insert(100..200).await;
    app.arrives().await;
    assert!(number(&second.logs("\"leading\"").await, "epoch") > epoch);
    assert_eq!(second.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_set_that_is_dropped_ends_its_relay() {
    let app = App::new().await;
    let mut relay = app.relay().await;
    app.insert(0..10).await;
    app.arrives().await;
    relay.allow("the queue's ticker is interrupted");
    app.world.pgshovel(["set", "drop", SET]).succeeds().await;
    let ended = relay.wait().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the set was dropped"), "{}", ended.stderr);
    let stderr = app.world.pgshovel(["relay", "relay.yaml", SET]).fails(3).await;
    assert!(stderr.contains("does not exist"), "{stderr}");
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_stops_the_relay_and_rolls_its_batch_back() {
    let app = App::new().await;
    app.insert(0..10).await;
    let events = format!("\"pgshovel:{}\".\"{SET}\"", app.world.cluster());
    let bad = format!(
        "INSERT INTO {events} (ev_time, ev_type, ev_data, ev_extra1, ev_extra3, ev_extra4) VALUES (now(), 'I', '{{\"id\":\"secret\"}}', 'public.items', 'v', 'j1')"
    );
    app.source.execute(&bad).await;
    let stderr = app.world.pgshovel(["relay", "relay.yaml", SET]).fails(1).await;
    let message = stderr.lines().find(|line| line.starts_with("pgshovel: ")).unwrap();
    assert!(message.contains("event 11 of table public.items") && message.contains("batch "), "{message}");
    assert!(!stderr.contains("secret"), "{stderr}");
    let contents = app.read().await.unwrap();
    assert_eq!((contents.rows.len(), contents.rollbacks), (0, 1));
    // Once the operator has removed it, the batch arrives.
    let remedy = message.split("remove it: ").nth(1).unwrap();
    app.source.execute(remedy).await;
    let relay = app.relay().await;
    assert_eq!(app.arrives().await.rows.len(), 10);
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_changed_table_list_needs_no_restart() {
    let app = App::new().await;
    let mut relay = app.relay().await;
    app.insert(0..10).await;
    app.arrives().await;
    app.source.execute("CREATE TABLE others (id int PRIMARY KEY)").await;
    app.world.write("set.pgshovel", &format!("{}tables {{ name: \"others\" primary_keys: \"id\" }}\n", set_file(&app.source)));
    app.world.pgshovel(["set", "update", SET, "set.pgshovel"]).succeeds().await;
    relay.logs("the set's configuration changed").await;
    app.insert(10..20).await;
    app.arrives().await;
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_lost_session_of_the_database_is_made_again() {
    let app = App::new().await;
    let mut relay = app.relay().await;
    app.insert(0..10).await;
    app.arrives().await;
    for text in ["waiting to try again", "the queue's ticker is interrupted"] {
        relay.allow(text);
    }
    app.source.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgshovel relay%' AND datname = current_database()").await;
    app.insert(10..20).await;
    app.arrives().await;
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// The first `count_max` messages of the stream that the file `name` configures, or up to
/// where none comes for `wait`.
pub async fn messages(world: &World, name: &str, count_max: usize, wait: Duration) -> Vec<Bytes> {
    let (engine, section, context) = plugin(world, name);
    let mut stream = stream::open(&engine, &section, &context).await.unwrap();
    stream.seek(None).await.unwrap();
    let mut messages = Vec::new();
    loop {
        let entries = stream.next(1000, wait).await.unwrap();
        let is_end = entries.is_empty();
        messages.extend(entries.iter().map(|entry| Bytes::copy_from_slice(entry.message)));
        if is_end || messages.len() >= count_max {
            messages.truncate(count_max);
            return messages;
        }
    }
}

/// Writes `messages` to the stream that the file `name` configures.
pub async fn write(world: &World, name: &str, messages: Vec<Bytes>) {
    let (engine, section, context) = plugin(world, name);
    let mut writer = writer::open(&engine, &section, &context).await.unwrap();
    let tick = |id| Tick { id, ..Tick::default() };
    writer.push(&Batch { id: 1, node: [7; 16], start: tick(1), end: tick(2), source: None }, messages.into_iter().collect()).await.unwrap();
    writer.flush().await.unwrap();
}

fn plugin(world: &World, name: &str) -> (Engine, Section, Context) {
    let section = config::relay(&world.folder().join(name)).unwrap().stream;
    let engine = Engine::new(Options { search: vec![paths::plugins().unwrap()], cache: None }).unwrap();
    (engine, section, Context { cluster: world.cluster(), set: SET.to_owned() })
}

#[tokio::test]
async fn a_stream_is_shown_and_linted() {
    let app = App::new().await;
    let relay = app.relay().await;
    app.insert(0..3).await;
    app.arrives().await;
    app.source.execute("UPDATE items SET name = 'new' WHERE id = 1; DELETE FROM items WHERE id = 2; TRUNCATE items").await;
    app.arrives().await;
    relay.terminate().await;
    let command = |words: &[&str]| app.world.pgshovel(words.iter().chain(&[SET, "--wait", "0"]).map(|word| (*word).to_owned()));

    let found = command(&["stream", "lint", "relay.yaml"]).succeeds().await;
    assert!(found.contains(" 6: 3 inserts, 1 updates, 1 deletes, 1 truncates") && found.ends_with("the stream is sound\n"), "{found}");

    let shown = command(&["stream", "show", "relay.yaml"]).succeeds().await;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains(" begin ticks ") && lines.last().unwrap().ends_with(" commit"), "{shown}");
    assert!(shown.contains("public.items insert (id=2)\n") && shown.contains("update (id=1) to (id=1)\n"), "{shown}");
    assert!(!shown.contains("name 2"), "{shown}");
    let whole = command(&["stream", "show", "relay.yaml", "--rows", "--limit", "3"]).succeeds().await;
    assert!(whole.lines().count() == 3 && whole.contains("insert (id=0, name=\"name 0\")"), "{whole}");
    let position = lines[2].split(' ').next().unwrap();
    let from = command(&["stream", "show", "relay.yaml", "--from", position, "--limit", "1"]).succeeds().await;
    assert_eq!(from.lines().collect::<Vec<_>>(), [lines[2]]);
    command(&["stream", "show", "relay.yaml", "--from", "nowhere"]).fails(2).await;
    command(&["stream", "show", "relay.yaml", "--limit", "0"]).fails(2).await;
    let other = app.world.pgshovel(["stream", "lint", "relay.yaml", "mistyped", "--wait", "0"].map(str::to_owned)).fails(1).await;
    assert!(other.contains("\"mistyped\" holds no message"), "{other}");

    // One message is missing; one is somebody else's.
    for (name, expected) in [("lossy", "are missing from the stream"), ("foreign", "is none of pgshovel")] {
        let file = format!("{name}.yaml");
        app.world.write(&file, &CONFIGURATION.replace("./stream", &format!("./{name}")));
        std::fs::create_dir_all(app.world.folder().join(name)).unwrap();
        let mut copy = messages(&app.world, "relay.yaml", usize::MAX, Duration::ZERO).await;
        copy.remove(2);
        if name == "foreign" {
            copy.insert(2, Bytes::from_static(b"{\"hello\": 1}"));
        }
        write(&app.world, &file, copy.clone()).await;
        let error = command(&["stream", "lint", &file]).fails(1).await;
        let shown = command(&["stream", "show", &file]).succeeds().await;
        let position = shown.lines().nth(2).unwrap().split(' ').next().unwrap().to_owned();
        assert!(error.contains(expected) && error.contains(&format!("position {position}:")), "{error}");
        assert_eq!(shown.lines().count(), copy.len());
    }
}
