//! Processes that are killed, paused and cut off while pgbench writes: after every
//! fault all is as it was, and nobody had to do anything.

mod cast;
mod fault;
mod load;
mod network;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::error::{Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::compare::compare;
use crate::screen::Screen;
use crate::servers::Fleet;
use crate::stage::{Stream, finish};
pub use cast::signal_all;
use cast::{Cast, SET, TABLES};
use fault::{Fault, Means, Victim};
use load::Load;

/// How long after a fault's end source and target may differ, the load being over.
const RECOVERS_WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub stream: Stream,
    /// Of what happens when; processes and networks have their own mind.
    pub seed: u64,
    pub length: Length,
    /// No fault lasts longer.
    pub longest: Duration,
}

#[derive(Clone, Copy, Debug)]
pub enum Length {
    Rounds(usize),
    Time(Duration),
}

/// What was injected, and how long it took at most until source and target were equal.
#[derive(Debug, Default)]
pub struct Tally {
    faults: BTreeMap<(Victim, Means), (u32, Duration)>,
    pub rounds: usize,
    /// The rows that were equal in the end.
    pub rows: u64,
}

impl Tally {
    /// As a table.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = format!("  {:<12}{:<13}{:>6}  {:>9}  outcome\n", "victim", "fault", "count", "recovered");
        for ((victim, means), (count, worst)) in &self.faults {
            let _ = writeln!(text, "  {:<12}{:<13}{count:>6}  {:>7.1} s  equal", victim.name(), means.name(), worst.as_secs_f64());
        }
        text
    }
}

/// Injects faults, one a round, each kind before any comes again.
pub async fn run(screen: &mut Screen, fleet: &Arc<Fleet>, options: Options) -> Result<Tally> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut cast = Cast::gather(screen, fleet, options.stream).await?;
    screen.begin("loading what was there before");
    rest(&mut cast).await?;
    screen.done("source and target are equal");
    let (mut tally, mut bag, started) = (Tally::default(), Vec::new(), Instant::now());
    loop {
        match options.length {
            Length::Rounds(rounds) if tally.rounds >= rounds => return Ok(tally),
            Length::Time(time) if started.elapsed() >= time => return Ok(tally),
            _ => {}
        }
        if bag.is_empty() {
            bag = fault::every(options.stream);
        }
        let kind = *bag.choose(&mut random).ok_or_else(|| Error::bug("there is no fault"))?;
        bag.retain(|other| *other != kind);
        let fault = Fault::draw(kind, options.longest, &mut random);
        tally.rounds += 1;
        let shown = format!("round {}: {fault}", tally.rounds);
        screen.begin(&shown);
        let recovered = round(&mut cast, fault, &mut random).await.map_err(|error| error.context(shown.clone()))?;
        tally.rows = recovered.rows;
        let (count, worst) = tally.faults.entry(kind).or_default();
        (*count, *worst) = (*count + 1, recovered.after.max(*worst));
        screen.done(&format!("{shown}; equal {:.1} s after it", recovered.after.as_secs_f64()));
    }
}

struct Recovered {
    after: Duration,
    rows: u64,
}

async fn round(cast: &mut Cast, fault: Fault, random: &mut StdRng) -> Result<Recovered> {
    let mut load = Load::start(&cast.stage, random.random())?;
    sleep(Duration::from_millis(random.random_range(500..2500))).await;
    fault.inject(cast).await?;
    load.revive(&cast.stage)?;
    let over = Instant::now();
    sleep(Duration::from_secs(1)).await;
    drop(load);
    let rows = rest(cast).await?;
    let after = over.elapsed();
    // Whoever died, and whoever was told so by a network, has come back by now, or never will.
    cast.all_run()?;
    finish(&mut cast.stage.command(&["stream", "lint", "all.yaml", SET, "--wait", "1"])?, "pgshovel stream lint").await?;
    for (dsn, database) in [(cast.stage.source.dsn("source"), "source"), (cast.stage.target.dsn("target"), "target")] {
        let client = connect(&dsn, "chaos").await?;
        let sql = "SELECT count(*) FROM pg_prepared_xacts";
        let count: i64 = client.query_one(sql, &[]).await.map_err(|error| explain(&error).context(sql))?.get(0);
        if count > 0 {
            return Err(Error::stop(format!("{count} prepared transactions are left in the {database}")));
        }
    }
    Ok(Recovered { after, rows })
}

/// Waits until source and target are equal; returns how many rows they have.
async fn rest(cast: &mut Cast) -> Result<u64> {
    let started = Instant::now();
    loop {
        cast.all_run()?;
        let found = equal(cast).await;
        match found {
            Ok(rows) => return Ok(rows),
            Err(difference) if started.elapsed() > RECOVERS_WITHIN => {
                let logs: String = cast.members.iter().map(|member| format!("{}:\n{}", member.name, member.process.tail())).collect();
                return Err(difference.context(format!("after {} s; the logs end with\n{logs}", RECOVERS_WITHIN.as_secs())));
            }
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// The small tables first, since one that differs is enough.
async fn equal(cast: &Cast) -> Result<u64> {
    let (source, target) = (cast.stage.source.dsn("source"), cast.stage.target.dsn("target"));
    let mut rows = 0;
    for table in TABLES.iter().rev() {
        let found = compare(&source, &target, &format!("public.{table}"), None).await?;
        if let Some(difference) = found.difference {
            return Err(Error::stop(format!("{table}: {difference}")));
        }
        rows += found.target_rows;
    }
    Ok(rows)
}
