//! The tables of a set, as the catalog of its database describes them.

use std::fmt::Write as _;
use std::sync::Arc;

use proto::interfaces::configurations::{ReplicationSetConfiguration, TableConfiguration};
use proto::row::{Column, Relation};
use tokio_postgres::Client;

use super::Table;
use crate::error::{Error, Result};
use crate::postgres::{connect, quote};

/// `pg_partition_tree` would lock the partitions for as long as the snapshot lives, and
/// hold up whoever alters or truncates one. One row per column of the tables named by `$1` (schemas) and `$2` (tables).
const COLUMNS: &str = "\
SELECT n.nspname::text, c.relname::text, c.relkind = 'p', \
       CASE WHEN c.relkind = 'p' \
         THEN (WITH RECURSIVE tree (oid) AS (SELECT c.oid UNION ALL \
                 SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid) \
               SELECT coalesce(sum(greatest(l.reltuples, 0)), 0) FROM tree JOIN pg_catalog.pg_class l ON l.oid = tree.oid WHERE l.relkind = 'r') \
         ELSE greatest(c.reltuples, 0) END::float8, \
       a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid \
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (schema, name, position) \
JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema \
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p') \
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
ORDER BY wanted.position, a.attnum";

/// A table as it is, with all of its columns.
struct Described {
    schema: String,
    table: String,
    partitioned: bool,
    estimated_rows: u64,
    columns: Vec<Column>,
}

/// The set's tables in the order of its configuration.
pub(super) async fn tables(client: &Client, configuration: &ReplicationSetConfiguration) -> Result<Vec<Table>> {
    let described = describe(client, configuration).await?;
    configuration.tables.iter().map(|wanted| captured(wanted, &described)).collect()
}

async fn describe(client: &Client, configuration: &ReplicationSetConfiguration) -> Result<Vec<Described>> {
    let explain = |error: tokio_postgres::Error| connect::explain(&error).context("cannot read the catalog of the set's database");
    let schemas: Vec<&str> = configuration.tables.iter().map(TableConfiguration::schema).collect();
    let names: Vec<&str> = configuration.tables.iter().map(|table| table.name.as_str()).collect();
    let mut tables: Vec<Described> = Vec::new();
    for row in client.query(COLUMNS, &[&schemas, &names]).await.map_err(explain)? {
        let (schema, table): (String, String) = (row.try_get(0).map_err(explain)?, row.try_get(1).map_err(explain)?);
        if tables.last().is_none_or(|last| last.schema != schema || last.table != table) {
            let estimate: f64 = row.try_get(3).map_err(explain)?;
            let partitioned = row.try_get(2).map_err(explain)?;
            tables.push(Described { schema, table, partitioned, estimated_rows: estimate as u64, columns: Vec::new() });
        }
        let column = Column {
            name: row.try_get(4).map_err(explain)?,
            type_name: row.try_get(5).map_err(explain)?,
            type_oid: row.try_get(6).map_err(explain)?,
        };
        if let Some(last) = tables.last_mut() {
            last.columns.push(column);
        }
    }
    Ok(tables)
}

/// The columns that the triggers capture: all, or those configured and the keys.
fn captured(wanted: &TableConfiguration, described: &[Described]) -> Result<Table> {
    let (schema, table) = (wanted.schema(), wanted.name.as_str());
    let found = described.iter().find(|found| found.schema == schema && found.table == table);
    let found = found.ok_or_else(|| {
        Error::stop(format!("the table {schema}.{table} of the set does not exist: create it, or take it out of the set with set update"))
    })?;
    for name in wanted.primary_keys.iter().chain(&wanted.columns) {
        if !found.columns.iter().any(|column| column.name == *name) {
            return Err(Error::stop(format!(
                "the table {schema}.{table} has no column {name}: add it, or take it out of the set with set update"
            )));
        }
    }
    let is_captured =
        |column: &&Column| wanted.columns.is_empty() || wanted.columns.contains(&column.name) || wanted.primary_keys.contains(&column.name);
    let columns: Vec<Column> = found.columns.iter().filter(is_captured).cloned().collect();
    let identity = (0u32..).zip(&columns).filter(|(_, column)| wanted.primary_keys.contains(&column.name)).map(|(index, _)| index);
    let identity = identity.collect();
    let sql = copy_sql(found, &columns).into();
    let relation = Relation { schema: schema.to_owned(), table: table.to_owned(), columns, identity, version: String::new() };
    Ok(Table { relation: Arc::new(relation), estimated_rows: found.estimated_rows, sql })
}

/// Rows of children by inheritance belong to the children; rows of partitions to the root.
fn copy_sql(table: &Described, columns: &[Column]) -> String {
    let mut sql = String::from("COPY (SELECT ");
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}{}", quote(&column.name));
    }
    let only = if table.partitioned { "" } else { "ONLY " };
    let _ = write!(sql, " FROM {only}{}.{}) TO STDOUT", quote(&table.schema), quote(&table.table));
    sql
}
