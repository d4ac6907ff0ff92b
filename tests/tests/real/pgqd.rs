//! PgQ's own daemon, which ends rotations too early, beside a relay's queue.

use std::time::Duration;

use pgshovel::postgres::queue::Settings;
use tests::harness::{Database, World, eventually};
use tests::servers::Pgqd;

use super::queue::{QUEUE, current_table, identity, insert, mutations, open, set, settings};

const SOON: Duration = Duration::from_secs(120);

/// A queue as PgQ makes it, that the daemon ticks and rotates all the time.
struct Stock<'a>(&'a Database);

impl<'a> Stock<'a> {
    async fn make(source: &'a Database) -> Self {
        source
            .execute(
                "SELECT pgq.create_queue('stock'), pgq.register_consumer('stock', 'c');
                 SELECT pgq.set_queue_config('stock', 'ticker_max_lag', '0'), pgq.set_queue_config('stock', 'ticker_idle_period', '0'),
                        pgq.set_queue_config('stock', 'rotation_period', '0')",
            )
            .await;
        Self(source)
    }

    fn insert(event: &str) -> String {
        format!("SELECT pgq.insert_event('stock', 'e', '{event}')")
    }

    /// The next batch's events, if there is a batch.
    async fn next(&self) -> Vec<String> {
        let Some(batch) = self.0.value("SELECT pgq.next_batch('stock', 'c')").await else { return Vec::new() };
        let events = self.0.query(&format!("SELECT ev_data FROM pgq.get_batch_events({batch})"), &[]).await;
        self.0.execute(&format!("SELECT pgq.finish_batch({batch})")).await;
        events.iter().map(|row| row.get(0)).collect()
    }

    /// All events up to the first that is `last`.
    async fn up_to(&self, last: &str) -> Vec<String> {
        let mut events = Vec::new();
        while !events.iter().any(|event| event == last) {
            events.extend(self.next().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        events
    }

    /// How often the tables were rotated is told by the transaction of the last second step.
    async fn rotation(&self) -> Option<String> {
        self.0.value("SELECT queue_switch_step2 FROM pgq.queue WHERE queue_name = 'stock'").await
    }

    /// Waits for so many rotations, reading meanwhile, since none begins behind the consumer.
    async fn rotates(&self, times: usize) {
        for _ in 0..times {
            let before = self.rotation().await;
            eventually("a rotation by pgqd", SOON, || async {
                self.next().await;
                match self.rotation().await {
                    now if now.is_some() && now != before => Ok(()),
                    now => Err(format!("{now:?}")),
                }
            })
            .await;
        }
    }

    /// Reads on until the next batch begins after the last rotation, and so leaves out
    /// the table before it.
    async fn leaves_the_old_table(&self) {
        let after = "SELECT txid_visible_in_snapshot(q.queue_switch_step2, t.tick_snapshot) FROM pgq.queue q JOIN pgq.subscription s ON s.sub_queue = q.queue_id
                       JOIN pgq.tick t ON t.tick_queue = q.queue_id AND t.tick_id = s.sub_last_tick WHERE q.queue_name = 'stock'";
        eventually("a batch after the rotation", SOON, || async {
            self.next().await;
            match self.0.value(after).await.as_deref() {
                Some("t") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// A REPEATABLE READ transaction takes its snapshot, a rotation passes, and it writes.
/// PgQ's maintenance loses the event; the relay beside it does not, in the same
/// database, at the same time, under load.
#[tokio::test(flavor = "multi_thread")]
async fn pgqd_loses_an_event_and_the_relay_beside_it_does_not() {
    // A rotation that does not wait is not seen, and an event that is lost never comes.
    tokio::time::timeout(SOON, across_rotations()).await.unwrap();
}

async fn across_rotations() {
    let world = World::start().await;
    let source = set(&world).await;
    let stock = Stock::make(&source).await;
    let mut queue = open(Settings { rotation_period: Duration::from_millis(100), ..settings(&source) }).await.unwrap();
    // The relay works, before there is a daemon.
    source.execute(&insert(r#"{"id":0,"name":"first"}"#)).await;
    let (_, first) = mutations(&mut queue).await;
    let _pgqd = Pgqd::start(&world.fleet(), source.port(), source.name()).unwrap();
    stock.rotates(1).await;

    let old = source.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM items").await.unwrap();
    let writer = source.connect().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut id = 0;
        while stopped.try_recv().is_err() {
            id += 1;
            writer.batch_execute(&insert(&format!(r#"{{"id":{id},"name":"load"}}"#))).await.unwrap();
        }
        id
    });
    // Both rotate. A view takes the writes of ours to the current table.
    let mut ids: Vec<i64> = first.iter().map(identity).collect();
    let before = current_table(&source).await;
    while current_table(&source).await == before {
        ids.extend(mutations(&mut queue).await.1.iter().map(identity));
    }
    stock.rotates(1).await;
    stock.leaves_the_old_table().await;
    for _ in 0..3 {
        ids.extend(mutations(&mut queue).await.1.iter().map(identity));
    }
    // A batch of either queue that begins after the rotation.
    old.batch_execute(&format!("{}; {}; COMMIT", Stock::insert("old"), insert(r#"{"id":-1,"name":"old"}"#))).await.unwrap();
    source.execute(&Stock::insert("marker")).await;
    let events = stock.up_to("marker").await;
    assert_eq!(events, ["marker"], "PgQ was expected to lose the event of the older snapshot");

    while !ids.contains(&-1) {
        ids.extend(mutations(&mut queue).await.1.iter().map(identity));
    }
    stop.send(()).unwrap();
    let last: i64 = writing.await.unwrap();
    source.execute(&insert(&format!(r#"{{"id":{},"name":"last"}}"#, last + 1))).await;
    while !ids.contains(&(last + 1)) {
        ids.extend(mutations(&mut queue).await.1.iter().map(identity));
    }
    ids.sort_unstable();
    assert_eq!(ids, (-1..=last + 1).collect::<Vec<_>>(), "lost or repeated");
    let ours = format!("SELECT queue_rotation_period > '1 year' AND queue_external_ticker FROM pgq.queue WHERE queue_name = '{QUEUE}'");
    assert_eq!(source.value(&ours).await.as_deref(), Some("t"));
}
