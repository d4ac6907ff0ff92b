//! Ends what commands left behind that died: at the start of every command that
//! changes something, from time to time beside every relay, and on demand.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use super::attempt;
use super::changer::{Attempts, Changer, Unobserved, first_dsn};
use crate::error::{Code, Error, Next, Result};
use crate::names;
use crate::postgres::connect;
use crate::registry::Ensemble;
use crate::registry::pending::{InFlight, Participant, State, WHOLE_CLUSTER};
use crate::registry::znode::Write;

/// How long a command that still runs is waited for.
const OWNER_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a relay looks for what was left behind.
const PERIOD: Duration = Duration::from_secs(15);

/// What was done about something that was left behind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Recovered {
    /// A change that had been decided on was made.
    Finished { change: &'static str, set: String },
    /// A change that had not been decided on was undone.
    Undone { change: &'static str, set: String },
    /// A change that its database does not take was given up.
    GivenUp { change: &'static str, set: String, reason: String },
    /// A transaction was prepared for a change that is over. `database` is a place,
    /// without user and password.
    RolledBack { gid: String, database: String },
}

impl Recovered {
    /// For a table: the outcome, the change, the set, and more.
    #[must_use]
    pub fn cells(&self) -> [&str; 4] {
        match self {
            Self::Finished { change, set } => ["finished", change, set, ""],
            Self::Undone { change, set } => ["undone", change, set, ""],
            Self::GivenUp { change, set, reason } => ["given up", change, set, reason],
            Self::RolledBack { gid, database: _ } => ["rolled back", "", "", gid],
        }
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { change, set } => write!(f, "finished the {change} of {set:?}"),
            Self::Undone { change, set } => write!(f, "undid the {change} of {set:?}"),
            Self::GivenUp { change, set, reason } => write!(f, "gave up the {change} of {set:?}: {reason}"),
            Self::RolledBack { gid, database } => {
                write!(f, "rolled back the prepared transaction {gid} at {database}, whose change is over")
            }
        }
    }
}

/// What a recovery did, and what it could not do now.
#[derive(Debug, Default)]
pub struct Recovery {
    pub done: Vec<Recovered>,
    pub failed: Option<Error>,
}

impl Recovery {
    fn note(&mut self, result: Result<impl IntoIterator<Item = Recovered>>) {
        match (result, &mut self.failed) {
            (Ok(done), _) => self.done.extend(done),
            (Err(error), Some(first)) => first.message = format!("{}\n{error}", first.message),
            (Err(error), none) => *none = Some(error),
        }
    }
}

impl Changer<'_> {
    /// Ends the changes of `name` and of the whole cluster that are in flight, or all
    /// of them if `name` is [`WHOLE_CLUSTER`]: waits for commands that still run, and
    /// finishes or undoes what others left.
    pub async fn settle(&self, name: &str) -> Result<Vec<Recovered>> {
        let mut done = Vec::new();
        let changes = if name == WHOLE_CLUSTER {
            self.cluster.in_flight().await?
        } else {
            // Others, which nobody may understand, hold nobody up.
            [self.cluster.find_in_flight(WHOLE_CLUSTER).await?, self.cluster.find_in_flight(name).await?].into_iter().flatten().collect()
        };
        for change in changes {
            done.extend(self.resolve(change).await?);
        }
        log(&done);
        Ok(done)
    }

    /// Ends everything that is in flight in the cluster, and rolls back prepared
    /// transactions of changes that are over. What cannot be ended now is told after
    /// all the rest was tried.
    pub async fn recover(&self) -> Result<Recovery> {
        let mut recovery = Recovery::default();
        for change in self.cluster.in_flight().await? {
            recovery.note(self.resolve(change).await);
        }
        let dsns: BTreeSet<String> = self.all_sets().await?.into_iter().map(|(_, set)| set.database.dsn).collect();
        for dsn in dsns {
            recovery.note(self.recover_database(&dsn).await);
        }
        recovery.failed = recovery.failed.map(|error| error.context("not everything could be recovered"));
        Ok(recovery)
    }

    async fn recover_database(&self, dsn: &str) -> Result<Vec<Recovered>> {
        let session = attempt::connect(dsn).await?;
        let database = connect::describe(&connect::parse(dsn)?);
        let gids = self.roll_back_orphans(&session).await?;
        Ok(gids.into_iter().map(|gid| Recovered::RolledBack { gid, database: database.clone() }).collect())
    }

    /// `None`: the command that made the change ended it.
    async fn resolve(&self, change: InFlight) -> Result<Option<Recovered>> {
        match self.wait_for_owner(change).await? {
            Some(change) => self.end(change).await.map(Some),
            None => Ok(None),
        }
    }

    /// Ends a change whose command is gone.
    async fn end(&self, change: InFlight) -> Result<Recovered> {
        let (verb, set) = (change.pending.verb(), change.name.clone());
        let cannot = |error: Error| error.context(format!("the {verb} of {set:?} is in flight, and cannot be ended"));
        self.check_places(&change).await.map_err(cannot)?;
        if change.pending.state() == State::Intended {
            return match self.finish_intended(&change).await {
                Ok(()) => Ok(Recovered::Finished { change: verb, set }),
                Err(error) if error.next == Next::Retry => Err(cannot(error)),
                Err(error) => Ok(Recovered::GivenUp { change: verb, set, reason: error.message }),
            };
        }
        if change.pending.state() == State::Preparing {
            self.cluster.decide(&change, State::Aborted, &[]).await.map_err(cannot)?;
        }
        // Whoever came first may have decided otherwise.
        let decided = self.cluster.find_again(&change).await.map_err(cannot)?.map(|change| change.pending.state());
        self.finish_several(&change).await.map_err(|error| hint(cannot(error), &set))?;
        Ok(match decided {
            Some(State::Committed) => Recovered::Finished { change: verb, set },
            _ => Recovered::Undone { change: verb, set },
        })
    }

    /// Refuses a change of databases that no set of the cluster is in, nor named by
    /// whoever runs the command, unless nobody but us can have written it: whoever writes
    /// to ZooKeeper is not to send us anywhere.
    pub(super) async fn check_places(&self, change: &InFlight) -> Result<()> {
        let of_set = if change.name == WHOLE_CLUSTER { "" } else { change.name.as_str() };
        let participants = &change.pending.participants;
        let own = |(index, participant): (usize, &Participant)| {
            participant.gid == names::gid(self.cluster_id(), of_set, &change.pending.change, index)
        };
        if change.pending.state() != State::Intended && !participants.iter().enumerate().all(own) {
            return Err(Error::configure(
                Code::ChangeUntrusted,
                format!("it names prepared transactions that are not its own; {}", self.removal(change).await?),
            ));
        }
        let sets = self.all_sets().await?;
        let place = |dsn: &str| {
            connect::parse(dsn).map_or_else(|_| "(not a valid connection string)".to_owned(), |config| connect::describe(&config))
        };
        let known = |dsn: &String| {
            sets.iter().any(|(_, set)| set.database.dsn == *dsn) || self.named.contains(dsn) || self.named.contains(&place(dsn))
        };
        let Some(stranger) = change.pending.participants.iter().find(|participant| !known(&participant.dsn)) else { return Ok(()) };
        if self.cluster.is_ours(&change.name).await? {
            return Ok(());
        }
        let (place, removal) = (place(&stranger.dsn), self.removal(change).await?);
        Err(Error::configure(
            Code::ChangeUntrusted,
            format!(
                "it names the database {place}, which no set of the cluster is in, and others than us may have written it: if it is yours, run \
             `cluster recover --allow-database {place}`, or the same command again; if not, {removal}. \
             With credentials for ZooKeeper (--zookeeper-auth-file) nobody else can write there"
            ),
        ))
    }

    /// How to be rid of a change that is somebody else's, and of nothing besides: to drop its set
    /// would do, if there is none of that name.
    async fn removal(&self, change: &InFlight) -> Result<String> {
        let exists = change.name == WHOLE_CLUSTER || self.cluster.find_set(&change.name).await?.is_some();
        Ok(if exists {
            format!("delete the node {} in ZooKeeper", self.cluster.pending_path(&change.name))
        } else {
            format!("`set drop {} --force` removes it", change.name)
        })
    }

    async fn finish_intended(&self, change: &InFlight) -> Result<()> {
        if change.pending.participants.is_empty() {
            // A set whose database is gone is being dropped.
            let delete = change.pending.revision.map(|revision| Write::Delete(self.cluster.set_path(&change.name), Some(revision)));
            return self.cluster.finish(change, delete.as_slice()).await;
        }
        let session = attempt::connect(first_dsn(change)?).await.map_err(|error| hint(error.but(Next::Retry), &change.name))?;
        self.finish_one(&session, change).await
    }

    /// The change as it is once the command that makes it has ended, or died.
    async fn wait_for_owner(&self, change: InFlight) -> Result<Option<InFlight>> {
        let started = tokio::time::Instant::now();
        let mut told = false;
        loop {
            let Some(now) = self.cluster.find_again(&change).await? else { return Ok(None) };
            if !now.owned {
                return Ok(Some(now));
            }
            if started.elapsed() > OWNER_TIMEOUT {
                return Err(Error::retry(
                    Code::ChangeUnderWay,
                    format!(
                        "another command has been changing {:?} for more than {} s; wait for it, or end it, then try again",
                        change.name,
                        OWNER_TIMEOUT.as_secs()
                    ),
                ));
            }
            if !told {
                tracing::info!("waiting for another command that changes {:?}", change.name);
                told = true;
            }
            self.cluster.owner_gone(&change.name, OWNER_TIMEOUT).await?;
        }
    }
}

