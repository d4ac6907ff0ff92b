//! The triggers that capture a table, as SQL. Pure.
//!
//! PostgreSQL evaluates the condition (WHEN) of an AFTER ROW trigger just after it has
//! written the row, before it touches the next one, and before any trigger fires. So
//! a function called there writes the event, and returns false: events are in the
//! order of writing, whatever other triggers, foreign keys and functions write beside, and
//! the trigger itself is never queued. One kind serves plain tables, partitioned ones
//! (PostgreSQL clones row triggers to partitions, also to one attached later), tables that
//! inherit, and tables that a subscription writes to.
//!
//! A condition runs as the writer, so everybody may execute the functions; they lie in a
//! schema that nobody may use, and are SECURITY DEFINER. A role that may use every
//! schema (`pg_read_all_data`) can call them by name: they refuse what no statement of the
//! session has written. Names in them are qualified, and settings pinned that the text of a
//! row depends on: neither the writer's role nor its session changes what is captured.
//! ALTER TABLE never makes a write fail: see [`columns`].
//!
//! Events go into the queue through a view of the set, which the rotation of the queue
//! moves from table to table (`queue::keeper`): no transaction, whatever its snapshot,
//! writes to a table that is no longer read.

mod capture;
mod columns;
mod row;
mod settings;
pub mod shared;
mod truncation;

use sha2::{Digest as _, Sha256};

use super::{literal, quote};
use crate::names::{self, IDENTIFIER_BYTES_MAX};
use capture::COMMENT;
pub use capture::{Capture, Context, Event};
pub use columns::{Column, Columns};
use settings::Setting;

/// How many event tables a queue has, when PgQ makes it.
pub const EVENT_TABLES: i32 = 3;

/// The name of the trigger of a set for `event`, the same on every table.
#[must_use]
pub fn trigger_name(cluster: &str, set: &str, event: Event) -> String {
    fit(&format!("pgshovel:{cluster}:{set}"), &format!(":{}", event.letter()))
}

/// The function behind a trigger, as SQL names it, with its parameters.
#[must_use]
pub fn function_signature(context: &Context<'_>, capture: &Capture, event: Event) -> String {
    let name = quote(&function_name(context, capture, event));
    let parameters: Vec<String> =
        parameters(capture, event).split(", ").filter_map(|parameter| parameter.split_once(' ')).map(|(_, kind)| kind.to_owned()).collect();
    format!("{}.{name}({})", context.schema(), parameters.join(", ").replace("pg_catalog.", ""))
}

/// The name of the function behind a trigger: every table has its own, but for
/// [`Event::Begin`] and [`Event::Emptied`].
#[must_use]
pub fn function_name(context: &Context<'_>, capture: &Capture, event: Event) -> String {
    if let Event::Begin | Event::Emptied = event {
        return fit(context.set, &format!(":{}", event.letter()));
    }
    let whole = [context.set, &capture.schema, &capture.table].map(|part| format!("{}:{part}", part.len())).concat();
    let suffix = format!("#{}:{}", digest(&whole), event.letter());
    fit(&capture.table, &suffix)
}

