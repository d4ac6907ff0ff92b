//! Private servers: each on ports of its own, in one folder of their own, and
//! none of them outlives the program that started it.

pub mod certificates;
mod fleet;
pub mod kafka;
pub mod pgbouncer;
pub mod pgqd;
pub mod port;
pub mod postgres;
pub mod process;
pub mod zookeeper;

pub use certificates::{Certificate, Wanted};
pub use fleet::Fleet;
pub use kafka::Kafka;
pub use pgbouncer::Pgbouncer;
pub use pgqd::Pgqd;
pub use postgres::Postgres;
pub use process::Process;
pub use zookeeper::ZooKeeper;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pgshovel::error::{Error, Result};

/// How long a server may take until it serves; the slowest needs 5 s on two idle cores.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Waits until `ready`, which is asked again and again, says so.
fn await_ready(process: &mut Process, mut ready: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !ready() {
        if let Some(status) = process.exited()? {
            return Err(Error::stop(format!("{} ended at its start ({status}); its log ends with:\n{}", process.name, process.tail())));
        }
        if started.elapsed() > READY_WITHIN {
            let seconds = READY_WITHIN.as_secs();
            return Err(Error::stop(format!("{} does not serve after {seconds} s; its log ends with:\n{}", process.name, process.tail())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| Error::stop(format!("cannot run {shown}: {error}; run `make install`")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    Err(Error::stop(format!("{shown} failed ({}): {}", output.status, words.trim())))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::stop(format!("cannot write {}: {error}", path.display())))
}

fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::stop(format!("cannot create {}: {error}", path.display())))
}
