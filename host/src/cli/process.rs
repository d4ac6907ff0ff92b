//! What the process does with its secrets and its files, whatever command it runs.

use std::io::IsTerminal as _;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

use crate::error::{Error, Result};
use crate::printable::printable;

/// Files are for this user alone: segments of a stream hold whole rows.
const UMASK: Mode = Mode::RWXG.union(Mode::RWXO);

/// No core dump holds the passwords in memory, no other process of the user reads them
/// there, and no file is for others.
pub fn protect() -> Result<()> {
    umask(UMASK);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Error::stop(format!("cannot switch off core dumps, which would hold passwords: {error}")))
}

/// The text as it may reach a terminal: names of tables and texts of servers are others' to choose.
pub fn shown(text: &str) -> String {
    text.split('\n').map(|line| printable(line, usize::MAX)).collect::<Vec<_>>().join("\n")
}

/// SQL as it is, so that it can be run, but for a terminal.
pub fn print_script(text: &str) {
    if std::io::stdout().is_terminal() { print!("{}", shown(text)) } else { print!("{text}") }
}
