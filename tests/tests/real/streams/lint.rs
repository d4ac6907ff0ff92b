//! `pgshovel stream lint` and `show`, over streams that hold what they should not.

use futures_util::future::join_all;
use pgshovel::config::{self, Section};
use tests::harness::World;

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
