//! What is wrong is said in one message, with an exit code, and changes nothing.

use prost::Message as _;
use proto::interfaces::common::Source;
use proto::interfaces::replication::transaction_state::State as Ended;
use proto::interfaces::replication::{Committed, State};
use tests::harness::World;
use tests::servers::postgres::WITH_PASSWORD;

use super::setup::{App, SET, configuration};

#[tokio::test]
async fn a_wrong_configuration_is_named_by_its_field() {
    let world = World::without_servers();
    std::fs::create_dir_all(world.folder().join("stream")).unwrap();
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
async fn a_password_of_any_characters_is_given_by_the_environment() {
    const PASSWORD: &str = "p@s:s/w?o#r%d &=";
    let app = App::new().await;
    app.target.execute(&format!("CREATE ROLE {WITH_PASSWORD} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")).await;
    let (port, name) = (app.target.port(), app.target.name());
    let uri = format!("postgresql://{WITH_PASSWORD}:${{env:SECRET}}@127.0.0.1:{port}/{name}");
    app.world.write("replicate.yaml", &configuration(&uri, ""));
    let relay = app.relay().await;
    let worker = app.worker(&[]).env("SECRET", PASSWORD).start().await;
    app.source.execute("INSERT INTO accounts (id) VALUES (1)").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    // Written out, it is named as the cause, without a part of it.
    app.world.write("replicate.yaml", &configuration(&uri.replace("${env:SECRET}", "sec@ret"), ""));
    let refused = app.worker(&[]).fails(3).await;
    assert!(refused.contains("write @ as %40") && !refused.contains("ret@"), "{refused}");
    app.target.execute(&format!("DROP OWNED BY {WITH_PASSWORD}; DROP ROLE {WITH_PASSWORD}")).await;
}

#[tokio::test]
async fn a_chroot_may_end_in_a_slash() {
    let app = App::new().await;
    let hosts = format!("{}/", app.world.zookeeper().await);
    let listed = app.world.pgshovel(["set", "list"]).env("PGSHOVEL_ZOOKEEPER_HOSTS", &hosts).succeeds().await;
    assert!(listed.contains(SET), "{listed}");
    let fresh = format!("{hosts}below/it/");
    for _ in 0..2 {
        app.world.pgshovel(["cluster", "initialize"]).env("PGSHOVEL_ZOOKEEPER_HOSTS", &fresh).succeeds().await;
    }
    let listed = app.world.pgshovel(["set", "list"]).env("PGSHOVEL_ZOOKEEPER_HOSTS", fresh.trim_end_matches('/')).succeeds().await;
    assert!(!listed.contains(SET), "{listed}");
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

async fn state(app: &App) -> State {
    let state: Vec<u8> = app.target.query("SELECT state FROM pgshovel.state", &[]).await[0].get(0);
    proto::stored::decode(&state).unwrap()
}

async fn put_state(app: &App, state: &[u8]) {
    app.target.query("UPDATE pgshovel.state SET state = $1 RETURNING 1", &[&state]).await;
}

/// A change that somebody made to a state: to what it says of its source, of how the
/// last batch ended, and of where the stream resumes.
type Edit = fn(&mut Source, &mut Committed, &mut Vec<u8>);

/// What each edit of a state is refused with, and whether that takes a batch.
const EDITS: [(Edit, &str, bool); 9] = [
    (|source, _, _| source.set = "other".into(), "holds the set \"other\" of the cluster", false),
    (|source, _, _| source.cluster = "other".into(), "of the cluster \"other\"", false),
    (|_, committed, _| committed.batch_identifier.node = vec![1; 16], "the stream changes from node 01010101-", true),
    (|source, _, _| source.system_identifier += 1, "from another copy of node", true),
    (|source, _, _| source.database_oid += 1, "from another copy of node", true),
    (|_, committed, _| *committed.end_tick.as_mut().unwrap() += 1000, "is of another history than what is committed", true),
    (|_, committed, _| *committed.end_tick.as_mut().unwrap() -= 1, "does not follow the last one", true),
    // Of the file stream: segment, byte, number of the message that follows.
    (|_, _, position| position[12] = 1, "the messages end at", false),
    (|_, _, position| position.truncate(5), "a position of 5 bytes", false),
];

#[tokio::test]
async fn a_state_that_is_not_this_workers_is_refused() {
    let app = App::new().await;
    app.fill(100).await;
    let mut relay = app.relay().await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts (id) VALUES (-4)").await;
    app.equal().await;
    worker.terminate().await;
    let good = state(&app).await;
    for damaged in [b"\xff\x00garbage".to_vec(), good.encode_to_vec()[..40].to_vec()] {
        put_state(&app, &damaged).await;
        let refused = app.worker(&[]).fails(1).await;
        assert!(refused.contains("not readable") && refused.contains("--bootstrap"), "{refused}");
    }
    app.source.execute("INSERT INTO accounts (id) VALUES (-5)").await;
    relay.logs("\"message\":\"relayed\"").await;
    for (edit, said, takes_batch) in EDITS {
        let mut edited = good.clone();
        let stream = edited.stream_state.as_mut().unwrap();
        let Some(Ended::Committed(committed)) = &mut stream.transaction_state.state else { panic!("{good:?}") };
        edit(edited.source.as_mut().unwrap(), committed, stream.consumer_state.position.as_mut().unwrap());
        put_state(&app, &edited.encode_to_vec()).await;
        let refused = app.worker(&[]).fails(1).await;
        assert!(refused.contains(said), "{said}: {refused}");
        assert!(["bootstrap", "begin the target anew", "another plugin"].iter().any(|remedy| refused.contains(remedy)), "{refused}");
        assert_eq!(refused.contains("at position "), takes_batch, "{refused}");
        assert_eq!(app.target.value("SELECT count(*) FROM accounts WHERE id = -5").await.as_deref(), Some("0"), "{said}");
    }
    // As it was, it is resumed from.
    put_state(&app, &good.encode_to_vec()).await;
    let worker = app.worker(&[]).start().await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_refused() {
    let app = App::new().await;
    let relay = app.relay().await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts (id) VALUES (1)").await;
    app.equal().await;
    worker.terminate().await;
    assert_eq!(relay.terminate().await.code, Some(0));
    let folder = app.world.folder().join("stream");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let mut relay = app.relay().await;
    app.source.execute("INSERT INTO accounts (id) VALUES (-5)").await;
    relay.logs("\"message\":\"relayed\"").await;
    let lost = app.worker(&[]).fails(1).await;
    // As behind the end of the new stream, or as inside one of its messages.
    assert!(lost.contains("the target anew"), "{lost}");
    let worker = app.worker(&["--bootstrap"]).start().await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn rows_whose_state_was_deleted_are_not_loaded_over_unasked() {
    let app = App::new().await;
    let relay = app.relay().await;
    // Somebody else's rows, in a target that never had a state.
    app.target.execute("INSERT INTO accounts (id, name) VALUES (77, 'precious')").await;
    let refused = app.worker(&[]).fails(1).await;
    assert!(refused.contains("\"accounts\" of the target holds rows") && refused.contains("--bootstrap"), "{refused}");
    assert_eq!(app.target.value("SELECT name FROM accounts").await.as_deref(), Some("precious"));
    app.target.execute("DELETE FROM accounts").await;
    app.source.execute("INSERT INTO accounts (id) VALUES (1)").await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts (id) VALUES (2)").await;
    app.equal().await;
    // While it runs: the next batch finds it out.
    app.target.execute("DELETE FROM pgshovel.state").await;
    app.source.execute("INSERT INTO accounts (id) VALUES (3)").await;
    let ended = worker.wait().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("somebody deleted it") && ended.stderr.contains("--bootstrap"), "{}", ended.stderr);
    // And the next worker, which does not know how far the rows are.
    let refused = app.worker(&[]).fails(1).await;
    assert!(refused.contains("\"accounts\" of the target holds rows"), "{refused}");
    assert_eq!(app.target.count("accounts").await, 2);
    // The operator says that they may go; dying over it changes nothing about that.
    app.source.execute("INSERT INTO accounts SELECT generate_series(10, 60000)").await;
    let mut worker = app.worker(&["--bootstrap"]).start().await;
    worker.logs("\"message\":\"loaded\"").await;
    worker.kill().await;
    let worker = app.worker(&[]).start().await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
