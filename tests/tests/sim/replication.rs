//! The world of a simulation, as far as the worker sees it.

use std::sync::Arc;

use pgshovel::error::Result;
use pgshovel::memory::{Faults, Loader, Log, Source, Store, Stream, Target, Transform};
use pgshovel::replicate::supervise::Assignment;
use pgshovel::replicate::{Origin, Part, Plugins};
use proto::batch::step::Options;
use rand::Rng;
use rand::rngs::StdRng;

pub const CLUSTER: &str = "cluster";
pub const SET: &str = "set";

/// What a worker is to do. Its parts are small, as batches are here, which take several
/// calls of the target.
pub fn assignment(bootstrap: bool, random: &mut StdRng) -> Assignment {
    Assignment {
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
}

impl Plugins for Memory {
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

    async fn tables(&mut self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    async fn loader(&mut self) -> Result<(Origin, Loader)> {
        let open = || {
            let (snapshot, loader) = Loader::open(&self.source, Arc::clone(&self.faults));
            Ok((Origin { source: self.source.source(), snapshot, opened_us: self.source.now_us() }, loader))
        };
        self.faults.around("loader.open", open).await
    }
}
