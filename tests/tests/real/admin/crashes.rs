use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgshovel::cluster::change::{Changer, Observer, Unobserved};
use pgshovel::error::Result;
use proto::interfaces::configurations::ReplicationSetConfiguration;
use rand::Rng as _;
use tokio::sync::Notify;

use super::*;

/// Stops for ever at one point, and says so.
struct Death {
    point: String,
    reached: Arc<Notify>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Observer for Death {
    fn reached(&self, point: &str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.seen.lock().unwrap().push(point.to_owned());
        if point == self.point {
            self.reached.notify_one();
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(()))
    }
}

#[derive(Clone)]
enum Action {
    Create(ReplicationSetConfiguration),
    Update(ReplicationSetConfiguration),
    Drop,
    Upgrade,
}

async fn act(changer: &Changer<'_>, cluster: &Cluster, action: Action) -> Result<()> {
    let ready = match action {
        Action::Create(wanted) => changer.create("s", wanted).await?,
        Action::Update(wanted) => changer.update("s", None, wanted).await?,
        Action::Drop => changer.drop("s", None, false).await?,
        Action::Upgrade => {
            let databases = pgshovel::cluster::admin::databases(changer).await?;
            return changer.upgrade(pgshovel::cluster::VERSION, cluster.cluster_revision().await?, databases).await;
        }
    };
    changer.run(ready).await
}

/// Runs `action` until it reaches `point`, and ends it there, with its sessions.
/// False if it ended before.
async fn die(world: &World, action: Action, point: &str) -> bool {
    let reached = Arc::new(Notify::new());
    let death = Death { point: point.to_owned(), reached: Arc::clone(&reached), seen: Arc::default() };
    let cluster = connect(world).await;
    let mut task = tokio::spawn(async move {
        let configuration = cluster.configuration().await.unwrap();
        act(&Changer::new(&cluster, &configuration, &death), &cluster, action).await
    });
    tokio::select! {
        result = &mut task => { result.unwrap().unwrap(); false }
        () = reached.notified() => { task.abort(); let _ = task.await; true }
    }
}

/// ZooKeeper and the databases say the same, and nothing is in flight.
async fn agree(world: &World, databases: &[&Database]) -> Option<String> {
    let cluster = connect(world).await;
    assert_eq!(cluster.in_flight().await.unwrap(), []);
    let set = cluster.find_set("s").await.unwrap();
    for database in databases {
        let traces = traces(database).await;
        assert!(!traces.contains("prepared"), "{traces}");
        let here = set.as_ref().is_some_and(|set| set.configuration.database.dsn == database.dsn());
        assert_eq!(traces.contains("schema pgshovel"), here, "{traces}");
        assert_eq!(traces.contains("trigger"), here, "{traces}");
        assert_eq!(traces.contains("queue"), here, "{traces}");
        if here {
            let version = database.value(&format!("SELECT version FROM pgshovel_{}.sets WHERE name = 's'", world.cluster())).await;
            assert_eq!(version, set.as_ref().map(|set| set.version.clone()));
        }
    }
    set.map(|set| set.version)
}

async fn recover(world: &World) -> Vec<String> {
    let cluster = connect(world).await;
    let configuration = cluster.configuration().await.unwrap();
    Changer::new(&cluster, &configuration, &Unobserved).recover().await.unwrap()
}

fn parsed(dsn: &str, tables: &[(&str, &[&str])]) -> ReplicationSetConfiguration {
    proto::text::parse(&configuration(dsn, tables)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_one_database_is_finished_wherever_it_died() {
    let (world, source) = setting().await;
    let one = parsed(&source.dsn(), &[("a", &[])]);
    let two = parsed(&source.dsn(), &[("a", &["x"]), ("b", &[])]);
    for point in ["intended", "committed", "confirmed"] {
        for (action, expected) in [
            (Action::Create(one.clone()), Some(pgshovel::cluster::set::version(&one))),
            (Action::Update(two.clone()), Some(pgshovel::cluster::set::version(&two))),
            (Action::Upgrade, Some(pgshovel::cluster::set::version(&two))),
            (Action::Drop, None),
        ] {
            assert!(die(&world, action, point).await, "{point}");
            let report = recover(&world).await;
            assert_eq!(report.is_empty(), point == "confirmed", "{report:?}");
            assert_eq!(agree(&world, &[&source]).await, expected, "{point}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_finished_or_undone_wherever_it_died() {
    let (world, old) = setting().await;
    let new = world.source("admin").await;
    new.execute("CREATE TABLE a (id int PRIMARY KEY)").await;
    let here = parsed(&old.dsn(), &[("a", &[])]);
    let there = parsed(&new.dsn(), &[("a", &[])]);
    for (point, moved) in [
        ("intended", false),
        ("prepared 0", false),
        ("prepared 1", false),
        ("decided", true),
        ("ended 0", true),
        ("ended 1", true),
        ("confirmed", true),
    ] {
        assert!(!die(&world, Action::Create(here.clone()), "never").await);
        assert!(die(&world, Action::Update(there.clone()), point).await, "{point}");
        let report = recover(&world).await;
        assert_eq!(report.is_empty(), point == "confirmed", "{report:?}");
        agree(&world, &[&old, &new]).await;
        let dsn = connect(&world).await.set("s").await.unwrap().configuration.database.dsn;
        assert_eq!(dsn, if moved { new.dsn() } else { old.dsn() }, "{point}");
        // The next command works without a recovery of its own, and writers are not blocked.
        old.execute("INSERT INTO a SELECT coalesce(max(id), 0) + 1 FROM a").await;
        assert!(!die(&world, Action::Drop, "never").await);
        agree(&world, &[&old, &new]).await;
    }
}

/// A coordinator that was taken for dead wakes up again.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_wakes_up_does_nothing() {
    let (world, source) = setting().await;
    let one = parsed(&source.dsn(), &[("a", &[])]);
    let (go, reached) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    struct Sleep(Arc<Notify>, Arc<Notify>);
    impl Observer for Sleep {
        fn reached(&self, point: &str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            let wait = point == "intended";
            Box::pin(async move {
                if wait {
                    self.1.notify_one();
                    self.0.notified().await;
                }
            })
        }
    }
    let cluster = connect(&world).await;
    let sleeper = Sleep(Arc::clone(&go), Arc::clone(&reached));
    let wanted = one.clone();
    let task = tokio::spawn(async move {
        let configuration = cluster.configuration().await.unwrap();
        act(&Changer::new(&cluster, &configuration, &sleeper), &cluster, Action::Create(wanted)).await
    });
    reached.notified().await;
    // As if its session had ended.
    let client = zookeeper_client::Client::connect(&world.zookeeper().await).await.unwrap();
    client.delete(&format!("/{}/pending/s/owner", world.cluster()), None).await.unwrap();
    assert_eq!(recover(&world).await, ["finished the create of \"s\""]);
    assert!(!die(&world, Action::Drop, "never").await);
    go.notify_one();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.message.contains("given up by another command"), "{error}");
    assert_eq!(agree(&world, &[&source]).await, None);
}

/// What the database refuses after the intent was written is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_is_given_up() {
    let (world, source) = setting().await;
    let one = parsed(&source.dsn(), &[("a", &[]), ("b", &[])]);
    assert!(die(&world, Action::Create(one.clone()), "intended").await);
    source.execute("DROP TABLE b").await;
    let report = recover(&world).await;
    assert!(report[0].starts_with("gave up the create of \"s\""), "{report:?}");
    assert_eq!(agree(&world, &[&source]).await, None);
}

/// Two at once: one after the other, or one is refused; never a mixture.
#[tokio::test(flavor = "multi_thread")]
async fn administrators_take_turns() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let shapes: [&[(&str, &[&str])]; 3] = [&[("a", &[]), ("b", &[])], &[("b", &[])], &[("a", &["x"])]];
    let mut versions = Vec::new();
    let mut commands = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        let wanted = configuration(&source.dsn(), shape);
        versions.push(pgshovel::cluster::set::version(&proto::text::parse(&wanted).unwrap()));
        world.write(&format!("{index}.pgshovel"), &wanted);
        commands.push(world.pgshovel(["set".to_owned(), "update".to_owned(), "s".to_owned(), format!("{index}.pgshovel")]).start().await);
    }
    let mut succeeded = Vec::new();
    for (command, version) in commands.into_iter().zip(versions) {
        let ended = command.wait().await;
        match ended.code {
            Some(0) => succeeded.push(version),
            code => assert!(code == Some(1) && ended.stderr.contains("changed by another command meanwhile"), "{}", ended.stderr),
        }
    }
    let now = agree(&world, &[&source]).await.unwrap();
    assert!(succeeded.contains(&now), "{now} is none of {succeeded:?}");
}

/// The real program, killed at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn commands_killed_at_random_leave_nothing_in_doubt() {
    let (world, old) = setting().await;
    let new = world.source("admin").await;
    new.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)").await;
    world.write("0.pgshovel", &configuration(&old.dsn(), &[("a", &[])]));
    world.write("1.pgshovel", &configuration(&new.dsn(), &[("a", &[]), ("b", &[])]));
    world.pgshovel(["set", "create", "s", "0.pgshovel"]).succeeds().await;
    for round in 0..6 {
        let file = format!("{}.pgshovel", (round + 1) % 2);
        let running = world.pgshovel(["set".to_owned(), "update".to_owned(), "s".to_owned(), file]).start().await;
        let pause = Duration::from_millis(rand::rng().random_range(0..400));
        tokio::time::sleep(pause).await;
        running.kill().await;
        world.pgshovel(["cluster", "recover"]).succeeds().await;
        assert!(agree(&world, &[&old, &new]).await.is_some(), "round {round}, killed after {pause:?}");
    }
}
