//! Which database this is: the node that batches name, and what tells it from
//! its clones.

use proto::interfaces::common::Source;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Oid;
use uuid::Uuid;

use super::connect::explain;
use super::trust::{self, Purpose};
use crate::error::{Code, Error, Result};
use crate::names;

/// A database, told apart by more than a UUID in a table that a clone copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Shared by a primary and its physical replicas, so that promotion keeps it.
    pub node: [u8; 16],
    /// `pg_control_system()`: of the cluster of servers, since initdb.
    pub system_identifier: u64,
    /// The one that the server writes, or last recovered.
    pub timeline: u32,
    /// `pg_database.oid`.
    pub database_oid: u32,
}

impl Identity {
    /// How messages and states name it.
    #[must_use]
    pub fn source(&self, cluster: &str, set: &str) -> Source {
        Source {
            cluster: cluster.to_owned(),
            set: set.to_owned(),
            node: self.node.to_vec(),
            system_identifier: self.system_identifier,
            timeline: self.timeline,
            database_oid: self.database_oid,
        }
    }
}

/// What the server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pub system_identifier: u64,
    pub timeline: u32,
    pub database_oid: u32,
}

/// A replica writes no timeline of its own: it knows the one of its last checkpoint.
const SERVER: &str = "\
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())::bigint
            ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

/// The node of the database that `client` is connected to. `Configure` if the
/// cluster does not manage this database; `Stop` if it is a copy of one that the
/// cluster manages.
pub async fn identify(client: &Client, cluster: &str) -> Result<Identity> {
    let server = server(client).await?;
    let schemas = trust::check(client, cluster, Purpose::Read).await?;
    let schema = super::quote(&names::schema(cluster));
    let read = format!("SELECT node, system_identifier, database_oid FROM {schema}.configuration");
    let row = match if schemas.own { client.query_opt(&read, &[]).await } else { Ok(None) } {
        Ok(row) => row,
        Err(error) if matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)) => None,
        Err(error) => return Err(explain(&error).context("cannot read the node of the database")),
    };
    let row = row.ok_or_else(|| {
        Error::configure(
            Code::DatabaseUnprepared,
            format!(
                "this database has no sets of the cluster {cluster:?}: it has no {schema}.configuration; create the set with `set create`"
            ),
        )
    })?;
    let node: Uuid = row.get(0);
    let stored = (row.get::<_, i64>(1).cast_unsigned(), row.get::<_, Oid>(2));
    if stored != (server.system_identifier, server.database_oid) {
        return Err(copied(cluster, node));
    }
    Ok(Identity {
        node: node.into_bytes(),
        system_identifier: server.system_identifier,
        timeline: server.timeline,
        database_oid: server.database_oid,
    })
}

/// What the server that `client` is connected to says of itself.
pub async fn server(client: &Client) -> Result<Server> {
    let row = client.query_one(SERVER, &[]).await.map_err(|error| explain(&error).context("cannot tell which server this is"))?;
    let timeline: i64 = row.get(1);
    Ok(Server {
        system_identifier: row.get::<_, i64>(0).cast_unsigned(),
        timeline: u32::try_from(timeline).map_err(|_| Error::bug(format!("the server gave the timeline {timeline}")))?,
        database_oid: row.get(2),
    })
}

fn copied(cluster: &str, node: Uuid) -> Error {
    let schema = names::schema(cluster);
    Error::stop(
        Code::DatabaseCopied,
        format!(
            "this database is a copy of node {node}: it was restored or cloned, and the snapshots of the two mean different things; \
         to manage the copy, drop its schema {schema:?} and its PgQ queues pgshovel:{cluster}:*, then create a set for it; \
         if it is the same database after pg_upgrade, run `cluster upgrade --force`"
        ),
    )
}
