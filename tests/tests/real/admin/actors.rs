//! Commands of administrators, run inside the test, so that it can stop them anywhere.

use std::pin::Pin;
use std::sync::Arc;

use pgshovel::admin::changer::{Changer, Observer, Unobserved};
use pgshovel::admin::recover::Recovered;
use pgshovel::error::Result;
use proto::interfaces::configurations::ReplicationSetConfiguration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::tap::{Server, Tap};
use super::*;

#[derive(Clone, Debug)]
pub enum Action {
    Create(ReplicationSetConfiguration),
    Update(ReplicationSetConfiguration),
    Drop,
    Forget,
    Upgrade,
}

pub async fn act(changer: &Changer<'_>, set: &str, action: Action) -> Result<()> {
    let ready = match action {
        Action::Create(wanted) => changer.create(set, wanted).await?,
        Action::Update(wanted) => changer.update(set, None, wanted).await?,
        Action::Drop => changer.drop(set, None, false).await?,
        Action::Forget => changer.drop(set, None, true).await?,
        Action::Upgrade => {
            changer.settle(pgshovel::registry::pending::WHOLE_CLUSTER).await?;
            let basis = changer.basis().await?;
            let databases = pgshovel::admin::databases(changer).await?;
            return changer.upgrade(pgshovel::registry::VERSION, basis, databases).await;
        }
    };
    changer.run(ready).await
}

/// Runs one action on a set to its end, in a session of its own with ZooKeeper at `hosts`.
pub async fn perform(hosts: &str, cluster: &str, set: &str, action: Action, observer: &dyn Observer) -> Result<()> {
    let cluster = ensemble(hosts).connect(cluster).await?;
    let configuration = cluster.configuration().await?;
    act(&Changer::new(&cluster, &configuration, observer), set, action).await
}

pub async fn recover(world: &World) -> Vec<Recovered> {
    let cluster = connect(world).await;
    let configuration = cluster.configuration().await.unwrap();
    let recovery = Changer::new(&cluster, &configuration, &Unobserved).recover().await.unwrap();
    assert!(recovery.failed.is_none(), "{:?}", recovery.failed);
    recovery.done
}

pub fn parsed(dsn: &str, tables: &[(&str, &[&str])]) -> ReplicationSetConfiguration {
    proto::text::parse(&configuration(dsn, tables)).unwrap()
}

/// A database that is connected to through a tap.
pub fn tapped(database: &Database, tap: &Tap) -> String {
    format!("host=127.0.0.1 port={} user=postgres dbname={} sslmode=disable", tap.port, database.name())
}

/// ZooKeeper through a tap, with the test's chroot.
pub async fn tapped_zookeeper(world: &World) -> (String, Tap) {
    let hosts = world.zookeeper().await;
    let (address, chroot) = hosts.split_once('/').unwrap();
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let tap = Tap::to(port, Server::ZooKeeper).await;
    (format!("127.0.0.1:{}/{chroot}", tap.port), tap)
}

/// Stops a command at a point until it is told to go on, or for ever.
pub struct Pause {
    point: &'static str,
    reached: Arc<Notify>,
    go: Arc<Notify>,
}

impl Pause {
    pub fn at(point: &'static str) -> Self {
        Self { point, reached: Arc::default(), go: Arc::default() }
    }

    /// What says that it is reached, and what lets it go on.
    pub fn ends(&self) -> (Arc<Notify>, Arc<Notify>) {
        (Arc::clone(&self.reached), Arc::clone(&self.go))
    }
}

impl Observer for Pause {
    fn reached(&self, point: &str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let here = point == self.point;
        Box::pin(async move {
            if here {
                self.reached.notify_one();
                self.go.notified().await;
            }
        })
    }
}

/// Starts an action that pauses at a point; returns when it is there.
pub async fn paused(world: &World, action: Action, point: &'static str) -> (JoinHandle<Result<()>>, Arc<Notify>) {
    paused_in(&world.zookeeper().await, &world.cluster(), "s", action, point).await
}

/// [`paused`], by ZooKeeper at `hosts`.
pub async fn paused_in(
    hosts: &str,
    cluster: &str,
    set: &str,
    action: Action,
    point: &'static str,
) -> (JoinHandle<Result<()>>, Arc<Notify>) {
    let (hosts, cluster, set, pause) = (hosts.to_owned(), cluster.to_owned(), set.to_owned(), Pause::at(point));
    let (reached, go) = pause.ends();
    let mut task = tokio::spawn(async move { perform(&hosts, &cluster, &set, action, &pause).await });
    tokio::select! {
        ended = &mut task => panic!("it ended before {point}: {ended:?}"),
        () = reached.notified() => (task, go),
    }
}

/// Starts an action and kills it at a point.
pub async fn killed(world: &World, set: &str, action: Action, point: &'static str) {
    let (task, _) = paused_in(&world.zookeeper().await, &world.cluster(), set, action, point).await;
    task.abort();
    let _ = task.await;
}
