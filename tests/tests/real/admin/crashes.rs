//! Commands that die, and replies that are lost, at every step of both protocols.
//!
//! The steps are counted on the wire: every request that changes what lasts in
//! ZooKeeper or in a database is one, so that none can be forgotten.

use std::pin::Pin;
use std::time::Duration;

use pgshovel::admin::changer::{Observer, Unobserved};
use pgshovel::admin::recover::Recovered;
use pgshovel::error::{Next, Result};
use proto::interfaces::configurations::ReplicationSetConfiguration;
use rand::Rng as _;

use super::actors::{Action, killed, parsed, paused, perform, recover, tapped, tapped_zookeeper};
use super::consistent::consistent;
use super::tap::{Loss, Server, Tap};
use super::*;

/// Two databases and ZooKeeper, each behind a tap.
struct Stage {
    world: World,
    hosts: String,
    old: Database,
    new: Database,
    to_zookeeper: Tap,
    to_old: Tap,
    to_new: Tap,
}

/// What becomes of a command that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Dies,
    LivesOn,
}

/// An action, what there was before it, and what makes it fail half-way, if anything.
struct Case<'a> {
    before: Option<&'a ReplicationSetConfiguration>,
    action: Action,
    /// A database whose table `a` vanishes when the other one is prepared.
    sabotaged: Option<&'a Database>,
}

struct Sabotage(Option<String>);

impl Observer for Sabotage {
    fn reached(&self, point: &str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let dsn = self.0.as_ref().filter(|_| point == "prepared 0");
        Box::pin(async move {
            if let Some(dsn) = dsn {
                let session = pgshovel::postgres::connect::connect(dsn, "sabotage").await.unwrap();
                session.batch_execute("DROP TABLE a").await.unwrap();
            }
        })
    }
}

impl Stage {
    async fn set() -> Self {
        let (world, old) = setting().await;
        let new = world.source("admin").await;
        new.execute(TABLES).await;
        let (hosts, to_zookeeper) = tapped_zookeeper(&world).await;
        let to_old = Tap::to(old.port(), Server::PostgreSql).await;
        let to_new = Tap::to(new.port(), Server::PostgreSql).await;
        Self { world, hosts, old, new, to_zookeeper, to_old, to_new }
    }

    fn in_old(&self, tables: &[(&str, &[&str])]) -> ReplicationSetConfiguration {
        parsed(&tapped(&self.old, &self.to_old), tables)
    }

    fn in_new(&self, tables: &[(&str, &[&str])]) -> ReplicationSetConfiguration {
        parsed(&tapped(&self.new, &self.to_new), tables)
    }

    async fn perform(&self, action: Action) -> Result<()> {
        perform(&self.hosts, &self.world.cluster(), "s", action, &Unobserved).await
    }

    async fn now(&self) -> Option<ReplicationSetConfiguration> {
        connect(&self.world).await.find_set("s").await.unwrap().map(|set| set.configuration)
    }

    async fn reset(&self, case: &Case<'_>) {
        if let Some(sabotaged) = case.sabotaged {
            sabotaged.execute(TABLES).await;
        }
        let now = self.now().await;
        if now.as_ref() == case.before {
            return;
        }
        if now.is_some() {
            self.perform(Action::Drop).await.unwrap();
        }
        if let Some(before) = case.before {
            self.perform(Action::Create(before.clone())).await.unwrap();
        }
    }

    /// How the action ended, or `None` if it died; and whether it was struck.
    async fn strike(&self, case: &Case<'_>, tap: &Tap, (spared, loss): (u32, Loss), then: Then) -> (Option<Result<()>>, bool) {
        tap.lose(spared, loss);
        let (hosts, cluster, action) = (self.hosts.clone(), self.world.cluster(), case.action.clone());
        let sabotage = Sabotage(case.sabotaged.map(Database::dsn));
        let mut task = tokio::spawn(async move { perform(&hosts, &cluster, "s", action, &sabotage).await });
        tokio::select! {
            biased;
            () = tap.struck(), if then == Then::Dies => {
                task.abort();
                let _ = task.await;
                (None, true)
            }
            ended = &mut task => {
                let struck = !tap.spare();
                if struck {
                    tap.struck().await;
                }
                (Some(ended.unwrap()), struck)
            }
        }
    }

