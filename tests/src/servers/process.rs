//! One process, its log file, and its certain end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};

use super::command::run;
use super::fleet::Fleet;

/// How long a process may take to end after it was asked to, before it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How much of a log an error shows, in lines.
const TAIL_LINES: usize = 25;

/// A child that is stopped when this is dropped, or when this program ends in
/// any way.
#[derive(Debug)]
pub struct Process {
    /// For messages.
    pub name: String,
    child: Child,
    status: Option<ExitStatus>,
    log: PathBuf,
    stop_signal: &'static str,
    fleet: Arc<Fleet>,
}

impl Process {
    /// Starts `command` without standard input; what it prints is appended to
    /// `log`. `stop_signal` is the name, without SIG, that ends it fastest
    /// without leaving anything of it behind.
    pub fn start(fleet: &Arc<Fleet>, name: &str, command: &mut Command, log: &Path, stop_signal: &'static str) -> Result<Self> {
        let output = append(log)?;
        Self::start_with(fleet, name, command.stdout(output), log, stop_signal)
    }

    /// As [`Process::start`], with standard output left as `command` says.
    pub fn start_with(fleet: &Arc<Fleet>, name: &str, command: &mut Command, log: &Path, stop_signal: &'static str) -> Result<Self> {
        let errors = append(log)?;
        let child = command
            .stdin(Stdio::null())
            .stderr(errors)
            // Ctrl-C is for the program that started it, which then stops it.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                Error::stop(Code::ToolFailed, format!("cannot run {}: {error}; run `make install`", command.get_program().display()))
            })?;
        fleet.watch(child.id(), stop_signal)?;
        Ok(Self { name: name.to_owned(), child, status: None, log: log.to_owned(), stop_signal, fleet: Arc::clone(fleet) })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let status =
                self.child.try_wait().map_err(|error| Error::stop(Code::ToolFailed, format!("cannot wait for {}: {error}", self.name)))?;
            if status.is_some() {
                self.fleet.forget(self.child.id())?;
                self.status = status;
            }
        }
        Ok(self.status)
    }

    /// Sends a signal, by its name without SIG; nothing if it has ended.
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        run(Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", signal, &self.child.id().to_string()]))
    }

    /// Ends it the fast way, and by SIGKILL if it takes longer than 10 s.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(self.stop_signal)?;
        let asked = Instant::now();
        while asked.elapsed() < ENDS_WITHIN {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }

    /// Ends it by SIGKILL, and returns when it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        let cannot = |error| Error::stop(Code::ToolFailed, format!("cannot kill {}: {error}", self.name));
        self.child.kill().map_err(cannot)?;
        let status = self.child.wait().map_err(cannot)?;
        self.status = Some(status);
        self.fleet.forget(self.child.id())?;
        Ok(status)
    }

    /// The end of its log, for a message.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What this cannot end, the fleet's janitor does.
        let _ = self.stop();
    }
}

fn append(log: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot write {}: {error}", log.display())))
}

/// How long a server may take until it serves; the slowest needs 5 s on two idle cores.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Waits until `ready`, which is asked again and again, says so.
pub(super) fn await_ready(process: &mut Process, mut ready: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !ready() {
        if let Some(status) = process.exited()? {
            return Err(Error::stop(
                Code::ToolFailed,
                format!("{} ended at its start ({status}); its log ends with:\n{}", process.name, process.tail()),
            ));
        }
        if started.elapsed() > READY_WITHIN {
            let seconds = READY_WITHIN.as_secs();
            return Err(Error::stop(
                Code::ToolFailed,
                format!("{} does not serve after {seconds} s; its log ends with:\n{}", process.name, process.tail()),
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
