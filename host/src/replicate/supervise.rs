//! Keeps the worker running: attempt after attempt, each from the state that the
//! target has.

use std::time::Duration;

use proto::batch::step::{Options, Reader};
use proto::interfaces::replication::State;

use super::bootstrap::bootstrap;
use super::progress::Progress;
use super::reading::Part;
use super::run::run;
use super::{Origins, Plugins, state};
use crate::error::{Error, Result};
use crate::patience::Patience;
use crate::ports::{Guarantee, Stream as _, Target as _};
use crate::stop::Stop;

/// A call that is under way when the grace period ends may take this much longer.
const CALL_GRACE: Duration = Duration::from_secs(10);

/// What a worker is to do.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub cluster: String,
    pub set: String,
    /// Load the target even if it has a state, or rows that nobody knows of. Turns
    /// false when that is done.
    pub bootstrap: bool,
    pub reader: Options,
    pub part: Part,
}

/// Replicates until `stop` is requested, or an error that waiting does not mend.
///
/// What may pass (`Retry`) is tried again, with waits that grow while nothing
/// becomes durable; so is what a person has to mend first (`Blocked`), which is
/// said at level error. A plugin that breaks off (`Trap`) is tried again once, at
/// once; when the same happens before anything became durable, it is the end.
/// Dropping the future ends it where it is, and leaves the target at its last
/// commit. `random` spreads the waits.
pub async fn supervise(
    plugins: &mut impl Plugins,
    assignment: &mut Assignment,
    stop: &mut Stop,
    progress: &mut Progress,
    mut random: impl FnMut() -> u32 + Send,
) -> Result<()> {
    let mut patience = Patience::new(progress.commits());
    let mut overdue = stop.clone();
    while !stop.requested() {
        let attempt = attempt(plugins, assignment, stop, progress);
        let result = tokio::select! {
            biased;
            result = attempt => result,
            () = overdue.wait_overdue(CALL_GRACE) => {
                tracing::warn!("a call did not return within the grace period and is given up");
                Ok(())
            }
        };
        let Err(error) = result else { return Ok(()) };
        if stop.requested() && error.is_tried_again() {
            tracing::warn!(%error, "stopped inside an attempt that failed");
            return Ok(());
        }
        let text = error.to_string();
        let wait = patience.judge(error, progress.commits(), random())?;
        progress.status().wait_for(&text);
        tokio::select! {
            biased;
            () = stop.wait() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

/// One attempt: ends with a stop or an error.
async fn attempt<P: Plugins>(plugins: &mut P, assignment: &mut Assignment, stop: &mut Stop, progress: &mut Progress) -> Result<()> {
    let mut target = plugins.target().await?;
    let mut transforms = plugins.transforms().await?;
    // A stream that cannot be opened is better known before hours of loading.
    let mut stream = plugins.stream().await?;
    announce(target.guarantee().await?);
    let mut stored = target.load_state().await?;
    let mut origins = Origins::new(plugins.tables().await?, !transforms.is_empty());
    if assignment.bootstrap || !is_loaded(stored.as_deref(), assignment)? {
        let (origin, loader) = plugins.loader().await?;
        origins.announce(Some(&origin.source), &mut target).await?;
        if stored.is_none() && assignment.bootstrap {
            let claim = state::encode(&state::claim(&origin.source));
            target.commit(None, &claim).await?;
            stored = Some(claim);
        }
        stored = bootstrap((origin, loader), &mut target, &mut transforms, stored.as_deref(), stop, progress).await?;
        assignment.bootstrap = false;
    }
    let Some(stored) = stored else { return Ok(()) };
    let state = own(&stored, assignment)?;
    let position = state.stream_state.as_ref().and_then(|stream| stream.consumer_state.position.clone());
    let reader = Reader::resume(state, assignment.reader.clone()).map_err(|error| Error::stop(error.to_string()))?;
    stream.seek(position.as_deref()).await?;
    run((stream, reader, assignment.part), (&mut target, origins), &mut transforms, stored, stop, progress).await
}

fn is_loaded(stored: Option<&[u8]>, assignment: &Assignment) -> Result<bool> {
    match stored {
        Some(stored) => Ok(!state::is_claim(&own(stored, assignment)?)),
        None => Ok(false),
    }
}

/// The state, if it is this set's.
fn own(stored: &[u8], assignment: &Assignment) -> Result<State> {
    let state = state::decode(stored)?;
    state::check_owner(&state, &assignment.cluster, &assignment.set)?;
    Ok(state)
}

fn announce(guarantee: Guarantee) {
    match guarantee {
        Guarantee::Transactional => tracing::info!("the target is transactional: every batch is applied exactly once"),
        Guarantee::Idempotent => tracing::info!("the target is idempotent: every batch is visible exactly once"),
        Guarantee::AtLeastOnce => {
            tracing::info!("the target is neither transactional nor idempotent: a batch may be applied again after a crash")
        }
    }
}
