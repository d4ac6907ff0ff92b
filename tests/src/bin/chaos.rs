//! `make chaos`: real processes, and every fault at random.
//!
//! usage: chaos MINUTES SEED file|kafka; SEED may be empty

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use tests::chaos::{self, Length, Options};
use tests::screen::{Screen, grouped};
use tests::servers::Fleet;
use tests::stage::Stream;
use tokio::signal::unix::{SignalKind, signal};

/// Longer than any session with ZooKeeper lives, so that leaders lose their place.
const LONGEST: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    match run(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failed(&error.message);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(screen: &mut Screen) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [minutes, seed, stream] = arguments.as_slice() else {
        return Err(Error::usage(Code::ToolFailed, "usage: chaos MINUTES SEED file|kafka"));
    };
    let minutes: u64 =
        minutes.parse().map_err(|_| Error::usage(Code::ToolFailed, format!("MINUTES={minutes}: not a number of minutes")))?;
    let seed = match seed.as_str() {
        "" => rand::random_range(0..1_000_000),
        seed => seed.parse().map_err(|_| Error::usage(Code::ToolFailed, format!("SEED={seed}: not a number from 0 to {}", u64::MAX)))?,
    };
    let stream = match stream.as_str() {
        "file" => Stream::File,
        "kafka" => Stream::Kafka,
        other => return Err(Error::usage(Code::ToolFailed, format!("STREAM={other}: there is no such stream; it is file or kafka"))),
    };
    let options = Options { stream, seed, length: Length::Time(Duration::from_secs(60 * minutes)), longest: LONGEST };
    screen.say(&format!("pgshovel under faults for {minutes} minutes; the same again with SEED={seed}"));
    screen.say("");
    let started = Instant::now();
    let handler = |error| Error::stop(Code::ToolFailed, format!("cannot handle signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(handler)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(handler)?;
    let fleet = Arc::new(Fleet::new()?);
    let result = tokio::select! {
        result = chaos::run(screen, &fleet, options) => result,
        _ = interrupt.recv() => Err(Error::stop(Code::ToolFailed, "interrupted; all that was started is stopped")),
        _ = terminate.recv() => Err(Error::stop(Code::ToolFailed, "terminated; all that was started is stopped")),
    };
    if result.is_err() {
        fleet.keep()?;
        screen.say(&format!("the logs are kept in {}", fleet.folder().display()));
    }
    // Its drop waits until nothing is left of it.
    drop(fleet);
    let tally = result.map_err(|error| error.context(format!("SEED={seed}")))?;
    screen.say("");
    screen.say(tally.show().trim_end());
    screen.say("");
    screen.verdict(&format!(
        "{} faults in {} rounds and {:.0} minutes under {} transactions, {} rows equal after each; the stream sound, nothing applied twice, no prepared transaction left; SEED={seed}",
        tally.faults,
        tally.rounds,
        started.elapsed().as_secs_f64() / 60.0,
        grouped(tally.transactions),
        grouped(tally.rows)
    ));
    Ok(())
}
