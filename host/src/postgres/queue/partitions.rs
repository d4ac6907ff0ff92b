//! Partitions that come and go below the tables of a set.
//!
//! PostgreSQL clones row triggers to a partition that is attached, but no trigger for
//! TRUNCATE. And the rows that a partition brings or takes along are changes of the whole
//! table that no trigger sees: they are said when they happen, since the targets differ
//! from then on.

use crate::names;
use crate::postgres::trigger::shared;
use crate::postgres::{literal, quote};

/// A partition without the trigger for `Event::Partition`.
#[derive(Debug)]
pub struct Late {
    /// As SQL names it.
    pub table: String,
    /// The function that the trigger has to call.
    pub function: String,
    /// The captured table that it belongs to.
    pub whole: String,
    /// About how many rows it has; `None` if nobody has counted them yet.
    pub rows: Option<f64>,
}

/// What [`Late`] holds of each. $1 the set.
#[must_use]
pub fn late(cluster: &str) -> String {
    let capture = literal(&quote(&names::capture_schema(cluster)));
    format!(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
       {capture} || '.' || pg_catalog.quote_ident(pg_catalog.left(w.function, -1) || 'p'), w.key, NULLIF(c.reltuples, -1)::float8
  {unwatched}
 ORDER BY 1",
        unwatched = shared::unwatched(cluster)
    )
}

/// Whether the partition $2 of the set $1 holds rows from before it was one; NULL if that cannot be
/// told. The session has its lock.
#[must_use]
pub fn holds_rows(cluster: &str) -> String {
    format!("SELECT {}.holds_rows($1, pg_catalog.to_regclass($2))", quote(&names::schema(cluster)))
}

/// Records the triggers $3 of the partition $2 of the set $1.
#[must_use]
pub fn remember(cluster: &str) -> String {
    let (schema, capturing) = (quote(&names::schema(cluster)), shared::capturing(cluster));
    format!(
        "INSERT INTO {schema}.captured (\"set\", relation, key, trigger, name, function, digest, made)
SELECT c.\"set\", c.relation, $2, c.trigger, c.name, c.function, c.digest, c.made FROM {capturing} c
 WHERE c.\"set\" = $1 AND c.relation = pg_catalog.to_regclass($2) AND c.name = ANY ($3)
ON CONFLICT (trigger) DO UPDATE SET digest = excluded.digest, key = excluded.key, made = excluded.made"
    )
}

/// Partitions that are none of their tables any more: name, whether they are still there,
/// and about how many rows they have. $1 the set.
#[must_use]
pub fn departed(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "SELECT p.key, c.oid IS NOT NULL, NULLIF(c.reltuples, -1)::float8
  FROM {schema}.captured p
  LEFT JOIN {schema}.captured w ON w.\"set\" = p.\"set\" AND w.function = pg_catalog.left(p.function, -1) || 't'
  LEFT JOIN pg_catalog.pg_class c ON c.oid = p.relation
 WHERE p.\"set\" = $1 AND p.function LIKE '%:p'
   AND (c.oid IS NULL OR NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(p.relation) a WHERE a.relid = w.relation))
 ORDER BY 1"
    )
}

/// Forgets the partition $2 of the set $1.
#[must_use]
pub fn forget(cluster: &str) -> String {
    format!("SELECT {}($1, $2)", shared::forget(cluster))
}

/// About how many rows each partition has. $1 the set.
#[must_use]
pub fn sizes(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "SELECT p.key, c.reltuples::float8 FROM {schema}.captured p JOIN pg_catalog.pg_class c ON c.oid = p.relation
 WHERE p.\"set\" = $1 AND p.function LIKE '%:p' AND c.reltuples > 0"
    )
}

pub fn say_attached(set: &str, late: &Late, holds_rows: Option<bool>) {
    let Late { table, whole, rows, .. } = late;
    if holds_rows == Some(false) {
        tracing::info!(%set, table, whole, "a partition that was attached is captured");
    } else {
        let rows = about(*rows);
        tracing::warn!(%set, table, whole, rows, "a partition was attached, and is captured; rows that it held before are rows of the whole table now, and no target has them: bootstrap the targets if they are to");
    }
}

pub fn say_departed(set: &str, table: &str, present: bool, rows: Option<f64>) {
    let how = if present { "detached" } else { "dropped" };
    let rows = about(rows);
    tracing::warn!(%set, table, rows, "a partition was {how}: its rows are no rows of the whole table any more, and the targets keep them until they are deleted there, or loaded anew by a bootstrap");
}

fn about(rows: Option<f64>) -> String {
    rows.map_or_else(|| "unknown".to_owned(), |rows| format!("about {rows:.0}"))
}
