//! The registry, as the supervisor needs it: what a set is, and which process leads.

use std::fmt;
use std::future::Future;

use proto::interfaces::configurations::ReplicationSetConfiguration;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Next, Result};

/// What a process leads in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Relay,
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relay => "relay",
            Self::Worker => "worker",
        })
    }
}

/// Names one state of a stored set: a version alone starts again when the set is
/// dropped and created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    pub created: i64,
    pub version: i32,
}

/// A set's configuration and what it was when it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSet {
    pub name: String,
    pub configuration: ReplicationSetConfiguration,
    /// Names what the configuration captures.
    pub version: String,
    pub revision: Revision,
}

/// What became of a watched set.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Its configuration is now this one.
    Changed(StoredSet),
    /// It was dropped.
    Dropped,
}

/// Makes sessions with the registry.
pub trait Registry: Send + Sync {
    type Session: Session;

    /// Begins a session. `Configure` if there is no such cluster, or if it is of a version that
    /// this program does not speak; `Retry` if no server answers.
    fn connect(&self, cluster: &str) -> impl Future<Output = Result<Self::Session>> + Send;
}

/// A session with the registry. Once it is over every call fails with `Retry`: begin another.
pub trait Session: Send + Sync {
    type Lease: Lease;
    type Watch: Watch;

    /// The set; `Configure`, with the names that there are, if there is none of this name.
    fn set(&self, name: &str) -> impl Future<Output = Result<StoredSet>> + Send;

    /// The set; `None` if there is none of this name.
    fn find_set(&self, name: &str) -> impl Future<Output = Result<Option<StoredSet>>> + Send;

    /// Logs a warning if strangers may change what the registry holds of the cluster.
    fn tell_if_open(&self) -> impl Future<Output = Result<()>> + Send;

    /// Watches what becomes of `set` since it was read.
    fn watch(&self, set: StoredSet) -> Self::Watch;

    /// Waits in line until this process leads `role` of `set`; `standing_by` is called if
    /// another one does. Dropping the future leaves the line. `Retry` when the session is lost.
    fn acquire(&self, set: &str, role: Role, standing_by: impl FnOnce() + Send) -> impl Future<Output = Result<Self::Lease>> + Send;
}

/// Leadership of one role of one set, until it is released, dropped or lost.
pub trait Lease: Send + Sync {
    /// Greater than the epoch of every leader before this one, for as long as the registry has
    /// its data: one that was made anew or restored begins lower.
    fn epoch(&self) -> u64;

    /// Whether the lease is still held. Once false it stays false.
    fn is_held(&self) -> bool;

    /// Returns when the lease is lost, before another process can have taken it over, as far
    /// as clocks run alike.
    fn lost(&self) -> impl Future<Output = ()> + Send;

    /// Whether the registry says so, too. False if it does not answer.
    fn is_confirmed(&self) -> impl Future<Output = bool> + Send;

    /// Shows this to whoever asks the registry how the leader is.
    fn report(&self, report: &Report) -> impl Future<Output = Result<()>> + Send;

    /// Ends the lease at once, so that a standby need not wait for the end of the session.
    fn release(self) -> impl Future<Output = Result<()>> + Send;

    /// What `error` of the work under this lease means. A process that was away for long, and
    /// does not know yet that another one leads, is refused by whatever that one has taken over:
    /// it is to wait for its turn (`Retry`), not to end.
    fn judge(&self, error: Error) -> impl Future<Output = Error> + Send {
        async move {
            match error.next {
                Next::Retry | Next::Blocked | Next::Trap => error,
                _ if self.is_confirmed().await => error,
                _ => Error::retry(Code::LeadershipLost, format!("leadership of the set was lost, and then: {error}")),
            }
        }
    }
}

/// Tells of changes that an administrator makes to a set.
pub trait Watch: Send {
    /// Waits for the next change. Changes that follow each other fast are seen as one. Can be
    /// dropped and called again without missing any. `Configure` when the cluster is gone, closed
    /// to us, or of a version that this program does not speak; `Retry` when the session is lost.
    fn changed(&mut self) -> impl Future<Output = Result<Change>> + Send;
}

/// What the registry shows of a leader. It has no text but names of this program's own, since
/// others may read the registry: no error, no name of a table, no value of a row.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub state: Condition,
    /// In that state since then: seconds since 1970.
    pub since: u64,
    /// The last tick of the last batch that was done.
    pub tick: Option<u64>,
}

/// How a leader is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It is about to work, or to end.
    Starting,
    Working,
    /// It waits for what passes, such as a server that is away.
    Waiting,
    /// It waits for what a person has to mend.
    Blocked,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
        })
    }
}
