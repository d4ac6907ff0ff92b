//! Functions for the TRUNCATE of a partition.
//!
//! TRUNCATE of a partitioned table is one event of it. TRUNCATE of one of its
//! partitions takes away some of its rows: each is a delete. PostgreSQL fires
//! the triggers of all partitions in either case, those of the table the user
//! named first, so that one leaves word for theirs until the statement ends.

use super::columns::ROW;
use super::{COLUMNS, Capture, Context, SLOT, TABLE, VARIABLES, concatenation, insert_into, prologue};
use crate::postgres::literal;

/// A setting of the transaction: the tables that are being truncated, each
/// between line feeds.
const TRUNCATING: &str = "pgshovel.truncating";

/// Before TRUNCATE of the partitioned table.
pub(super) fn begin(capture: &Capture) -> String {
    let word = literal(&word(capture));
    format!(
        "BEGIN\n  PERFORM set_config('{TRUNCATING}', coalesce(current_setting('{TRUNCATING}', true), '') || {word}, true);\n  RETURN NULL;\nEND\n"
    )
}

/// What the function for TRUNCATE itself does at its end.
pub(super) fn end(capture: &Capture) -> String {
    match capture.partitions {
        Some(_) => format!("  PERFORM set_config('{TRUNCATING}', '', true);\n"),
        None => String::new(),
    }
}

/// Before TRUNCATE of a partition, alone or with the rest.
pub(super) fn truncate(context: &Context<'_>, capture: &Capture) -> String {
    let query = format!(
        "SELECT 'D' AS kind, NULL::text AS new, row_to_json({ROW})::text AS old FROM (SELECT {COLUMNS} FROM ONLY {TABLE} AS {ROW}) AS {ROW}"
    );
    format!(
        "{prologue}  IF strpos(current_setting('{TRUNCATING}', true), {word}) > 0 THEN RETURN NULL; END IF;
  {look_up}  EXECUTE {insert} USING pgshovel_format;
  RETURN NULL;
END
",
        prologue = prologue(context, "true", VARIABLES),
        look_up = capture.columns.look_up(context),
        word = literal(&word(capture)),
        insert = concatenation(&insert_into(context, capture, SLOT, "$1", &query))
    )
}

fn word(capture: &Capture) -> String {
    format!("\n{}\n", capture.key)
}
