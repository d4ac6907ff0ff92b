//! The real `pgshovel`, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::eventually::eventually;
use crate::paths;
use crate::servers::{Fleet, Process};

/// A command that ends by itself, or a process that was asked to.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
/// What a process writes to its log when all is ready.
const LOGS_WITHIN: Duration = Duration::from_secs(120);

/// A command line that is not yet run. Warnings and errors in its log fail the
/// test, unless they were allowed.
#[derive(Debug)]
pub struct Program {
    command: Command,
    fleet: Arc<Fleet>,
    name: String,
    folder: PathBuf,
    allowed: Vec<String>,
}

/// How a run ended. `stderr` holds the log, one JSON object a line, and the
/// final message.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A process that runs until the test ends it, or at the latest the test's end.
#[derive(Debug)]
pub struct Running {
    process: Process,
    output: PathBuf,
    allowed: Vec<String>,
    checked: bool,
}

impl Program {
    pub(super) fn new(fleet: &Arc<Fleet>, folder: &Path, name: String, arguments: Vec<String>) -> Self {
        let binary = paths::pgshovel().unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(binary);
        command.args(&arguments).current_dir(folder);
        // Nearly all tests apply as the superuser; security::grants looks at the warning.
        let allowed = vec!["the role of the grant `postgres` is a superuser".to_owned()];
        Self { command, fleet: Arc::clone(fleet), name, folder: folder.to_owned(), allowed }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs this copy of it.
    #[must_use]
    pub fn program(mut self, copy: &Path) -> Self {
        let mut command = Command::new(copy);
        command.args(self.command.get_args()).current_dir(&self.folder);
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }

    /// Runs it by `words`, a program and its arguments that end with running another.
    #[must_use]
    pub fn under(mut self, words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.command.get_program()).args(self.command.get_args());
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(&self.folder);
        self.command = command;
        self
    }

    /// The test expects warnings or errors in the log that contain `text`.
    #[must_use]
    pub fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Runs it to its end, whatever that is; the log may hold anything.
    pub async fn run(self) -> Ended {
        let mut running = self.start().await;
        running.checked = true;
        running.ended().await
    }

    /// Runs it to its end, which must be success; returns what it printed.
    pub async fn succeeds(self) -> String {
        let shown = format!("{:?}", self.command);
        let running = self.start().await;
        let ended = running.wait().await;
        assert_eq!(ended.code, Some(0), "{shown}\n{}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Runs it to its end, which must be the exit code `code`; returns what it
    /// wrote to standard error.
    pub async fn fails(self, code: i32) -> String {
        let shown = format!("{:?}", self.command);
        let ended = self.run().await;
        assert_eq!(ended.code, Some(code), "{shown}\n{}{}", ended.stdout, ended.stderr);
        ended.stderr
    }

    /// Starts it and returns at once.
    pub async fn start(mut self) -> Running {
        let output = self.folder.join(format!("{}.out", self.name));
        let log = self.folder.join(format!("{}.log", self.name));
        let file = std::fs::File::create(&output).unwrap();
        self.command.stdout(Stdio::from(file));
        let process = Process::start_with(&self.fleet, &self.name, &mut self.command, &log, "KILL").unwrap();
        Running { process, output, allowed: self.allowed, checked: false }
    }
}

impl Running {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All that it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(self.process.log())
    }

    /// Waits until its log holds `text`, and returns the line.
    pub async fn logs(&mut self, text: &str) -> String {
        let process = &mut self.process;
        let mut ended = None;
        eventually(&format!("{text:?} in the log of {}", process.name.clone()), LOGS_WITHIN, || {
            // Read after asking whether it runs, so that nothing written before its end is missed.
            let gone = process.exited().unwrap();
            let log = read(process.log());
            let line = log.lines().find(|line| line.contains(text)).map(str::to_owned);
            if line.is_none() && gone.is_some() {
                ended = gone;
            }
            assert!(
                ended.is_none(),
                "{} ended ({}) without {text:?} in its log:\n{}",
                process.name,
                ended.unwrap_or_default(),
                process.tail()
            );
            let tail = process.tail();
            async move { line.ok_or(tail) }
        })
        .await
    }

    /// Asks the address that it was told to listen on: the code and the body.
    pub async fn get(&mut self, path: &str) -> (u16, String) {
        let line: serde_json::Value = serde_json::from_str(&self.logs("serving /healthz").await).unwrap();
        let mut stream = TcpStream::connect(line["address"].as_str().unwrap()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Waits until `/readyz` answers so: the code, and every text in its body.
    pub async fn answers(&mut self, code: u16, texts: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let (found, body) = self.get("/readyz").await;
            if found == code && texts.iter().all(|text| body.contains(text)) {
                return body;
            }
            assert!(
                started.elapsed() < LOGS_WITHIN && self.runs(),
                "{}: /readyz still answers {found} {body}\n{}",
                self.process.name,
                self.process.tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Allows warnings and errors that contain `text` from now on.
    pub fn allow(&mut self, text: &str) {
        self.allowed.push(text.to_owned());
    }

    /// Whether it is still running.
    pub fn runs(&mut self) -> bool {
        self.process.exited().unwrap().is_none()
    }

    /// Waits for its end.
    pub async fn wait(mut self) -> Ended {
        let ended = self.ended().await;
        self.check();
        ended
    }

    /// SIGTERM, and the end it comes to.
    pub async fn terminate(self) -> Ended {
        self.signal("TERM");
        self.wait().await
    }

    /// SIGKILL. Its log is checked for warnings and errors as ever.
    pub async fn kill(mut self) -> Ended {
        self.process.kill().unwrap();
        self.wait().await
    }

    /// Any signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.pid())]).status().unwrap();
        assert!(status.success(), "{} has ended:\n{}", self.process.name, self.process.tail());
    }

    async fn ended(&mut self) -> Ended {
        let process = &mut self.process;
        let status = eventually(&format!("the end of {}", process.name.clone()), ENDS_WITHIN, || {
            let status = process.exited().unwrap();
            let tail = process.tail();
            async move { status.ok_or(tail) }
        })
        .await;
        Ended { code: status.code(), stdout: read(&self.output), stderr: self.log() }
    }

    fn check(&mut self) {
        self.checked = true;
        let log = self.log();
        let unexpected: Vec<&str> =
            log.lines().filter(|line| complains(line) && !self.allowed.iter().any(|text| line.contains(text))).collect();
        assert!(unexpected.is_empty(), "unexpected in the log of {}:\n{}", self.process.name, unexpected.join("\n"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.checked && !std::thread::panicking() {
            self.process.stop().unwrap();
            self.check();
        }
    }
}

/// A line of the JSON log at WARN or ERROR, or a panic's message. The program's
/// final message is no log line: a test that cares looks at the exit code.
fn complains(line: &str) -> bool {
    let level = serde_json::from_str::<serde_json::Value>(line).ok().and_then(|line| line.get("level")?.as_str().map(str::to_owned));
    matches!(level.as_deref(), Some("WARN" | "ERROR")) || line.contains("panicked at")
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
