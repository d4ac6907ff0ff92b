//! Ring two: the loops over ports in memory, one seed per run, with a crash, an
//! error or a lost answer before and after every call of a port.
//!
//! `PGSHOVEL_SEED=n` runs that seed alone, with its log.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod publisher;
mod relay;
mod replication;
mod worker;

use std::env;
use std::future::Future;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Virtual time: enough for every wait and retry that a run may still have.
const SETTLE: Duration = Duration::from_secs(100);

/// Runs `simulate` under every seed, each on a runtime whose clock jumps from
/// timer to timer. Panics with a seed that fails.
fn seeds<T: Send, F: Future<Output = Result<T, String>>>(count: u64, simulate: impl Fn(u64) -> F + Sync) -> Vec<T> {
    let chosen = env::var("PGSHOVEL_SEED").ok().map(|seed| seed.parse::<u64>().expect("PGSHOVEL_SEED is a number"));
    if let Some(seed) = chosen {
        let _ = tracing_subscriber::fmt().with_env_filter("pgshovel=debug").with_test_writer().try_init();
        return vec![run(seed, &simulate)];
    }
    let next = AtomicU64::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return outcomes;
            }
            outcomes.push(run(seed, &simulate));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

fn run<T, F: Future<Output = Result<T, String>>>(seed: u64, simulate: &impl Fn(u64) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let result = runtime.block_on(simulate(seed));
    result.unwrap_or_else(|problem| panic!("seed {seed}: {problem}\nreplay with PGSHOVEL_SEED={seed}"))
}
