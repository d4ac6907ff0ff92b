//! What stands in ZooKeeper as a change in flight, and how much of it there may be.

use pgshovel::registry::pending::{Participant, Pending, State};
use prost::Message as _;
use tests::harness::World;
use zookeeper_client as zookeeper;

use super::zookeeper::{ALICE, Setting, prepare};

/// A listener that nobody has any business with, and how often somebody came.
fn trap() -> (u16, impl Fn() -> usize) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, move || std::iter::from_fn(|| listener.accept().ok()).count())
}

/// The creation of a set, as a command that died left it.
fn ghost(dsn: &str) -> Pending {
    let configuration = format!("database {{ dsn: \"{dsn}\" }}\ntables {{ name: \"t\" primary_keys: \"id\" }}\n");
    Pending {
        change: uuid::Uuid::new_v4().to_string(),
        state: State::Intended.into(),
        after: Some(proto::text::parse(&configuration).unwrap()),
        participants: vec![Participant { dsn: dsn.to_owned(), gid: "pgshovel:x".to_owned() }],
        ..Pending::default()
    }
}

async fn haunt(client: &zookeeper::Client, world: &World, name: &str, pending: &Pending, acls: zookeeper::Acls<'_>) {
    let path = format!("/{}/pending/{name}", world.cluster());
    client.create(&path, &pending.encode_to_vec(), &zookeeper::CreateMode::Persistent.with_acls(acls)).await.unwrap();
}

/// Whoever can write to ZooKeeper put a change there, and within 15 s every relay of the
/// cluster connected to the server that it named, with the password of its environment, and
/// did there what the node said.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_puts_in_flight_is_not_obeyed() {
    const REFUSED: &str = "which no set of the cluster is in";
    let setting = Setting::new();
    let world = &setting.world;
    let (source, _) = prepare(world).await;
    let other = world.source("other").await;
    other.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let (port, visitors) = trap();
    setting.pgshovel(&["cluster", "initialize"]).succeeds().await;
    setting.pgshovel(&["set", "create", "s", "set.pgshovel"]).succeeds().await;
    let stranger = setting.client(None).await;
    let open = zookeeper::Acls::anyone_all();
    haunt(&stranger, world, "ghost", &ghost(&format!("host=127.0.0.1 port={port} user=postgres dbname=app")), open).await;
    // Ours, but for how it is connected to.
    haunt(&stranger, world, "disguised", &ghost(&format!("{} hostaddr=127.0.0.1 connect_timeout=9", source.dsn())), open).await;
    haunt(&stranger, world, "empty", &Pending { after: None, ..ghost(&format!("host=127.0.0.1 port={port} user=postgres")) }, open).await;
    haunt(&stranger, world, "mine", &ghost(&other.dsn()), open).await;

    let mut relay = setting.pgshovel(&["relay", "relay.yaml", "s"]).allow("what stands in ZooKeeper is not done").start().await;
    for name in ["ghost", "disguised", "empty", "mine"] {
        relay.logs(&format!("of \\\"{name}\\\" is in flight, and cannot be ended: it names the database")).await;
    }
    assert_eq!(relay.terminate().await.code, Some(0));
    let error = setting.pgshovel(&["cluster", "recover"]).fails(3).await;
    assert!(
        error.contains(REFUSED) && error.contains(&format!("127.0.0.1:{port}/app")) && error.contains("set drop ghost --force"),
        "{error}"
    );
    // Others are not held up by them.
    setting.pgshovel(&["set", "update", "s", "set.pgshovel"]).succeeds().await;
    // Whoever knows the database says so.
    let place = format!("127.0.0.1:{}/{}", other.port(), other.name());
    let ended = setting.pgshovel(&["cluster", "recover", "--allow-database", &place]).run().await;
    assert!(ended.code == Some(3) && ended.stdout.contains("mine") && ended.stdout.contains("finished"), "{ended:?}");
    setting.pgshovel(&["set", "inspect", "mine"]).succeeds().await;
    // Or gives the same command again.
    setting.pgshovel(&["set", "drop", "mine"]).succeeds().await;
    haunt(&stranger, world, "mine", &ghost(&other.dsn()), open).await;
    world.write("mine.pgshovel", &format!("database {{ dsn: \"{}\" }}\ntables {{ name: \"t\" primary_keys: \"id\" }}\n", other.dsn()));
    let error = setting.pgshovel(&["set", "create", "mine", "mine.pgshovel"]).fails(3).await;
    assert!(error.contains("exists already"), "{error}");
    for name in ["ghost", "disguised", "empty"] {
        setting.pgshovel(&["set", "drop", name, "--force"]).allow("without its database").succeeds().await;
    }
    assert_eq!(stranger.list_children(&format!("/{}/pending", world.cluster())).await.unwrap(), Vec::<String>::new());
    assert_eq!(visitors(), 0);

    // What stood there while all was open does not pass for ours when it is closed.
    haunt(&stranger, world, "ghost", &ghost(&format!("host=127.0.0.1 port={port} user=postgres dbname=app")), open).await;
    // Nor does what looks like ours, nor what nobody of us may read.
    let (alice, mallory) = (setting.client(Some("alice:alice-secret")).await, setting.client(Some("mallory:m")).await);
    let somewhere = ghost(&format!("host=127.0.0.1 port={port} user=postgres dbname=alike"));
    haunt(&alice, world, "alike", &somewhere, zookeeper::Acls::creator_all()).await;
    haunt(&mallory, world, "hidden", &somewhere, zookeeper::Acls::creator_all()).await;
    let known = |words: &[&str]| setting.pgshovel(words).env("PGSHOVEL_ZOOKEEPER_AUTH", ALICE);
    // It settles what is in flight only when it has more to do than to close.
    known(&["cluster", "upgrade"]).allow("that only somebody else could read, was deleted").succeeds().await;
    let error = known(&["cluster", "recover"]).fails(3).await;
    assert!(error.contains(REFUSED) && error.contains("/app") && error.contains("/alike") && !error.contains("hidden"), "{error}");
    assert_eq!(visitors(), 0);
    // And what only we can have written is done, wherever it is.
    setting.pgshovel(&["set", "list"]).fails(3).await;
    known(&["set", "drop", "mine"]).succeeds().await;
    haunt(&alice, world, "mine", &ghost(&other.dsn()), zookeeper::Acls::creator_all()).await;
    let mut relay = known(&["relay", "relay.yaml", "s"]).allow("what stands in ZooKeeper is not done").start().await;
    relay.logs("recovered: finished the create of \\\"mine\\\"").await;
    assert_eq!(relay.terminate().await.code, Some(0));
    assert_eq!(visitors(), 0);
}

