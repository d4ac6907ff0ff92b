//! The cluster's own schema in each of its databases, and its PgQ queues, as
//! SQL. Pure.

use super::trigger::shared;
use super::trust::Schemas;
use super::{literal, quote};
use crate::names;

/// The consumer that every set's queue has from its beginning, so that no change
/// is missed before the relay's first start.
pub const CONSUMER: &str = "default";

/// How long a change waits for locks on tables, all of them together, and how long
/// writers that queue behind it wait with it. Less than the second after which
/// PostgreSQL looks for deadlocks (`deadlock_timeout`): in one it is the change that
/// gives way, not a writer.
pub const LOCK_TIMEOUT_MS: u32 = 500;

/// How long any other statement of a change may take: the server says so before it is
/// taken for gone (`connect::ANSWER_TIMEOUT`).
pub const STATEMENT_TIMEOUT_MS: u32 = 15_000;

/// How long a change that moves a set away waits, with its tables locked, for the
/// relay to finish what was captured.
pub const RELAYED_TIMEOUT_MS: u32 = 2_000;

/// Locks on a table, the weaker one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableLock {
    /// Keeps writers off: what it takes to create a trigger.
    ShareRowExclusive,
    /// Keeps readers off too: what it takes to drop one.
    AccessExclusive,
}

/// Locks tables, with their partitions, within [`LOCK_TIMEOUT_MS`]. All at once, and
/// as strongly as is ever needed: a transaction that waits for one lock while it
/// holds another makes writers wait twice, or meets one that waits for it. In the
/// order in which other transactions take them, as far as it shows: what most of
/// them hold now comes first with them.
#[must_use]
pub fn lock_tables<'a>(tables: impl IntoIterator<Item = (&'a str, TableLock)>) -> String {
    let tables: Vec<String> = tables
        .into_iter()
        .map(|(table, lock)| {
            let mode = match lock {
                TableLock::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
                TableLock::AccessExclusive => "ACCESS EXCLUSIVE",
            };
            format!("({}, '{mode}')", literal(table))
        })
        .collect();
    let block = format!(
        "DECLARE
  command text;
BEGIN
  FOR command IN SELECT format('LOCK TABLE %s IN %s MODE', t.name, t.mode) FROM (VALUES {}) AS t (name, mode)
    ORDER BY (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
              WHERE d.datname = current_database() AND l.relation = t.name::regclass AND l.granted AND l.mode <> 'AccessShareLock') DESC, random() LOOP
    EXECUTE command;
  END LOOP;
END",
        tables.join(", ")
    );
    // A timeout is of one statement, so they are one.
    format!(
        "SET LOCAL statement_timeout = {LOCK_TIMEOUT_MS};\nDO {};\nSET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};",
        literal(&block)
    )
}

/// Fails with `object_in_use` if another table has the name of one of `tables` by now: the
/// functions would refuse its rows. The tables must be locked.
#[must_use]
pub fn same_tables(tables: &[(&str, u32)]) -> String {
    let tables: Vec<String> = tables.iter().map(|(name, oid)| format!("({}, {oid}::oid)", literal(name))).collect();
    let block = format!(
        "DECLARE
  other text;
BEGIN
  SELECT t.name INTO other FROM (VALUES {}) AS t (name, oid) WHERE to_regclass(t.name)::oid IS DISTINCT FROM t.oid LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('another table was given the name %s meanwhile; try again', other);
  END IF;
END",
        tables.join(", ")
    );
    format!("DO {};", literal(&block))
}

/// Waits until every consumer of the queue has finished all of its events, and fails
/// with `object_in_use` after [`RELAYED_TIMEOUT_MS`]. The tables must be locked, so
/// that no event comes. `id` is the queue's.
#[must_use]
pub fn await_relayed(id: i32) -> String {
    let block = format!(
        "DECLARE
  patience constant timestamptz := clock_timestamp() + interval '{RELAYED_TIMEOUT_MS} ms';
BEGIN
  WHILE EXISTS (SELECT FROM pgq.subscription s JOIN pgq.tick t ON t.tick_queue = s.sub_queue AND t.tick_id = s.sub_last_tick,
      LATERAL (SELECT FROM pgq.event_{id} e WHERE e.ev_txid >= txid_snapshot_xmin(t.tick_snapshot) AND NOT txid_visible_in_snapshot(e.ev_txid, t.tick_snapshot) ORDER BY e.ev_txid LIMIT 1) unread
      WHERE s.sub_queue = {id}) LOOP
    IF clock_timestamp() > patience THEN
      RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = 'the queue holds changes that are not relayed yet, and would be lost; see that a relay of the set runs, and keeps up';
    END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
END"
    );
    format!("DO {};", literal(&block))
}

