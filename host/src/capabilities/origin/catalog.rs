//! The tables of a set, as the catalog of its database describes them.

use std::sync::Arc;

use proto::interfaces::configurations::{ReplicationSetConfiguration, TableConfiguration};
use proto::row::{Column, Relation};
use tokio_postgres::Client;

use super::source::Table;
use crate::error::{Code, Error, Result};
use crate::postgres::connect;

/// `pg_partition_tree` would lock the partitions for as long as the snapshot lives, and
/// hold up whoever alters or truncates one. A table that was never analyzed has -1 rows, and
/// then there is no estimate, of a partitioned table neither. One row per column of the tables named by `$1` (schemas) and `$2` (tables).
const COLUMNS: &str = "\
SELECT n.nspname::text, c.relname::text, c.relkind = 'p', \
       CASE WHEN c.relkind = 'p' \
         THEN (WITH RECURSIVE tree (oid) AS (SELECT c.oid UNION ALL \
                 SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid) \
               SELECT CASE WHEN bool_and(l.reltuples >= 0) THEN sum(l.reltuples) END FROM tree JOIN pg_catalog.pg_class l ON l.oid = tree.oid WHERE l.relkind = 'r') \
         WHEN c.reltuples >= 0 THEN c.reltuples END::float8, \
       a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid, c.oid \
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (schema, name, position) \
JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema \
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p') \
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
ORDER BY wanted.position, a.attnum";

/// The foreign keys between the tables named by `$1` (schemas) and `$2` (tables): from
/// which to which, by their positions in these.
const FOREIGN_KEYS: &str = "\
WITH wanted AS (SELECT c.oid, w.position \
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (schema, name, position) \
  JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name) \
SELECT referring.position - 1, referred.position - 1 FROM pg_catalog.pg_constraint k \
JOIN wanted referring ON referring.oid = k.conrelid JOIN wanted referred ON referred.oid = k.confrelid \
WHERE k.contype = 'f' AND k.conrelid <> k.confrelid";

/// A table as it is, with all of its columns.
struct Described {
    schema: String,
    table: String,
    /// `pg_class.oid`
    oid: u32,
    partitioned: bool,
    estimated_rows: Option<u64>,
    columns: Vec<Column>,
}

/// The set's tables: those that others refer to come before them, and else they are in
/// the order of the configuration.
pub(super) async fn tables(client: &Client, configuration: &ReplicationSetConfiguration) -> Result<Vec<Table>> {
    let described = describe(client, configuration).await?;
    let tables = configuration.tables.iter().map(|wanted| captured(wanted, &described)).collect::<Result<Vec<Table>>>()?;
    let foreign_keys = foreign_keys(client, configuration).await?;
    Ok(referred_first(tables.len(), &foreign_keys).into_iter().filter_map(|index| tables.get(index).cloned()).collect())
}

/// `0..count` in an order in which each comes after those that it refers to; where they
/// refer to each other in a circle, the first of the circle comes first.
fn referred_first(count: usize, foreign_keys: &[(usize, usize)]) -> Vec<usize> {
    let mut waiting: Vec<usize> = (0..count).collect();
    let mut ordered = Vec::with_capacity(count);
    while !waiting.is_empty() {
        let is_free = |index: &usize| !foreign_keys.iter().any(|(from, to)| from == index && waiting.contains(to));
        let next = waiting.iter().position(is_free).unwrap_or_default();
        ordered.push(waiting.remove(next));
    }
    ordered
}

async fn foreign_keys(client: &Client, configuration: &ReplicationSetConfiguration) -> Result<Vec<(usize, usize)>> {
    let explain = |error: tokio_postgres::Error| connect::explain(&error).context("cannot read the foreign keys of the set's tables");
    let (schemas, names) = places(configuration);
    let rows = client.query(FOREIGN_KEYS, &[&schemas, &names]).await.map_err(explain)?;
    let index = |row: &tokio_postgres::Row, column| {
        let index: i64 = row.try_get(column).map_err(explain)?;
        usize::try_from(index).map_err(|_| Error::bug("a table has a negative position"))
    };
    rows.iter().map(|row| Ok((index(row, 0)?, index(row, 1)?))).collect()
}

fn places(configuration: &ReplicationSetConfiguration) -> (Vec<&str>, Vec<&str>) {
    configuration.tables.iter().map(|table| (table.schema(), table.name.as_str())).unzip()
}

async fn describe(client: &Client, configuration: &ReplicationSetConfiguration) -> Result<Vec<Described>> {
    let explain = |error: tokio_postgres::Error| connect::explain(&error).context("cannot read the catalog of the set's database");
    let (schemas, names) = places(configuration);
    let mut tables: Vec<Described> = Vec::new();
    for row in client.query(COLUMNS, &[&schemas, &names]).await.map_err(explain)? {
        let (schema, table): (String, String) = (row.try_get(0).map_err(explain)?, row.try_get(1).map_err(explain)?);
        if tables.last().is_none_or(|last| last.schema != schema || last.table != table) {
            let estimate: Option<f64> = row.try_get(3).map_err(explain)?;
            let partitioned = row.try_get(2).map_err(explain)?;
            tables.push(Described {
                schema,
                table,
                oid: row.try_get(7).map_err(explain)?,
                partitioned,
                estimated_rows: estimate.map(|rows| rows as u64),
                columns: Vec::new(),
            });
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
        Error::stop(
            Code::TableAbsent,
            format!("the table {schema}.{table} of the set does not exist: create it, or take it out of the set with set update"),
        )
    })?;
    for name in wanted.primary_keys.iter().chain(&wanted.columns) {
        if !found.columns.iter().any(|column| column.name == *name) {
            return Err(Error::stop(
                Code::TableAbsent,
                format!("the table {schema}.{table} has no column {name}: add it, or take it out of the set with set update"),
            ));
        }
    }
    let is_captured =
        |column: &&Column| wanted.columns.is_empty() || wanted.columns.contains(&column.name) || wanted.primary_keys.contains(&column.name);
    let columns: Vec<Column> = found.columns.iter().filter(is_captured).cloned().collect();
    let identity = (0u32..).zip(&columns).filter(|(_, column)| wanted.primary_keys.contains(&column.name)).map(|(index, _)| index);
    let identity = identity.collect();
    let relation = Relation { schema: schema.to_owned(), table: table.to_owned(), columns, identity, version: String::new() };
    let is_partitioned = found.partitioned;
    Ok(Table { relation: Arc::new(relation), oid: found.oid, is_partitioned, estimated_rows: found.estimated_rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_comes_first() {
        assert_eq!(referred_first(3, &[]), [0, 1, 2]);
        // 0 refers to 2, which refers to 1.
        assert_eq!(referred_first(4, &[(0, 2), (2, 1)]), [1, 2, 0, 3]);
        // 0 and 1 refer to each other, and 1 to 2.
        assert_eq!(referred_first(3, &[(0, 1), (1, 0), (1, 2)]), [2, 0, 1]);
    }
}
