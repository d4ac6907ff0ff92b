//! What the supervisor is given: whose work it is, how its role is treated, and what it does.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use crate::error::Result;
use crate::observe::Status;
use crate::ports::registry::{Lease, Role, StoredSet};
use crate::stop::Stop;

/// Whose work it is.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub cluster: String,
    pub set: String,
    /// How long what is under way may take to end once the set was dropped or moved.
    pub grace: Duration,
}

/// How the supervisor treats a role.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub role: Role,
    /// The work ends when the set is dropped, and goes on in another database when the set is
    /// moved there. Otherwise the set has to exist at first, and may be dropped later.
    pub follows_set: bool,
    /// An attempt that failed keeps its leadership for the next one. Otherwise it gives it back,
    /// so that the next one has a higher epoch.
    pub keeps_leading: bool,
}

/// What a role does while it leads.
pub trait Work: Send {
    const RULES: Rules;

    /// What one attempt has open.
    type Open: Send;

    fn status(&self) -> &Status;

    /// How much became durable so far: attempts between which it does not grow are failures in a row.
    fn durable(&self) -> u64;

    /// Whether this process could lead: opens what its configuration names, and takes nothing
    /// from the process that leads. What may pass is `Retry`.
    fn check(&mut self, set: Option<&StoredSet>) -> impl Future<Output = Result<()>> + Send;

    /// What there is to do beside that while another process leads.
    fn stand_by(&self, set: Option<&StoredSet>) -> impl Future<Output = Infallible> + Send + use<Self>;

    /// Opens all that an attempt needs, and takes it from whoever led before. `set` is as it is
    /// now. Dropping the future gives up.
    fn open(&mut self, set: Option<&StoredSet>, lease: &impl Lease) -> impl Future<Output = Result<Self::Open>> + Send;

    /// Works until `stop` is requested, or an error. Dropping the future ends it where it is.
    fn run(&mut self, open: Self::Open, stop: &mut Stop) -> impl Future<Output = Result<()>> + Send;
}
