//! How a supervisor opens ports, anew for each attempt: after an error nothing that was open
//! is used any more.

use std::convert::Infallible;
use std::future::Future;

use proto::interfaces::common::{Snapshot, Source};

use super::registry::StoredSet;
use super::{Loader, Queue, Stream, Target, Transform, Writer};
use crate::error::Result;

/// Opens the ports of a relay.
pub trait RelayPorts: Send {
    type Queue: Queue;
    type Writer: Writer;

    /// Takes the queue of `set` under an epoch of at least `epoch_min`, once `leads` confirms
    /// that this process leads: whoever had the queue ends no batch any more.
    fn queue(
        &mut self,
        set: &StoredSet,
        epoch_min: u64,
        leads: impl Future<Output = bool> + Send,
    ) -> impl Future<Output = Result<Self::Queue>> + Send;

    /// Opens the stream to write to it, and ends whoever wrote before.
    fn writer(&mut self) -> impl Future<Output = Result<Self::Writer>> + Send;

    /// Whether `writer` would succeed, as far as can be told without taking the stream.
    fn check_writer(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Whether `queue` would succeed, as far as can be told without taking the queue.
    fn check_queue(&mut self, set: &StoredSet) -> impl Future<Output = Result<()>> + Send;

    /// Looks at the queue from time to time: the relay that leads may be stuck.
    fn look(&self, set: &StoredSet) -> impl Future<Output = Infallible> + Send + use<Self>;
}

/// Opens the ports of a worker.
pub trait WorkerPorts: Send {
    type Stream: Stream + 'static;
    type Loader: Loader + 'static;
    type Target: Target;
    type Transform: Transform;

    fn stream(&mut self) -> impl Future<Output = Result<Self::Stream>> + Send;
    fn target(&mut self) -> impl Future<Output = Result<Self::Target>> + Send;
    fn transforms(&mut self) -> impl Future<Output = Result<Vec<Self::Transform>>> + Send;

    /// Opens a snapshot of the set's database, and a loader of its rows.
    fn loader(&mut self, set: &StoredSet) -> impl Future<Output = Result<(Origin, Self::Loader)>> + Send;
}

/// What a loader's rows are.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The database that they are from.
    pub source: Source,
    /// The transactions that they contain.
    pub snapshot: Snapshot,
    /// When they were opened, by the source's clock, in microseconds since 1970.
    pub opened_us: i64,
}
