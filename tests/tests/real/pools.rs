//! Pools before the servers.

use tests::harness::World;
use tests::servers::Pgbouncer;

use super::replicate::setup::{App, SET, configuration};

const SAID: &str = "a pool in transaction mode";
const REMEDY: &str = "connect to the server, or to a pool in session mode";

fn through(dsn: &str, direct: u16, pool: &Pgbouncer) -> String {
    dsn.replace(&direct.to_string(), &pool.port.to_string())
}

#[tokio::test]
async fn a_pool_in_session_mode_serves_all() {
    let world = World::start().await;
    let (source, target) = (world.source("source").await, world.target("target").await);
    let pool = |port, settings| Pgbouncer::start(&world.fleet(), port, settings).unwrap();
    // One session for all of administration is enough.
    let narrow = pool(source.port(), &["pool_mode = session", "default_pool_size = 1"]);
    let (before, behind) = (pool(source.port(), &["pool_mode = session"]), pool(target.port(), &["pool_mode = session"]));
    let (from, to) = (through(&source.dsn(), source.port(), &before), through(&target.uri(), target.port(), &behind));
    let single = through(&source.dsn(), source.port(), &narrow);
    let app = App::of(world, source, target, &from, &to).await;
    app.fill(100).await;
    let (relay, worker) = (app.relay().await, app.worker(&[]).start().await);
    app.equal().await;
    app.source.execute("UPDATE accounts SET name = 'pooled'").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    let set = std::fs::read_to_string(app.world.folder().join("set.pgshovel")).unwrap();
    app.world.write("narrow.pgshovel", &set.replace(&from, &single));
    app.world.pgshovel(["set", "update", SET, "narrow.pgshovel"]).succeeds().await;
}

#[tokio::test]
async fn a_pool_in_transaction_mode_is_named() {
    let app = App::new().await;
    for settings in [
        ["pool_mode = transaction", ""],
        ["pool_mode = transaction", "server_round_robin = 1"],
        ["pool_mode = transaction", "default_pool_size = 1"],
    ] {
        let pool = |port| Pgbouncer::start(&app.world.fleet(), port, &settings).unwrap();
        let (before, behind) = (pool(app.source.port()), pool(app.target.port()));
        let refused = |text: String, port: u16| {
            let place = format!("127.0.0.1:{port}");
            assert!([SAID, REMEDY, &place].iter().all(|said| text.contains(said)), "{settings:?} {text}");
        };
        let set = std::fs::read_to_string(app.world.folder().join("set.pgshovel")).unwrap();
        app.world.write("pooled.pgshovel", &through(&set, app.source.port(), &before));
        refused(app.world.pgshovel(["set", "create", "pooled", "pooled.pgshovel"]).fails(3).await, before.port);
        refused(app.world.pgshovel(["set", "update", SET, "pooled.pgshovel"]).fails(3).await, before.port);
        // The worker, whose target it is.
        app.world.write("replicate.yaml", &configuration(&through(&app.target.uri(), app.target.port(), &behind), ""));
        refused(app.worker(&[]).fails(3).await, behind.port);
        assert_eq!(app.target.value("SELECT to_regnamespace('pgshovel')").await, None, "the target was touched");
    }
    // A pool whose mode changes under the set's relay and worker.
    let pool = Pgbouncer::start(&app.world.fleet(), app.source.port(), &["pool_mode = session"]).unwrap();
    let set = std::fs::read_to_string(app.world.folder().join("set.pgshovel")).unwrap();
    app.world.write("pooled.pgshovel", &through(&set, app.source.port(), &pool));
    app.world.pgshovel(["set", "update", SET, "pooled.pgshovel"]).succeeds().await;
    app.world.write("replicate.yaml", &configuration(&app.target.uri(), ""));
    let port = pool.port;
    let pool = pool.restart(&app.world.fleet(), app.source.port(), &["pool_mode = transaction"]).unwrap();
    for text in [app.world.pgshovel(["relay", "relay.yaml", SET]).fails(3).await, app.worker(&[]).fails(3).await] {
        assert!(text.contains(SAID) && text.contains(REMEDY) && text.contains(&port.to_string()), "{text}");
    }
    drop(pool);
}
