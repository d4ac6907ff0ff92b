//! What is wrong is said in one message, with an exit code, and changes nothing.

use prost::Message as _;
use proto::interfaces::replication::State;
use tests::harness::World;

use super::setup::{App, SET, configuration};

#[tokio::test]
async fn a_wrong_configuration_is_named_by_its_field() {
    let world = World::without_servers();
    let refused = async |text: &str| {
        world.write("replicate.yaml", text);
        world.pgshovel(["replicate", "replicate.yaml", SET]).fails(3).await
    };
    assert!(refused("").await.contains("the file is empty"));
    let syntax = refused("stream: [").await;
    assert!(syntax.contains("replicate.yaml:2:1"), "{syntax}");
    assert!(refused("stream: { path: file.wasm }\n").await.contains("loader"));
    let target = "postgresql://postgres@127.0.0.1:1/x";
    let unknown = refused(&configuration(target, "transfroms: []\n")).await;
    assert!(unknown.contains("transfroms") && unknown.contains("transforms"), "{unknown}");
    let missing = refused(&configuration(target, "").replace("path: file.wasm", "path: fiel.wasm")).await;
    assert!(missing.contains("fiel.wasm"), "{missing}");
    let role = refused(&configuration(target, "").replace("loader: { path: postgresql.wasm }", "loader: { path: redact.wasm }")).await;
    assert!(role.contains("redact.wasm") && role.contains("loader"), "{role}");
    let grant = refused(&configuration(target, "").replace("  grants: { files", "  granted: { files")).await;
    assert!(grant.contains("granted") && grant.contains("grants"), "{grant}");
    let usage = world.pgshovel(["replicate", "replicate.yaml"]).fails(2).await;
    assert!(usage.contains("SET"), "{usage}");
    let absent = world.pgshovel(["replicate", "absent.yaml", SET]).fails(3).await;
    assert!(absent.contains("absent.yaml"), "{absent}");
}

#[tokio::test]
async fn a_set_or_cluster_that_does_not_exist_is_told() {
    let app = App::new().await;
    let absent = app.world.pgshovel(["replicate", "replicate.yaml", "apq"]).fails(3).await;
    assert!(absent.contains("apq") && absent.contains("app"), "{absent}");
    let cluster = app.worker(&[]).env("PGSHOVEL_CLUSTER", "nowhere").fails(3).await;
    assert!(cluster.contains("nowhere") && cluster.contains("initialize"), "{cluster}");
    let tables = app.target.value("SELECT to_regclass('pgshovel.state')").await;
    assert_eq!(tables, None, "the target was touched");
}

#[tokio::test]
async fn a_state_that_is_not_this_workers_is_refused() {
    let app = App::new().await;
    app.fill(100).await;
    let relay = app.relay().await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts (id) VALUES (-4)").await;
    app.equal().await;
    worker.terminate().await;
    let state: Vec<u8> = app.target.query("SELECT state FROM pgshovel.state", &[]).await[0].get(0);
    let mut edited = State::decode(state.as_slice()).unwrap();
    if let Some(source) = &mut edited.source {
        source.set = "other".into();
    }
    for (state, said) in [(edited.encode_to_vec(), "holds the set \"other\""), (b"\xff\x00garbage".to_vec(), "not readable")] {
        app.target.query("UPDATE pgshovel.state SET state = $1 RETURNING 1", &[&state]).await;
        let refused = app.worker(&[]).fails(1).await;
        assert!(refused.contains(said) && refused.contains("--bootstrap"), "{refused}");
    }
    // A place in a stream that was made anew.
    app.target.query("UPDATE pgshovel.state SET state = $1 RETURNING 1", &[&state]).await;
    assert_eq!(relay.terminate().await.code, Some(0));
    let folder = app.world.folder().join("stream");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let mut relay = app.relay().await;
    app.source.execute("INSERT INTO accounts (id) VALUES (-5)").await;
    relay.logs("\"message\":\"relayed\"").await;
    let lost = app.worker(&[]).fails(1).await;
    assert!(lost.contains("begin the target anew"), "{lost}");
    let worker = app.worker(&["--bootstrap"]).start().await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
