//! What a change would do, as text: SQL that could be run by hand, and comments for
//! what is done in ZooKeeper.

use proto::interfaces::configurations::ReplicationSetConfiguration;
use uuid::Uuid;

use super::changer::Changer;
use super::plan::{self, Scope, Step};
use super::several::Database;
use super::{Place, Ready};
use crate::error::{Error, Result};
use crate::names;
use crate::postgres::catalog::{self, Facts};
use crate::postgres::schema::{self, LOCK_TIMEOUT_MS, Stamp};
use crate::postgres::{connect, literal};
use crate::registry::pending::WHOLE_CLUSTER;

impl Changer<'_> {
    /// The steps of `ready`, as text: SQL that could be run by hand, and comments.
    pub fn script(&self, ready: &Ready) -> Result<String> {
        let Ready { name, before, after, place } = ready;
        let pending = self.cluster.pending_path(name);
        let path = self.cluster.set_path(name);
        let last = match (before, after) {
            (None, Some(_)) => format!("create {path}"),
            (None, None) => format!("leave {path} as it is"),
            (Some(_), Some(_)) => format!("set {path}"),
            (Some(_), None) => format!("delete {path}"),
        };
        let cluster = self.cluster.name();
        let stamp = Stamp { change: "CHANGE_ID", epoch: 0 };
        let scope = Scope { cluster, cluster_id: self.cluster_id(), version: &self.configuration.version, set: name, stamp };
        let mut text = String::new();
        if let (Place::One(site) | Place::Move(_, site), Some(_)) = (place, after)
            && !site.facts.capture_role.exists
        {
            let described = connect::describe(&connect::parse(&site.dsn)?);
            text.push_str(&format!("-- in PostgreSQL at {described}\n{}\n\n", schema::create_role(cluster)));
        }
        text.push_str(&format!("-- in ZooKeeper: create {pending}\n"));
        match (place, after) {
            (Place::Nowhere, _) => {}
            (Place::One(site), Some(after)) => {
                text.push_str(&script(&site.dsn, cluster, &capture_steps(&scope, after, &site.facts)?, "COMMIT")?)
            }
            (Place::One(site), None) => text.push_str(&script(&site.dsn, cluster, &plan::remove(&scope, &site.facts), "COMMIT")?),
            (Place::Move(old, new), Some(after)) => {
                let gid = |index| format!("PREPARE TRANSACTION {}", literal(&names::gid(self.cluster_id(), name, "CHANGE_ID", index)));
                text.push_str(&script(&old.dsn, cluster, &plan::leave(&scope, &old.facts), &gid(0))?);
                text.push_str(&script(&new.dsn, cluster, &capture_steps(&scope, after, &new.facts)?, &gid(1))?);
                text.push_str(&format!("\n-- in ZooKeeper, in one write: set {pending} to committed, {last}\n-- then COMMIT PREPARED in each database\n-- in ZooKeeper: delete {pending}\n"));
                return Ok(text);
            }
            (Place::Move(..), None) => return Err(Error::bug("a set cannot move and be dropped")),
        }
        text.push_str(&format!("\n-- in ZooKeeper, in one write: {last}, delete {pending}\n"));
        Ok(text)
    }
}

fn capture_steps(scope: &Scope<'_>, after: &ReplicationSetConfiguration, facts: &Facts) -> Result<Vec<Step>> {
    let mut steps = plan::prepare(scope, facts, Uuid::nil());
    steps.extend(plan::capture(scope, after, facts)?);
    Ok(steps)
}

/// One transaction, as text.
fn script(dsn: &str, cluster: &str, steps: &[Step], end: &str) -> Result<String> {
    let place = connect::describe(&connect::parse(dsn)?);
    let lock = schema::lock(cluster);
    let mut text = format!("\n-- in PostgreSQL at {place}\nBEGIN;\nSET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};\n{lock}\n");
    for Step { title, sql } in steps {
        text.push_str(&format!("\n-- {title}\n{sql}\n"));
    }
    text.push_str(&format!("\n{end};\n"));
    Ok(text)
}

/// The steps of an upgrade, as text.
pub async fn upgrade_script(changer: &Changer<'_>, version: &str, databases: &[Database]) -> Result<String> {
    let cluster = changer.cluster;
    let pending = cluster.pending_path(WHOLE_CLUSTER);
    let mut text = format!("-- in ZooKeeper: create {pending}\n");
    for database in databases {
        let mut steps = Vec::new();
        for (set, configuration) in &database.sets {
            let stamp = Stamp { change: "CHANGE_ID", epoch: 0 };
            let scope = Scope { cluster: cluster.name(), cluster_id: changer.cluster_id(), version, set, stamp };
            let session = &database.session;
            let facts = session.answered(catalog::read(session, cluster.name(), set, Some(configuration))).await?;
            steps.extend(plan::refresh(&scope, &facts)?);
            steps.extend(plan::capture(&scope, configuration, &facts)?);
        }
        let end = if databases.len() == 1 {
            "COMMIT".to_owned()
        } else {
            format!("PREPARE TRANSACTION 'pgshovel:{}::CHANGE_ID:…'", changer.cluster_id())
        };
        text.push_str(&script(&database.dsn, cluster.name(), &steps, &end)?);
    }
    text.push_str(&format!("\n-- in ZooKeeper: set {} to version {version}, delete {pending}\n", cluster.path()));
    Ok(text)
}
