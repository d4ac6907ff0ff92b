//! Whether a table holds the same rows in two databases: asked of PostgreSQL by
//! queries that share nothing with pgshovel's own.

use std::pin::pin;

use futures_util::StreamExt;
use pgshovel::error::{Error, Result};
use pgshovel::postgres::connect;
use tokio_postgres::Client;

/// Rows as PostgreSQL prints them under these settings are equal exactly when
/// their values are.
const SETTINGS: &str = "SET search_path = pg_catalog, pg_temp; SET extra_float_digits = 1; SET DateStyle = 'ISO, YMD'; \
     SET IntervalStyle = postgres; SET bytea_output = hex; SET TimeZone = 'UTC'; SET lc_monetary = 'C'";

/// What a comparison of one table found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub table: String,
    pub source_rows: u64,
    pub target_rows: u64,
    /// The first row that only one of the two has, and which of them it is.
    pub difference: Option<String>,
}

impl Comparison {
    #[must_use]
    pub fn equal(&self) -> bool {
        self.difference.is_none()
    }
}

/// Compares every row of `table`, a name as SQL takes it, in two databases.
/// `columns` are the ones to compare: all that the source's table has if `None`.
/// The order of rows and columns does not matter; duplicates count.
///
/// Each side is read in one statement, so in one snapshot. Rows of the table
/// pass through, and are not kept.
pub async fn compare(source: &str, target: &str, table: &str, columns: Option<&[&str]>) -> Result<Comparison> {
    let (source, target) = tokio::try_join!(connect::connect(source, "compare"), connect::connect(target, "compare"))?;
    for client in [&source, &target] {
        client.batch_execute(SETTINGS).await.map_err(|error| connect::explain(&error))?;
    }
    let columns = match columns {
        Some(columns) => columns.iter().map(|&name| name.to_owned()).collect(),
        None => columns_of(&source, table).await?,
    };
    let query = query(table, &columns);
    let (left, right) = tokio::try_join!(rows(&source, &query), rows(&target, &query))?;
    let (mut left, mut right) = (pin!(left), pin!(right));
    let mut result = Comparison { table: table.to_owned(), source_rows: 0, target_rows: 0, difference: None };
    loop {
        let (one, other) = (left.next().await.transpose()?, right.next().await.transpose()?);
        result.source_rows += u64::from(one.is_some());
        result.target_rows += u64::from(other.is_some());
        if one.is_none() && other.is_none() {
            return Ok(result);
        }
        if one != other && result.difference.is_none() {
            result.difference = Some(describe(one.as_deref(), other.as_deref()));
        }
    }
}

/// Both sides are sorted alike, so the smaller one is the one that the other lacks.
fn describe(source: Option<&str>, target: Option<&str>) -> String {
    match (source, target) {
        (Some(row), None) => format!("only the source has {row}"),
        (None, Some(row)) => format!("only the target has {row}"),
        (Some(one), Some(other)) if one < other => format!("only the source has {one}"),
        (_, other) => format!("only the target has {}", other.unwrap_or_default()),
    }
}

fn query(table: &str, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|name| quote(name)).collect();
    format!("SELECT ROW({})::text COLLATE \"C\" AS row FROM {table} ORDER BY 1", columns.join(", "))
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn columns_of(client: &Client, table: &str) -> Result<Vec<String>> {
    let sql =
        "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname";
    let rows = client.query(sql, &[&table]).await.map_err(|error| connect::explain(&error).context(format!("columns of {table}")))?;
    if rows.is_empty() {
        return Err(Error::stop(format!("the table {table} has no columns to compare")));
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn rows(client: &Client, query: &str) -> Result<impl futures_util::Stream<Item = Result<String>> + use<>> {
    let none: [&str; 0] = [];
    let rows = client.query_raw(query, none).await.map_err(|error| connect::explain(&error).context(query))?;
    Ok(rows.map(|row| row.map(|row| row.get(0)).map_err(|error| connect::explain(&error))).fuse())
}
