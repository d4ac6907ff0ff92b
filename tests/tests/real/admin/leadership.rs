use std::time::Duration;

use pgshovel::error::{Code, Error, Next};
use pgshovel::ports::registry::{Change, Condition, Lease as _, Report, Role, Session as _, Watch as _};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_next_one_follows() {
    let (world, _source) = setting().await;
    let (one, two, three) = (connect(&world).await, connect(&world).await, connect(&world).await);
    let first = one.acquire("s", Role::Relay, || {}).await.unwrap();
    let worker = two.acquire("s", Role::Worker, || {}).await.unwrap();
    let other_set = two.acquire("t", Role::Relay, || {}).await.unwrap();
    assert!(first.is_held() && worker.is_held() && other_set.is_held());

    let mut second = tokio::spawn(async move { two.acquire("s", Role::Relay, || {}).await.map(|lease| (two, lease)) });
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err(), "two lead");
    let third = tokio::spawn(async move { three.acquire("s", Role::Relay, || {}).await.map(|lease| (three, lease)) });
    let epoch = first.epoch();
    first.release().await.unwrap();
    let (_two, second) = second.await.unwrap().unwrap();
    assert!(second.epoch() > epoch);
    // The first may stand in line again, behind the third.
    let again = tokio::spawn(async move { one.acquire("s", Role::Relay, || {}).await.map(|lease| (one, lease)) });
    let epoch = second.epoch();
    drop(second);
    let (_three, third) = third.await.unwrap().unwrap();
    assert!(third.epoch() > epoch);
    drop(third);
    again.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_learns_that_it_leads_no_more() {
    let (world, _source) = setting().await;
    let one = connect(&world).await;
    let lease = one.acquire("s", Role::Relay, || {}).await.unwrap();
    let refused = || Error::stop(Code::QueueTaken, "another writer has taken over");
    assert_eq!(lease.judge(refused()).await.next, Next::Stop);
    let client = client(&world).await;
    let leaders = format!("/{}/leaders/s", world.cluster());
    let name = client.list_children(&leaders).await.unwrap().remove(0);
    client.delete(&format!("{leaders}/{name}"), None).await.unwrap();
    // Whether it has heard of it or not.
    assert_eq!(lease.judge(refused()).await.next, Next::Retry);
    lease.lost().await;
    assert!(!lease.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_shows_how_it_is() {
    let (world, _source) = setting().await;
    let (one, two) = (connect(&world).await, connect(&world).await);
    assert_eq!(two.leader("s", Role::Worker).await.unwrap(), None);
    let lease = one.acquire("s", Role::Worker, || {}).await.unwrap();
    assert_eq!(two.leader("s", Role::Worker).await.unwrap().unwrap().report, None);
    for report in
        [Report { state: Condition::Working, since: 7, tick: None }, Report { state: Condition::Blocked, since: 9, tick: Some(1 << 40) }]
    {
        lease.report(&report).await.unwrap();
        assert_eq!(two.leader("s", Role::Worker).await.unwrap().unwrap().report, Some(report));
    }
    assert_eq!(two.leader("s", Role::Relay).await.unwrap(), None);
    lease.release().await.unwrap();
    assert_eq!(two.leader("s", Role::Worker).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_set_are_seen() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let cluster = connect(&world).await;
    let set = cluster.set("s").await.unwrap();
    let mut watch = cluster.watch(set.clone());
    assert!(tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_err(), "nothing has changed");
    world.write("set.pgshovel", &configuration(&source.dsn(), &[("a", &[]), ("b", &[])]));
    world.pgshovel(["set", "update", "s", "set.pgshovel"]).succeeds().await;
    match watch.changed().await.unwrap() {
        Change::Changed(now) => assert_eq!((now.version != set.version, now.configuration.tables.len()), (true, 2)),
        Change::Dropped => panic!("it was not dropped"),
    }
    world.pgshovel(["set", "drop", "s"]).succeeds().await;
    assert_eq!(watch.changed().await.unwrap(), Change::Dropped);

    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let mut watch = cluster.watch(cluster.set("s").await.unwrap());
    let mut configuration = cluster.configuration().await.unwrap();
    configuration.version = "99.0.0".to_owned();
    cluster.set_configuration(&configuration, cluster.cluster_revision().await.unwrap()).await.unwrap();
    assert!(watch.changed().await.unwrap_err().message.contains("99.0.0"));
}
