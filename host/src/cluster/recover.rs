//! Ends what commands left behind that died: at the start of every command that
//! changes something, and on demand.

use std::collections::BTreeSet;
use std::time::Duration;

use super::apply;
use super::change::{Changer, first_dsn};
use super::pending::{InFlight, State, WHOLE_CLUSTER};
use crate::error::{Error, Next, Result};

/// How long a command that still runs is waited for.
const OWNER_TIMEOUT: Duration = Duration::from_secs(60);

impl Changer<'_> {
    /// Ends the changes of `name` and of the whole cluster that are in flight: waits
    /// for commands that still run, and finishes or undoes what others left. Says,
    /// in a sentence each, what it did.
    pub async fn settle(&self, name: &str) -> Result<Vec<String>> {
        let mut report = Vec::new();
        for name in BTreeSet::from([WHOLE_CLUSTER, name]) {
            if let Some(change) = self.cluster.find_in_flight(name).await? {
                report.push(self.resolve(change).await?);
            }
        }
        for line in &report {
            tracing::info!("recovered: {line}");
        }
        Ok(report)
    }

    /// Ends everything that is in flight in the cluster, and rolls back prepared
    /// transactions of changes that are over. What cannot be ended now is reported
    /// after all the rest was tried.
    pub async fn recover(&self) -> Result<Vec<String>> {
        let mut report = Vec::new();
        let mut failed: Option<Error> = None;
        let mut fail = |error: Error| match &mut failed {
            Some(first) => first.message = format!("{}\n{error}", first.message),
            None => failed = Some(error),
        };
        for change in self.cluster.in_flight().await? {
            match self.resolve(change).await {
                Ok(line) => report.push(line),
                Err(error) => fail(error),
            }
        }
        let mut dsns = BTreeSet::new();
        for name in self.cluster.set_names().await? {
            dsns.extend(self.cluster.find_set(&name).await?.map(|set| set.configuration.database.dsn));
        }
        for dsn in dsns {
            let rolled_back = match apply::connect(&dsn).await {
                Ok(client) => self.roll_back_orphans(&client).await,
                Err(error) => Err(error),
            };
            match rolled_back {
                Ok(gids) => {
                    report.extend(gids.iter().map(|gid| format!("rolled back the prepared transaction {gid}, whose change is over")))
                }
                Err(error) => fail(error),
            }
        }
        match failed {
            None => Ok(report),
            Some(error) => {
                for line in &report {
                    tracing::info!("recovered: {line}");
                }
                Err(error.context("not everything could be recovered"))
            }
        }
    }

    async fn resolve(&self, change: InFlight) -> Result<String> {
        let Some(change) = self.wait_for_owner(change).await? else {
            return Ok("a change ended by itself".to_owned());
        };
        let (verb, name) = (change.pending.verb(), &change.name);
        match change.pending.state() {
            State::Intended => {
                let client = apply::connect(first_dsn(&change)?).await.map_err(|error| {
                    Error { next: error.next, message: format!("the {verb} of {name:?} is in flight, and its database does not answer: {error}; if it is gone for good, run `set drop {name} --force`") }
                })?;
                match self.finish_one(&client, &change).await {
                    Ok(()) => Ok(format!("finished the {verb} of {name:?}")),
                    Err(error) if error.next == Next::Retry => Err(error.context(format!("cannot finish the {verb} of {name:?}"))),
                    Err(error) => Ok(format!("gave up the {verb} of {name:?}: {error}")),
                }
            }
            state => {
                if state == State::Preparing {
                    self.cluster.decide(&change, State::Aborted, Vec::new()).await?;
                }
                self.finish_several(&change).await?;
                let done = if state == State::Committed { "finished" } else { "undid" };
                Ok(format!("{done} the {verb} of {name:?}"))
            }
        }
    }

    /// The change as it is once the command that makes it has ended, or died.
    async fn wait_for_owner(&self, change: InFlight) -> Result<Option<InFlight>> {
        let started = tokio::time::Instant::now();
        let mut told = false;
        loop {
            let Some(now) = self.cluster.find_in_flight(&change.name).await?.filter(|now| now.epoch == change.epoch) else {
                return Ok(None);
            };
            if !now.owned {
                return Ok(Some(now));
            }
            if started.elapsed() > OWNER_TIMEOUT {
                return Err(Error::retry(format!(
                    "another command has been changing {:?} for more than {} s; wait for it, or end it, then try again",
                    change.name,
                    OWNER_TIMEOUT.as_secs()
                )));
            }
            if !told {
                tracing::info!("waiting for another command that changes {:?}", change.name);
                told = true;
            }
            self.cluster.owner_gone(&change.name, OWNER_TIMEOUT).await?;
        }
    }
}
