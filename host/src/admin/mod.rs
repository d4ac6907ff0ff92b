//! What the commands on sets do: look, refuse or get ready, then show the steps
//! or take them.

pub mod changer;
pub mod recover;
pub mod several;
pub mod validate;

mod attempt;
mod one;
mod plan;
pub mod script;

use prost::Message as _;
use proto::interfaces::configurations::ReplicationSetConfiguration;

use crate::error::{Code, Error, Result};
use crate::names;
use crate::observe::fault;
use crate::postgres::catalog::{self, Facts};
use crate::postgres::connect::Session;
use crate::postgres::{connect, node, secret, trust};
use crate::registry::{self, StoredSet, set};
use changer::Changer;
use several::Database;

/// What fits twice into one write: ZooKeeper takes less than 1 MiB (`jute.maxbuffer`).
const CONFIGURATION_BYTES_MAX: usize = 500_000;

/// A change that was looked at, found possible, and not begun.
#[derive(Debug)]
pub struct Ready {
    name: String,
    before: Option<StoredSet>,
    after: Option<ReplicationSetConfiguration>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    One(Box<Site>),
    /// From the first database to the second.
    Move(Box<Site>, Box<Site>),
    /// The database is gone: only ZooKeeper changes.
    Nowhere,
}

#[derive(Debug)]
struct Site {
    dsn: String,
    session: Session,
    facts: Facts,
}

impl Ready {
    /// What the workers of the set have to be told once the change is made, or nothing.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        let (before, after) = (&self.before.as_ref()?.configuration, self.after.as_ref()?);
        let mut advice = Vec::new();
        if let Place::Move(..) = &self.place {
            advice.push("The set is in another database: its workers stop, and say how to start them again, with --allow-node if it is a copy of the old one, or --bootstrap.".to_owned());
        }
        let additions = set::additions(before, after);
        if !additions.is_empty() && advice.is_empty() {
            advice.push(format!(
                "Added: {}. Changes are captured from now on; rows from before come into a target only when its worker is started again with --bootstrap.",
                additions.join(", ")
            ));
        }
        if let Place::One(site) = &self.place {
            let tables = fault::tables(&site.facts.faults);
            if !tables.is_empty() {
                advice.push(format!(
                    "Triggers were not as they had to be, and are again. Which changes of {} are missing from the stream meanwhile is unknown: start the workers again with --bootstrap.",
                    tables.join(", ")
                ));
            }
        }
        (!advice.is_empty()).then(|| advice.join("\n"))
    }
}

