//! Brings a set's changes into its target: one of the program's two loops, the
//! bootstrap before it, and what keeps both running.
//!
//! ```text
//! Stream -> reading (decode, grammar) -> channel -> run (transforms, Target)
//! Loader -> channel -> bootstrap (transforms, Target)
//! ```
//!
//! Reading and applying run at the same time, on either side of a bounded
//! channel. Who applies never decides: [`proto::batch::step`] did.

mod ahead;
pub mod bootstrap;
pub mod lead;
pub mod progress;
mod provenance;
mod reading;
pub mod run;
pub mod state;
pub mod supervise;

use std::future::Future;

use proto::interfaces::common::{Snapshot, Source};

pub use provenance::Origins;
pub use reading::Part;
pub(crate) use reading::place;

use crate::error::Result;
use crate::ports::{Loader, Stream, Target, Transform};

/// Opens what an attempt needs, and opens it again for the next one: after an
/// error nothing that was open is used any more.
pub trait Plugins: Send {
    type Stream: Stream + 'static;
    type Loader: Loader + 'static;
    type Target: Target;
    type Transform: Transform;

    fn stream(&mut self) -> impl Future<Output = Result<Self::Stream>> + Send;
    fn target(&mut self) -> impl Future<Output = Result<Self::Target>> + Send;
    fn transforms(&mut self) -> impl Future<Output = Result<Vec<Self::Transform>>> + Send;

    /// Schema and name of the set's tables, as it is now; of one that was dropped, none.
    fn tables(&mut self) -> impl Future<Output = Result<Vec<(String, String)>>> + Send;

    /// Opens a snapshot of the set's database, and a loader of its rows.
    fn loader(&mut self) -> impl Future<Output = Result<(Origin, Self::Loader)>> + Send;
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
