//! Two relays and two workers of one set: who is killed or paused is followed in
//! time, and who comes back does no harm; what is away is waited for, and said so.

use std::time::{Duration, Instant};

use tests::harness::{Program, Running, eventually};
use tests::servers::Kafka;

use crate::relay::{messages, write};
use crate::replicate::faults::held_up;
use crate::replicate::proxy::Proxy;
use crate::replicate::setup::{App, SET, SOON, configuration};
use crate::replicate::writers::Writers;

/// Long beside what a busy machine takes for all else.
const SESSION_SECONDS: u64 = 6;
const TAKEOVER: Duration = Duration::from_secs(2 * SESSION_SECONDS);

const RELAY: [&str; 3] = ["relay", "relay.yaml", SET];
const WORKER: [&str; 3] = ["replicate", "replicate.yaml", SET];

/// One that may lose its leadership, and is asked how it is.
fn candidate(app: &App, words: [&str; 3]) -> Program {
    let mut program =
        app.world.pgshovel(words).env("PGSHOVEL_SESSION_TIMEOUT", SESSION_SECONDS.to_string()).env("PGSHOVEL_LISTEN", "127.0.0.1:0");
    for text in ["waiting to try again", "leadership is lost", "no longer leads", "ticker is interrupted", "superseded", "zookeeper_client"]
    {
        program = program.allow(text);
    }
    program
}