/// What the functions of a set have as their comment: how they are found again.
#[must_use]
pub fn comment(set: &str) -> String {
    format!("{COMMENT}{set}")
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

fn parameters(capture: &Capture, event: Event) -> String {
    match event {
        Event::Insert | Event::Update | Event::Delete => row::parameters(capture, event).0,
        Event::Truncate | Event::Begin | Event::Partition => String::new(),
        Event::Emptied => "key text, leaf pg_catalog.regclass".to_owned(),
    }
}

/// Creates or replaces the function for `event`. Locks no table.
#[must_use]
pub fn create_function(context: &Context<'_>, capture: &Capture, event: Event) -> String {
    let (body, settings) = match event {
        Event::Insert | Event::Update | Event::Delete => (row::body(context, capture, event), row::settings(capture)),
        Event::Truncate => (truncation::whole(context, capture), vec![Setting::SearchPath]),
        Event::Begin => (truncation::begin(context), vec![Setting::SearchPath]),
        Event::Partition => (truncation::partition(context, capture), vec![Setting::SearchPath]),
        Event::Emptied => (truncation::emptied(context), vec![Setting::SearchPath]),
    };
    let name = format!("{}.{}", context.schema(), quote(&function_name(context, capture, event)));
    let signature = function_signature(context, capture, event);
    // A condition is the writer's to evaluate.
    let (returns, access) = match event {
        Event::Begin | Event::Partition => ("trigger", format!("REVOKE ALL ON FUNCTION {signature} FROM PUBLIC;")),
        _ => ("boolean", format!("GRANT EXECUTE ON FUNCTION {signature} TO PUBLIC;")),
    };
    let tag = dollar_tag(&body);
    format!(
        "CREATE OR REPLACE FUNCTION {name}({parameters}) RETURNS {returns} LANGUAGE plpgsql SECURITY DEFINER {settings}
AS {tag}
{body}{tag};
{access}
ALTER FUNCTION {signature} OWNER TO {role};
COMMENT ON FUNCTION {signature} IS {comment};",
        role = context.role(),
        parameters = parameters(capture, event),
        settings = Setting::clauses(&settings),
        comment = literal(&comment(context.set))
    )
}

/// Creates the trigger for `event` on `table`, or replaces the one of its name;
/// takes SHARE ROW EXCLUSIVE on the table. It fires whatever
/// `session_replication_role` is: also for a subscription, and for a session
/// that means to switch other triggers off.
#[must_use]
pub fn create_trigger(context: &Context<'_>, capture: &Capture, event: Event, table: &str) -> String {
    let schema = context.schema();
    let function = format!("{schema}.{}", quote(&function_name(context, capture, event)));
    let name = trigger_name(context.cluster, context.set, event);
    let row = |word: &str| {
        let (_, arguments) = row::parameters(capture, event);
        let call = format!("{function}({arguments})");
        let Some((_, leaf)) = arguments.rsplit_once(", ").filter(|_| capture.is_partitioned()) else {
            return format!("AFTER {word} ON {table} FOR EACH ROW WHEN ({call}) EXECUTE FUNCTION {schema}.never()");
        };
        // A row that moves from partition to partition is an update of the whole table too, to
        // foreign keys: it is of no table, and is captured as a delete and an insert.
        let condition = format!("CASE WHEN {leaf} OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid THEN {call} ELSE false END");
        format!("AFTER {word} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {schema}.never()")
    };
    let firing = match event {
        Event::Insert => row("INSERT"),
        Event::Update => row("UPDATE"),
        Event::Delete => row("DELETE"),
        Event::Truncate => format!("AFTER TRUNCATE ON {table} FOR EACH STATEMENT WHEN ({function}()) EXECUTE FUNCTION {schema}.never()"),
        Event::Begin => format!("BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}({})", literal(&capture.key)),
        Event::Partition | Event::Emptied => {
            let function = format!("{schema}.{}", quote(&function_name(context, capture, Event::Partition)));
            return watch_partition(context.cluster, context.set, &capture.key, table, &function);
        }
    };
    place(&name, &firing, table)
}

fn place(trigger: &str, firing: &str, table: &str) -> String {
    let trigger = quote(trigger);
    format!("CREATE OR REPLACE TRIGGER {trigger} {firing};\nALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger};")
}

/// Creates the triggers for [`Event::Partition`] and [`Event::Emptied`] on `table`, a
/// partition of the table `whole`; `function` is the first one's.
#[must_use]
pub fn watch_partition(cluster: &str, set: &str, whole: &str, table: &str, function: &str) -> String {
    let (schema, emptied) = (quote(&names::capture_schema(cluster)), quote(&fit(set, ":q")));
    let before = format!("BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}()");
    let condition = format!("{schema}.{emptied}({}, {}::pg_catalog.regclass)", literal(whole), literal(table));
    let after = format!("AFTER TRUNCATE ON {table} FOR EACH STATEMENT WHEN ({condition}) EXECUTE FUNCTION {schema}.never()");
    let name = |event| trigger_name(cluster, set, event);
    format!("{}\n{}", place(&name(Event::Partition), &before, table), place(&name(Event::Emptied), &after, table))
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
