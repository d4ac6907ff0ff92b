//! The folder of one program's servers, and the janitor that outlives the program.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use pgshovel::error::{Code, Error, Result};

/// A small shell program that reads a pipe of which only this program holds the
/// other end: when this program ends, however it ends, the janitor stops what it
/// had started and removes its folder.
#[derive(Debug)]
pub struct Fleet {
    folder: PathBuf,
    janitor: Mutex<Janitor>,
}

#[derive(Debug)]
struct Janitor {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Fleet {
    /// A fresh folder below `PGSHOVEL_SERVERS_DIR`, or else the system's folder
    /// for temporary files.
    pub fn new() -> Result<Self> {
        let parent = std::env::var_os("PGSHOVEL_SERVERS_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = parent.join(format!("pgshovel-{}-{:04x}", std::process::id(), rand::random::<u16>()));
        super::command::create_folder(&folder)?;
        // Servers that run as another user enter it, whatever the umask is.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot open {} to others: {error}", folder.display())))?;
        let mut process = Command::new("sh")
            .args(["-c", include_str!("janitor.sh"), "janitor.sh"])
            .arg(&folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches every process of the terminal's group: not this one.
            .process_group(0)
            .spawn()
            .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot run sh: {error}")))?;
        let pipe = process.stdin.take();
        Ok(Self { folder, janitor: Mutex::new(Janitor { process, pipe }) })
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves the folder for a person to look into.
    pub fn keep(&self) -> Result<()> {
        super::command::write(&self.folder.join("keep"), "")
    }

    pub(super) fn watch(&self, pid: u32, signal: &str) -> Result<()> {
        self.tell(&format!("watch {pid} {signal}\n"))
    }

    pub(super) fn forget(&self, pid: u32) -> Result<()> {
        self.tell(&format!("forget {pid}\n"))
    }

    fn tell(&self, line: &str) -> Result<()> {
        let mut janitor = self.janitor.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || Error::stop(Code::ToolFailed, "the process that stops the servers at the end is gone");
        janitor.pipe.as_mut().ok_or_else(gone)?.write_all(line.as_bytes()).map_err(|_| gone())
    }
}

/// Servers of the fleet that still run are stopped by the janitor; returns when
/// all is gone.
impl Drop for Fleet {
    fn drop(&mut self) {
        let janitor = self.janitor.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(janitor.pipe.take());
        // Nobody is left to hear of a failure here, and the janitor is bounded in time.
        let _ = janitor.process.wait();
    }
}