/// Whoever changes the cluster's objects in a database holds this lock until
/// the end of the transaction; it survives PREPARE TRANSACTION. It is one that
/// only who may change them can take; where there are none yet, anybody can.
#[must_use]
pub fn lock(cluster: &str) -> String {
    let table = format!("{}.configuration", quote(&names::schema(cluster)));
    // Not by its name, which the session may still know as that of nothing.
    let there = format!(
        "EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = 'configuration')",
        literal(&names::schema(cluster))
    );
    let key = literal(&format!("pgshovel:{cluster}"));
    let block = format!(
        "BEGIN
  LOOP
    BEGIN
      IF {there} THEN
        LOCK TABLE {table} IN EXCLUSIVE MODE;
        RETURN;
      END IF;
    EXCEPTION WHEN undefined_table THEN
      -- Who held the lock has dropped it.
    END;
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({key}, 0));
    IF NOT {there} THEN
      RETURN;
    END IF;
  END LOOP;
END"
    );
    format!("DO {};", literal(&block))
}

/// The schema, its tables, and what capturing functions share, as far as they are missing.
/// A schema that is not among `present` must not have been made meanwhile by somebody else.
#[must_use]
pub fn create(cluster: &str, present: Schemas) -> String {
    let schema = quote(&names::schema(cluster));
    let shared = create_shared(cluster, present);
    let create = if present.own { String::new() } else { format!("CREATE SCHEMA {schema};\n") };
    format!(
        "{create}COMMENT ON SCHEMA {schema} IS 'pgshovel: what the cluster manages in this database';
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
CREATE TABLE IF NOT EXISTS {schema}.relays (
  set text NOT NULL,
  consumer text NOT NULL,
  epoch bigint NOT NULL,
  process integer NOT NULL,
  started timestamptz NOT NULL,
  PRIMARY KEY (set, consumer)
);
COMMENT ON TABLE {schema}.configuration IS 'Which node this database is, and what tells it from a clone.';
COMMENT ON TABLE {schema}.sets IS 'The sets captured here: version of the configuration, and the change that made them so.';
COMMENT ON TABLE {schema}.relations IS 'What the events of each version of a set mean. Old versions stay, since events may refer to them.';
COMMENT ON TABLE {schema}.relays IS 'The relay that took a consumer last: its epoch, and the session that ends its batches. Stays when a set is dropped, since its stream may.';
{shared}"
    )
}

/// Creates the role that the functions run as that capture, and lets the session's role
/// give it functions. It is of the whole server, so a change that is prepared in one
/// database would keep another one waiting: this is no part of the change.
#[must_use]
pub fn create_role(cluster: &str) -> String {
    let role = quote(&names::capture_role(cluster));
    let block = format!(
        "BEGIN
  IF pg_catalog.to_regrole({quoted}) IS NULL THEN
    BEGIN
      CREATE ROLE {role} NOLOGIN;
      COMMENT ON ROLE {role} IS 'pgshovel: what captures changes runs as this role, which can insert events and nothing else';
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;
    END;
  END IF;
  IF NOT pg_catalog.pg_has_role({name}, 'USAGE') THEN
    GRANT {role} TO CURRENT_USER;
  END IF;
END",
        quoted = literal(&role),
        name = literal(&names::capture_role(cluster)),
    );
    format!("DO {};", literal(&block))
}

/// Lets the role own what is in its schema, for as long as functions are given to it.
#[must_use]
pub fn begin_giving(cluster: &str) -> String {
    format!("GRANT CREATE ON SCHEMA {} TO {};", quote(&names::capture_schema(cluster)), quote(&names::capture_role(cluster)))
}

/// Ends what [`begin_giving`] began.
#[must_use]
pub fn end_giving(cluster: &str) -> String {
    format!("REVOKE CREATE ON SCHEMA {} FROM {};", quote(&names::capture_schema(cluster)), quote(&names::capture_role(cluster)))
}

