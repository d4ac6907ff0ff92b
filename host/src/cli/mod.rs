//! The command line: one file per command, and what all of them share.

mod cluster;
mod common;
mod explain;
mod output;
mod plugin;
mod process;
mod queue;
mod relay;
mod replicate;
mod set;
mod signal;
mod stream;
mod zookeeper;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::{Code, Error, Result};
use crate::postgres::{lent, own};

use common::{Common, LogFormat, Sensitive};

/// How long sessions of plugins are waited for that are being ended.
const LAST_SESSIONS_TIMEOUT: Duration = Duration::from_secs(5);

/// Moves the changes made to a PostgreSQL database, in order and with their
/// transaction boundaries, into a stream, and from there into any store.
///
/// Exit codes: 0 done; 1 stopped, the message says what to do; 2 wrong usage;
/// 3 a wrong configuration; 4 a server cannot be reached, or does not answer: it is
/// given up after 10 s while connecting, and after 20 s later; 70 a bug of pgshovel.
/// `pgshovel explain CODE` says more of the code that a message begins with.
#[derive(Debug, Parser)]
#[command(name = "pgshovel", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manage the cluster's configuration.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Manage replication sets.
    #[command(subcommand)]
    Set(set::Command),
    /// Publish a set's changes to its stream (also: pgshovel-relay).
    Relay(relay::Arguments),
    /// Bootstrap a target and apply a set's stream to it (also: pgshovel-replicate).
    Replicate(replicate::Arguments),
    /// Look into streams.
    #[command(subcommand)]
    Stream(stream::Command),
    /// Look into plugins.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Say what an error's code means, its usual cause and what to do.
    Explain(explain::Arguments),
}

/// The names under which the original's commands are installed, and the
/// arguments that each stands for.
const ALIASES: [(&str, &[&str]); 3] = [("pgshovel-admin", &[]), ("pgshovel-relay", &["relay"]), ("pgshovel-replicate", &["replicate"])];

/// Puts the subcommand that the program's own name stands for behind that name.
fn expand(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name()?.to_str().map(str::to_owned));
    if let Some((_, words)) = ALIASES.iter().find(|(alias, _)| Some(*alias) == name.as_deref()) {
        arguments.splice(1..1, words.iter().map(OsString::from));
    }
    arguments
}

pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse_from(expand(std::env::args_os())) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pgshovel: {}: {}", error.code, output::shown(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    process::protect()?;
    log(&arguments.common)?;
    if let Some(Sensitive(dsn)) = &arguments.common.source_dsn {
        own::set_source(dsn)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::stop(Code::SystemRefused, format!("cannot start the runtime: {error}")))?;
    let common = &arguments.common;
    let result = runtime.block_on(async {
        match &arguments.command {
            Command::Cluster(command) => cluster::run(common, command).await,
            Command::Set(command) => set::run(common, command).await,
            Command::Relay(arguments) => relay::run(common, arguments).await,
            Command::Replicate(arguments) => replicate::run(common, arguments).await,
            Command::Stream(command) => stream::run(common, command).await,
            Command::Plugin(command) => plugin::run(common, command).await,
            Command::Explain(arguments) => explain::run(arguments),
        }
    });
    runtime.block_on(lent::ended(LAST_SESSIONS_TIMEOUT));
    // What is still under way ends with the process: waiting for it would hold up the exit,
    // and a shutdown cancels the file calls of plugins, at which wasmtime-wasi panics.
    std::mem::forget(runtime);
    result
}

fn log(common: &Common) -> Result<()> {
    let filter = EnvFilter::try_new(format!("{},{},{}", crate::registry::LOG_FILTER, crate::postgres::LOG_FILTER, common.log_level))
        .map_err(|error| {
            Error::usage(Code::Usage, format!("--log-level {:?}: {error}; give error, warn, info, debug or trace", common.log_level))
        })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match common.log_format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn names_of_the_original_are_subcommands() {
        let words = |line: &str| expand(line.split(' ').map(OsString::from));
        assert_eq!(words("/usr/bin/pgshovel-relay a b"), ["/usr/bin/pgshovel-relay", "relay", "a", "b"]);
        assert_eq!(words("pgshovel-admin set list"), ["pgshovel-admin", "set", "list"]);
        assert_eq!(words("pgshovel relay a b"), ["pgshovel", "relay", "a", "b"]);
    }
}