    /// Strikes the action at each of its steps, and looks what became of it. Returns
    /// how many steps there were.
    async fn at_every_step(&self, case: Case<'_>, then: Then) -> u32 {
        let after = match &case.action {
            Action::Create(wanted) | Action::Update(wanted) => Some(wanted),
            Action::Upgrade => case.before,
            Action::Drop | Action::Forget => None,
        };
        let mut steps = 0;
        for (name, tap) in [("ZooKeeper", &self.to_zookeeper), ("old", &self.to_old), ("new", &self.to_new)] {
            for loss in [Loss::Request, Loss::Reply] {
                for spared in 0.. {
                    self.reset(&case).await;
                    let (ended, struck) = self.strike(&case, tap, (spared, loss), then).await;
                    if !struck {
                        assert_eq!(ended.unwrap().is_err(), case.sabotaged.is_some());
                        break;
                    }
                    steps += 1;
                    println!("{:?}, {loss:?} {spared} of {name}, {then:?}: {ended:?}", case.action);
                    self.recovers(&case, after, ended, steps % 2 == 0).await;
                }
            }
        }
        steps
    }

    /// Nothing is left behind, by the next command or by `cluster recover`.
    async fn recovers(&self, case: &Case<'_>, after: Option<&ReplicationSetConfiguration>, ended: Option<Result<()>>, next: bool) {
        let untouched = case.sabotaged.is_some();
        match ended {
            Some(Ok(())) => assert_eq!(self.now().await.as_ref(), after),
            Some(Err(error)) => assert!(untouched || error.next == Next::Retry, "{error}"),
            None => {}
        }
        let made = self.now().await;
        if next {
            // Refused where there is no set, but not before what was left is ended.
            let _ = self.perform(Action::Update(self.in_old(&[("c", &[])]))).await;
        } else {
            let was_open = !connect(&self.world).await.in_flight().await.unwrap().is_empty();
            let report = recover(&self.world).await;
            assert!(!was_open || !report.is_empty());
            let now = self.now().await;
            assert!(now.as_ref() == after || now.as_ref() == case.before, "{now:?}");
            assert!(!untouched || now.as_ref() == case.before);
            assert!(made.as_ref() == case.before || now == made, "what was made is undone");
        }
        consistent(&self.world, &[&self.old, &self.new]).await;
        self.old.execute("INSERT INTO a SELECT coalesce(max(id), 0) + 1 FROM a; DELETE FROM a").await;
        // What was captured would have to be relayed before the set can move.
        self.old.execute(DRAIN).await;
    }
}

/// A relay that has read all.
const DRAIN: &str = "DO $$ DECLARE q record; b bigint; BEGIN
  FOR q IN SELECT queue_name FROM pgq.queue LOOP
    PERFORM pgq.force_tick(q.queue_name); PERFORM pgq.ticker(q.queue_name);
    LOOP
      SELECT pgq.next_batch(q.queue_name, 'default') INTO b;
      EXIT WHEN b IS NULL;
      PERFORM pgq.finish_batch(b);
    END LOOP;
  END LOOP;