/// Before, a stranger's node had any prepared transaction of the set's database rolled back, or
/// committed; and the remedy that was told for a node with the name of a set dropped the set.
#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_of_others_are_left_alone() {
    let setting = Setting::new();
    let world = &setting.world;
    let (source, _) = prepare(world).await;
    setting.pgshovel(&["cluster", "initialize"]).succeeds().await;
    setting.pgshovel(&["set", "create", "s", "set.pgshovel"]).succeeds().await;
    let gid = format!("shop {}", source.name());
    source.execute(&format!("BEGIN; CREATE TABLE shop (); PREPARE TRANSACTION '{gid}'")).await;
    let stranger = setting.client(None).await;
    let open = zookeeper::Acls::anyone_all();
    for (name, remedy) in [("other", "set drop other --force".to_owned()), ("s", format!("delete the node /{}/pending/s", world.cluster()))]
    {
        for state in [State::Committed, State::Aborted, State::Preparing] {
            let participants = vec![Participant { dsn: source.dsn(), gid: gid.clone() }];
            let pending = Pending { state: state.into(), participants, ..ghost(&source.dsn()) };
            haunt(&stranger, world, name, &pending, open).await;
            let error = setting.pgshovel(&["cluster", "recover"]).fails(3).await;
            assert!(error.contains("prepared transactions that are not its own") && error.contains(&remedy), "{error}");
            stranger.delete(&format!("/{}/pending/{name}", world.cluster()), None).await.unwrap();
        }
    }
    assert_eq!(source.count(&format!("pg_prepared_xacts WHERE gid = '{gid}'")).await, 1);
    source.execute(&format!("ROLLBACK PREPARED '{gid}'")).await;
    // What nobody understands holds up no other set, and is named.
    let odd = format!("/{}/pending/odd", world.cluster());
    stranger.create(&odd, b"\xff", &zookeeper::CreateMode::Persistent.with_acls(open)).await.unwrap();
    setting.pgshovel(&["set", "update", "s", "set.pgshovel"]).succeeds().await;
    let error = setting.pgshovel(&["set", "drop", "odd", "--force"]).fails(1).await;
    assert!(error.contains(&format!("delete the node {odd}")), "{error}");
}

/// ZooKeeper takes less than 1 MiB at once, and a change of a set held it twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_set_passes_through_zookeeper() {
    let setting = Setting::new();
    let world = &setting.world;
    let source = world.source("wide").await;
    source.execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    setting.pgshovel(&["cluster", "initialize"]).succeeds().await;
    let set = |bytes: usize| {
        let dsn = format!("{} application_name={}", source.dsn(), "x".repeat(bytes));
        format!("database {{ dsn: \"{dsn}\" }}\ntables {{ name: \"t\" primary_keys: \"id\" }}\n")
    };
    world.write("large.pgshovel", &set(490_000));
    setting.pgshovel(&["set", "create", "s", "large.pgshovel"]).succeeds().await;
    world.write("large.pgshovel", &set(495_000));
    setting.pgshovel(&["set", "update", "s", "large.pgshovel"]).succeeds().await;
    world.write("large.pgshovel", &set(510_000));
    let error = setting.pgshovel(&["set", "update", "s", "large.pgshovel"]).fails(3).await;
    assert!(error.contains("500000 is the most"), "{error}");
    setting.pgshovel(&["set", "drop", "s"]).succeeds().await;
}
