//! From nothing to a target that follows.

use super::setup::{App, SOON, configuration};
use super::writers::Writers;
use tests::harness::eventually;

#[tokio::test]
async fn a_bootstrap_under_load_hands_over_to_the_stream() {
    let app = App::new().await;
    app.fill(20_000).await;
    // Without it the planner knows nothing of the tables, and there is no estimate.
    app.source.execute("ANALYZE").await;
    let relay = app.relay().await;
    let writers = Writers::start(&app.source, 3).await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    worker.logs("\"phase\":\"streaming\"").await;
    let so_far = writers.transactions();
    eventually("more writing while the worker streams", SOON, || {
        let now = writers.transactions();
        async move { if now > so_far + 300 { Ok(()) } else { Err(format!("{now} transactions, {so_far} before")) } }
    })
    .await;
    writers.stop().await;
    app.equal().await;
    let log = worker.log();
    for table in ["public.accounts", "public.Line items"] {
        let loaded = log.lines().find(|line| line.contains("\"done\":true") && line.contains(table));
        assert!(loaded.is_some_and(|line| line.contains("\"estimated\"") && line.contains("\"rows_per_second\"")), "{log}");
    }
    assert_eq!(worker.terminate().await.code, Some(0));

    // What comes while no worker runs is there for the next one, which loads nothing.
    app.source.execute("TRUNCATE \"Line items\"; UPDATE accounts SET name = 'after' WHERE id % 7 = 0").await;
    let mut worker = app.worker(&[]).start().await;
    app.equal().await;
    worker.logs("\"phase\":\"streaming\"").await;
    assert!(!worker.log().contains("\"phase\":\"bootstrap\""));
    assert_eq!(worker.terminate().await.code, Some(0));

    // On demand the target is loaded anew, whatever became of its rows.
    app.target.execute("DELETE FROM accounts WHERE id % 2 = 0").await;
    let worker = app.worker(&["--bootstrap"]).start().await;
    app.equal().await;
    app.source.execute("INSERT INTO accounts (id) VALUES (-1)").await;
    app.equal().await;
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn empty_tables_and_an_idle_source_are_followed_from_the_first_row() {
    let app = App::new().await;
    app.target.execute("INSERT INTO accounts (id, name) VALUES (1, 'left over')").await;
    app.target.execute("ALTER TABLE \"Line items\" DROP CONSTRAINT \"Line items_pkey\"").await;
    let relay = app.relay().await;
    let unindexed = "has no index that begins with a column of its key";
    let worker = app.worker(&["--bootstrap"]).allow(unindexed).start().await;
    app.equal().await;
    app.source.execute("INSERT INTO accounts VALUES (1, 'first', 1.00, true); INSERT INTO \"Line items\" VALUES (1, 2)").await;
    app.equal().await;
    app.source.execute("UPDATE \"Line items\" SET price = 3").await;
    app.equal().await;
    // Slow, and said once.
    let log = worker.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(unindexed)).collect();
    assert!(matches!(warnings.as_slice(), [line] if line.contains("WARN") && line.contains("Line items")), "{log}");
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}

#[tokio::test]
async fn transforms_see_the_bootstrap_and_the_stream() {
    let app = App::new().await;
    app.fill(500).await;
    let transforms = "transforms:\n  - path: redact.wasm\n    configuration: { key: secret, columns: { public.accounts.name: hash } }\n";
    app.world.write("replicate.yaml", &configuration(&app.target.uri(), transforms));
    let relay = app.relay().await;
    let mut worker = app.worker(&[]).start().await;
    worker.logs("\"phase\":\"catching-up\"").await;
    app.source.execute("INSERT INTO accounts SELECT i, 'account ' || i - 1000 FROM generate_series(1001, 1500) i").await;
    let columns = ["id", "balance", "active"];
    app.target.equals_in(&app.source, "public.accounts", Some(&columns)).await;
    app.target.equals(&app.source, "public.\"Line items\"").await;
    // Equal names have equal hashes, whichever way they came.
    let hashes = "SELECT count(*) FILTER (WHERE length(a.name) = 64) || ' ' || count(DISTINCT a.name) FROM accounts a";
    assert_eq!(app.target.value(hashes).await.as_deref(), Some("1000 500"));
    let pairs = "SELECT count(*) FROM accounts a JOIN accounts b ON b.id = a.id + 1000 AND b.name = a.name WHERE a.id <= 500";
    assert_eq!(app.target.value(pairs).await.as_deref(), Some("500"));
    assert_eq!(worker.terminate().await.code, Some(0));
    assert_eq!(relay.terminate().await.code, Some(0));
}
