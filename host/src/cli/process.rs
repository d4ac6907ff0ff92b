//! What the process does with its secrets and its files, whatever command it runs.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

use crate::error::{Code, Error, Result};

/// Files are for this user alone: segments of a stream hold whole rows.
const UMASK: Mode = Mode::RWXG.union(Mode::RWXO);

/// No core dump holds the passwords in memory, no other process of the user reads them
/// there, and no file is for others.
pub fn protect() -> Result<()> {
    umask(UMASK);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Error::stop(Code::SystemRefused, format!("cannot switch off core dumps, which would hold passwords: {error}")))
}
