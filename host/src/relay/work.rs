//! What a relay does while it leads: it takes the queue, and publishes its batches.

use std::convert::Infallible;

use proto::batch::Id;
use proto::batch::publisher::Publisher;

use super::progress::Progress;
use super::run::{Push, run};
use crate::error::{Error, Next, Result};
use crate::observe::{State, Status};
use crate::ports::Queue as _;
use crate::ports::opening::RelayPorts;
use crate::ports::registry::{Lease, Role, StoredSet};
use crate::stop::Stop;
use crate::supervise::{CHANGE_TIMEOUT, MOVE_TIMEOUT, Rules, Work};

/// What a relay is to do.
#[derive(Clone, Copy, Debug)]
pub struct Assignment {
    pub push: Push,
    /// Draws the id of a publisher, which no other one has.
    pub publisher: fn(epoch: u64) -> Id,
}

/// One relay's process.
#[derive(Debug)]
pub struct Relay<P> {
    pub ports: P,
    pub assignment: Assignment,
    pub progress: Progress,
    /// The last epoch that it published under, or 0.
    epoch: u64,
    /// It could have led once.
    checked: bool,
}

impl<P: RelayPorts> Relay<P> {
    pub fn new(ports: P, assignment: Assignment, progress: Progress) -> Self {
        Self { ports, assignment, progress, epoch: 0, checked: false }
    }
}

impl<P: RelayPorts> Work for Relay<P> {
    /// An attempt that fails gives its leadership back: the next one has a higher epoch, so that
    /// readers of the stream know what is left of the one before for what it is.
    const RULES: Rules = Rules { role: Role::Relay, follows_set: true, keeps_leading: false };

    type Open = (P::Queue, P::Writer);

    fn status(&self) -> &Status {
        self.progress.status()
    }

    fn durable(&self) -> u64 {
        self.progress.batches()
    }

    async fn check(&mut self, set: Option<&StoredSet>) -> Result<()> {
        self.ports.check_writer().await?;
        let Some(set) = set else { return Ok(()) };
        let patience = if self.checked { MOVE_TIMEOUT } else { CHANGE_TIMEOUT };
        let checked = match self.ports.check_queue(set).await {
            // It may be on its way from or to another database. If it left this one, the registry
            // tells of it meanwhile.
            Err(error) if error.next == Next::Configure => {
                tokio::time::sleep(patience).await;
                self.ports.check_queue(set).await
            }
            checked => checked,
        };
        self.checked |= checked.is_ok();
        checked
    }

    fn stand_by(&self, set: Option<&StoredSet>) -> impl Future<Output = Infallible> + Send + use<P> {
        let looking = set.map(|set| self.ports.look(set));
        async {
            match looking {
                Some(looking) => looking.await,
                None => std::future::pending().await,
            }
        }
    }

    async fn open(&mut self, set: Option<&StoredSet>, lease: &impl Lease) -> Result<Self::Open> {
        let set = set.ok_or_else(|| Error::bug("a relay was started without its set"))?;
        // The queue first: it is what ends the relay before this one.
        let queue = self.ports.queue(set, lease.epoch().max(self.epoch + 1), lease.is_confirmed()).await?;
        let writer = self.ports.writer().await?;
        self.epoch = queue.epoch();
        Ok((queue, writer))
    }

    async fn run(&mut self, (mut queue, mut writer): Self::Open, stop: &mut Stop) -> Result<()> {
        let epoch = queue.epoch();
        let status = self.progress.status();
        status.enter(State::Leading);
        status.update(|facts| facts.epoch = Some(epoch));
        tracing::info!(set = %status.facts().set, epoch, "publishing");
        let mut publisher = Publisher::new((self.assignment.publisher)(epoch), epoch);
        run(&mut queue, &mut writer, &mut publisher, self.assignment.push, stop, &mut self.progress).await
    }
}
