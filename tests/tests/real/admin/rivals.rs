//! Administrators at the same time.

use std::pin::Pin;
use std::time::Duration;

use pgshovel::admin::changer::{Changer, Observer};
use pgshovel::error::{Error, Next};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::actors::{Action, act, parsed};
use super::consistent::consistent;
use super::*;

/// How many there are, and how many commands each runs.
const ADMINISTRATORS: u64 = 4;
const COMMANDS: usize = 4;

/// Makes every point of a change take a while, or no time.
struct Hesitation;

impl Observer for Hesitation {
    fn reached(&self, _: &str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let pause = Duration::from_millis(rand::random_range(0..40));
        Box::pin(tokio::time::sleep(pause))
    }
}

/// What may be said to one whom another came before.
fn polite(error: &Error) -> bool {
    let refusals = [
        "exists already",
        "does not exist",
        "was changed by another command meanwhile",
        "another command is changing",
        "other changes of",
        "is given up by another command",
        "was given up by another command",
        "took this one for dead",
    ];
    let known = refusals.iter().any(|refusal| error.message.contains(refusal));
    known && matches!(error.next, Next::Stop | Next::Configure | Next::Retry)
}

async fn administrate(hosts: String, cluster: String, dsns: [String; 2], seed: u64) -> (u32, u32) {
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = ensemble(&hosts).connect(&cluster).await.unwrap();
    let configuration = cluster.configuration().await.unwrap();
    let changer = Changer::new(&cluster, &configuration, &Hesitation);
    let (mut made, mut refused) = (0, 0);
    for _ in 0..COMMANDS {
        let shapes: [&[(&str, &[&str])]; 4] = [&[("a", &[])], &[("a", &["x"]), ("b", &[])], &[("b", &[]), ("c", &["y"])], &[("c", &[])]];
        let wanted = parsed(&dsns[random.random_range(0..2)], shapes[random.random_range(0..4)]);
        let action = match random.random_range(0..10) {
            0..3 => Action::Create(wanted),
            3..7 => Action::Update(wanted),
            7..9 => Action::Drop,
            _ => Action::Upgrade,
        };
        let set = ["s", "t"][random.random_range(0..2)];
        match act(&changer, set, action.clone()).await {
            Ok(()) => made += 1,
            Err(error) if polite(&error) => refused += 1,
            Err(error) => panic!("seed {seed}: {action:?} of {set}: {error}"),
        }
    }
    (made, refused)
}

/// One after the other, or one is refused; never a mixture. Of one set and of two, in
/// one database and from one to the other, with upgrades between.
#[tokio::test(flavor = "multi_thread")]
async fn administrators_take_turns() {
    let (world, one) = setting().await;
    let other = world.source("admin").await;
    other.execute(TABLES).await;
    let (hosts, dsns) = (world.zookeeper().await, [one.dsn(), other.dsn()]);
    let (mut made, mut refused) = (0, 0);
    for round in 0..4 {
        let seed: u64 = rand::random();
        println!("round {round}: seed {seed}");
        let all: Vec<_> = (0..ADMINISTRATORS)
            .map(|number| tokio::spawn(administrate(hosts.clone(), world.cluster(), dsns.clone(), seed.wrapping_add(number))))
            .collect();
        for one in all {
            let (done, said) = one.await.unwrap();
            made += done;
            refused += said;
        }
        consistent(&world, &[&one, &other]).await;
    }
    println!("{made} changes were made, {refused} refused");
    assert!(made > 8 && refused > 0, "{made} made, {refused} refused");
}

/// The real program: of changes made from the same version, each is whole.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_several_processes_take_turns() {
    let (world, source) = setting().await;
    create(&world, "s", &configuration(&source.dsn(), &[("a", &[])])).await;
    let shapes: [&[(&str, &[&str])]; 3] = [&[("a", &[]), ("b", &[])], &[("b", &[])], &[("a", &["x"])]];
    let mut versions = Vec::new();
    let mut commands = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        let wanted = configuration(&source.dsn(), shape);
        versions.push(pgshovel::registry::set::version(&proto::text::parse(&wanted).unwrap()));
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
    let now = consistent(&world, &[&source]).await.remove(0).version;
    assert!(succeeded.contains(&now), "{now} is none of {succeeded:?}");
}
