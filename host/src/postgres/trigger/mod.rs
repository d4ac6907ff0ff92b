//! The triggers that capture a table, as SQL. Pure.
//!
//! Statement triggers with transition tables serve plain tables: one set-based
//! INSERT into the queue's current event table for any number of rows. Row
//! triggers serve partitioned tables (the clones of a row trigger see writes to
//! any partition, also to one attached later), partitions and inheritance
//! children (PostgreSQL refuses transition tables there), and tables that a
//! subscription writes to (its worker fires row triggers only).
//!
//! Every function is SECURITY DEFINER with pinned settings: neither the writer's
//! role nor its session changes what is captured. ALTER TABLE never makes a
//! write fail: see [`columns`].

mod columns;
mod partition;
mod row;
mod statement;

use sha2::{Digest as _, Sha256};

use super::{literal, quote};
use crate::cluster::name::{self, IDENTIFIER_BYTES_MAX};
pub use columns::{Column, Columns};

use super::event::FORMAT;

/// How many event tables a queue has; what the functions are written for.
pub const EVENT_TABLES: i32 = 3;

/// Which events fire a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
    /// Insert, update and delete, row by row.
    Row,
    /// A partitioned table is about to be truncated, with its partitions.
    Begin,
    /// A partition is about to be truncated.
    Partition,
}

impl Event {
    const fn letter(self) -> char {
        match self {
            Self::Insert => 'i',
            Self::Update => 'u',
            Self::Delete => 'd',
            Self::Truncate => 't',
            Self::Row => 'r',
            Self::Begin => 'b',
            Self::Partition => 'p',
        }
    }
}

/// How a table is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Statement,
    Row,
}

/// A table to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    pub schema: String,
    pub table: String,
    /// The table in `ev_extra1`: as PostgreSQL's `quote_ident` writes it.
    pub key: String,
    pub mode: Mode,
    pub columns: Columns,
    /// Of a partitioned table: the keys of the tables that hold its rows.
    pub partitions: Option<Vec<String>>,
}

impl Capture {
    /// The events that have a function.
    #[must_use]
    pub fn events(&self) -> &'static [Event] {
        match (self.mode, &self.partitions) {
            (Mode::Statement, _) => &[Event::Insert, Event::Update, Event::Delete, Event::Truncate],
            (Mode::Row, None) => &[Event::Row, Event::Truncate],
            (Mode::Row, Some(_)) => &[Event::Row, Event::Truncate, Event::Begin, Event::Partition],
        }
    }

    /// The tables that have the trigger for `event`, by their keys.
    #[must_use]
    pub fn tables(&self, event: Event) -> Vec<&str> {
        match event {
            Event::Partition => self.partitions.iter().flatten().map(String::as_str).collect(),
            _ => vec![&self.key],
        }
    }
}

/// Whose triggers they are, and where their events go.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub cluster: &'a str,
    pub set: &'a str,
    /// `ev_extra3`.
    pub version: &'a str,
    /// `pgq.queue.queue_id`; `None` while there is no queue yet, to show the SQL.
    pub queue: Option<i32>,
}

impl Context<'_> {
    fn queue_id(&self) -> String {
        self.queue.map_or_else(|| "QUEUE_ID".to_owned(), |id| id.to_string())
    }
}

/// The name of the trigger of a set for `event`, the same on every table.
#[must_use]
pub fn trigger_name(cluster: &str, set: &str, event: Event) -> String {
    fit(&format!("pgshovel:{cluster}:{set}"), &format!(":{}", event.letter()))
}

/// The function behind a trigger, as SQL names it.
#[must_use]
pub fn function_path(context: &Context<'_>, capture: &Capture, event: Event) -> String {
    format!("{}.{}", quote(&name::schema(context.cluster)), quote(&function_name(context, capture, event)))
}

