//! How much may lie in a granted folder.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::{Code, Error, Result};

/// How often to look, at most; folders that take long to look at are looked at less often.
const PERIOD: Duration = Duration::from_secs(1);
const PERIODS_PER_LOOK: u32 = 20;

/// What an entry of a folder takes at least.
const ENTRY_BYTES: u64 = 4 << 10;
/// `st_blocks` counts these.
const BLOCK_BYTES: u64 = 512;

/// The folder of one grant, and when it is looked at again.
#[derive(Debug)]
pub(super) struct Quota {
    folder: PathBuf,
    bytes_max: u64,
    again: Instant,
}

impl Quota {
    pub fn new(folder: PathBuf, bytes_max: u64) -> Self {
        Self { folder, bytes_max, again: Instant::now() }
    }

    /// An error, for a person to mend, where the folder holds more than it may. `place` is
    /// where the section stands.
    pub fn check(&mut self, place: &str) -> Result<()> {
        let now = Instant::now();
        if now < self.again {
            return Ok(());
        }
        let full = self.is_full();
        self.again = now + PERIOD.max(now.elapsed() * PERIODS_PER_LOOK);
        if full { Err(self.full(place)) } else { Ok(()) }
    }

    fn full(&self, place: &str) -> Error {
        let (folder, most) = (self.folder.display(), crate::printable::size(self.bytes_max));
        Error::blocked(
            Code::FolderFull,
            format!(
                "the folder {folder} holds more than the {most} of grants.files.size; remove files, or raise grants.files.size in the {place}"
            ),
        )
    }

    /// Counts what the disk holds, not what files claim; what vanishes meanwhile is not there.
    fn is_full(&self) -> bool {
        let mut folders = vec![self.folder.clone()];
        let mut bytes = 0_u64;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                // Of the link, where it is one.
                let Ok(found) = entry.metadata() else { continue };
                bytes = bytes.saturating_add(found.blocks().saturating_mul(BLOCK_BYTES).max(ENTRY_BYTES));
                if bytes > self.bytes_max {
                    return true;
                }
                if found.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        false
    }
}
