//! The cluster's own schema in each of its databases, and its PgQ queues, as
//! SQL. Pure.

use super::{literal, quote};
use crate::cluster::name;

/// The consumer that every set's queue has from its beginning, so that no change
/// is missed before the relay's first start.
pub const CONSUMER: &str = "default";

/// Whoever changes the cluster's objects in a database holds this lock until
/// the end of the transaction; it survives PREPARE TRANSACTION.
#[must_use]
pub fn lock(cluster: &str) -> String {
    format!("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({}, 0));", literal(&format!("pgshovel:{cluster}")))
}

/// The schema and its tables, as far as they are missing.
#[must_use]
pub fn create(cluster: &str) -> String {
    let schema = quote(&name::schema(cluster));
    format!(
        "CREATE SCHEMA IF NOT EXISTS {schema};
COMMENT ON SCHEMA {schema} IS 'pgshovel: what the cluster manages in this database';
CREATE TABLE IF NOT EXISTS {schema}.configuration (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  node uuid NOT NULL,
  cluster text NOT NULL,
  version text NOT NULL,
  system_identifier bigint NOT NULL,
  database_oid oid NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.sets (
  name text PRIMARY KEY,
  version text NOT NULL,
  change text NOT NULL,
  epoch bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.relations (
  set text NOT NULL,
  version text NOT NULL,
  key text NOT NULL,
  schema text NOT NULL,
  \"table\" text NOT NULL,
  columns jsonb NOT NULL,
  identity text[] NOT NULL,
  PRIMARY KEY (set, version, key)
);
COMMENT ON TABLE {schema}.configuration IS 'Which node this database is, and what tells it from a clone.';
COMMENT ON TABLE {schema}.sets IS 'The sets captured here: version of the configuration, and the change that made them so.';
COMMENT ON TABLE {schema}.relations IS 'What the events of each version of a set mean. Old versions stay, since events may refer to them.';"
    )
}

/// Removes all of it.
#[must_use]
pub fn drop(cluster: &str) -> String {
    format!("DROP SCHEMA {} CASCADE;", quote(&name::schema(cluster)))
}

/// Who the database is, and the version that its objects are of. Replaces what
/// was there of another version; the node stays.
#[must_use]
pub fn identify(cluster: &str, node: uuid::Uuid, cluster_id: &str, version: &str) -> String {
    let schema = quote(&name::schema(cluster));
    format!(
        "INSERT INTO {schema}.configuration (node, cluster, version, system_identifier, database_oid)
SELECT '{node}', {cluster_id}, {version}, s.system_identifier, d.oid
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
ON CONFLICT (singleton) DO UPDATE SET version = excluded.version, system_identifier = excluded.system_identifier, database_oid = excluded.database_oid;",
        cluster_id = literal(cluster_id),
        version = literal(version)
    )
}

/// What a change leaves behind of itself in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'a> {
    pub change: &'a str,
    pub epoch: i64,
}

/// Records that the set is captured under `version`.
#[must_use]
pub fn record_set(cluster: &str, set: &str, version: &str, stamp: Stamp<'_>) -> String {
    format!(
        "INSERT INTO {schema}.sets (name, version, change, epoch) VALUES ({set}, {version}, {change}, {epoch})
ON CONFLICT (name) DO UPDATE SET version = excluded.version, change = excluded.change, epoch = excluded.epoch;",
        schema = quote(&name::schema(cluster)),
        set = literal(set),
        version = literal(version),
        change = literal(stamp.change),
        epoch = stamp.epoch
    )
}

/// Forgets the set.
#[must_use]
pub fn forget_set(cluster: &str, set: &str) -> String {
    let (schema, set) = (quote(&name::schema(cluster)), literal(set));
    format!("DELETE FROM {schema}.relations WHERE set = {set};\nDELETE FROM {schema}.sets WHERE name = {set};")
}

/// Creates the queue with its consumer. Ticks are the relay's to make; these
/// limits hold for whatever else ticks: a batch at least twice a second while
/// there are events, of some ten thousand of them, and one a minute without. Its
/// tables are the relay's to rotate: PgQ's maintenance would end a rotation too
/// early, and lose events.
#[must_use]
pub fn create_queue(cluster: &str, set: &str) -> String {
    let queue = literal(&name::queue(cluster, set));
    format!(
        "SELECT pgq.create_queue({queue});
SELECT pgq.set_queue_config({queue}, 'ticker_max_count', '10000');
SELECT pgq.set_queue_config({queue}, 'ticker_max_lag', '500 milliseconds');
SELECT pgq.set_queue_config({queue}, 'ticker_idle_period', '1 minute');
SELECT pgq.set_queue_config({queue}, 'rotation_period', '100 years');
SELECT pgq.register_consumer({queue}, {consumer});",
        consumer = literal(CONSUMER)
    )
}

/// Drops the queue with all its consumers.
#[must_use]
pub fn drop_queue(cluster: &str, set: &str) -> String {
    format!("SELECT pgq.drop_queue({}, true);", literal(&name::queue(cluster, set)))
}

/// A table's rows under a version, for `relations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub key: String,
    pub schema: String,
    pub table: String,
    /// A JSON array of name, type, oid and encoding.
    pub columns: String,
    pub identity: Vec<String>,
}

/// Records what the rows of a table look like under `version`.
#[must_use]
pub fn describe(cluster: &str, set: &str, version: &str, description: &Description) -> String {
    let identity: Vec<String> = description.identity.iter().map(|name| literal(name)).collect();
    format!(
        "INSERT INTO {schema}.relations (set, version, key, schema, \"table\", columns, identity)
VALUES ({set}, {version}, {key}, {of}, {table}, {columns}, ARRAY[{identity}]::text[]) ON CONFLICT (set, version, key) DO NOTHING;",
        schema = quote(&name::schema(cluster)),
        set = literal(set),
        version = literal(version),
        key = literal(&description.key),
        of = literal(&description.schema),
        table = literal(&description.table),
        columns = literal(&description.columns),
        identity = identity.join(", ")
    )
}
