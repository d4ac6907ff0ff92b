//! Messages in the stream that are not of this set's relay: named, and never applied.

use pgshovel::config;
use proto::interfaces::common::Source;
use proto::interfaces::replication::State;

use super::setup::{App, SET, configuration};
use crate::forge::{self, Foreign};

/// Puts `foreign` behind a batch that is applied, and a batch behind it, which must not
/// be. The stream of each is a new one: nobody reads on in it.
async fn stops_the_worker(app: &App, stream: impl Fn(&str) -> String, foreign: Foreign) {
    let name = format!("{foreign:?}").to_lowercase();
    app.world.write("relay.yaml", &format!("stream: {}\n", stream(&name)));
    let whole = configuration(&app.target.uri(), "");
    let rest = whole.split_once("loader:").unwrap().1;
    app.world.write("replicate.yaml", &format!("stream: {}\nloader:{rest}", stream(&name)));
    let relay = app.relay().await;
    let mut worker = app.worker(&["--bootstrap"]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts (id) SELECT coalesce(max(id), 0) + 1 FROM accounts").await;
    app.equal().await;
    assert_eq!(relay.terminate().await.code, Some(0));
    let section = config::relay(&app.world.folder().join("relay.yaml")).unwrap().stream;
    forge::write(&section, &app.world.cluster(), SET, foreign.messages(&source(app).await)).await;
    app.source.execute("INSERT INTO accounts (id) SELECT max(id) + 1 FROM accounts").await;
    let mut relay = app.relay().await;
    relay.logs("\"message\":\"relayed\"").await;
    let Some(refusal) = foreign.refusal() else {
        worker.allow("a publisher that was superseded still writes");
        app.equal().await;
        let warned = worker.logs("a publisher that was superseded still writes").await;
        assert!(warned.contains("\"position\":") && warned.contains("as of pgshovel 2015"), "{warned}");
        assert_eq!(worker.terminate().await.code, Some(0));
        assert_eq!(relay.terminate().await.code, Some(0));
        return;
    };
    let ended = worker.wait().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = ended.stderr.lines().find(|line| line.starts_with("pgshovel: ")).unwrap();
    assert!(said.contains("at position ") && said.contains(refusal) && said.contains("stream"), "{said}");
    assert_eq!(app.target.count("accounts").await + 1, app.source.count("accounts").await, "the batch behind it was applied");
    // It says the same again, and so does the linter.
    let again = app.worker(&[]).fails(1).await;
    assert!(again.contains(said), "{again}");
    let linted = app.world.pgshovel(["stream", "lint", "relay.yaml", SET, "--wait", "1"]).fails(1).await;
    let position = said.split_once("at position ").unwrap().1.split([' ', ':']).next().unwrap();
    assert!(linted.contains(&format!("at position {position}: ")) && linted.contains(refusal), "{linted}");
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// As the target knows it.
pub async fn source(app: &App) -> Source {
    let state: Vec<u8> = app.target.query("SELECT state FROM pgshovel.state", &[]).await[0].get(0);
    proto::stored::decode::<State>(&state).unwrap().source.unwrap()
}

#[tokio::test]
async fn foreign_messages_in_a_file_stop_the_worker() {
    let app = App::new().await;
    let stream = |name: &str| {
        std::fs::create_dir_all(app.world.folder().join(name)).unwrap();
        format!("{{ path: file.wasm, grants: {{ files: {{ path: ./{name}, mode: read-write }} }} }}")
    };
    for foreign in [Foreign::Garbage, Foreign::OtherSet] {
        stops_the_worker(&app, stream, foreign).await;
    }
}

#[tokio::test]
async fn foreign_messages_in_a_topic_stop_the_worker() {
    let app = App::new().await;
    let brokers = app.world.kafka().await;
    let stream = |name: &str| {
        let topic = format!("{}-{name}", app.world.cluster());
        format!("{{ path: kafka.wasm, configuration: {{ topic: {topic} }}, grants: {{ kafka: \"{brokers}\" }} }}")
    };
    for foreign in [Foreign::Truncated, Foreign::OtherSet, Foreign::Original] {
        stops_the_worker(&app, stream, foreign).await;
    }
}