/// Two of a kind: the leader and the one that stands by.
async fn pair(app: &App, words: [&str; 3]) -> (Running, Running) {
    let (mut one, mut other) = (candidate(app, words).start().await, candidate(app, words).start().await);
    let started = Instant::now();
    loop {
        let states = [one.get("/readyz").await.1, other.get("/readyz").await.1];
        let is = |index: usize, state: &str| states[index].contains(&format!("\"state\":\"{state}\""));
        if is(0, "leading") && is(1, "standby") {
            return (one, other);
        }
        if is(1, "leading") && is(0, "standby") {
            return (other, one);
        }
        assert!(started.elapsed() < SOON, "{states:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn write_on(writers: &Writers, transactions: u64) {
    let so_far = writers.transactions();
    eventually("more transactions", SOON, || {
        let now = writers.transactions();
        async move { if now >= so_far + transactions { Ok(()) } else { Err(now.to_string()) } }
    })
    .await;
}

async fn lint(app: &App) -> String {
    let found = app.world.pgshovel(["stream", "lint", "relay.yaml", SET, "--wait", "1"]).succeeds().await;
    assert!(found.ends_with("the stream is sound\n"), "{found}");
    found
}

async fn terminate(all: impl IntoIterator<Item = Running>) {
    for mut running in all {
        assert!(running.runs(), "{}", running.log());
        assert_eq!(running.terminate().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ones_are_followed_within_two_session_timeouts() {
    let app = App::new().await;
    app.fill(2000).await;
    let ((relay, mut next_relay), (worker, mut next_worker)) = tokio::join!(pair(&app, RELAY), pair(&app, WORKER));
    let writers = Writers::start(&app.source, 2).await;
    write_on(&writers, 100).await;

    let killed = Instant::now();
    tokio::join!(relay.kill(), worker.kill());
    next_relay.answers(200, &["\"state\":\"leading\""]).await;
    let relay_took = killed.elapsed();
    next_worker.answers(200, &["\"state\":\"leading\"", "\"phase\":"]).await;
    let worker_took = killed.elapsed();
    eprintln!("session timeout {SESSION_SECONDS} s: the relay was followed after {relay_took:.1?}, the worker after {worker_took:.1?}");
    assert!(relay_took < TAKEOVER && worker_took < TAKEOVER, "{relay_took:?} {worker_took:?}");
    let line = next_relay.logs("\"leading\"").await;
    assert!(line.contains(&format!("\"session_timeout_seconds\":{SESSION_SECONDS}")), "{line}");

    let mut again = [candidate(&app, RELAY).start().await, candidate(&app, WORKER).start().await];
    for running in &mut again {
        running.answers(200, &["\"state\":\"standby\""]).await;
    }
    write_on(&writers, 100).await;
    writers.stop().await;
    app.equal().await;
    lint(&app).await;
    terminate(again.into_iter().chain([next_relay, next_worker])).await;
}

/// The relay in a batch, the worker in a transaction: neither ends, and both believe
/// that they lead, when they go on.
#[tokio::test(flavor = "multi_thread")]
async fn paused_ones_are_followed_and_fenced() {
    let app = App::new().await;
    let stream = format!("stream: {{ path: kafka.wasm, grants: {{ kafka: \"{}\" }} }}\n", app.world.kafka().await);
    app.world.write("relay.yaml", &stream);
    let rest = configuration(&app.target.uri(), "");
    app.world.write("replicate.yaml", &format!("{stream}{}", &rest[rest.find("loader:").unwrap()..]));
    app.fill(2000).await;
    let ((mut relay, mut next_relay), (mut worker, mut next_worker)) = tokio::join!(pair(&app, RELAY), pair(&app, WORKER));
    let writers = Writers::start(&app.source, 2).await;
    worker.answers(200, &["\"phase\":\"streaming\""]).await;
    write_on(&writers, 50).await;

    let locker = app.target.connect().await;
    locker.batch_execute("BEGIN; LOCK TABLE accounts").await.unwrap();
    held_up(&app, "accounts").await;
    relay.signal("STOP");
    worker.signal("STOP");
    let paused = Instant::now();
    locker.batch_execute("ROLLBACK").await.unwrap();
    next_relay.answers(200, &["\"state\":\"leading\""]).await;
    next_worker.logs("\"message\":\"replicated\"").await;
    next_worker.answers(200, &["\"state\":\"leading\"", "\"phase\":"]).await;
    let took = paused.elapsed();
    eprintln!("session timeout {SESSION_SECONDS} s: both were followed after {took:.1?}, and are still paused");
    assert!(took < TAKEOVER, "{took:?}");
    // What the paused relay had in its hands comes after the messages of its successor.
    let late = messages(&app.world, "relay.yaml", 20, SOON).await;
    assert_eq!(late.len(), 20);
    write(&app.world, "relay.yaml", late).await;

    relay.signal("CONT");
    worker.signal("CONT");
    for running in [&mut relay, &mut worker] {
        running.answers(200, &["\"state\":\"standby\""]).await;
    }
    write_on(&writers, 50).await;
    writers.stop().await;
    app.equal().await;
    let found = lint(&app).await;
    let fenced = found.split(" written again, ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(fenced.is_some_and(|fenced| fenced >= 20), "{found}");
    next_worker.logs("superseded").await;
    terminate([relay, next_relay, worker, next_worker]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_waited_for_and_readiness_says_so() {
    let app = App::new().await;
    let fleet = app.world.fleet();
    let mut kafka = tokio::task::spawn_blocking(move || Kafka::create(&fleet, "away").unwrap()).await.unwrap();
    let zookeeper = app.world.zookeeper().await;
    let (address, chroot) = zookeeper.split_at(zookeeper.find('/').unwrap());
    let to_zookeeper = Proxy::start(address.rsplit(':').next().unwrap().parse().unwrap()).await;
    let (to_source, to_target) = (Proxy::start(app.source.port()).await, Proxy::start(app.target.port()).await);

    let set = std::fs::read_to_string(app.world.folder().join("set.pgshovel")).unwrap();
    app.world.write("set.pgshovel", &set.replace(&format!("port={}", app.source.port()), &format!("port={}", to_source.port)));
    app.world.pgshovel(["set", "update", SET, "set.pgshovel"]).succeeds().await;
    let brokers = kafka.bootstrap();
    let stream =
        format!("stream: {{ path: kafka.wasm, grants: {{ kafka: {{ bootstrap.servers: \"{brokers}\", message.timeout.ms: 3000 }} }} }}\n");
    app.world.write("relay.yaml", &stream);
    let target = app.target.uri().replace(&format!(":{}/", app.target.port()), &format!(":{}/", to_target.port));
    let rest = configuration(&target, "");
    app.world.write("replicate.yaml", &format!("{stream}{}", &rest[rest.find("loader:").unwrap()..]));
    app.fill(500).await;
    let start = async |words| {
        let program = candidate(&app, words).env("PGSHOVEL_SESSION_TIMEOUT", "2");
        program.env("PGSHOVEL_ZOOKEEPER_HOSTS", format!("127.0.0.1:{}{chroot}", to_zookeeper.port)).start().await
    };
    let (mut relay, mut worker) = (start(RELAY).await, start(WORKER).await);
    let leading = ["\"state\":\"leading\""];
    let waiting = "\"state\":\"waiting\"";
    // Enough that each loss is noticed at once, and little to catch up with.
    let writer = app.source.connect().await;
    let writing = tokio::spawn(async move {
        for id in (1..=500).cycle() {
            writer.batch_execute(&format!("UPDATE accounts SET balance = balance + 1 WHERE id = {id}")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    worker.answers(200, &["\"phase\":\"streaming\""]).await;
    relay.answers(200, &leading).await;

    to_zookeeper.cut();
    let told = relay.answers(503, &[waiting, "ZooKeeper"]).await;
    assert!(
        told.starts_with("{\"role\":\"relay\",\"set\":\"app\"") && told.contains("\"since_seconds\":") && told.ends_with("}\n"),
        "{told}"
    );
    worker.answers(503, &[waiting, "ZooKeeper"]).await;
    assert_eq!(relay.get("/healthz").await, (200, "ok\n".to_owned()));
    to_zookeeper.mend();
    relay.answers(200, &leading).await;
    worker.answers(200, &leading).await;

    to_source.cut();
    relay.answers(503, &[waiting, "PostgreSQL", &to_source.port.to_string()]).await;
    to_source.mend();
    relay.answers(200, &leading).await;

    to_target.cut();
    worker.answers(503, &[waiting, "target"]).await;
    to_target.mend();
    worker.answers(200, &leading).await;

    let mut kafka = tokio::task::spawn_blocking(move || kafka.stop().map(|()| kafka).unwrap()).await.unwrap();
    relay.answers(503, &[waiting, &brokers]).await;
    worker.answers(503, &[waiting, &brokers]).await;
    let _kafka = tokio::task::spawn_blocking(move || kafka.start().map(|()| kafka).unwrap()).await.unwrap();
    relay.answers(200, &leading).await;
    worker.answers(200, &leading).await;

    writing.abort();
    app.equal().await;
    let metrics = relay.get("/metrics").await.1;
    let value = |name: &str| {
        let line =
            metrics.lines().find(|line| line.starts_with(&format!("pgshovel_{name}{{"))).unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    for name in ["batches_total", "mutations_total", "bytes_total", "failed_attempts_total", "tick", "queue_bytes"] {
        assert!(value(name) > 0.0, "{name}: {metrics}");
    }
    let metrics = worker.get("/metrics").await.1;
    assert!(metrics.contains("pgshovel_phase{role=\"worker\",set=\"app\",phase=\"streaming\"} 1"), "{metrics}");
    terminate([relay, worker]).await;
}