impl Changer<'_> {
    /// Gets ready to create a set. Changes nothing, except that it ends what a
    /// command that died left of the set.
    pub async fn create(&self, name: &str, after: ReplicationSetConfiguration) -> Result<Ready> {
        names::check_set(name)?;
        refuse_mask(&after)?;
        check_size(&after)?;
        self.naming(std::slice::from_ref(&after.database.dsn)).settle(name).await?;
        if self.cluster.find_set(name).await?.is_some() {
            return Err(Error::configure(
                Code::SetExists,
                format!("the set {name:?} exists already; see `set inspect {name}`, change it with `set update {name}`"),
            ));
        }
        let site = self.site(name, &after.database.dsn, Some(&after)).await?;
        self.check(name, &after, &site)?;
        Ok(Ready { name: name.to_owned(), before: None, after: Some(after), place: Place::One(site) })
    }

    /// Gets ready to change a set. `version` is the one it must have now.
    pub async fn update(&self, name: &str, version: Option<&str>, after: ReplicationSetConfiguration) -> Result<Ready> {
        refuse_mask(&after)?;
        check_size(&after)?;
        let before = self.naming(std::slice::from_ref(&after.database.dsn)).current(name, version).await?;
        let site = self.site(name, &after.database.dsn, Some(&after)).await?;
        self.check(name, &after, &site)?;
        let place = if before.configuration.database.dsn == after.database.dsn || holds(&site) {
            Place::One(site)
        } else {
            let old = self.site(name, &before.configuration.database.dsn, None).await.map_err(|error| {
                error.context(format!("the set {name:?} would move to another database, and the one it is in must take part"))
            })?;
            if server(&old.session).await? == server(&site.session).await? {
                Place::One(site)
            } else {
                for site in [&old, &site] {
                    check_prepared(site)?;
                }
                Place::Move(old, site)
            }
        };
        Ok(Ready { name: name.to_owned(), before: Some(before), after: Some(after), place })
    }

    /// Gets ready to drop a set. With `force`, also if its database is gone.
    pub async fn drop(&self, name: &str, version: Option<&str>, force: bool) -> Result<Ready> {
        if force {
            self.abandon_unanswered(name).await?;
            let before = self.find_current(name, version).await?;
            let change = self.cluster.find_in_flight(name).await?;
            let place = match &change {
                Some(change) => self.check_places(change).await,
                None => Ok(()),
            };
            let site = match (&before, place) {
                (Some(set), Ok(())) => self.site(name, &set.configuration.database.dsn, None).await,
                (None, Ok(())) if change.is_none() => {
                    return Err(Error::configure(
                        Code::SetAbsent,
                        format!("the set {name:?} does not exist, nor is a change of it in flight"),
                    ));
                }
                (None, Ok(())) => Err(Error::stop(Code::ChangeUntrusted, "what is in flight is no change of a set")),
                (_, Err(stranger)) => Err(stranger),
            };
            return match site {
                Ok(site) => {
                    let before = Some(self.current(name, version).await?);
                    Ok(Ready { name: name.to_owned(), before, after: None, place: Place::One(site) })
                }
                Err(error) => {
                    tracing::warn!(code = %error.code, %error, "the set is dropped without its database");
                    Ok(Ready { name: name.to_owned(), before, after: None, place: Place::Nowhere })
                }
            };
        }
        let before = self.current(name, version).await?;
        let site = self
            .site(name, &before.configuration.database.dsn, None)
            .await
            .map_err(|error| error.and(format!("if the database is gone for good, run `set drop {name} --force`")))?;
        Ok(Ready { name: name.to_owned(), before: Some(before), after: None, place: Place::One(site) })
    }

    /// Ends a change of several databases, of which some may be gone for good.
    async fn abandon_unanswered(&self, name: &str) -> Result<()> {
        names::check_set(name)?;
        match self.settle(name).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(code = %error.code, %error, "what is in flight cannot be settled");
                self.abandon(name).await
            }
        }
    }

    /// Takes the steps.
    pub async fn run(&self, ready: Ready) -> Result<()> {
        let Ready { name, before, after, place } = ready;
        if let (Place::One(site) | Place::Move(_, site), Some(_)) = (&place, &after) {
            attempt::create_role(&site.session, self.cluster.name()).await?;
        }
        match (place, before, &after) {
            (Place::One(site), before, after) => self.change_one(site.session, &site.dsn, &name, before.as_ref(), after.as_ref()).await?,
            (Place::Move(old, new), Some(before), Some(after)) => self.move_set(&before, after, old.session, new.session).await?,
            (Place::Nowhere, _, None) => self.forget(&name).await?,
            _ => return Err(Error::bug("a change without a set")),
        }
        if after.is_none() {
            self.cluster.remove_leaders(&name).await;
        }
        Ok(())
    }

    /// The set as it is, after what was left of other changes is ended.
    async fn current(&self, name: &str, version: Option<&str>) -> Result<StoredSet> {
        names::check_set(name)?;
        self.settle(name).await?;
        check_version(self.cluster.set(name).await?, version)
    }

    /// The set as it is, or as it was before a change that is in flight.
    async fn find_current(&self, name: &str, version: Option<&str>) -> Result<Option<StoredSet>> {
        names::check_set(name)?;
        if let Some(found) = self.cluster.find_set(name).await? {
            return check_version(found, version).map(Some);
        }
        let Some(change) = self.cluster.find_in_flight(name).await? else { return Ok(None) };
        let Some(configuration) = change.pending.after else { return Ok(None) };
        let revision = registry::Revision { created: 0, version: 0 };
        Ok(Some(StoredSet { name: name.to_owned(), version: set::version(&configuration), configuration, revision }))
    }

    async fn site(&self, name: &str, dsn: &str, wanted: Option<&ReplicationSetConfiguration>) -> Result<Box<Site>> {
        let session = attempt::connect(dsn).await?;
        for gid in self.roll_back_orphans(&session).await? {
            tracing::info!("recovered: rolled back the prepared transaction {gid}, whose change is over");
        }
        let facts = session.answered(catalog::read(&session, self.cluster.name(), name, wanted)).await?;
        Ok(Box::new(Site { dsn: dsn.to_owned(), session, facts }))
    }

    fn check(&self, name: &str, wanted: &ReplicationSetConfiguration, site: &Site) -> Result<()> {
        let problems = validate::problems(self.cluster.name(), name, self.cluster_id(), wanted, &site.facts);
        if problems.is_empty() { Ok(()) } else { Err(validate::refuse(name, &problems)) }
    }
}

