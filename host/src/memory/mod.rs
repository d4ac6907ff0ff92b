//! The ports in memory, for simulation: a source with transactions and
//! PgQ-like batches, a log, a target; and faults drawn from a seed.
//!
//! Nothing here reads a clock or draws from any other source of randomness, so
//! that a run is a function of its seed.

mod faults;
mod loader;
mod log;
mod queue;
mod registry;
mod session;
mod source;
mod stream;
mod target;
mod transform;
mod versions;
mod writer;

pub use faults::{Drawn, Faults, Rates};
pub use loader::Loader;
pub use log::Log;
pub use queue::Queue;
pub use registry::Registry;
pub use session::Reach;
pub use source::{Key, PLACE, Rows, Source, Table};
pub use stream::Stream;
pub use target::{Store, Target};
pub use transform::Transform;
pub use writer::{Broker, Writer};
