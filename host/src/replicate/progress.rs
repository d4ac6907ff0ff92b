//! What a worker has done so far, for people and for programs that read the log.

use std::time::Duration;

use proto::batch::Batch;
use proto::row::Relation;
use tokio::time::Instant;

use crate::observe::{Last, SAID_EVERY, State, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Rows are loaded; nothing of them is visible.
    Bootstrap,
    /// The stream may still bring what the loaded rows contain.
    CatchingUp,
    Streaming,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::CatchingUp => "catching-up",
            Self::Streaming => "streaming",
        }
    }
}

/// Writes the counts of the worker's [`Status`], and says them, at most every [`SAID_EVERY`]
/// but where a phase or a table begins or ends.
#[derive(Debug)]
pub struct Progress {
    status: Status,
    phase: Option<Phase>,
    table: Option<Table>,
    /// Mutations of the open batch that the target has: they count once it is committed.
    open: u64,
    said: Option<Instant>,
}

/// The table that is being loaded.
#[derive(Debug)]
struct Table {
    schema: String,
    name: String,
    rows: u64,
    estimated: Option<u64>,
    since: Instant,
}

impl Progress {
    #[must_use]
    pub fn new(set: &str) -> Self {
        Self { status: Status::new("worker", set), phase: None, table: None, open: 0, said: None }
    }

    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Commits of the target.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.status.update(|facts| facts.commits)
    }

    #[must_use]
    pub fn mutations(&self) -> u64 {
        self.status.update(|facts| facts.mutations)
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.unwrap_or(Phase::Bootstrap)
    }

    /// The worker works, in this phase. A bootstrap begins from its start.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase == Phase::Bootstrap {
            self.status.update(|facts| facts.rows = 0);
            self.table = None;
        }
        self.status.enter(State::Leading);
        self.status.update(|facts| facts.phase = Some(phase.name()));
        if self.phase.replace(phase) != Some(phase) {
            let facts = self.status.facts();
            tracing::info!(set = %facts.set, phase = phase.name(), rows = facts.rows, mutations = facts.mutations, batches = facts.batches, "phase");
        }
    }

    /// Rows of a table were handed to the target.
    pub(super) fn load(&mut self, relation: &Relation, rows: u64, estimated: Option<u64>) {
        let same = self.table.as_ref().is_some_and(|table| table.name == relation.table && table.schema == relation.schema);
        if !same {
            self.say_table(true);
            let (schema, name) = (relation.schema.clone(), relation.table.clone());
            self.table = Some(Table { schema, name, rows: 0, estimated, since: Instant::now() });
        }
        if let Some(table) = &mut self.table {
            table.rows += rows;
        }
        self.status.update(|facts| facts.rows += rows);
        if self.is_due() {
            self.say_table(false);
        }
    }

    /// All rows of all tables were handed to the target.
    pub(super) fn loaded(&mut self) {
        self.say_table(true);
        self.table = None;
    }

    /// Mutations of `batch` were handed to the target.
    pub(super) fn applied(&mut self, batch: &Batch, mutations: u64) {
        self.open += mutations;
        self.say(batch);
    }

    /// The target has nothing of a batch that is not committed.
    pub(super) fn forgotten(&mut self) {
        self.open = 0;
    }

    /// `batch` ends, which is `batches` of the stream.
    pub(super) fn committed(&mut self, batch: &Batch, batches: u64) {
        let mutations = std::mem::take(&mut self.open);
        self.status.update(|facts| {
            facts.batches += batches;
            facts.mutations += mutations;
            facts.last = Some(Last::now(batch));
        });
        self.say(batch);
    }

    /// The target made a state durable.
    pub(super) fn stored(&mut self) {
        self.status.update(|facts| {
            facts.commits += 1;
            facts.attempts = 0;
        });
    }

    /// The worker ends, for whatever reason.
    pub fn ended(&self) {
        let facts = self.status.facts();
        tracing::info!(set = %facts.set, rows = facts.rows, mutations = facts.mutations, batches = facts.batches, "ended");
    }

    fn is_due(&mut self) -> bool {
        let due = self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY);
        if due {
            self.said = Some(Instant::now());
        }
        due
    }

    fn say(&mut self, batch: &Batch) {
        if self.is_due() {
            let facts = self.status.facts();
            tracing::info!(
                set = %facts.set,
                phase = self.phase().name(),
                rows = facts.rows,
                mutations = facts.mutations + self.open,
                batches = facts.batches,
                tick = batch.end.id,
                lag_seconds = Last::now(batch).lag_seconds,
                "replicated"
            );
        }
    }

    fn say_table(&self, done: bool) {
        let Some(Table { schema, name, rows, estimated, since }) = &self.table else { return };
        let rate = rate(*rows, since.elapsed());
        tracing::info!(
            set = %self.status.facts().set,
            phase = Phase::Bootstrap.name(),
            table = %format_args!("{schema}.{name}"),
            rows,
            estimated,
            rows_per_second = rate,
            eta_seconds = if done { Some(0) } else { eta(*rows, *estimated, rate) },
            done,
            "loaded"
        );
    }
}

fn rate(rows: u64, elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    rows.saturating_mul(1000) / milliseconds
}

/// Seconds that the rest of the table takes at this rate; `None` where nothing
/// tells how many rows it has, or it has more than that already.
fn eta(rows: u64, estimated: Option<u64>, rate: u64) -> Option<u64> {
    let rest = estimated?.checked_sub(rows)?;
    rest.checked_div(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_estimated_from_the_rate() {
        assert_eq!(rate(5000, Duration::from_millis(500)), 10_000);
        assert_eq!(eta(5000, Some(105_000), 10_000), Some(10));
        assert_eq!(eta(5000, Some(4000), 10_000), None);
        assert_eq!(eta(0, Some(4000), 0), None);
        assert_eq!(eta(5000, None, 10_000), None);
    }
}