/// Ends what commands leave behind that die, for as long as it is not dropped. Waits
/// for nothing: what is in the way is tried again after [`PERIOD`].
pub async fn keep_watch(ensemble: &Ensemble, cluster: &str) -> Infallible {
    loop {
        let Err(error) = watch(ensemble, cluster).await;
        // Whoever cannot do without ZooKeeper says so.
        tracing::debug!(code = %error.code, %error, "what was left behind cannot be looked for");
        tokio::time::sleep(PERIOD).await;
    }
}

async fn watch(ensemble: &Ensemble, cluster: &str) -> Result<Infallible> {
    let cluster = ensemble.connect(cluster).await?;
    let mut refused = BTreeSet::new();
    loop {
        let configuration = cluster.configuration().await?;
        let changer = Changer { attempts: Attempts::one, ..Changer::new(&cluster, &configuration, &Unobserved) };
        for change in cluster.in_flight().await?.into_iter().filter(|change| !change.owned) {
            let epoch = change.epoch;
            match changer.end(change).await {
                Ok(done) => log(&[done]),
                // Once for each.
                Err(error) if error.next == Next::Configure && refused.insert(epoch) => {
                    tracing::warn!(code = %error.code, %error, "what stands in ZooKeeper is not done");
                }
                Err(error) => tracing::info!(code = %error.code, %error, "what a command left behind is tried again later"),
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn log(done: &[Recovered]) {
    for done in done {
        tracing::info!("recovered: {done}");
    }
}

/// For a command line.
fn set_or_any(name: &str) -> &str {
    if name == WHOLE_CLUSTER { "SET" } else { name }
}

fn hint(error: Error, set: &str) -> Error {
    let set = set_or_any(set);
    error.and(format!("if the database is gone for good, run `set drop {set} --force`"))
}
