//! `make demo`: a pgbench database and its copy, on private servers, compared
//! row for row at the end.
//!
//! usage: demo FOLDER file|kafka, where FOLDER holds the example's files

mod example;
mod run;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use pgshovel::error::{Code, Error, Result};
use tests::screen::Screen;
use tests::servers::Fleet;
use tests::stage::Stream;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    match demo(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failed(&error.message);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Servers and processes live in the future that is dropped here, whatever ends it.
async fn demo(screen: &mut Screen) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, stream] = arguments.as_slice() else {
        return Err(Error::usage(Code::ToolFailed, "usage: demo FOLDER file|kafka"));
    };
    let stream = match stream.as_str() {
        "file" => Stream::File,
        "kafka" => Stream::Kafka,
        other => {
            return Err(Error::usage(
                Code::ToolFailed,
                format!("there is no stream {other:?}; it is file or kafka: make demo STREAM=kafka"),
            ));
        }
    };
    let handler = |error| Error::stop(Code::ToolFailed, format!("cannot handle signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(handler)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(handler)?;
    let fleet = Arc::new(Fleet::new()?);
    let result = tokio::select! {
        result = run::run(screen, &fleet, Path::new(folder), stream) => result,
        _ = interrupt.recv() => Err(Error::stop(Code::ToolFailed, "interrupted; all that was started is stopped")),
        _ = terminate.recv() => Err(Error::stop(Code::ToolFailed, "terminated; all that was started is stopped")),
    };
    // Its drop waits until nothing is left of it.
    drop(fleet);
    result
}