/// The name of the function behind a trigger: every table has its own.
#[must_use]
pub fn function_name(context: &Context<'_>, capture: &Capture, event: Event) -> String {
    let whole = [context.set, &capture.schema, &capture.table].map(|part| format!("{}:{part}", part.len())).concat();
    let suffix = format!("#{}:{}", digest(&whole), event.letter());
    fit(&capture.table, &suffix)
}

/// What the functions of a set have as their comment: how they are found again.
#[must_use]
pub fn comment(set: &str) -> String {
    format!("pgshovel: captures changes for the set {set}")
}

/// `prefix` and `suffix` in at most 63 bytes: a prefix that is too long is cut
/// and its digest takes the place of the rest. Names that were cut never equal
/// names that were not, since '#' and 16 digits stand in front of the suffix.
fn fit(prefix: &str, suffix: &str) -> String {
    let room = IDENTIFIER_BYTES_MAX - suffix.len();
    if prefix.len() <= room {
        return format!("{prefix}{suffix}");
    }
    let digest = digest(prefix);
    let end = (0..=room - digest.len() - 1).rev().find(|end| prefix.is_char_boundary(*end)).unwrap_or_default();
    let kept = prefix.get(..end).unwrap_or_default();
    format!("{kept}#{digest}{suffix}")
}

/// 16 hexadecimal digits.
fn digest(text: &str) -> String {
    let mut digits: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(16);
    digits
}

/// Creates or replaces the function for `event`. Locks no table.
#[must_use]
pub fn create_function(context: &Context<'_>, capture: &Capture, event: Event) -> String {
    let body = match event {
        Event::Insert => statement::insert(context, capture),
        Event::Update => statement::update(context, capture),
        Event::Delete => statement::delete(context, capture),
        Event::Truncate => statement::truncate(context, capture),
        Event::Row => row::any(context, capture),
        Event::Begin => partition::begin(capture),
        Event::Partition => partition::truncate(context, capture),
    };
    let function = function_path(context, capture, event);
    let tag = dollar_tag(&body);
    format!(
        "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET \"DateStyle\" = 'ISO, YMD' SET \"IntervalStyle\" = postgres
SET bytea_output = hex SET \"TimeZone\" = 'UTC' SET lc_monetary = 'C' SET quote_all_identifiers = off
AS {tag}
{body}{tag};
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC;
COMMENT ON FUNCTION {function}() IS {comment};",
        comment = literal(&comment(context.set))
    )
}

/// Creates the trigger for `event` on `table`, or replaces the one of its name;
/// takes SHARE ROW EXCLUSIVE on the table. It fires whatever
/// `session_replication_role` is: also for a subscription, and for a session
/// that means to switch other triggers off.
#[must_use]
pub fn create_trigger(context: &Context<'_>, capture: &Capture, event: Event, table: &str) -> String {
    let function = function_path(context, capture, event);
    let firing = match event {
        Event::Insert => format!("AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"),
        Event::Update => {
            format!("AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT")
        }
        Event::Delete => format!("AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT"),
        Event::Truncate => format!("AFTER TRUNCATE ON {table} FOR EACH STATEMENT"),
        Event::Row => format!("AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW"),
        Event::Begin | Event::Partition => format!("BEFORE TRUNCATE ON {table} FOR EACH STATEMENT"),
    };
    place(&trigger_name(context.cluster, context.set, event), &firing, &function, table)
}

fn place(trigger: &str, firing: &str, function: &str, table: &str) -> String {
    let trigger = quote(trigger);
    format!(
        "CREATE OR REPLACE TRIGGER {trigger} {firing} EXECUTE FUNCTION {function}();\nALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger};"
    )
}

/// Partitions without the trigger for [`Event::Partition`], and the function that it
/// is to call: PostgreSQL clones no trigger for TRUNCATE to a partition that is
/// attached. Parameters: the set's trigger names for [`Event::Begin`] and
/// [`Event::Partition`], and the cluster's schema.
pub const LATE_PARTITIONS: &str = "\
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
       pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(pg_catalog.left(f.proname::text, -1) || 'p')