END $$";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_one_database_ends_wherever_it_is_struck() {
    let stage = Stage::set().await;
    let one = stage.in_old(&[("a", &[])]);
    let two = stage.in_old(&[("a", &["x"]), ("b", &[])]);
    // An intent, the end of a transaction, and the confirmation; each before and after.
    let case = |before, action| Case { before, action, sabotaged: None };
    assert!(stage.at_every_step(case(None, Action::Create(one.clone())), Then::Dies).await >= 6);
    assert!(stage.at_every_step(case(Some(&one), Action::Update(two.clone())), Then::Dies).await >= 6);
    assert!(stage.at_every_step(case(Some(&two), Action::Upgrade), Then::Dies).await >= 6);
    assert!(stage.at_every_step(case(Some(&two), Action::Drop), Then::Dies).await >= 6);
    assert!(stage.at_every_step(case(None, Action::Create(one.clone())), Then::LivesOn).await >= 6);
    assert!(stage.at_every_step(case(Some(&one), Action::Drop), Then::LivesOn).await >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_ends_wherever_it_is_struck() {
    let stage = Stage::set().await;
    let (here, there) = (stage.in_old(&[("a", &[])]), stage.in_new(&[("a", &[])]));
    for then in [Then::Dies, Then::LivesOn] {
        // Begin, decision and end, and in each database PREPARE and COMMIT PREPARED.
        let case = Case { before: Some(&here), action: Action::Update(there.clone()), sabotaged: None };
        assert!(stage.at_every_step(case, then).await >= 14);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_fails_is_undone_wherever_it_is_struck() {
    let stage = Stage::set().await;
    let (here, there) = (stage.in_old(&[("a", &[])]), stage.in_new(&[("a", &[])]));
    for then in [Then::Dies, Then::LivesOn] {
        let case = Case { before: Some(&here), action: Action::Update(there.clone()), sabotaged: Some(&stage.new) };
        assert!(stage.at_every_step(case, then).await >= 10);
    }
}

/// Commands that were taken for dead wake up again, after all was recovered.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_wakes_up_does_nothing() {
    let (world, old) = setting().await;
    let new = world.source("admin").await;
    new.execute(TABLES).await;
    let (here, there) = (parsed(&old.dsn(), &[("a", &[])]), parsed(&new.dsn(), &[("a", &[])]));
    let presume_dead = async || {
        // As if its session had ended.
        let client = client(&world).await;
        client.delete(&format!("/{}/pending/s/owner", world.cluster()), None).await.unwrap();
    };
    let (task, go) = paused(&world, Action::Create(here.clone()), "intended").await;
    presume_dead().await;
    let finished = Recovered::Finished { change: "create", set: "s".to_owned() };
    assert_eq!(recover(&world).await, [finished]);
    let cluster = connect(&world).await;
    let hosts = cluster.hosts().to_owned();
    let drop = || perform(&hosts, cluster.name(), "s", Action::Drop, &Unobserved);
    drop().await.unwrap();
    go.notify_one();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.message.contains("given up by another command"), "{error}");
    assert_eq!(consistent(&world, &[&old, &new]).await, []);

    perform(&hosts, cluster.name(), "s", Action::Create(here.clone()), &Unobserved).await.unwrap();
    for point in ["intended", "prepared 0", "prepared 1"] {
        let (task, go) = paused(&world, Action::Update(there.clone()), point).await;
        presume_dead().await;
        assert_eq!(recover(&world).await, [Recovered::Undone { change: "update", set: "s".to_owned() }]);
        consistent(&world, &[&old, &new]).await;
        go.notify_one();
        let error = task.await.unwrap().unwrap_err();
        assert!(error.message.contains("took this one for dead"), "{point}: {error}");
        assert_eq!(consistent(&world, &[&old, &new]).await[0].configuration, here, "{point}");
    }
}

/// What the database refuses after the intent was written is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_is_given_up() {
    let (world, source) = setting().await;
    let one = parsed(&source.dsn(), &[("a", &[]), ("b", &[])]);
    killed(&world, "s", Action::Create(one), "intended").await;
    source.execute("DROP TABLE b").await;
    let report = recover(&world).await;
    assert!(
        matches!(&report[..], [Recovered::GivenUp { change: "create", set, reason }] if set == "s" && reason.contains("public.b")),
        "{report:?}"
    );
    assert_eq!(consistent(&world, &[&source]).await, []);
}

/// The real program, killed at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn commands_killed_at_random_leave_nothing_in_doubt() {
    let (world, old) = setting().await;
    let new = world.source("admin").await;
    new.execute(TABLES).await;
    world.write("0.pgshovel", &configuration(&old.dsn(), &[("a", &[])]));
    world.write("1.pgshovel", &configuration(&new.dsn(), &[("a", &[]), ("b", &[])]));
    world.pgshovel(["set", "create", "s", "0.pgshovel"]).succeeds().await;
    for round in 0..4 {
        let file = format!("{}.pgshovel", (round + 1) % 2);
        let running = world.pgshovel(["set".to_owned(), "update".to_owned(), "s".to_owned(), file]).start().await;
        let pause = Duration::from_millis(rand::rng().random_range(0..400));
        tokio::time::sleep(pause).await;
        running.kill().await;
        world.pgshovel(["cluster", "recover"]).succeeds().await;
        println!("round {round}, killed after {pause:?}");
        assert_eq!(consistent(&world, &[&old, &new]).await.len(), 1);
    }
}
