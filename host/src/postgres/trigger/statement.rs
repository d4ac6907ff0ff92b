//! Functions of statement triggers: one INSERT for all rows of the statement.

use super::columns::ROW;
use super::{COLUMNS, Capture, Context, SLOT, VARIABLES, concatenation, insert_into, insert_into_current, partition, prologue};
use crate::postgres::event::FORMAT;
use crate::postgres::literal;

pub(super) fn insert(context: &Context<'_>, capture: &Capture) -> String {
    function(context, capture, |select| {
        format!("SELECT 'I' AS kind, {} AS new, NULL::text AS old FROM {}", data(), rows("new_rows", select))
    })
}

pub(super) fn delete(context: &Context<'_>, capture: &Capture) -> String {
    function(context, capture, |select| {
        format!("SELECT 'D' AS kind, NULL::text AS new, {} AS old FROM {}", data(), rows("old_rows", select))
    })
}

/// PostgreSQL appends the old and the new version of a row to the two tables
/// together, so position pairs them, whatever happened to the key. The join may
/// reorder them when it spills, hence the sort; the ids are drawn after it.
/// Should the tables ever differ in length, the rest is deletes and inserts.
pub(super) fn update(context: &Context<'_>, capture: &Capture) -> String {
    let filter = if capture.columns.every { "" } else { "\nWHERE n.data IS DISTINCT FROM o.data" };
    function(context, capture, |select| {
        let side = |table| format!("SELECT row_number() OVER () AS number, {} AS data FROM {}", data(), rows(table, select));
        format!(
            "SELECT CASE WHEN o.number IS NULL THEN 'I' WHEN n.number IS NULL THEN 'D' ELSE 'U' END AS kind, n.data AS new, o.data AS old
FROM ({}) AS o
FULL JOIN ({}) AS n ON n.number = o.number{filter}
ORDER BY coalesce(o.number, n.number), n.number NULLS FIRST",
            side("old_rows"),
            side("new_rows")
        )
    })
}

pub(super) fn truncate(context: &Context<'_>, capture: &Capture) -> String {
    let insert = insert_into_current(context, capture, &literal(FORMAT), "SELECT 'T' AS kind, NULL::text AS new, NULL::text AS old");
    format!("{}{insert}{}  RETURN NULL;\nEND\n", prologue(context, "true", ""), partition::end(capture))
}

/// `query` takes what to select of a row, or nothing for the whole row.
fn function(context: &Context<'_>, capture: &Capture, query: impl Fn(Option<&str>) -> String) -> String {
    let columns = &capture.columns;
    let select = if columns.whole_row() { None } else { Some(columns.select(ROW)) };
    format!(
        "{prologue}  IF NOT pgshovel_as_known THEN
  {look_up}  EXECUTE {built} USING pgshovel_format;
  RETURN NULL;
  END IF;
{insert}  RETURN NULL;
END
",
        prologue = prologue(context, &columns.check(), VARIABLES),
        look_up = columns.look_up(context),
        built = concatenation(&insert_into(context, capture, SLOT, "$1", &query(Some(COLUMNS)))),
        insert = insert_into_current(context, capture, &literal(FORMAT), &query(select.as_deref())),
    )
}

fn data() -> String {
    format!("row_to_json({ROW})::text")
}

fn rows(table: &str, select: Option<&str>) -> String {
    match select {
        None => format!("{table} AS {ROW}"),
        Some(select) => format!("(SELECT {select} FROM {table} AS {ROW}) AS {ROW}"),
    }
}
