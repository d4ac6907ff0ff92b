//! The function of row triggers.

use super::columns::ROW;
use super::{Capture, Context, VARIABLES, insert_into_current, prologue};
use crate::postgres::event::FORMAT;
use crate::postgres::literal;

/// For INSERT, UPDATE and DELETE.
pub(super) fn any(context: &Context<'_>, capture: &Capture) -> String {
    let columns = &capture.columns;
    let query = "SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old";
    let unchanged = if columns.every {
        ""
    } else {
        "  IF TG_OP = 'UPDATE' AND pgshovel_new IS NOT DISTINCT FROM pgshovel_old THEN RETURN NULL; END IF;\n"
    };
    let named =
        |row: &str, into: &str| format!("SELECT row_to_json({ROW})::text INTO {into} FROM (SELECT {}) AS {ROW};", columns.select(row));
    let read = if columns.whole_row() {
        [side("INSERT", "NEW", whole), side("DELETE", "OLD", whole)]
    } else {
        [side("INSERT", "NEW", named), side("DELETE", "OLD", named)]
    };
    format!(
        "{prologue}  IF pgshovel_as_known THEN
  pgshovel_format := {format};
{read}  ELSE
  {look_up}{built}  END IF;
{unchanged}{insert}  RETURN NULL;
END
",
        prologue = prologue(context, &columns.check(), &format!("{VARIABLES}  pgshovel_new text;\n  pgshovel_old text;\n")),
        format = literal(FORMAT),
        read = read.concat(),
        look_up = columns.look_up(context),
        built = [side("INSERT", "NEW", built), side("DELETE", "OLD", built)].concat(),
        insert = insert_into_current(context, capture, "pgshovel_format", query),
    )
}

/// NEW of all but DELETE, OLD of all but INSERT.
fn side(only: &str, row: &str, read: impl Fn(&str, &str) -> String) -> String {
    let other = if only == "INSERT" { "DELETE" } else { "INSERT" };
    let into = if row == "NEW" { "pgshovel_new" } else { "pgshovel_old" };
    format!("  IF TG_OP <> '{other}' THEN {} END IF;\n", read(row, into))
}

fn whole(row: &str, into: &str) -> String {
    format!("{into} := row_to_json({row})::text;")
}

fn built(row: &str, into: &str) -> String {
    format!(
        "EXECUTE 'SELECT row_to_json({ROW})::text FROM (SELECT ' || pgshovel_columns || ' FROM (SELECT ($1).*) AS {ROW}) AS {ROW}' INTO {into} USING {row};"
    )
}