FROM pg_catalog.pg_trigger b
JOIN pg_catalog.pg_proc f ON f.oid = b.tgfoid JOIN pg_catalog.pg_namespace s ON s.oid = f.pronamespace,
     pg_catalog.pg_partition_tree(b.tgrelid) t
JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE b.tgname = $1 AND s.nspname = $3 AND c.relkind = 'r'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger p WHERE p.tgrelid = c.oid AND p.tgname = $2)
ORDER BY 1";

/// What [`create_trigger`] does for [`Event::Partition`], with a row of
/// [`LATE_PARTITIONS`].
#[must_use]
pub fn watch_partition(cluster: &str, set: &str, table: &str, function: &str) -> String {
    place(&trigger_name(cluster, set, Event::Partition), &format!("BEFORE TRUNCATE ON {table} FOR EACH STATEMENT"), function, table)
}

/// The beginning of every function: which event table is current, and the answer
/// to `check`, a condition on the table. A queue that is gone captures nothing and
/// stops no write: the relay reports it. One that is there, but not for the snapshot of
/// a REPEATABLE READ transaction, is younger than it; what was its first table then is
/// not emptied before the transaction is over.
fn prologue(context: &Context<'_>, check: &str, variables: &str) -> String {
    let queue = context.queue_id();
    format!(
        "DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
  pgshovel_as_known boolean;
{variables}BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert, {check} INTO pgshovel_slot, pgshovel_disabled, pgshovel_as_known FROM pgq.queue q WHERE q.queue_id = {queue};
  IF NOT FOUND THEN
    IF to_regclass('pgq.event_{queue}_0') IS NULL THEN RETURN NULL; END IF;
    pgshovel_slot := 0;
    pgshovel_as_known := false;
  END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', {name}; END IF;
",
        name = literal(&name::queue(context.cluster, context.set))
    )
}

/// `query` selects the rows (kind, new, old) of the events, in order; `format` is
/// an expression.
fn insert_into(context: &Context<'_>, capture: &Capture, slot: &str, format: &str, query: &str) -> String {
    let queue = context.queue_id();
    format!(
        "INSERT INTO pgq.event_{queue}_{slot} (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_{queue}_id_seq'), now(), e.kind, e.new, {key}, e.old, {version}, {format} FROM ({query}) AS e",
        key = literal(&capture.key),
        version = literal(context.version),
    )
}

/// The same INSERT, once per event table, so that each has its plan cached.
fn insert_into_current(context: &Context<'_>, capture: &Capture, format: &str, query: &str) -> String {
    let mut text = String::new();
    for slot in 0..EVENT_TABLES {
        let word = if slot == 0 { "IF" } else { "ELSIF" };
        let statement = insert_into(context, capture, &slot.to_string(), format, query);
        text.push_str(&format!("  {word} pgshovel_slot = {slot} THEN\n{statement};\n"));
    }
    text.push_str("  END IF;\n");
    text
}

/// What [`Columns::look_up`] fills in.
const VARIABLES: &str = "  pgshovel_columns text;\n  pgshovel_format text;\n";

/// Places in a statement that a function fills in; no name in PostgreSQL holds a
/// zero.
const SLOT: &str = "\0slot\0";
const COLUMNS: &str = "\0columns\0";
const TABLE: &str = "\0table\0";

/// The expression that gives `template` with its places filled in.
fn concatenation(template: &str) -> String {
    let parts: Vec<String> = template
        .split('\0')
        .map(|part| match part {
            "slot" => "pgshovel_slot::text".to_owned(),
            "columns" => "pgshovel_columns".to_owned(),
            "table" => "TG_RELID::regclass::text".to_owned(),
            _ => literal(part),
        })
        .collect();
    parts.join(" || ")
}

/// A dollar quote that the body does not contain.
fn dollar_tag(body: &str) -> String {
    let mut tag = "$pgshovel$".to_owned();
    while body.contains(&tag) {
        tag.insert(1, '_');
    }
    tag
}

#[cfg(test)]
mod tests;
