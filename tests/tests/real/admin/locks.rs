//! Locks that are in the way of a change, and those that it takes itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgshovel::postgres::schema::LOCK_TIMEOUT_MS;
use tests::harness::eventually;

use super::consistent::consistent;
use super::*;

/// What a busy machine adds to the time of a statement.
const NOISE: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_not_waited_for_for_ever() {
    let (world, source) = setting().await;
    let holder = source.connect().await;
    holder.batch_execute("BEGIN; INSERT INTO a VALUES (1)").await.unwrap();
    world.write("set.pgshovel", &configuration(&source.dsn(), &[("a", &[])]));
    let before = traces(&source).await;
    let mut command = world.pgshovel(["set", "create", "s", "set.pgshovel"]).start().await;
    command.logs("waiting to try again").await;
    // Others are not held up for longer than the lock's time.
    source.execute("INSERT INTO a VALUES (2)").await;
    let ended = command.wait().await;
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(ended.stderr.contains("lock public.a") && ended.stderr.contains("pg_blocking_pids"), "{}", ended.stderr);
    assert_eq!(traces(&source).await, before);
    holder.batch_execute("COMMIT").await.unwrap();
    world.pgshovel(["set", "create", "s", "set.pgshovel"]).succeeds().await;
}

/// Inserts into a table until it is told to stop; returns how long the longest
/// statement took.
fn write(source: &Database, table: &'static str, stop: &Arc<AtomicBool>, count: &Arc<AtomicU64>) -> tokio::task::JoinHandle<Duration> {
    let (dsn, stop, count) = (source.dsn(), Arc::clone(stop), Arc::clone(count));
    tokio::spawn(async move {
        let session = pgshovel::postgres::connect::connect(&dsn, "writer").await.unwrap();
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            session
                .batch_execute(&format!("INSERT INTO {table} SELECT coalesce(max(id), 0) + 1 FROM {table} WHERE id < 1000000"))
                .await
                .unwrap();
            longest = longest.max(started.elapsed());
            count.fetch_add(1, Ordering::Relaxed);
        }
        longest
    })
}

/// A transaction holds a lock on the last of three tables for seconds. The change
/// waits for it, and writers do not wait for the change.
#[tokio::test(flavor = "multi_thread")]
async fn writers_wait_no_longer_for_a_change_than_it_waits_for_locks() {
    let (world, source) = setting().await;
    let holder = source.connect().await;
    holder.batch_execute("BEGIN; INSERT INTO c VALUES (1000001)").await.unwrap();
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers = ["a", "b", "c"].map(|table| write(&source, table, &stop, &count));
    world.write("set.pgshovel", &configuration(&source.dsn(), &[("a", &[]), ("b", &[]), ("c", &[])]));
    let command = world.pgshovel(["set", "create", "s", "set.pgshovel"]).start().await;
    eventually("five attempts", Duration::from_secs(90), || async {
        let attempts = command.log().matches("waiting to try again").count();
        if attempts >= 5 { Ok(()) } else { Err(format!("{attempts} attempts")) }
    })
    .await;
    let written = count.load(Ordering::Relaxed);
    holder.batch_execute("COMMIT").await.unwrap();
    let ended = command.wait().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    stop.store(true, Ordering::Relaxed);
    let mut longest = Duration::ZERO;
    for writer in writers {
        longest = longest.max(writer.await.unwrap());
    }
    println!("the longest of {written} statements took {longest:?}");
    assert!(longest < Duration::from_millis(LOCK_TIMEOUT_MS.into()) + NOISE, "a writer was held up for {longest:?}");
    consistent(&world, &[&source]).await;
}

/// Transactions that lock the tables in the other order meet changes again and again:
/// it is never they who fail.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_deadlock_the_change_gives_way() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let stop = Arc::new(AtomicBool::new(false));
    let transactions: Vec<_> = (0..4)
        .map(|number| {
            let (dsn, stop) = (source.dsn(), Arc::clone(&stop));
            tokio::spawn(async move {
                let session = pgshovel::postgres::connect::connect(&dsn, "transactions").await.unwrap();
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = number * 1_000_000 + count;
                    let sql = format!("BEGIN; INSERT INTO c VALUES ({id}); SELECT pg_sleep(0.02); INSERT INTO b VALUES ({id}); INSERT INTO a VALUES ({id}); COMMIT");
                    session.batch_execute(&sql).await.unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    for round in 0..6 {
        let shapes: [&[(&str, &[&str])]; 2] = [&[("a", &[]), ("b", &[]), ("c", &[])], &[("b", &[])]];
        world.write("set.pgshovel", &configuration(&source.dsn(), shapes[round % 2]));
        world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    }
    stop.store(true, Ordering::Relaxed);
    for transactions in transactions {
        assert!(transactions.await.unwrap() > 5);
    }
    consistent(&world, &[&source]).await;
}
