//! What writes into the source while everything around it breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::things;
use crate::servers::Process;
use crate::stage::Stage;

/// Transactions of pgbench a second, all of its clients together: the stream is
/// read from its start again and again.
const RATE: &str = "100";
const WRITERS: u64 = 2;
/// How long a writer rests between two transactions, at most.
const REST_MS: u64 = 150;
const APPLICATION: &str = "things";
/// How long both may take to commit something once nothing hinders them.
const WRITES_WITHIN: Duration = Duration::from_secs(60);
/// How long transactions may take to end, when no more are begun.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// pgbench, and sessions that write rows of many types. Dropping it ends them.
#[derive(Debug)]
pub struct Load {
    pgbench: Process,
    writers: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// Transactions that were committed, or rolled back as was meant.
    transactions: AtomicU64,
}

impl Load {
    /// pgbench's history is empty when this returns.
    pub async fn start(stage: &Stage, seed: u64) -> Result<Self> {
        ask(stage, "TRUNCATE pgbench_history").await?;
        let (mut writers, shared) = (JoinSet::new(), Arc::<Shared>::default());
        for number in 0..WRITERS {
            let random = StdRng::seed_from_u64(seed.wrapping_add(number));
            writers.spawn(write_things(stage.source.dsn("source"), random, Arc::clone(&shared)));
        }
        Ok(Self { pgbench: pgbench(stage)?, writers, shared })
    }

    /// Waits until both have written more than they had when this was called.
    pub async fn writes(&mut self, stage: &Stage) -> Result<()> {
        let (before, started) = (self.written(stage).await?, Instant::now());
        loop {
            // pgbench ends when its server does.
            if self.pgbench.exited()?.is_some() {
                self.pgbench = pgbench(stage)?;
            }
            let now = self.written(stage).await?;
            if now.0 > before.0 && now.1 > before.1 {
                return Ok(());
            }
            if started.elapsed() > WRITES_WITHIN {
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!(
                        "the load does not write: {now:?} transactions of pgbench and of the writers, {} s ago {before:?}; pgbench says:\n{}",
                        WRITES_WITHIN.as_secs(),
                        self.pgbench.tail()
                    ),
                ));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Transactions of pgbench, and of the writers.
    async fn written(&self, stage: &Stage) -> Result<(i64, u64)> {
        let history = ask(stage, "SELECT count(*) FROM pgbench_history").await?;
        Ok((history, self.shared.transactions.load(Ordering::Relaxed)))
    }

    /// Ends it. Nothing of it changes the source once this returned; it says how
    /// many transactions there were.
    pub async fn stop(mut self, stage: &Stage) -> Result<u64> {
        self.shared.over.store(true, Ordering::Relaxed);
        tokio::task::block_in_place(|| self.pgbench.stop())?;
        if timeout(ENDS_WITHIN, async { while self.writers.join_next().await.is_some() {} }).await.is_err() {
            return Err(Error::stop(Code::ToolFailed, format!("a transaction of the load has not ended for {} s", ENDS_WITHIN.as_secs())));
        }
        let left = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('pgbench', '{APPLICATION}')");
        let started = Instant::now();
        while ask(stage, &left).await? > 0 {
            if started.elapsed() > ENDS_WITHIN {
                return Err(Error::stop(Code::ToolFailed, format!("a session of the load has not ended for {} s", ENDS_WITHIN.as_secs())));
            }
            sleep(Duration::from_millis(50)).await;
        }
        let (pgbench, writers) = self.written(stage).await?;
        Ok(writers + u64::try_from(pgbench).unwrap_or(0))
    }
}

fn pgbench(stage: &Stage) -> Result<Process> {
    let mut command = stage.source.client("pgbench", "source");
    command.args(["-n", "-c", "4", "-R", RATE, "-T", "86400"]);
    stage.process("pgbench", "pgbench", &mut command, "TERM")
}

/// Runs one statement; returns the number that it answers with, if it does.
async fn ask(stage: &Stage, sql: &str) -> Result<i64> {
    let client = connect(&stage.source.dsn("source"), "chaos").await?;
    let rows = client.query(sql, &[]).await.map_err(|error| explain(&error).context(sql))?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// One transaction after the other. Some fail, for sessions and rows are in each
/// other's way: that is the life of an application.
async fn write_things(dsn: String, mut random: StdRng, shared: Arc<Shared>) {
    while !shared.over.load(Ordering::Relaxed) {
        let Ok(client) = connect(&dsn, APPLICATION).await else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        while !client.is_closed() && !shared.over.load(Ordering::Relaxed) {
            if client.batch_execute(&things::transaction(&mut random)).await.is_ok() {
                shared.transactions.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(random.random_range(0..REST_MS))).await;
        }
    }
}
