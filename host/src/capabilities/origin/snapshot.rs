//! A consistent view of the set's tables.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proto::interfaces::configurations::ReplicationSetConfiguration;
use tokio_postgres::Client;

use super::catalog;
use super::cursor::Cursor;
use super::source::{Source, Table, enter};
use crate::budget::Budget;
use crate::error::{Code, Error, Result};
use crate::postgres::node::{self, Identity};
use crate::postgres::{connect, own, pool};

/// What the rows are as of: the hand-over from bootstrap to stream compares it.
#[derive(Clone, Debug)]
pub struct State {
    pub node: Identity,
    /// `txid_current_snapshot()`, read inside the snapshot: `xmin:xmax:xip,…`.
    pub snapshot: String,
    /// When its transaction began, by the server's clock, in microseconds since 1970.
    pub opened_us: i64,
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
        let sql = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.txid_current_snapshot()::text, \
                   (extract(epoch FROM pg_catalog.now()) * 1000000)::bigint";
        let row = exporter.query_one(sql, &[]).await.map_err(explain)?;
        let (snapshot, transactions) = (row.try_get(0).map_err(explain)?, row.try_get(1).map_err(explain)?);
        let opened_us = row.try_get(2).map_err(explain)?;
        let node = node::identify(&exporter, cluster).await?;
        let tables = catalog::tables(&exporter, configuration).await?;
        Ok(Self {
            source: Arc::new(Source { dsn, application, snapshot }),
            state: State { node, snapshot: transactions, opened_us },
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