/// The set is captured in the database: it is the one it was created in, whatever
/// it is called now.
fn holds(site: &Site) -> bool {
    site.facts.managed.as_ref().is_some_and(|managed| managed.set.is_some())
}

fn check_prepared(site: &Site) -> Result<()> {
    if site.facts.prepared_max > 0 {
        return Ok(());
    }
    let place = connect::describe(&connect::parse(&site.dsn)?);
    Err(Error::configure(
        Code::TwoPhaseOff,
        format!(
            "a set moves from database to database by two-phase commit, and the server at {place} allows none: set max_prepared_transactions to 1 or more and restart it, or drop the set and create it again"
        ),
    ))
}

fn check_version(found: StoredSet, wanted: Option<&str>) -> Result<StoredSet> {
    match wanted {
        Some(wanted) if wanted != found.version => Err(Error::stop(
            Code::ChangedMeanwhile,
            format!(
                "the set {:?} is of version {}, not {wanted}: it was changed meanwhile; look at it again with `set inspect {}`",
                found.name, found.version, found.name
            ),
        )),
        _ => Ok(found),
    }
}

fn refuse_mask(configuration: &ReplicationSetConfiguration) -> Result<()> {
    if secret::is_masked(&configuration.database.dsn) {
        return Err(Error::configure(
            Code::PasswordExposed,
            format!(
                "database.dsn: the password is the mask {}, which `set inspect` prints in its place; print it with --show-secrets, or leave the password to PGPASSWORD or a password file",
                secret::MASK
            ),
        ));
    }
    Ok(())
}

/// A write that decides a move holds the configuration twice.
fn check_size(configuration: &ReplicationSetConfiguration) -> Result<()> {
    let bytes = configuration.encoded_len();
    if bytes <= CONFIGURATION_BYTES_MAX {
        return Ok(());
    }
    Err(Error::configure(
        Code::ConfigurationTooLarge,
        format!(
            "the configuration takes {bytes} bytes in ZooKeeper, and {CONFIGURATION_BYTES_MAX} is the most that pass through it: name fewer tables or columns, or make two sets"
        ),
    ))
}

/// Runs statements that grant rights, all or none.
pub async fn grant(dsn: &str, statements: &[String]) -> Result<()> {
    let session = attempt::connect(dsn).await?;
    attempt::grant(&session, &statements.join(";\n")).await
}

/// See [`trust::advice`].
pub async fn advice_on_pgq(dsn: &str) -> Result<Option<String>> {
    let session = attempt::connect(dsn).await?;
    session.answered(trust::advice(&session)).await
}

/// The databases of all sets, each once, whatever their connection strings say.
pub async fn databases(changer: &Changer<'_>) -> Result<Vec<Database>> {
    let mut databases: Vec<(node::Server, Database)> = Vec::new();
    for (name, configuration) in changer.all_sets().await? {
        let dsn = configuration.database.dsn.clone();
        if let Some((_, database)) = databases.iter_mut().find(|(_, database)| database.dsn == dsn) {
            database.sets.push((name, configuration));
            continue;
        }
        let session = attempt::connect(&dsn).await.map_err(|error| error.context(format!("the set {name:?}")))?;
        let server = server(&session).await?;
        match databases.iter_mut().find(|(other, _)| *other == server) {
            Some((_, database)) => database.sets.push((name, configuration)),
            None => databases.push((server, Database { dsn, session, sets: vec![(name, configuration)] })),
        }
    }
    Ok(databases.into_iter().map(|(_, database)| database).collect())
}

async fn server(session: &Session) -> Result<node::Server> {
    session.answered(node::server(session)).await
}
