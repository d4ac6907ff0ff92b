//! The tables of a set, and how a connection comes to see their snapshot.

use std::sync::Arc;

use proto::row::Relation;
use tokio_postgres::Client;

use crate::error::{Code, Error, Result};
use crate::postgres::connect;

/// A table of the set, with the columns that are captured.
#[derive(Clone, Debug)]
pub struct Table {
    pub relation: Arc<Relation>,
    /// `pg_class.oid`
    pub(super) oid: u32,
    pub(super) is_partitioned: bool,
    /// The planner's guess, where it has one.
    pub estimated_rows: Option<u64>,
}

/// What every connection of one snapshot shares.
pub(super) struct Source {
    pub(super) dsn: String,
    pub(super) application: String,
    /// `pg_export_snapshot()`.
    pub(super) snapshot: String,
}

/// Begins a transaction that sees `snapshot`, or a new one, with the settings under
/// which every datum has the text that the stream gives it. Row security that would hide
/// rows from us is an error instead, and so are views and foreign tables in a table's place
/// (minor releases of 2024 and later).
pub(super) async fn enter(client: &Client, snapshot: Option<&str>) -> Result<()> {
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
