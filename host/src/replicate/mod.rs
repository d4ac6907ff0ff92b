//! Brings a set's changes into its target: one of the program's two loops, and the
//! bootstrap before it.
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
pub mod progress;
mod provenance;
mod reading;
pub mod run;
pub mod state;
mod work;

pub use provenance::Origins;
pub use reading::Part;
pub(crate) use reading::{place, situation};
pub use work::{Assignment, Worker};
