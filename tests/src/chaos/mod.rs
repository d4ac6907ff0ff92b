//! Processes that are killed, paused and cut off while pgbench writes: after every
//! fault all is as it should be, and nobody had to do anything.

mod admin;
mod cast;
mod check;
mod fault;
mod inject;
mod load;
mod network;
mod tally;
mod task;
mod things;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::error::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::screen::Screen;
use crate::servers::Fleet;
use crate::stage::Stream;
use cast::Cast;
pub use cast::signal_all;
use check::Checker;
use fault::Faults;
use load::Load;
pub use tally::Tally;

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

/// Injects faults, one or two a round, each kind before any comes again.
pub async fn run(screen: &mut Screen, fleet: &Arc<Fleet>, options: Options) -> Result<Tally> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut cast = Cast::gather(screen, fleet, options.stream).await?;
    screen.begin("loading what was there before");
    check::equal_soon(&mut cast).await?;
    screen.done("two relays and two workers run, source and target are equal");
    let (mut tally, mut checker, mut bag, started) = (Tally::default(), Checker::new(), Vec::new(), Instant::now());
    while goes_on(options.length, tally.rounds, started) {
        if bag.is_empty() {
            bag = fault::every(options.stream);
        }
        let faults = Faults::draw(&mut bag, options.stream, options.longest, &mut random)?;
        let shown = format!("round {}: {faults}", tally.rounds + 1);
        screen.begin(&shown);
        let round = round(&mut cast, &mut checker, faults, &mut random).await;
        let Round { hit, after, rows, transactions } = round.map_err(|error| error.context(&shown))?;
        tally.add(faults, hit, after);
        tally.rows = rows;
        tally.transactions += transactions;
        let missed = if hit { "" } else { " (it had ended before)" };
        screen.done(&format!("{shown}{missed}; {transactions} transactions, equal {:.1} s after it", after.as_secs_f64()));
    }
    screen.begin("reading the whole stream");
    checker.lint(&cast).await?;
    screen.done("the stream is sound from its beginning");
    Ok(tally)
}

fn goes_on(length: Length, rounds: usize, started: Instant) -> bool {
    match length {
        Length::Rounds(count) => rounds < count,
        Length::Time(time) => started.elapsed() < time,
    }
}

struct Round {
    hit: bool,
    after: Duration,
    rows: u64,
    transactions: u64,
}

async fn round(cast: &mut Cast, checker: &mut Checker, faults: Faults, random: &mut StdRng) -> Result<Round> {
    check::clear_ledger(cast).await?;
    let mut load = Load::start(&cast.stage, random.random()).await?;
    load.writes(&cast.stage).await?;
    sleep(Duration::from_millis(random.random_range(0..1500))).await;
    let hit = faults.inject(cast).await?;
    let over = Instant::now();
    load.writes(&cast.stage).await?;
    let transactions = load.stop(&cast.stage).await?;
    let rows = check::equal_soon(cast).await?;
    let after = over.elapsed();
    checker.check(cast).await?;
    Ok(Round { hit, after, rows, transactions })
}
