//! Workers that die, are doubled, lose their target, or are asked to stop.

use tests::harness::{Running, eventually};

use super::proxy::Proxy;
use super::setup::{App, SOON, configuration};
use super::writers::Writers;

/// Waits for the writers to go on while something is broken.
pub async fn write_on(writers: &Writers, transactions: u64) {
    let so_far = writers.transactions();
    eventually("more transactions", SOON, || {
        let now = writers.transactions();
        async move { if now >= so_far + transactions { Ok(()) } else { Err(now.to_string()) } }
    })
    .await;
}

/// Waits until the worker waits for a lock of the target's table.
pub async fn held_up(app: &App, table: &str) {
    eventually("the worker waits for the lock", SOON, || async {
        let waits = format!("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass");
        let waits = app.target.value(&waits).await;
        if waits.as_deref() == Some("t") { Ok(()) } else { Err(format!("{waits:?}")) }
    })
    .await;
}

#[tokio::test]
async fn killed_anywhere_it_resumes_without_loss_or_repetition() {
    let app = App::new().await;
    app.fill(60_000).await;
    let relay = app.relay().await;
    let writers = Writers::start(&app.source, 2).await;
    for table in ["accounts", "\"Line items\"", "\"Line items\""] {
        // Inside the bootstrap, of the first table or the second: a lock holds it up.
        let locker = app.target.connect().await;
        locker.batch_execute(&format!("BEGIN; LOCK TABLE {table}")).await.unwrap();
        let worker = app.worker(&[]).start().await;
        held_up(&app, table).await;
        worker.kill().await;
        locker.batch_execute("ROLLBACK").await.unwrap();
    }
    for round in 1..6 {
        let mut worker = app.worker(&[]).start().await;
        worker.logs("\"message\":\"replicated\"").await;
        write_on(&writers, 20 * round).await;
        worker.kill().await;
    }
    writers.stop().await;
    let worker = app.worker(&[]).start().await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn of_two_workers_one_works_and_the_other_takes_over() {
    let app = App::new().await;
    app.fill(1000).await;
    let relay = app.relay().await;
    let mut first = app.worker(&[]).start().await;
    first.logs("\"phase\":\"catching-up\"").await;
    let mut second = app.worker(&[]).start().await;
    second.logs("standing by").await;
    let writers = Writers::start(&app.source, 2).await;
    write_on(&writers, 100).await;
    assert!(!second.log().contains("\"phase\""), "the second worker works beside the first:\n{}", second.log());
    first.kill().await;
    second.logs("\"phase\":\"streaming\"").await;
    write_on(&writers, 100).await;
    writers.stop().await;
    app.equal().await;
    assert_eq!(second.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_target_that_is_away_is_waited_for() {
    let app = App::new().await;
    app.fill(5000).await;
    let proxy = Proxy::start(app.target.port()).await;
    let through = app.target.uri().replace(&format!(":{}/", app.target.port()), &format!(":{}/", proxy.port));
    app.world.write("replicate.yaml", &configuration(&through, ""));
    let relay = app.relay().await;
    proxy.cut();
    let mut worker = app.worker(&[]).allow("waiting to try again").start().await;
    worker.logs("waiting to try again").await;
    proxy.mend();
    worker.logs("\"phase\":\"catching-up\"").await;
    let writers = Writers::start(&app.source, 2).await;
    for _ in 0..3 {
        write_on(&writers, 50).await;
        proxy.cut();
        write_on(&writers, 50).await;
        proxy.mend();
    }
    writers.stop().await;
    app.equal().await;
    assert!(worker.runs());
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// Whoever holds a lock for longer than a call of a plugin may take is waited out: here
/// in the source and the target while they are read and loaded, and in a batch.
#[tokio::test]
async fn locks_that_are_held_for_long_are_waited_out() {
    let app = App::new().await;
    app.fill(100).await;
    let quick = configuration(&app.target.uri(), "  limits: { call: 2s }\n").replace("loader: { ", "loader: { limits: { call: 2s }, ");
    app.world.write("replicate.yaml", &quick);
    let relay = app.relay().await;
    let from = app.source.connect().await;
    from.batch_execute("BEGIN; LOCK TABLE accounts").await.unwrap();
    let mut worker = app.worker(&[]).allow("waiting to try again").start().await;
    held_for_long(&worker, "cannot read the table public.accounts: canceling statement due to lock timeout").await;
    let to = app.target.connect().await;
    to.batch_execute("BEGIN; LOCK TABLE accounts").await.unwrap();
    from.batch_execute("ROLLBACK").await.unwrap();
    held_for_long(&worker, "accounts\\\" of the target: canceling statement due to lock timeout").await;
    to.batch_execute("ROLLBACK").await.unwrap();
    worker.logs("\"phase\":\"catching-up\"").await;
    to.batch_execute("BEGIN; SELECT FROM accounts WHERE id = 7 FOR UPDATE").await.unwrap();
    app.source.execute("UPDATE accounts SET name = 'held'").await;
    held_for_long(&worker, "cannot apply a batch to the target: canceling statement due to lock timeout").await;
    to.batch_execute("ROLLBACK").await.unwrap();
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

/// Waits until the worker has met the lock three times.
async fn held_for_long(worker: &Running, what: &str) {
    let line = format!("{what} (SQLSTATE 55P03); another session holds the lock");
    eventually(what, SOON, || async {
        let log = worker.log();
        if log.matches(&line).count() >= 3 { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn a_stop_ends_it_within_its_grace_whatever_is_under_way() {
    let app = App::new().await;
    app.fill(60_000).await;
    let relay = app.relay().await;
    // In the bootstrap: the target is as it was.
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"message\":\"loaded\"").await;
    worker.signal("INT");
    assert_eq!(worker.wait().await.code, Some(0));
    // In the middle of a batch that cannot end: a lock holds it up.
    let mut worker = app.worker(&["--grace-period", "1"]).allow("is given up").start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    let locker = app.target.connect().await;
    locker.batch_execute("BEGIN; LOCK TABLE accounts").await.unwrap();
    app.source.execute("UPDATE accounts SET name = 'locked'").await;
    held_up(&app, "accounts").await;
    assert_eq!(worker.terminate().await.code, Some(0));
    locker.batch_execute("ROLLBACK").await.unwrap();
    let changed = "SELECT count(*) FROM accounts WHERE name = 'locked'";
    assert_eq!(app.target.value(changed).await.as_deref(), Some("0"));
    let worker = app.worker(&[]).start().await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_batch_that_is_refused_counts_when_it_is_committed() {
    let app = App::new().await;
    app.fill(100).await;
    let relay = app.relay().await;
    let refusal = "accounts_balance_check";
    let mut worker = app.worker(&["--listen", "127.0.0.1:0"]).allow(refusal).start().await;
    worker.answers(200, &["\"phase\":\"catching-up\""]).await;
    app.source.execute("UPDATE accounts SET name = 'first'").await;
    app.equal().await;
    app.target.execute("ALTER TABLE accounts ADD CHECK (balance < 1000)").await;
    app.source.execute("UPDATE accounts SET balance = 5000").await;
    worker.answers(503, &[refusal]).await;
    let counted = |metrics: &str, name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("pgshovel_{name}{{")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    let mut metrics = String::new();
    while metrics.is_empty() || counted(&metrics, "failed_attempts_total") < 4.0 {
        metrics = worker.get("/metrics").await.1;
        assert!((counted(&metrics, "mutations_total") - 100.0).abs() < 0.5, "{metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    app.target.execute("ALTER TABLE accounts DROP CONSTRAINT accounts_balance_check").await;
    app.equal().await;
    // It counts a moment after its rows show.
    worker.answers(200, &[]).await;
    while (counted(&metrics, "mutations_total") - 100.0).abs() < 0.5 {
        metrics = worker.get("/metrics").await.1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!((counted(&metrics, "mutations_total") - 200.0).abs() < 0.5, "{metrics}");
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
