//! The functions for TRUNCATE.
//!
//! TRUNCATE of a table is one event of it, and its condition captures it, before what other
//! triggers write. Since PostgreSQL counts no TRUNCATE that a condition could ask for,
//! a trigger before it leaves word. TRUNCATE of a partition takes away some rows of its
//! whole table: each is a delete, unless word was left that the whole table is truncated.

use super::capture::{Capture, Context};
use crate::names;
use crate::postgres::{literal, quote};

/// Before TRUNCATE of any table of the set, which is the trigger's argument.
pub(super) fn begin(context: &Context<'_>) -> String {
    format!(
        "BEGIN
  INSERT INTO {schema}.truncating (transaction, \"set\", key) VALUES (pg_current_xact_id(), {set}, TG_ARGV[0]);
  RETURN NULL;
END
",
        schema = quote(&names::schema(context.cluster)),
        set = literal(context.set)
    )
}

/// The condition for TRUNCATE.
pub(super) fn whole(context: &Context<'_>, capture: &Capture) -> String {
    format!(
        "BEGIN
  PERFORM {schema}.truncated({set}, {key}, {version});
  RETURN false;
END
",
        schema = context.schema(),
        set = literal(context.set),
        key = literal(&capture.key),
        version = literal(context.version)
    )
}

/// Before TRUNCATE of a partition, alone or with the rest.
pub(super) fn partition(context: &Context<'_>, capture: &Capture) -> String {
    format!(
        "BEGIN
  PERFORM {schema}.truncated_partition({set}, {key}, {version}, '{table}', TG_RELID, {numbers});
  RETURN NULL;
END
",
        schema = context.schema(),
        set = literal(context.set),
        key = literal(&capture.key),
        version = literal(context.version),
        table = capture.table_oid,
        numbers = capture.columns.numbers()
    )
}

/// The condition after TRUNCATE of a partition alone: see `emptied_partition` in `shared.sql`.
pub(super) fn emptied(context: &Context<'_>) -> String {
    format!(
        "BEGIN
  PERFORM {schema}.emptied_partition({set}, key, leaf::pg_catalog.text);
  RETURN false;
END
",
        schema = context.schema(),
        set = literal(context.set)
    )
}
