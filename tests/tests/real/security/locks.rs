//! Finding 15: a role without rights keeps no relay, and no change of a set, waiting.

use pgshovel::error::Next;
use pgshovel::ports::Queue as _;
use pgshovel::postgres::queue::{Queue, Settings};
use tests::harness::{Database, World};

use crate::queue::{insert, open, set, settings};
use crate::replicate::setup::{App, SET};

/// A role that may connect, and no more.
async fn stranger(database: &Database, world: &World) -> tokio_postgres::Client {
    let role = format!("stranger_{}", world.cluster());
    database.execute(&format!("CREATE ROLE {role} LOGIN")).await;
    let dsn = database.dsn().replace("user=postgres", &format!("user={role}"));
    assert!(dsn.contains(&role), "{dsn}");
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Before, the keys of the locks were hashes of these texts: a relay waited for as long as
/// the stranger's session lived, its queue got no ticks, and no set could be changed.
#[tokio::test]
async fn locks_that_anybody_can_take_keep_nobody_waiting() {
    let app = App::new().await;
    let cluster = app.world.cluster();
    let stranger = stranger(&app.source, &app.world).await;
    let texts =
        [format!("pgshovel:{cluster}:{SET}:default"), format!("pgshovel ticker pgshovel:{cluster}:{SET}"), format!("pgshovel:{cluster}")];
    for text in texts {
        stranger.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", &[&text]).await.unwrap();
    }
    // Nor may it take what is locked instead.
    for refused in [
        format!("SELECT FROM pgshovel_{cluster}.relays FOR SHARE"),
        format!("BEGIN; LOCK TABLE pgshovel_{cluster}.configuration IN SHARE MODE"),
        "SELECT FROM pgq.queue FOR KEY SHARE".to_owned(),
    ] {
        let error = stranger.batch_execute(&refused).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{refused}: {error}");
        stranger.batch_execute("ROLLBACK").await.unwrap();
    }
    let (relay, worker) = (app.relay().await, app.worker(&[]).start().await);
    app.source.execute("INSERT INTO accounts (id) VALUES (1)").await;
    app.equal().await;
    app.world.pgshovel(["set", "update", SET, "set.pgshovel"]).succeeds().await;
    app.source.execute("INSERT INTO accounts (id) VALUES (2)").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
    app.world.pgshovel(["set", "drop", SET]).succeeds().await;
    drop(stranger);
}

/// The fence is the epoch: a relay that was succeeded ends no batch, although nobody could
/// end its session.
#[tokio::test]
async fn a_relay_that_was_succeeded_ends_no_batch_though_its_session_lives() {
    let world = World::start().await;
    let source = set(&world).await;
    let role = format!("relay_{}", world.cluster());
    let limited = Settings { dsn: source.dsn().replace("user=postgres", &format!("user={role}")), ..settings(&source) };
    source
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT pgq_admin TO {role}; GRANT USAGE ON SCHEMA pgshovel_c TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA pgshovel_c TO {role}; GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}"
        ))
        .await;
    let error = open(limited.clone()).await.unwrap_err();
    assert_eq!(error.next, Next::Configure);
    assert!(error.message.contains("GRANT SELECT, INSERT, UPDATE ON \"pgshovel_c\".relays"), "{error}");
    source.execute(&format!("GRANT INSERT, UPDATE ON pgshovel_c.relays TO {role}")).await;

    let mut old: Queue = open(settings(&source)).await.unwrap();
    source.execute(&insert(r#"{"id":1,"name":"a"}"#)).await;
    let mut batch = None;
    while batch.is_none() {
        old.wait(std::time::Duration::from_secs(1)).await.unwrap();
        batch = old.next().await.unwrap();
    }
    let batch = batch.unwrap();
    let mut new = open(limited).await.unwrap();
    // It reads, and its session is there: a role without pg_signal_backend ends none of a superuser.
    assert_eq!(old.next().await.unwrap(), Some(batch.clone()));
    let error = old.finish(&batch).await.unwrap_err();
    assert!(error.next == Next::Retry && error.message.contains("another relay has taken"), "{error}");
    assert_eq!(new.next().await.unwrap(), Some(batch.clone()));
    new.finish(&batch).await.unwrap();
}
