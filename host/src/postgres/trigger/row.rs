//! The functions for INSERT, UPDATE and DELETE: conditions of row triggers.

use super::capture::{Capture, Context, Event};
use super::settings::Setting;
use crate::postgres::event::FORMAT;
use crate::postgres::literal;

/// The parameters, and how the trigger's condition calls the function.
pub(super) fn parameters(capture: &Capture, event: Event) -> (String, String) {
    let rows: &[(&str, &str)] = match event {
        Event::Insert => &[("n", "NEW.*")],
        Event::Update => &[("n", "NEW.*"), ("o", "OLD.*")],
        _ => &[("o", "OLD.*")],
    };
    let mut parameters: Vec<String> = rows.iter().map(|(name, _)| format!("{name} record")).collect();
    let mut arguments: Vec<String> = rows.iter().map(|(_, row)| (*row).to_owned()).collect();
    if capture.is_partitioned() {
        let (_, row) = rows.first().copied().unwrap_or_default();
        parameters.push("leaf pg_catalog.oid".to_owned());
        arguments.push(row.replace(".*", ".tableoid"));
    }
    (parameters.join(", "), arguments.join(", "))
}

pub(super) fn settings(capture: &Capture) -> Vec<Setting> {
    capture.columns.settings()
}

/// Nothing in the fast half is looked up by the session's search_path.
pub(super) fn body(context: &Context<'_>, capture: &Capture, event: Event) -> String {
    let columns = &capture.columns;
    let (kind, counter, new, old) = match event {
        Event::Insert => ('I', "inserted", true, false),
        Event::Update => ('U', "updated", true, true),
        _ => ('D', "deleted", false, true),
    };
    let read = |wanted: bool, row: &str, name: &str| if wanted { columns.row(row, name) } else { ("NULL".to_owned(), None) };
    let ((new_text, new_from), (old_text, old_from)) = (read(new, "n", "x"), read(old, "o", "y"));
    let from: Vec<String> = new_from.into_iter().chain(old_from).collect();
    let from = if from.is_empty() { String::new() } else { format!(" FROM {}", from.join(", ")) };
    let rest = format!("{}, {}, {}", literal(&capture.key), literal(context.version), literal(FORMAT));
    let values = if event == Event::Update && !columns.every {
        // An update of no captured column is no event. OFFSET keeps the texts from being made twice.
        format!(
            "SELECT CURRENT_TIMESTAMP, 'U', z.new, z.old, {rest} FROM (SELECT {new_text} AS new, {old_text} AS old{from} OFFSET 0) AS z
    WHERE z.new OPERATOR(pg_catalog.<>) z.old"
        )
    } else {
        format!("SELECT CURRENT_TIMESTAMP, '{kind}', {new_text}, {old_text}, {rest}{from}")
    };
    let (schema, table, row_type) = (context.schema(), capture.table_oid, capture.row_type_oid);
    // Whoever may use the schema can call the function with a record of any type, whose casts
    // are code of its owner.
    let of_the_table: String = [(new, "n"), (old, "o")]
        .iter()
        .filter(|(given, _)| *given)
        .map(|(_, row)| {
            format!("\n    AND pg_catalog.pg_typeof({row})::pg_catalog.oid OPERATOR(pg_catalog.=) '{row_type}'::pg_catalog.oid")
        })
        .collect();
    let written = if capture.is_partitioned() { "leaf".to_owned() } else { format!("'{table}'::pg_catalog.oid") };
    let below = match (capture.is_partitioned(), capture.is_partition) {
        (false, _) => String::new(),
        (true, false) => {
            format!("\n    AND pg_catalog.pg_partition_root(leaf)::pg_catalog.oid OPERATOR(pg_catalog.=) '{table}'::pg_catalog.oid")
        }
        (true, true) => format!("\n    AND {schema}.is_below(leaf, '{table}')"),
    };
    format!(
        "BEGIN
  IF {schema}.as_known('{table}'::pg_catalog.regclass, '{view}'::pg_catalog.regclass, {known}, {every})
    AND pg_catalog.pg_stat_get_xact_tuples_{counter}({written}) OPERATOR(pg_catalog.>) 0{of_the_table}{below}
  THEN
    INSERT INTO {events} (ev_time, ev_type, ev_data, ev_extra2, ev_extra1, ev_extra3, ev_extra4)
    {values};
  ELSE
    PERFORM {schema}.altered('{kind}', {set}, {key}, {version}, '{table}', '{row_type}', {leaf}, {numbers}, {n}, {o});
  END IF;
  RETURN false;
END
",
        view = context.view_oid(),
        known = columns.known(),
        every = columns.every,
        events = context.events(),
        set = literal(context.set),
        key = literal(&capture.key),
        version = literal(context.version),
        leaf = if capture.is_partitioned() { "leaf" } else { "NULL" },
        numbers = columns.numbers(),
        n = if new { "n" } else { "NULL" },
        o = if old { "o" } else { "NULL" },
    )
}
