//! `pgshovel stream lint` and `show`, over streams that hold what they should not.

use bytes::Bytes;
use futures_util::future::join_all;
use pgshovel::config::{self, Section};
use proto::interfaces::common::Source;
use proto::row::Change;
use tests::harness::{Ended, World};

use crate::forge::{self, Foreign};

/// Every mistake, each in a stream of its own, between two batches.
async fn mistakes_are_named(world: &World, section: &str) {
    let file = world.write("stream.yaml", &format!("stream: {section}\n"));
    let section = config::relay(&file).unwrap().stream;
    join_all(Foreign::ALL.map(|foreign| mistake_is_named(world, &section, foreign))).await;
}

async fn mistake_is_named(world: &World, section: &Section, foreign: Foreign) {
    let (cluster, set) = (world.cluster(), format!("{foreign:?}"));
    let source = forge::source(&cluster, &set);
    let messages = [forge::messages(&source, 1, 2), foreign.messages(&source), forge::messages(&source, 2, 3)].concat();
    let count = messages.len();
    forge::write(section, &cluster, &set, messages).await;
    let command = |verb: &str| world.pgshovel(["stream", verb, "stream.yaml", &set, "--wait", "1"].map(str::to_owned));
    let shown = command("show").succeeds().await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), count, "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
    let (position, said) = lines[3].split_once(' ').unwrap();
    let Some(refusal) = foreign.refusal() else {
        assert!(said.contains("/- 0 batch 91 begin ticks 90 to 91"), "{shown}");
        let found = command("lint").succeeds().await;
        assert!(found.contains(" 1 of publishers that were superseded") && found.contains("2 committed"), "{found}");
        return;
    };
    let is_shown =
        if refusal.starts_with("is none") { said.starts_with("no message of pgshovel (") } else { said.contains("set \"other\"") };
    assert!(is_shown, "{shown}");
    let ended = command("lint").run().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let named = format!("the message at position {position}: ");
    assert!(ended.stderr.contains(&named) && ended.stderr.contains(refusal), "{foreign:?}: {}", ended.stderr);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    // What came before is counted.
    assert!(ended.stdout.contains("1 committed") && ended.stdout.contains("mutations    1: 1 inserts"), "{}", ended.stdout);
}

#[tokio::test]
async fn mistakes_in_files_are_named() {
    let world = World::without_servers();
    mistakes_are_named(&world, "{ path: file.wasm, grants: { files: { path: ./log, mode: read-write } } }").await;
}

#[tokio::test]
async fn mistakes_in_topics_are_named() {
    let world = World::without_servers();
    let brokers = world.kafka().await;
    mistakes_are_named(&world, &format!("{{ path: kafka.wasm, grants: {{ kafka: \"{brokers}\" }} }}")).await;
}

/// Streams whose grammar is right, and whose events cannot all have happened.
#[tokio::test]
async fn events_that_cannot_have_happened_are_named() {
    let world = World::without_servers();
    let file = world.write("stream.yaml", "stream: { path: file.wasm, grants: { files: { path: ./log, mode: read-write } } }\n");
    let section = config::relay(&file).unwrap().stream;
    let item = forge::item;
    let update = |before, after| Change::Update { before, after };
    let cases: [(&str, Vec<Change>, &str); 5] = [
        ("taken", vec![Change::Insert(item(1, "secret"))], "inserts a row whose key another row has"),
        ("missing", vec![Change::Truncate, Change::Delete(item(1, "secret"))], "deletes a row that is not there"),
        ("gone", vec![Change::Delete(item(1, "secret")), update(item(1, "secret"), item(1, "b"))], "updates a row that is not there"),
        ("differs", vec![update(item(1, "secret too"), item(1, "c"))], "updates a row whose values before it are not those"),
        ("moved", vec![update(item(5, "secret"), item(1, "secret"))], "moves a row to a key that another row has"),
    ];
    for (set, changes, problem) in cases {
        let first = |source: &Source| forge::batch(source, 1, 2, vec![Change::Insert(item(1, "secret"))], true);
        let event = 299 + changes.len();
        // Where it is rolled back it is no harm.
        let (position, ended) = lint(&world, &section, &format!("{set}-undone"), |source| {
            [first(source), forge::batch(source, 2, 3, changes.clone(), false), forge::batch(source, 2, 3, Vec::new(), true)].concat()
        })
        .await;
        assert_eq!(ended.code, Some(0), "{position}: {}", ended.stderr);
        assert!(ended.stdout.contains("each event that was checked can have happened"), "{}", ended.stdout);
        let (position, ended) = lint(&world, &section, set, |source| {
            [first(source), forge::batch(source, 2, 3, changes.clone(), true), forge::batch(source, 3, 4, vec![Change::Truncate], true)]
                .concat()
        })
        .await;
        assert_eq!(ended.code, Some(1), "{set}: {}", ended.stdout);
        for text in [&format!("the message at position {position}: event {event} {problem}"), "`pgshovel set check`", "table public.items"]
        {
            assert!(ended.stderr.contains(text), "{set}, {text}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
        // What came before is counted.
        assert!(ended.stdout.contains("1 committed") && ended.stdout.contains("checked "), "{}", ended.stdout);
        // Without --strict all is sound.
        world.pgshovel(["stream", "lint", "stream.yaml", set, "--wait", "1"]).succeeds().await;
    }
}

/// Runs `stream lint --strict` over a stream of these messages; the position of the last
/// mutation of the second batch, too.
async fn lint(world: &World, section: &Section, set: &str, messages: impl Fn(&Source) -> Vec<Bytes>) -> (String, Ended) {
    let cluster = world.cluster();
    forge::write(section, &cluster, set, messages(&forge::source(&cluster, set))).await;
    let shown = world.pgshovel(["stream", "show", "stream.yaml", set, "--wait", "1"]).succeeds().await;
    let position = shown.lines().rfind(|line| line.contains(" event 3")).and_then(|line| line.split_once(' ')).unwrap().0;
    let ended = world.pgshovel(["stream", "lint", "stream.yaml", set, "--wait", "1", "--strict"]).run().await;
    (position.to_owned(), ended)
}

/// With room for fewer keys than there are, some events are not checked, and it says so.
#[tokio::test]
async fn what_strict_forgets_is_said() {
    let world = World::without_servers();
    let file = world.write("stream.yaml", "stream: { path: file.wasm, grants: { files: { path: ./log, mode: read-write } } }\n");
    let section = config::relay(&file).unwrap().stream;
    let (cluster, set) = (world.cluster(), "long");
    let source = forge::source(&cluster, set);
    let inserts = std::iter::once(Change::Truncate).chain((0..1000).map(|id| Change::Insert(forge::item(id, "secret"))));
    let deletes = (0..1000).map(|id| Change::Delete(forge::item(id, "secret")));
    let messages = [forge::batch(&source, 1, 2, inserts.collect(), true), forge::batch(&source, 20, 30, deletes.collect(), true)];
    forge::write(&section, &cluster, set, messages[0].clone()).await;
    forge::write(&section, &cluster, set, forge::batch(&source, 2, 20, Vec::new(), true)).await;
    forge::write(&section, &cluster, set, messages[1].clone()).await;
    let lint = |keys: &str| world.pgshovel(["stream", "lint", "stream.yaml", set, "--wait", "1", "--strict", "--keys-max", keys]);
    let all = lint("4000").succeeds().await;
    assert!(all.contains("2001 events wholly; 0 of rows") && all.contains("0 known, 0 forgotten"), "{all}");
    let some = lint("100").succeeds().await;
    assert!(!some.contains(" 0 of rows") && !some.contains(" 0 forgotten"), "{some}");
}
