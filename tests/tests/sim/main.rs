//! Ring two: the loops over ports in memory, one seed per run, with a crash, an
//! error or a lost answer before and after every call of a port.
//!
//! A seed that fails is replayed, alone and with its log, by the command that the
//! failure prints.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod epochs;
mod fleet;
mod judged;
mod publisher;
mod relay;
mod replication;
mod standby;
mod versions;
mod worker;

use std::env;
use std::future::Future;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgshovel::memory::{Drawn, Faults};

/// Virtual time: enough for every wait and retry that a run may still have.
const SETTLE: Duration = Duration::from_secs(100);

/// Runs `simulate` under every seed, each on a runtime whose clock jumps from
/// timer to timer. Panics with a seed that fails.
fn seeds<T: Send, F: Future<Output = Result<T, String>>>(count: u64, simulate: impl Fn(u64) -> F + Sync) -> Vec<T> {
    let chosen = env::var("PGSHOVEL_SEED").ok().map(|seed| seed.parse::<u64>().expect("PGSHOVEL_SEED is a number"));
    if let Some(seed) = chosen {
        let _ = tracing_subscriber::fmt().with_env_filter("pgshovel=debug").with_test_writer().try_init();
        return vec![run(seed, &simulate).unwrap_or_else(|problem| panic!("{problem}"))];
    }
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let next = AtomicU64::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return outcomes;
            }
            outcomes.push(run(seed, &simulate).unwrap_or_else(|problem| panic!("{problem}\nreplay it: {}", replay(&name, seed))));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

fn run<T, F: Future<Output = Result<T, String>>>(seed: u64, simulate: &impl Fn(u64) -> F) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed)).map_err(|problem| format!("seed {seed}: {problem}"))
}

/// The command that runs one seed of the test `name` again.
fn replay(name: &str, seed: u64) -> String {
    format!("PGSHOVEL_SEED={seed} cargo test --locked -p pgshovel-tests --test sim -- --exact {name} --nocapture")
}

/// Whether no process did what only a leader may do, while it knew that it does not lead.
fn no_trespass<'a>(processes: impl IntoIterator<Item = &'a Arc<Faults>>) -> Result<(), String> {
    let trespasses: Vec<String> = processes.into_iter().flat_map(|faults| faults.trespasses()).collect();
    if trespasses.is_empty() { Ok(()) } else { Err(format!("{trespasses:?}")) }
}

/// All that was drawn in many runs: the simulation is worth something only if every
/// call met every fault.
fn check_faults<'a>(runs: impl Iterator<Item = &'a Drawn>, calls: &[&str]) {
    let mut all = Drawn::new();
    for (call, drawn) in runs.flatten() {
        let sums = all.entry(call).or_default();
        sums.iter_mut().zip(drawn).for_each(|(sum, drawn)| *sum += drawn);
    }
    for call in calls {
        let drawn = all.remove(call).unwrap_or_default();
        assert!(drawn.iter().all(|count| *count > 0), "{call} met {drawn:?}: errors before and after, crashes before and after");
    }
    // Some calls of the registry are rare.
    let others: Vec<_> = all.into_keys().filter(|call| !call.starts_with("registry.")).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The test runs itself, fails in the child, and runs the child again as it was told to.
#[test]
fn a_seed_that_fails_is_replayed_by_the_command_that_is_printed() {
    const CHILD: &str = "PGSHOVEL_TEST_SIM_FAILS";
    if env::var_os(CHILD).is_some() {
        let fails = |seed| async move { if seed % 100 == 42 { Err(format!("{seed} is wrong")) } else { Ok(()) } };
        seeds(200, fails);
        return;
    }
    let run = |seed: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env_remove("PGSHOVEL_SEED").env(CHILD, "1").envs(seed.map(|seed| ("PGSHOVEL_SEED", seed))).args(arguments);
        let ended = command.output().unwrap();
        (ended.status.success(), String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned())
    };
    let name = std::thread::current().name().unwrap().to_owned();
    let (passed, output) = run(None, &["--exact", &name]);
    let command = output.lines().find_map(|line| line.strip_prefix("replay it: ")).unwrap_or_else(|| panic!("{output}"));
    assert!(!passed, "{output}");
    let (cargo, arguments) = command.split_once(" -- ").unwrap();
    let seed = cargo.strip_prefix("PGSHOVEL_SEED=").and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(cargo.ends_with("cargo test --locked -p pgshovel-tests --test sim"), "{cargo}");
    let (passed, again) = run(Some(seed), &arguments.split(' ').collect::<Vec<_>>());
    assert!(!passed && again.contains(&format!("seed {seed}: {seed} is wrong")) && !again.contains("replay it"), "{again}");
    // Another seed of the same test passes.
    assert!(run(Some("41"), &["--exact", &name]).0);
}
