//! What becomes of an error of the work: it is the process's own only while the registry
//! confirms that it leads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pgshovel::error::{Code, Error, Next, Result};
use pgshovel::memory::{Faults, Rates, Reach, Registry};
use pgshovel::observe::Status;
use pgshovel::ports::registry::{Lease, Role, StoredSet};
use pgshovel::stop::{self, Stop};
use pgshovel::supervise::{Rules, Work, supervise};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::replication::{SET, assigned};
use super::{SETTLE, seeds};

/// Fails as it is told to.
struct Told {
    status: Status,
    errors: mpsc::Receiver<Error>,
    runs: mpsc::Sender<()>,
}

impl Work for Told {
    const RULES: Rules = Rules { role: Role::Relay, follows_set: true, keeps_leading: false };

    type Open = ();

    fn status(&self) -> &Status {
        &self.status
    }

    fn durable(&self) -> u64 {
        0
    }

    async fn check(&mut self, _set: Option<&StoredSet>) -> Result<()> {
        Ok(())
    }

    fn stand_by(&self, _set: Option<&StoredSet>) -> impl Future<Output = Infallible> + Send + use<> {
        std::future::pending()
    }

    async fn open(&mut self, _set: Option<&StoredSet>, _lease: &impl Lease) -> Result<()> {
        Ok(())
    }

    async fn run(&mut self, (): (), stop: &mut Stop) -> Result<()> {
        self.runs.send(()).await.unwrap();
        tokio::select! {
            () = stop.wait() => Ok(()),
            error = self.errors.recv() => Err(error.unwrap()),
        }
    }
}

async fn refused(seed: u64) -> std::result::Result<(), String> {
    let registry = Arc::new(Registry::new(SET, seed));
    let faults = Arc::new(Faults::new(seed, Rates::NONE));
    let reach = Reach { registry: Arc::clone(&registry), faults };
    let (_stopper, mut stop) = stop::channel();
    let ((tell, errors), (runs, mut begun)) = (mpsc::channel(1), mpsc::channel(1));
    let mut work = Told { status: Status::new("relay", SET), errors, runs };
    let mut process = tokio::spawn(async move { supervise(&reach, &mut work, &assigned(), &mut stop, || 0).await });
    let begins = async |begun: &mut mpsc::Receiver<()>, why: &str| match timeout(SETTLE, begun.recv()).await {
        Ok(Some(())) => Ok(()),
        _ => Err(format!("it does not begin again: {why}")),
    };
    begins(&mut begun, "at first").await?;
    for next in [Next::Stop, Next::Configure, Next::Bug, Next::Retry, Next::Blocked] {
        let error = Error::new(next, Code::QueueTaken, "refused by who leads now");
        // It leads no more, and does not know.
        if !matches!(next, Next::Retry | Next::Blocked) {
            registry.expire(Role::Relay);
        }
        tell.send(error).await.map_err(|error| error.to_string())?;
        begins(&mut begun, &format!("{next:?}")).await?;
    }
    // One trap is forgiven, a second one at the same place is not; nor is what nobody explains.
    let last = if seed.is_multiple_of(2) { Next::Trap } else { Next::Stop };
    if last == Next::Trap {
        tell.send(Error::trap(Code::PluginTrapped, "unreachable")).await.map_err(|error| error.to_string())?;
        begins(&mut begun, "trap").await?;
    }
    sleep(Duration::from_millis(10)).await;
    tell.send(Error::new(last, Code::TargetRefused, "its own")).await.map_err(|error| error.to_string())?;
    match timeout(SETTLE, &mut process).await {
        Ok(Ok(Err(error))) if error.next == last && error.message.contains("its own") => Ok(()),
        ended => Err(format!("{ended:?}")),
    }
}

#[test]
fn an_error_is_a_processs_own_only_while_it_leads() {
    seeds(100, refused);
}
