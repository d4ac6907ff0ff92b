//! Ring two: the loops over ports in memory, one seed per run, with a crash, an
//! error or a lost answer before and after every call of a port.
//!
//! `PGSHOVEL_SEED=n` runs that seed alone, with its log.

mod publisher;
mod relay;
mod replication;
mod worker;

use std::env;
use std::future::Future;
use std::time::Duration;

/// Virtual time: enough for every wait and retry that a run may still have.
const SETTLE: Duration = Duration::from_secs(100);

/// Runs `simulate` under every seed, each on a runtime whose clock jumps from
/// timer to timer. Panics with the first seed that fails.
fn seeds<T, F: Future<Output = Result<T, String>>>(count: u64, simulate: impl Fn(u64) -> F) -> Vec<T> {
    let chosen = env::var("PGSHOVEL_SEED").ok().map(|seed| seed.parse::<u64>().expect("PGSHOVEL_SEED is a number"));
    if chosen.is_some() {
        let _ = tracing_subscriber::fmt().with_env_filter("pgshovel=debug,sim=debug").with_test_writer().try_init();
    }
    let seeds = chosen.map_or(0..count, |seed| seed..seed + 1);
    seeds
        .map(|seed| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let result = runtime.block_on(simulate(seed));
            result.unwrap_or_else(|problem| panic!("seed {seed}: {problem}\nreplay with PGSHOVEL_SEED={seed}"))
        })
        .collect()
}
