//! The function of row triggers.

use super::columns::ROW;
use super::{Capture, Context, insert_into_current, prologue};

/// For INSERT, UPDATE and DELETE.
pub(super) fn any(context: &Context<'_>, capture: &Capture) -> String {
    let columns = &capture.columns;
    let insert = insert_into_current(context, capture, "SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old");
    let unchanged = if columns.every {
        ""
    } else {
        "  IF TG_OP = 'UPDATE' AND pgshovel_new IS NOT DISTINCT FROM pgshovel_old THEN RETURN NULL; END IF;\n"
    };
    let variables = "  pgshovel_new text;\n  pgshovel_old text;\n";
    if columns.whole_row() {
        let read = format!("{}{}", side("INSERT", "NEW", whole), side("DELETE", "OLD", whole));
        return format!("{}{read}{unchanged}{insert}  RETURN NULL;\nEND\n", prologue(context, variables));
    }
    let named =
        |row: &str, into: &str| format!("SELECT row_to_json({ROW})::text INTO {into} FROM (SELECT {}) AS {ROW};", columns.select(row));
    format!(
        "{prologue}  IF {check} THEN
{read}  ELSE
  {look_up}{built}  END IF;
{unchanged}{insert}  RETURN NULL;
END
",
        prologue = prologue(context, &format!("{variables}  pgshovel_columns text;\n")),
        check = columns.check(),
        read = [side("INSERT", "NEW", named), side("DELETE", "OLD", named)].concat(),
        look_up = columns.look_up(),
        built = [side("INSERT", "NEW", built), side("DELETE", "OLD", built)].concat(),
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
