//! What a relay or a worker does and has done: one value that the loops and their
//! supervisors write, and that the log, `/readyz` and `/metrics` read.

pub mod backlog;
mod exposition;
pub mod fault;
pub mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use proto::batch::Batch;
use proto::timestamp;
use tokio::time::Instant;

use crate::error::{Code, Error, Next};
use crate::stop::Stop;
use backlog::Backlog;

/// No two lines that tell how far a process is come closer than this.
pub const SAID_EVERY: Duration = Duration::from_secs(2);

/// Cheap to clone: all clones are of the same process.
#[derive(Clone, Debug)]
pub struct Status(Arc<Mutex<Facts>>);

/// What there is to know at one moment. Counts are since the process started, and
/// only grow, but for `rows` of a bootstrap that begins again.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `relay` or `worker`.
    pub role: &'static str,
    pub set: String,
    state: State,
    since: Instant,
    /// What is waited for is for a person to mend.
    pub blocked: bool,
    stop: Option<Stop>,
    /// Of a worker: `bootstrap`, `catching-up`, `streaming`.
    pub phase: Option<&'static str>,
    /// Failed attempts since something became durable.
    pub attempts: u64,
    pub failures: u64,
    /// How often each kind of error was the cause.
    pub errors: BTreeMap<Code, u64>,
    /// A relay's are durable in the stream and finished in the queue.
    pub batches: u64,
    /// A relay's are of batches that it finished, a worker's are committed in its target.
    pub mutations: u64,
    /// Of the messages of batches that a relay finished.
    pub bytes: u64,
    /// That a worker loaded.
    pub rows: u64,
    /// Of a worker's target.
    pub commits: u64,
    /// Messages of superseded relays that a worker passed over, each time that it read them.
    pub fenced: u64,
    /// Under which a relay publishes.
    pub epoch: Option<u64>,
    pub last: Option<Last>,
    /// What a relay last saw of its set's queue.
    pub queue: Option<Backlog>,
    /// Why the queue gets no ticks from this relay, if so.
    pub ticker: Option<String>,
}

/// The last batch of which something was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Last {
    pub tick: u64,
    /// When it was ready to be relayed: microseconds since 1970.
    pub ready_us: i64,
    /// Between that and when it was done with here.
    pub lag_seconds: f64,
}

impl Last {
    /// Of `batch`, done with at this moment.
    #[must_use]
    pub fn now(batch: &Batch) -> Self {
        let now_us = now_us();
        let ready_us = timestamp::micros(&batch.end.timestamp).unwrap_or(now_us);
        let microseconds = now_us.saturating_sub(ready_us).max(0);
        Self { tick: batch.end.id, ready_us, lag_seconds: (microseconds / 1000) as f64 / 1000.0 }
    }
}

/// Microseconds since 1970.
#[must_use]
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet, or this process is about to lead.
    Starting,
    /// Another process leads, and this one would follow it.
    Standby,
    Leading,
    /// An attempt failed for what may pass: the error's code and text.
    Waiting(Code, String),
    Stopping,
}

impl State {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Leading => "leading",
            Self::Waiting(..) => "waiting",
            Self::Stopping => "stopping",
        }
    }
}

impl Status {
    #[must_use]
    pub fn new(role: &'static str, set: &str) -> Self {
        Self(Arc::new(Mutex::new(Facts {
            role,
            set: set.to_owned(),
            state: State::Starting,
            since: Instant::now(),
            blocked: false,
            stop: None,
            phase: None,
            attempts: 0,
            failures: 0,
            errors: BTreeMap::new(),
            batches: 0,
            mutations: 0,
            bytes: 0,
            rows: 0,
            commits: 0,
            fenced: 0,
            epoch: None,
            last: None,
            queue: None,
            ticker: None,
        })))
    }

    /// The process stops when `stop` is requested.
    pub fn ends_with(&self, stop: &Stop) {
        self.update(|facts| facts.stop = Some(stop.clone()));
    }

    pub fn update<R>(&self, change: impl FnOnce(&mut Facts) -> R) -> R {
        // Facts are whole at every moment, so a panic elsewhere spoils none.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[must_use]
    pub fn facts(&self) -> Facts {
        self.update(|facts| facts.clone())
    }

    pub fn enter(&self, state: State) {
        self.update(|facts| facts.enter(state));
    }

    /// Leadership was won, and all that it takes is still to be opened. What was
    /// waited for may still be away.
    pub fn take_over(&self) {
        self.update(|facts| {
            if facts.state == State::Standby {
                facts.enter(State::Starting);
            }
        });
    }

    /// An attempt failed and is repeated.
    pub fn wait_for(&self, error: &Error) {
        self.update(|facts| {
            facts.attempts += 1;
            facts.failures += 1;
            *facts.errors.entry(error.code).or_default() += 1;
            facts.enter(State::Waiting(error.code, error.message.clone()));
            let blocked = error.next == Next::Blocked;
            if std::mem::replace(&mut facts.blocked, blocked) != blocked {
                facts.since = Instant::now();
            }
        });
    }
}

impl Facts {
    fn enter(&mut self, state: State) {
        if self.state.name() != state.name() {
            self.since = Instant::now();
        }
        self.blocked &= matches!(state, State::Waiting(..));
        self.state = state;
    }

    /// How long the process is in its state.
    #[must_use]
    pub fn state_age(&self) -> Duration {
        self.since.elapsed()
    }

    #[must_use]
    pub fn state(&self) -> &State {
        match &self.stop {
            Some(stop) if stop.requested() => &State::Stopping,
            _ => &self.state,
        }
    }

    /// Whether the process does its job, or would at once if who does it ended. A relay
    /// that gets no ticks does not.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.state() {
            State::Standby => true,
            State::Leading => self.ticker.is_none(),
            State::Starting | State::Waiting(..) | State::Stopping => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop;

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_as_old_as_its_first_failure() {
        let status = Status::new("relay", "app");
        assert!(!status.facts().is_ready());
        status.enter(State::Leading);
        assert!(status.facts().is_ready());
        status.update(|facts| facts.ticker = Some("refused".to_owned()));
        assert!(!status.facts().is_ready());
        status.wait_for(&Error::retry(Code::DatabaseAway, "away"));
        let since = status.facts().since;
        tokio::time::advance(Duration::from_secs(5)).await;
        status.take_over();
        status.wait_for(&Error::retry(Code::DatabaseAway, "still away"));
        let facts = status.facts();
        assert_eq!((facts.since, facts.attempts), (since, 2));
        assert_eq!(*facts.state(), State::Waiting(Code::DatabaseAway, "still away".to_owned()));
        assert!(!facts.is_ready());
    }

    #[test]
    fn a_process_that_is_asked_to_stop_is_not_ready() {
        let (stopper, stop) = stop::channel();
        let status = Status::new("worker", "app");
        status.ends_with(&stop);
        status.enter(State::Standby);
        assert!(status.facts().is_ready());
        stopper.stop(Duration::from_secs(1));
        assert_eq!(*status.facts().state(), State::Stopping);
        assert!(!status.facts().is_ready());
    }
}
