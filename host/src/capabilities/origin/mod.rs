//! The capability `origin`: the set's own database as of one exported snapshot. See
//! `wit/origin.wit`, which is its contract.

mod catalog;
mod copy;
mod cursor;
mod held;
mod link;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proto::interfaces::configurations::ReplicationSetConfiguration;
use proto::row::Relation;
use tokio_postgres::Client;

pub use self::cursor::Cursor;
pub use self::link::Origin;
use crate::budget::Budget;
use crate::error::{Code, Error, Result};
use crate::postgres::node::{self, Identity};
use crate::postgres::{connect, own, pool};

/// A table of the set, with the columns that are captured.
#[derive(Clone, Debug)]
pub struct Table {
    pub relation: Arc<Relation>,
    /// `pg_class.oid`
    oid: u32,
    is_partitioned: bool,
    /// The planner's guess; 0 where it has none.
    pub estimated_rows: u64,
}

/// What the rows are as of: the hand-over from bootstrap to stream compares it.
#[derive(Clone, Debug)]
pub struct State {
    pub node: Identity,
    /// `txid_current_snapshot()`, read inside the snapshot: `xmin:xmax:xip,…`.
    pub snapshot: String,
}

/// What every connection of one snapshot shares.
struct Source {
    dsn: String,
    application: String,
    /// `pg_export_snapshot()`.
    snapshot: String,
}

/// A consistent view of the set's tables, for as long as this lives.
pub struct Snapshot {
    source: Arc<Source>,
    state: State,
    tables: Vec<Table>,
    /// Holds the transaction that exported the snapshot.
    _exporter: Client,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("state", &self.state).field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Opens a REPEATABLE READ, READ ONLY transaction on the set's database, exports its
    /// snapshot, and reads the set's tables from the catalog. A table or column that is
    /// configured but does not exist is `Stop`.
    pub async fn open(cluster: &str, set: &str, configuration: &ReplicationSetConfiguration) -> Result<Self> {
        let application = format!("pgshovel loader {cluster}/{set}");
        let dsn = own::of_set(&configuration.database.dsn);
        let explain = |error: tokio_postgres::Error| connect::explain(&error).context("cannot read the set's database");
        let exporter = connect::connect(&dsn, &application).await?;
        pool::refuse_transaction_mode(&exporter, &dsn).await?;
        enter(&exporter, None).await?;
        let sql = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.txid_current_snapshot()::text";
        let row = exporter.query_one(sql, &[]).await.map_err(explain)?;
        let (snapshot, transactions) = (row.try_get(0).map_err(explain)?, row.try_get(1).map_err(explain)?);
        let node = node::identify(&exporter, cluster).await?;
        let tables = catalog::tables(&exporter, configuration).await?;
        Ok(Self {
            source: Arc::new(Source { dsn, application, snapshot }),
            state: State { node, snapshot: transactions },
            tables,
            _exporter: exporter,
        })
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The tables of the set; one that others refer to by foreign keys comes before them.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Starts to read a table; errors of the server show in `fetch`. `Stop` if the table
    /// is not one of the set's, or if as many are open as `budget` has handles for. Dropping the
    /// cursor ends its connection. A lock that is held for longer than `lock_timeout` is `Retry`.
    pub fn cursor(&self, schema: &str, table: &str, lock_timeout: Duration, budget: &Budget) -> Result<Cursor> {
        let found = self.tables.iter().find(|found| found.relation.schema == schema && found.relation.table == table);
        let found = found.ok_or_else(|| Error::stop(Code::TableAbsent, format!("the table {schema}.{table} is not in the set")))?;
        let handle = budget.handle().map_err(|exceeded| Error::stop(Code::PluginLimit, exceeded.to_string()))?;
        Ok(Cursor::start(Arc::clone(&self.source), found.clone(), lock_timeout, budget.clone(), handle))
    }
}

/// Begins a transaction that sees `snapshot`, or a new one, with the settings under
/// which every datum has the text that the stream gives it. Row security that would hide
/// rows from us is an error instead, and so are views and foreign tables in a table's place
/// (minor releases of 2024 and later).
async fn enter(client: &Client, snapshot: Option<&str>) -> Result<()> {
    let adopt = snapshot.map_or_else(String::new, |id| format!("SET TRANSACTION SNAPSHOT '{id}';"));
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {adopt} \
         SET search_path = pg_catalog, pg_temp; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; \
         SET extra_float_digits = 1; SET bytea_output = hex; SET lc_monetary = 'C'; SET xmlbinary = base64; SET client_encoding = 'UTF8'; \
         SET row_security = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET constraint_exclusion = off; \
         SELECT pg_catalog.set_config(name, 'view,foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'"
    );
    client.batch_execute(&sql).await.map_err(|error| match error.as_db_error().map(|refusal| refusal.code().code()) {
        // The exporting transaction is gone, and the snapshot with it.
        Some("22023" | "42704") if snapshot.is_some() => {
            Error::retry(Code::SnapshotGone, "the exported snapshot of the set's database is gone")
        }
        _ => connect::explain(&error).context("cannot open a snapshot of the set's database"),
    })
}
