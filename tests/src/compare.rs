//! Whether a table holds the same rows in two databases: asked of PostgreSQL by
//! queries that share nothing with pgshovel's own.

use std::pin::pin;

use futures_util::StreamExt;
use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect;
use tokio_postgres::Client;

/// Rows as PostgreSQL prints them under these settings are equal exactly when
/// their values are.
const SETTINGS: &str = "SET standard_conforming_strings = on; SET search_path = pg_catalog, pg_temp; SET extra_float_digits = 1; SET DateStyle = 'ISO, YMD'; \
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

/// Compares every row of `table` in two databases by the binary images of its values: what
/// the types' own send functions make of them, or their text where a type has none. A
/// difference names the first row, by its columns `key`, and the columns.
pub async fn compare_images(source: &str, target: &str, table: &str, key: &[&str]) -> Result<Comparison> {
    let (source, target) = tokio::try_join!(connect::connect(source, "compare"), connect::connect(target, "compare"))?;
    for client in [&source, &target] {
        client.batch_execute(SETTINGS).await.map_err(|error| connect::explain(&error))?;
    }
    let columns = columns_of(&source, table).await?;
    let (mut oids, others) = tokio::try_join!(own_types(&source), own_types(&target))?;
    oids.extend(others);
    let (left, right) = tokio::try_join!(images(&source, table, key, &columns, &oids), images(&target, table, key, &columns, &oids))?;
    let mut difference = None;
    for (row, images) in &left {
        let different = match right.get(row) {
            None => Some(format!("only the source has the row {row}")),
            Some(others) => {
                let names = columns.iter().zip(images.iter().zip(others)).filter(|(_, (one, other))| one != other);
                let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
                (!names.is_empty()).then(|| format!("the row {row} differs in {}", names.join(", ")))
            }
        };
        difference = difference.or(different);
    }
    let extra = right.keys().find(|row| !left.contains_key(*row)).map(|row| format!("only the target has the row {row}"));
    let (source_rows, target_rows) = (left.len() as u64, right.len() as u64);
    Ok(Comparison { table: table.to_owned(), source_rows, target_rows, difference: difference.or(extra) })
}

/// By the text of the key, the images of all columns; `None` is NULL.
type Images = std::collections::BTreeMap<String, Vec<Option<String>>>;

/// The OIDs of users' types as images hold them: four bytes in hexadecimal digits.
async fn own_types(client: &Client) -> Result<std::collections::BTreeSet<String>> {
    let sql = "SELECT regexp_replace(lpad(to_hex(oid::int8), 8, '0'), '(..)', '\\1 ', 'g') FROM pg_type WHERE oid >= 16384 AND typnamespace = 'public'::regnamespace";
    let rows = client.query(sql, &[]).await.map_err(|error| connect::explain(&error).context("types"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What arrays and composites hold of a user's type is its OID, which is another one in
/// every database: all of `oids`, those of both, are one.
async fn images(
    client: &Client,
    table: &str,
    key: &[&str],
    columns: &[String],
    oids: &std::collections::BTreeSet<String>,
) -> Result<Images> {
    let explain = |error: tokio_postgres::Error| connect::explain(&error).context(format!("images of {table}"));
    // A type may use the function of one that it is stored like: refcursor that of text.
    let sends = "SELECT CASE WHEN g.typtype = 'p' OR g.oid = t.oid OR t.typtype = 'd' THEN t.typsend::regproc || '(%s)' \
           WHEN EXISTS (SELECT FROM pg_cast k WHERE k.castsource = t.oid AND k.casttarget = g.oid AND k.castmethod = 'b') THEN t.typsend::regproc || '(%s::' || format_type(g.oid, -1) || ')' END, \
         t.typtype IN ('c', 'd') OR t.typcategory = 'A' \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_proc p ON p.oid = t.typsend LEFT JOIN pg_type g ON g.oid = p.proargtypes[0] \
         WHERE a.attrelid = $1::text::regclass AND a.attname = $2";
    let mut images = Vec::new();
    for column in columns {
        let row = client.query_one(sends, &[&table, column]).await.map_err(explain)?;
        let (send, nested): (Option<String>, bool) = (row.get(0), row.get(1));
        let value = quote(column);
        let mut image = match send {
            Some(send) => format!("encode({}, 'hex')", send.replace("%s", &value)),
            None => format!("{value}::text"),
        };
        if nested {
            image = format!("regexp_replace({image}, '(..)', '\\1 ', 'g')");
            for oid in oids {
                image = format!("replace({image}, '{oid}', '<type> ')");
            }
        }
        images.push(image);
    }
    let key: Vec<String> = key.iter().map(|name| quote(name)).collect();
    let query = format!("SELECT ROW({})::text, ARRAY[{}]::text[] FROM {table}", key.join(", "), images.join(", "));
    let rows = client.query(&query, &[]).await.map_err(explain)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
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
        return Err(Error::stop(Code::ToolFailed, format!("the table {table} has no columns to compare")));
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn rows(client: &Client, query: &str) -> Result<impl futures_util::Stream<Item = Result<String>> + use<>> {
    let none: [&str; 0] = [];
    let rows = client.query_raw(query, none).await.map_err(|error| connect::explain(&error).context(query))?;
    Ok(rows.map(|row| row.map(|row| row.get(0)).map_err(|error| connect::explain(&error))).fuse())
}