/// Lets the role insert events of the set. PgQ's owner has the sequence of their ids.
#[must_use]
pub fn let_insert(cluster: &str, set: &str) -> String {
    let role = names::capture_role(cluster);
    let block = format!(
        "DECLARE
  sequence text;
BEGIN
  SELECT q.queue_event_seq INTO STRICT sequence FROM pgq.queue q WHERE q.queue_name = {queue};
  IF NOT pg_catalog.has_sequence_privilege({name}, sequence, 'USAGE') THEN
    EXECUTE pg_catalog.format('GRANT USAGE ON SEQUENCE %s TO %I', sequence::pg_catalog.regclass, {name});
  END IF;
END",
        queue = literal(&names::queue(cluster, set)),
        name = literal(&role),
    );
    format!("GRANT INSERT ON {}.{} TO {};\nDO {};", quote(&names::capture_schema(cluster)), quote(set), quote(&role), literal(&block))
}

/// What capturing functions share, as far as it is missing.
#[must_use]
pub fn create_shared(cluster: &str, present: Schemas) -> String {
    let create = if present.capture { String::new() } else { format!("CREATE SCHEMA {};\n", quote(&names::capture_schema(cluster))) };
    create + &shared::create(cluster)
}

/// Removes all of it.
#[must_use]
pub fn drop(cluster: &str) -> String {
    format!("{}\nDROP SCHEMA {} CASCADE;", shared::drop(cluster), quote(&names::schema(cluster)))
}

/// Who the database is, and the version that its objects are of. Replaces what
/// was there of another version; the node stays.
#[must_use]
pub fn identify(cluster: &str, node: uuid::Uuid, cluster_id: &str, version: &str) -> String {
    let schema = quote(&names::schema(cluster));
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
        schema = quote(&names::schema(cluster)),
        set = literal(set),
        version = literal(version),
        change = literal(stamp.change),
        epoch = stamp.epoch
    )
}

/// Forgets the set.
#[must_use]
pub fn forget_set(cluster: &str, set: &str) -> String {
    let (schema, set) = (quote(&names::schema(cluster)), literal(set));
    format!(
        "DELETE FROM {schema}.captured WHERE set = {set};\nDELETE FROM {schema}.relations WHERE set = {set};\nDELETE FROM {schema}.sets WHERE name = {set};"
    )
}

/// Creates the queue with its consumer. Ticks are the relay's to make; these
/// limits hold for whatever else ticks: a batch at least twice a second while
/// there are events, of some ten thousand of them, and one a minute without. Its
/// tables are the relay's to rotate: PgQ's maintenance would end a rotation too
/// early, and lose events. Nobody inserts events but triggers: PgQ's own functions,
/// which its role pgq_writer may call, refuse.
#[must_use]
pub fn create_queue(cluster: &str, set: &str) -> String {
    let queue = literal(&names::queue(cluster, set));
    format!(
        "SELECT pgq.create_queue({queue});
SELECT pgq.set_queue_config({queue}, 'ticker_max_count', '10000');
SELECT pgq.set_queue_config({queue}, 'ticker_max_lag', '500 milliseconds');
SELECT pgq.set_queue_config({queue}, 'ticker_idle_period', '1 minute');
SELECT pgq.set_queue_config({queue}, 'rotation_period', '100 years');
UPDATE pgq.queue SET queue_disable_insert = true WHERE queue_name = {queue};
SELECT pgq.register_consumer({queue}, {consumer});",
        consumer = literal(CONSUMER)
    )
}

/// Creates the view that the set's triggers insert events through: see `queue::keeper`.
#[must_use]
pub fn create_view(cluster: &str, set: &str) -> String {
    format!("SELECT {}({});", shared::switch(cluster), literal(set))
}

/// Drops the queue with all its consumers, and the view, which keeps others from that.
#[must_use]
pub fn drop_queue(cluster: &str, set: &str) -> String {
    let view = format!("{}.{}", quote(&names::capture_schema(cluster)), quote(set));
    format!("DROP VIEW IF EXISTS {view};\nSELECT pgq.drop_queue({}, true);", literal(&names::queue(cluster, set)))
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
        schema = quote(&names::schema(cluster)),
        set = literal(set),
        version = literal(version),
        key = literal(&description.key),
        of = literal(&description.schema),
        table = literal(&description.table),
        columns = literal(&description.columns),
        identity = identity.join(", ")
    )
}
