//! One worker per set: leadership, and the work for as long as it lasts.

use std::time::Duration;

use super::Plugins;
use super::progress::Progress;
use super::supervise::{Assignment, supervise};
use crate::error::{Next, Result};
use crate::observe::{State, Status};
use crate::patience::Patience;
use crate::registry::Ensemble;
use crate::registry::lease::{Lease, Role};
use crate::stop::Stop;

/// How long leaving may take: a lease that is not given back ends with its session.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until this process leads the set's workers, and replicates for as long
/// as it does, until `stop` is requested, or an error that waiting does not mend.
/// ZooKeeper is waited for. When leadership is lost the work is dropped at once,
/// before anything else is done, and the process stands in line again.
///
/// The set has to exist at first. When it is dropped later, the worker goes on:
/// the stream may still hold changes that the target does not have.
pub async fn lead(
    ensemble: &Ensemble,
    plugins: &mut impl Plugins,
    assignment: &mut Assignment,
    stop: &mut Stop,
    progress: &mut Progress,
    mut random: impl FnMut() -> u32 + Send,
) -> Result<()> {
    let mut patience = Patience::new(progress.commits());
    let mut known = false;
    while !stop.requested() {
        let candidate = tokio::select! {
            biased;
            () = stop.wait() => return Ok(()),
            candidate = stand(ensemble, assignment, &mut known, progress.status()) => candidate,
        };
        let error = match candidate {
            Err(error) => error,
            Ok(lease) => {
                patience = Patience::new(progress.commits());
                progress.status().take_over();
                match serve(lease, plugins, assignment, stop, progress, &mut random).await {
                    Ok(End::Stopped) => return Ok(()),
                    Ok(End::Superseded) => continue,
                    Err(error) if error.next == Next::Retry => error,
                    Err(error) => return Err(error),
                }
            }
        };
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

/// How leading ended, if not by an error.
enum End {
    Stopped,
    Superseded,
}

/// Replicates for as long as `lease` is held.
async fn serve(
    lease: Lease,
    plugins: &mut impl Plugins,
    assignment: &mut Assignment,
    stop: &mut Stop,
    progress: &mut Progress,
    random: impl FnMut() -> u32 + Send,
) -> Result<End> {
    let ended = tokio::select! {
        biased;
        () = lease.lost() => None,
        result = supervise(plugins, assignment, stop, progress, random) => Some(result),
    };
    let Some(result) = ended else {
        progress.status().wait_for(&"leadership of the set was lost, since ZooKeeper was out of reach or another worker leads");
        tracing::warn!("this worker no longer leads: it stopped applying, and stands in line again");
        return Ok(End::Superseded);
    };
    let result = match result {
        Ok(()) => Ok(End::Stopped),
        Err(error) => Err(lease.judge(error).await),
    };
    // If it fails, the end of the session does the same.
    let _ = tokio::time::timeout(LEAVE_TIMEOUT, lease.release()).await;
    result
}

/// Waits in line. `known`: whether the set was seen.
async fn stand(ensemble: &Ensemble, assignment: &Assignment, known: &mut bool, status: &Status) -> Result<Lease> {
    let Assignment { cluster, set, .. } = assignment;
    let cluster = ensemble.connect(cluster).await?;
    cluster.configuration().await?;
    match cluster.set(set).await {
        Ok(_) => {
            if !*known {
                cluster.tell_if_open().await?;
            }
            *known = true;
        }
        Err(error) if *known && error.next == Next::Configure => {}
        Err(error) => return Err(error),
    }
    cluster.acquire(set, Role::Worker, || status.enter(State::Standby)).await
}
