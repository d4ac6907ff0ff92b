//! What a worker does while it leads: each attempt goes on from the state that the target has.

use std::convert::Infallible;

use proto::batch::step::{Options, Reader};
use proto::interfaces::replication::State;

use super::bootstrap::bootstrap;
use super::progress::Progress;
use super::provenance::Origins;
use super::reading::Part;
use super::run::run;
use super::state;
use crate::error::{Code, Error, Result};
use crate::observe::Status;
use crate::ports::opening::WorkerPorts;
use crate::ports::registry::{Lease, Role, StoredSet};
use crate::ports::{Guarantee, Stream as _, Target as _};
use crate::stop::Stop;
use crate::supervise::{Rules, Work};

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

/// One worker's process.
#[derive(Debug)]
pub struct Worker<P> {
    pub ports: P,
    pub assignment: Assignment,
    pub progress: Progress,
}

/// What an attempt has open.
#[derive(Debug)]
pub struct Open<P: WorkerPorts> {
    stream: P::Stream,
    target: P::Target,
    transforms: Vec<P::Transform>,
    origins: Origins,
    /// The state that the target has.
    stored: Option<Vec<u8>>,
    /// Whose rows are to be loaded first, if they are.
    loaded: Option<StoredSet>,
}

impl<P: WorkerPorts> Work for Worker<P> {
    /// The set may be dropped: the stream may still hold changes that the target does not have.
    const RULES: Rules = Rules { role: Role::Worker, follows_set: false, keeps_leading: true };

    type Open = Open<P>;

    fn status(&self) -> &Status {
        self.progress.status()
    }

    fn durable(&self) -> u64 {
        self.progress.commits()
    }

    async fn check(&mut self, _set: Option<&StoredSet>) -> Result<()> {
        self.ports.target().await?;
        self.ports.transforms().await?;
        self.ports.stream().await.map(drop)
    }

    fn stand_by(&self, _set: Option<&StoredSet>) -> impl Future<Output = Infallible> + Send + use<P> {
        std::future::pending()
    }

    async fn open(&mut self, set: Option<&StoredSet>, _lease: &impl Lease) -> Result<Open<P>> {
        let Self { ports, assignment, .. } = self;
        let mut target = ports.target().await?;
        let transforms = ports.transforms().await?;
        // A stream that cannot be opened is better known before hours of loading.
        let stream = ports.stream().await?;
        announce(target.guarantee().await?);
        let stored = target.load_state().await?;
        let tables = set.map(|set| &set.configuration.tables).into_iter().flatten();
        let tables = tables.map(|table| (table.schema().to_owned(), table.name.clone())).collect();
        let origins = Origins::new(tables, !transforms.is_empty());
        let loaded = if assignment.bootstrap || !is_loaded(stored.as_deref(), assignment)? {
            let dropped =
                || Error::configure(Code::SetAbsent, "the set was dropped: there are no rows to load the target from; create it again");
            Some(set.cloned().ok_or_else(dropped)?)
        } else {
            None
        };
        Ok(Open { stream, target, transforms, origins, stored, loaded })
    }

    async fn run(&mut self, open: Open<P>, stop: &mut Stop) -> Result<()> {
        let Self { ports, assignment, progress } = self;
        let Open { mut stream, mut target, mut transforms, mut origins, mut stored, loaded } = open;
        if let Some(set) = loaded {
            let (origin, loader) = ports.loader(&set).await?;
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
        let reader =
            Reader::resume(state, assignment.reader.clone()).map_err(|error| Error::stop(Code::StateUnreadable, error.to_string()))?;
        stream.seek(position.as_deref()).await?;
        run((stream, reader, assignment.part), (&mut target, origins), &mut transforms, stored, stop, progress).await
    }
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
