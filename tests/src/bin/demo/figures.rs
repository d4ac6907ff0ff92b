//! What is known of the work under way: from PgQ's own tables in the source, and
//! from the JSON logs of the relay and the worker.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use pgshovel::error::{Error, Result};
use pgshovel::postgres::connect::explain;
use tokio_postgres::Client;

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
    /// Events that the triggers have written.
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
            "SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END, t.tick_event_seq \
             FROM {sequence} s, pgq.queue q \
             JOIN pgq.subscription c ON c.sub_queue = q.queue_id \
             JOIN pgq.tick t ON t.tick_queue = q.queue_id AND t.tick_id = c.sub_last_tick \
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
        Ok(Progress { captured: since(written), relayed: since(finished) })
    }

    async fn read(&self) -> Result<(i64, i64)> {
        let row = self.client.query_one(&self.sql, &[]).await.map_err(|error| explain(&error).context("the queue's progress"))?;
        Ok((row.get(0), row.get(1)))
    }
}

/// The last value of every number that a process has logged, and what it complained of.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
    numbers: HashMap<String, f64>,
    /// Lines at WARN or ERROR.
    pub complaints: Vec<String>,
}

impl Log {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, rest: Vec::new(), numbers: HashMap::new(), complaints: Vec::new() }
    }

    /// Takes in what was written since the last time.
    pub fn follow(&mut self) -> Result<()> {
        let cannot = |error| Error::stop(format!("cannot read {}: {error}", self.path.display()));
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

    /// The number `field` of the last line with the message `message` that had one.
    #[must_use]
    pub fn number(&self, message: &str, field: &str) -> Option<f64> {
        self.numbers.get(&key(message, field)).copied()
    }

    /// [`Log::number`], for counts.
    #[must_use]
    pub fn count(&self, message: &str, field: &str) -> Option<u64> {
        self.number(message, field).map(|number| number as u64)
    }

    fn take(&mut self, line: &str) {
        let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(line) else { return };
        if matches!(fields.get("level").and_then(serde_json::Value::as_str), Some("WARN" | "ERROR")) {
            self.complaints.push(line.to_owned());
        }
        let message = fields.get("message").and_then(serde_json::Value::as_str).unwrap_or_default();
        for (field, value) in &fields {
            if let Some(number) = value.as_f64() {
                self.numbers.insert(key(message, field), number);
            }
        }
    }
}

fn key(message: &str, field: &str) -> String {
    format!("{message}\n{field}")
}
