//! The loop: the stream's batches, one after the other, into the target.
//!
//! A batch and the state behind it become visible by one `commit` of the target, or
//! several small batches that have gathered meanwhile, and the state behind the last.
//! Whatever dies before leaves the target at the batch before, and the next
//! attempt reads on from the state that the target then has.
//!
//! A batch of which nothing reaches the target (a heartbeat, or all of it loaded
//! or transformed away) asks for no commit: its state is kept, and stored with the
//! next batch, or after a while, or when the worker stops. If it is lost, the same
//! batches are read again, and again nothing of them reaches the target.

use std::time::Duration;

use proto::batch::Batch;
use proto::batch::step::Reader;
use proto::row::Mutation;
use tokio::time::Instant;

use super::ahead::Ahead;
use super::progress::{Phase, Progress};
use super::provenance::Origins;
use super::reading::{self, Part, Step};
use crate::error::{Error, Result};
use crate::ports::{Guarantee, Stream, Target, Transform};
use crate::stop::Stop;
use crate::supervise::ROLLBACK_TIMEOUT;

/// How old the target's state may become for want of a batch that changes rows.
const STATE_AGE_MAX: Duration = Duration::from_secs(10);

/// Reads `stream` from where it is and applies it until `stop` is requested; then
/// it ends at the end of a batch, or inside it, with a rollback, once its grace is
/// over. `reader` was resumed from `stored`, the bytes that the target has.
///
/// After an error nothing is known of what the target has of the open batch: the
/// ports are of no more use.
pub async fn run<S: Stream + 'static>(
    (stream, reader, part): (S, Reader, Part),
    (target, origins): (&mut impl Target, Origins),
    transforms: &mut [impl Transform],
    stored: Vec<u8>,
    stop: &mut Stop,
    progress: &mut Progress,
) -> Result<()> {
    progress.enter(phase(reader.is_catching_up()));
    // An attempt that failed left its batch open.
    progress.forgotten();
    let transactional = target.guarantee().await? == Guarantee::Transactional;
    let (status, joining) = (progress.status().clone(), progress.status().clone());
    // What failed is tried alone, so that as much as possible of what is before it is stored.
    let may_join = move || transactional && joining.update(|facts| facts.attempts) == 0;
    let mut steps = reading::start(stream, reader, part, status, may_join);
    let mut applying = Applying { target, origins, transforms, progress, stored, stored_at: Instant::now(), open: None, kept: None };
    while let Some(step) = applying.next(&mut steps, stop).await {
        applying.perform(step?).await?;
    }
    applying.end().await
}

fn phase(catching_up: bool) -> Phase {
    if catching_up { Phase::CatchingUp } else { Phase::Streaming }
}

struct Applying<'a, T, X> {
    target: &'a mut T,
    origins: Origins,
    transforms: &'a mut [X],
    progress: &'a mut Progress,
    /// The state that the target has, and since when.
    stored: Vec<u8>,
    stored_at: Instant,
    open: Option<Open>,
    /// The last batch, if nothing of it reached the target, and its state.
    kept: Option<(Batch, Vec<u8>)>,
}

struct Open {
    batch: Batch,
    /// Whether the target knows of it.
    begun: bool,
}

impl<T: Target, X: Transform> Applying<'_, T, X> {
    /// `None`: it is time to stop.
    async fn next(&mut self, steps: &mut Ahead<Step>, stop: &mut Stop) -> Option<Result<Step>> {
        let is_open = self.open.is_some();
        let stopped = async {
            match is_open {
                false => stop.wait().await,
                true => stop.wait_overdue(Duration::ZERO).await,
            }
        };
        tokio::select! {
            biased;
            () = stopped => None,
            step = steps.next() => Some(step.unwrap_or_else(|| Err(Error::bug("reading ended without an error")))),
        }
    }

    async fn perform(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Begin(batch) => {
                self.open = Some(Open { batch: *batch, begun: false });
                Ok(())
            }
            Step::Apply(mutations) => {
                let result = self.apply(mutations).await;
                result.map_err(|error| self.explain(error))
            }
            Step::Commit { state, catching_up, batches } => {
                let result = self.commit(state, catching_up, batches).await;
                result.map_err(|error| self.explain(error))
            }
            Step::Rollback => self.forget().await,
        }
    }

    async fn apply(&mut self, mut mutations: Vec<Mutation>) -> Result<()> {
        for transform in &mut *self.transforms {
            mutations = transform.transform(mutations).await?;
        }
        if mutations.is_empty() {
            return Ok(());
        }
        let open = opened(&mut self.open)?;
        if !open.begun {
            self.origins.announce(open.batch.source.as_ref(), self.target).await?;
            self.target.begin(&open.batch).await?;
            open.begun = true;
        }
        let count = mutations.len() as u64;
        self.target.apply(mutations).await?;
        self.progress.applied(&open.batch, count);
        Ok(())
    }

    async fn commit(&mut self, state: Vec<u8>, catching_up: bool, batches: u64) -> Result<()> {
        let open = opened(&mut self.open)?;
        let batch = open.batch.clone();
        let due = self.progress.phase() != phase(catching_up) || self.stored_at.elapsed() >= STATE_AGE_MAX;
        if open.begun {
            self.store(state).await?;
        } else if due {
            self.store_alone(&batch, state).await?;
        } else {
            self.kept = Some((batch.clone(), state));
        }
        self.open = None;
        self.progress.enter(phase(catching_up));
        self.progress.committed(&batch, batches);
        Ok(())
    }

    /// Stores a state behind which the target has no rows to change.
    async fn store_alone(&mut self, batch: &Batch, state: Vec<u8>) -> Result<()> {
        self.origins.announce(batch.source.as_ref(), self.target).await?;
        self.target.begin(batch).await?;
        self.store(state).await
    }

    async fn store(&mut self, state: Vec<u8>) -> Result<()> {
        self.target.commit(Some(&self.stored), &state).await?;
        self.stored = state;
        self.stored_at = Instant::now();
        self.kept = None;
        self.progress.stored();
        Ok(())
    }

    async fn forget(&mut self) -> Result<()> {
        match self.open.take() {
            Some(open) if open.begun => {
                self.progress.forgotten();
                self.target.rollback().await
            }
            _ => Ok(()),
        }
    }

    /// The last act before a stop.
    async fn end(mut self) -> Result<()> {
        if let Some(open) = &self.open {
            let (start_tick, end_tick) = (open.batch.start.id, open.batch.end.id);
            tracing::warn!(
                start_tick,
                end_tick,
                "the batch is given up, since it takes longer than the grace period; it will be applied again"
            );
            // The end of the session forgets it too.
            let _ = tokio::time::timeout(ROLLBACK_TIMEOUT, self.forget()).await;
            return Ok(());
        }
        match self.kept.take() {
            Some((batch, state)) => self.store_alone(&batch, state).await,
            None => Ok(()),
        }
    }

    fn explain(&self, error: Error) -> Error {
        match &self.open {
            Some(open) => error.context(format!("batch of ticks {} to {}", open.batch.start.id, open.batch.end.id)),
            None => error,
        }
    }
}

fn opened(open: &mut Option<Open>) -> Result<&mut Open> {
    open.as_mut().ok_or_else(|| Error::bug("a step came without the begin of its batch"))
}
