//! A change of one database: intent, commit, confirm. The intent in ZooKeeper
//! says what will be; one ordinary transaction does it; ZooKeeper then takes it
//! over. Whoever finds the intent of a command that died finishes it.

use std::time::Duration;

use proto::interfaces::configurations::ReplicationSetConfiguration;

use super::attempt::{self, End, Outcome, Task, attempt};
use super::changer::{Changer, busy, first_dsn};
use crate::error::{Code, Error, Next, Result};
use crate::postgres::catalog::{self, Facts};
use crate::postgres::connect::{Session, explain};
use crate::postgres::schema;
use crate::registry::StoredSet;
use crate::registry::pending::{InFlight, Participant, State};
use crate::registry::znode::Write;

/// How often a connection that broke in the middle of a change is made anew.
const RECONNECTS_MAX: u32 = 5;

impl Changer<'_> {
    /// Changes a set in one database, that of `session`: creates, updates or drops it.
    pub(super) async fn change_one(
        &self,
        session: Session,
        dsn: &str,
        name: &str,
        before: Option<&StoredSet>,
        after: Option<&ReplicationSetConfiguration>,
    ) -> Result<()> {
        let participants = vec![Participant { dsn: dsn.to_owned(), gid: String::new() }];
        let change = self.begin(name, State::Intended, before, after, participants).await?;
        self.observer.reached("intended").await;
        self.carry_out(session, &change).await
    }

    /// Does and confirms a change of one database, and survives a broken connection.
    pub(super) async fn carry_out(&self, session: Session, change: &InFlight) -> Result<()> {
        let mut session = session;
        for _ in 0..RECONNECTS_MAX {
            let error = match self.finish_one(&session, change).await {
                Err(error) if error.next == Next::Retry => error,
                result => return result,
            };
            if !session.is_closed() {
                // Something is in the way: nobody is to wait for it any longer.
                return match self.give_up(&session, change).await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(error),
                    Err(_) => Err(self.left_in_flight(change, error)),
                };
            }
            tracing::warn!(code = %error.code, %error, "the connection broke in the middle of a change; connecting again");
            tokio::time::sleep(Duration::from_millis(500)).await;
            session = attempt::connect(first_dsn(change)?).await.map_err(|error| self.left_in_flight(change, error))?;
        }
        Err(self.left_in_flight(change, Error::retry(Code::DatabaseAway, "the connection to the database breaks again and again")))
    }

    /// Does a change of one database, and confirms it; or gives it up when the
    /// database refuses it for good. Can be repeated after `Retry`.
    pub(super) async fn finish_one(&self, session: &Session, change: &InFlight) -> Result<()> {
        let pending = &change.pending;
        let sets = if pending.upgrade.is_some() { self.all_sets().await? } else { Vec::new() };
        let task = match &pending.after {
            _ if pending.upgrade.is_some() => Task::Refresh(&sets),
            Some(wanted) => Task::Capture(&change.name, wanted),
            None => Task::Remove(&change.name),
        };
        match self.apply(session, change, task).await {
            Ok(Outcome::Done) => {
                self.observer.reached("committed").await;
                self.cluster.finish(change, &[self.last_write(change)?]).await?;
                self.observer.reached("confirmed").await;
                Ok(())
            }
            Ok(Outcome::Over) => self.look_what_became(change).await,
            Err(error) if error.next == Next::Retry => Err(error),
            Err(error) => match self.give_up(session, change).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(error),
                Err(other) => Err(error.and(format!("and it could not be given up: {other}")).but(other.next)),
            },
        }
    }

    async fn apply(&self, session: &Session, change: &InFlight, task: Task<'_>) -> Result<Outcome> {
        let mut attempts = (self.attempts)();
        loop {
            match attempt(self, session, change, task, End::Commit).await {
                Err(error) if error.next == Next::Retry && !session.is_closed() => attempts.after(error).await?,
                result => return result,
            }
        }
    }

    /// Ends a change that its database does not take. Under the lock, so that nobody
    /// is about to make it. If it was made after all it is confirmed: true.
    async fn give_up(&self, session: &Session, change: &InFlight) -> Result<bool> {
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '10s'; {}", schema::lock(self.cluster.name()));
        let execute =
            async |sql: &str| session.batch_execute(sql).await.map_err(|error| explain(&error).context("cannot give the change up"));
        session.answered(execute(&begin)).await?;
        let facts = session.answered(catalog::read(session, self.cluster.name(), &change.name, None)).await;
        let made = facts.as_ref().is_ok_and(|facts| self.is_made(change, facts));
        let also = if made { vec![self.last_write(change)?] } else { Vec::new() };
        let finished = self.cluster.finish(change, &also).await;
        session.answered(execute("ROLLBACK")).await?;
        finished.map(|()| made)
    }

    /// Whether the database is as the change of it was to leave it.
    fn is_made(&self, change: &InFlight, facts: &Facts) -> bool {
        let managed = facts.managed.as_ref();
        match (&change.pending.upgrade, &change.pending.after) {
            (Some(version), _) => {
                let stored = managed.and_then(|managed| managed.node.as_ref()).map(|(_, _, version)| version);
                *version != self.configuration.version && stored == Some(version)
            }
            (None, Some(_)) => managed.and_then(|managed| managed.set.as_ref()).is_some_and(|(_, id, _)| *id == change.pending.change),
            (None, None) => managed.is_none_or(|managed| managed.may_use && managed.set.is_none()),
        }
    }

    /// Another command finished our change, or gave it up.
    async fn look_what_became(&self, change: &InFlight) -> Result<()> {
        if let Some(version) = &change.pending.upgrade
            && self.cluster.configuration_of_any_version().await?.version == *version
        {
            return Ok(());
        }
        let now = self.cluster.find_set(&change.name).await?.map(|set| set.configuration);
        if now == change.pending.after {
            return Ok(());
        }
        Err(Error::stop(
            Code::ChangedMeanwhile,
            format!("the {} of {:?} was given up by another command; see `set inspect`, and try again", change.pending.verb(), change.name),
        ))
    }

    /// Drops a set from ZooKeeper alone, with what is in flight of it: its database
    /// is gone.
    pub(super) async fn forget(&self, name: &str) -> Result<()> {
        let set = self.cluster.find_set(name).await?;
        let change = match self.cluster.find_in_flight(name).await? {
            Some(change) if change.owned => return Err(busy(name)),
            Some(change) => change,
            None => self.begin(name, State::Intended, set.as_ref(), None, Vec::new()).await?,
        };
        self.observer.reached("intended").await;
        let delete = set.map(|set| Write::Delete(self.cluster.set_path(name), Some(set.revision.version)));
        self.cluster.finish(&change, delete.as_slice()).await
    }
}
