//! What a relay has done so far, for people and for programs that read the log.

use std::time::{Duration, SystemTime};

use proto::batch::Batch;
use proto::timestamp;
use tokio::time::Instant;

/// No two lines come closer than this.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts since the process started; they only grow.
#[derive(Debug)]
pub struct Progress {
    set: String,
    batches: u64,
    mutations: u64,
    bytes: u64,
    said: Option<Instant>,
    /// The batch under way: its last tick, and since when.
    begun: Option<(u64, Instant)>,
}

impl Progress {
    #[must_use]
    pub fn new(set: &str) -> Self {
        Self { set: set.to_owned(), batches: 0, mutations: 0, bytes: 0, said: None, begun: None }
    }

    /// A part of `batch` was handed to the stream.
    pub fn pushed(&mut self, batch: &Batch, mutations: u64, bytes: u64) {
        self.mutations += mutations;
        self.bytes += bytes;
        let (_, since) = *match &mut self.begun {
            Some(begun) if begun.0 == batch.end.id => begun,
            other => other.insert((batch.end.id, Instant::now())),
        };
        // One that is soon over is better said to be finished.
        if since.elapsed() >= INTERVAL {
            self.say(batch, false);
        }
    }

    /// `batch` is durable in the stream and finished in the queue.
    pub fn finished(&mut self, batch: &Batch) {
        self.batches += 1;
        self.say(batch, true);
    }

    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// The relay ends, for whatever reason.
    pub fn ended(&self) {
        tracing::info!(set = %self.set, batches = self.batches, mutations = self.mutations, bytes = self.bytes, "ended");
    }

    fn say(&mut self, batch: &Batch, finished: bool) {
        if self.said.is_some_and(|said| said.elapsed() < INTERVAL) {
            return;
        }
        self.said = Some(Instant::now());
        tracing::info!(
            set = %self.set,
            batches = self.batches,
            mutations = self.mutations,
            bytes = self.bytes,
            tick = batch.end.id,
            lag_seconds = lag(batch, now_us()),
            finished,
            "relayed"
        );
    }
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// How long ago, at `now_us`, the last changes of `batch` were ready to be relayed.
fn lag(batch: &Batch, now_us: i64) -> f64 {
    let ready = timestamp::micros(&batch.end.timestamp).unwrap_or(now_us);
    let microseconds = now_us.saturating_sub(ready).max(0);
    (microseconds / 1000) as f64 / 1000.0
}
