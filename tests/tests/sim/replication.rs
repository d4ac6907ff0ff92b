//! The world of a simulation, as far as processes see it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pgshovel::error::Result;
use pgshovel::memory::{Broker, Faults, Loader, Log, Queue, Reach, Registry, Source, Store, Stream, Target, Transform, Writer};
use pgshovel::ports::opening::{Origin, RelayPorts, WorkerPorts};
use pgshovel::ports::registry::{Role, StoredSet};
use pgshovel::replicate::{self, Part};
use pgshovel::supervise::Assignment;
use proto::batch::step::Options;
use rand::Rng;
use rand::rngs::StdRng;

pub const CLUSTER: &str = "cluster";
pub const SET: &str = "set";

/// Whose work all processes do.
pub fn assigned() -> Assignment {
    Assignment { cluster: CLUSTER.into(), set: SET.into(), grace: Duration::from_secs(10) }
}

/// What a worker is to do. Its parts are small, as batches are here, which take several
/// calls of the target.
pub fn assignment(bootstrap: bool, random: &mut StdRng) -> replicate::Assignment {
    replicate::Assignment {
        cluster: CLUSTER.into(),
        set: SET.into(),
        bootstrap,
        reader: Options { owner: Some((CLUSTER.into(), SET.into())), ..Options::default() },
        part: Part { rows_max: random.random_range(1..10), ..Part::default() },
    }
}

/// Opens the ports of one worker.
#[derive(Clone)]
pub struct Memory {
    pub source: Arc<Source>,
    pub log: Arc<Log>,
    pub store: Arc<Store>,
    pub faults: Arc<Faults>,
    pub registry: Arc<Registry>,
}

impl Memory {
    pub fn reach(&self) -> Reach {
        Reach { registry: Arc::clone(&self.registry), faults: Arc::clone(&self.faults) }
    }
}

impl WorkerPorts for Memory {
    type Stream = Stream;
    type Loader = Loader;
    type Target = Target;
    type Transform = Transform;

    async fn stream(&mut self) -> Result<Stream> {
        self.faults.around("stream.open", || Ok(Stream::new(Arc::clone(&self.log), Arc::clone(&self.faults)))).await
    }

    async fn target(&mut self) -> Result<Target> {
        self.faults.around("target.open", || Ok(Target::new(Arc::clone(&self.store), Arc::clone(&self.faults)))).await
    }

    async fn transforms(&mut self) -> Result<Vec<Transform>> {
        self.faults.around("transform.open", || Ok(vec![Transform::new(Arc::clone(&self.faults))])).await
    }

    async fn loader(&mut self, _set: &StoredSet) -> Result<(Origin, Loader)> {
        let open = || {
            let (snapshot, loader) = Loader::open(&self.source, Arc::clone(&self.faults));
            Ok((Origin { source: self.source.source(), snapshot, opened_us: self.source.now_us() }, loader))
        };
        self.faults.around("loader.open", open).await
    }
}

/// Opens the ports of one relay.
pub struct Publishing {
    pub source: Arc<Source>,
    pub broker: Arc<Broker>,
    pub faults: Arc<Faults>,
    pub registry: Arc<Registry>,
    pub random: StdRng,
    /// Both were open once.
    pub opened: bool,
}

impl Publishing {
    pub fn reach(&self) -> Reach {
        Reach { registry: Arc::clone(&self.registry), faults: Arc::clone(&self.faults) }
    }
}

impl RelayPorts for Publishing {
    type Queue = Queue;
    type Writer = Writer;

    async fn queue(&mut self, set: &StoredSet, epoch_min: u64, leads: impl Future<Output = bool> + Send) -> Result<Queue> {
        let (reach, faults) = (self.reach(), Arc::clone(&self.faults));
        let leads = async {
            let leads = leads.await;
            if leads && !reach.leads(Role::Relay) {
                faults.trespass("a queue was taken by a relay that does not lead");
            }
            leads
        };
        // The transaction that opened the batch may not have committed.
        let batch_id = self.random.random_range(1..1000);
        let place = &set.configuration.database.dsn;
        Queue::open(Arc::clone(&self.source), Arc::clone(&self.faults), place, batch_id, epoch_min, leads).await
    }

    async fn writer(&mut self) -> Result<Writer> {
        let writer = self.faults.around("writer.open", || Ok(Writer::new(Arc::clone(&self.broker), Arc::clone(&self.faults)))).await?;
        self.opened = true;
        Ok(writer)
    }

    async fn check_writer(&mut self) -> Result<()> {
        Ok(())
    }

    async fn check_queue(&mut self, set: &StoredSet) -> Result<()> {
        self.source.check_place(&set.configuration.database.dsn)
    }

    fn look(&self, _set: &StoredSet) -> impl Future<Output = Infallible> + Send + use<> {
        std::future::pending()
    }
}
