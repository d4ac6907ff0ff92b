//! What is known of the work under way: from PgQ's own tables in the source, and
//! from the JSON logs of the relay and the worker.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::explain;
use serde_json::{Map, Value};
use tokio_postgres::Client;

/// The consumer that `set create` registers for the relay.
const CONSUMER: &str = "default";

/// The set's queue, seen through PgQ.
#[derive(Debug)]
pub struct Queue {
    client: Client,
    sql: String,
    before: i64,
}

/// Counts since the set was created.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Events that the triggers have written, those of transactions that were rolled back included.
    pub captured: u64,
    /// Events of batches that the relay has finished.
    pub relayed: u64,
}

impl Queue {
    pub async fn open(client: Client, name: &str) -> Result<Self> {
        let sql = "SELECT queue_event_seq FROM pgq.queue WHERE queue_name = $1";
        let row = client.query_one(sql, &[&name]).await.map_err(|error| explain(&error).context(format!("the queue {name}")))?;
        let sequence: String = row.get(0);
        // The sequence counts what is written, a tick remembers how far it was, and
        // a consumer which tick it has finished.
        let sql = format!(
            "SELECT CASE WHEN n.is_called THEN n.last_value ELSE 0 END, t.tick_event_seq \
             FROM {sequence} n, pgq.queue q \
             JOIN pgq.subscription s ON s.sub_queue = q.queue_id \
             JOIN pgq.consumer c ON c.co_id = s.sub_consumer AND c.co_name = '{CONSUMER}' \
             JOIN pgq.tick t ON t.tick_queue = q.queue_id AND t.tick_id = s.sub_last_tick \
             WHERE q.queue_name = '{name}'"
        );
        let mut queue = Self { client, sql, before: 0 };
        let (written, _) = queue.read().await?;
        queue.before = written;
        Ok(queue)
    }

    pub async fn progress(&self) -> Result<Progress> {
        let (written, finished) = self.read().await?;
        let since = |count: i64| u64::try_from(count - self.before).unwrap_or(0);
        // A tick made before the first event remembers 1, as PostgreSQL's sequences do.
        Ok(Progress { captured: since(written), relayed: since(finished.min(written)) })
    }

    async fn read(&self) -> Result<(i64, i64)> {
        let row = self.client.query_one(&self.sql, &[]).await.map_err(|error| explain(&error).context("the queue's progress"))?;
        Ok((row.get(0), row.get(1)))
    }
}

/// What a process has logged: of each kind of line the last one, and complaints.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
    /// By the line's message.
    lines: HashMap<String, Map<String, Value>>,
    /// Lines at WARN or ERROR.
    pub complaints: Vec<String>,
}

impl Log {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, rest: Vec::new(), lines: HashMap::new(), complaints: Vec::new() }
    }

    /// Takes in what was written since the last time.
    pub fn follow(&mut self) -> Result<()> {
        let cannot = |error| Error::stop(Code::ToolFailed, format!("cannot read {}: {error}", self.path.display()));
        let mut file = File::open(&self.path).map_err(cannot)?;
        file.seek(SeekFrom::Start(self.read)).map_err(cannot)?;
        let count = file.read_to_end(&mut self.rest).map_err(cannot)?;
        self.read += u64::try_from(count).unwrap_or(0);
        let end = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        for line in String::from_utf8_lossy(&lines).lines() {
            self.take(line);
        }
        Ok(())
    }

    /// The number `field` of the last line with this message.
    #[must_use]
    pub fn number(&self, message: &str, field: &str) -> Option<f64> {
        self.lines.get(message)?.get(field)?.as_f64()
    }

    /// [`Log::number`], for counts.
    #[must_use]
    pub fn count(&self, message: &str, field: &str) -> Option<u64> {
        self.lines.get(message)?.get(field)?.as_u64()
    }

    #[must_use]
    pub fn text(&self, message: &str, field: &str) -> Option<&str> {
        self.lines.get(message)?.get(field)?.as_str()
    }

    fn take(&mut self, line: &str) {
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return };
        if matches!(fields.get("level").and_then(Value::as_str), Some("WARN" | "ERROR")) {
            self.complaints.push(line.to_owned());
        }
        if let Some(message) = fields.get("message").and_then(Value::as_str) {
            self.lines.insert(message.to_owned(), fields.clone());
        }
    }
}

/// Counts over the last seconds, for rates.
#[derive(Debug, Default)]
pub struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Logs say something every 2 s: a shorter window would show steps.
    const WINDOW: Duration = Duration::from_secs(6);

    pub fn add(&mut self, count: u64) {
        while self.samples.front().is_some_and(|(at, _)| at.elapsed() > Self::WINDOW) {
            self.samples.pop_front();
        }
        self.samples.push_back((Instant::now(), count));
    }

    #[must_use]
    pub fn per_second(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.samples.front(), self.samples.back()) else { return 0.0 };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 { after.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}
