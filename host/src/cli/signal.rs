//! SIGINT and SIGTERM.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Code, Error, Result};
use crate::stop::{self, Stop};

/// What a shell reports of a process that a second SIGINT ended.
const INTERRUPTED: i32 = 130;

/// The first signal asks to stop within `grace`; a second one ends the process
/// where it is, which is as safe as a crash.
pub fn stop_on_signals(grace: Duration) -> Result<Stop> {
    let listen = |kind| signal(kind).map_err(|error| Error::stop(Code::SystemRefused, format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (stopper, stop) = stop::channel();
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked {
                tracing::warn!("ended by a second signal");
                std::process::exit(INTERRUPTED);
            }
            asked = true;
            tracing::info!(grace_seconds = grace.as_secs(), "stopping");
            stopper.stop(grace);
        }
    });
    Ok(stop)
}
