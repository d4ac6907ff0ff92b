//! What is wrong with the triggers of a set, and what to do about it. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

/// A trigger that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// As SQL names it.
    pub table: String,
    pub trigger: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The table is gone.
    Dropped,
    /// The table is called otherwise, and no other one or a new one has its name.
    Renamed,
    Unlogged,
    /// The table has no such trigger, or one that calls no function of the set.
    WithoutTrigger,
    Disabled,
    /// Enabled, but not ALWAYS.
    NotAlways,
    /// The trigger, or a function that it calls: text, owner or privileges.
    Altered,
    TriggerRenamed,
    /// The trigger is as it has to be, and was changed since it was made.
    Touched,
    /// A partition that is truncated alone without an event, until it gets its trigger.
    Unwatched,
    /// A partition that is a foreign table.
    Foreign,
}

impl Fault {
    /// `kind` is as `trigger::shared::faults` says.
    #[must_use]
    pub fn read(table: &str, trigger: &str, kind: &str) -> Self {
        let kind = match kind {
            "dropped" => Kind::Dropped,
            "renamed" => Kind::Renamed,
            "unlogged" => Kind::Unlogged,
            "without trigger" => Kind::WithoutTrigger,
            "disabled" => Kind::Disabled,
            "not always" => Kind::NotAlways,
            "trigger renamed" => Kind::TriggerRenamed,
            "touched" => Kind::Touched,
            "unwatched" => Kind::Unwatched,
            "foreign" => Kind::Foreign,
            _ => Kind::Altered,
        };
        Self { table: table.to_owned(), trigger: trigger.to_owned(), kind }
    }

    /// Whether changes may be missing from the stream.
    const fn loses(&self) -> bool {
        !matches!(self.kind, Kind::TriggerRenamed | Kind::Unwatched)
    }

    fn text(&self) -> String {
        let Self { table, trigger, kind } = self;
        match kind {
            Kind::Dropped => format!("the table {table} was dropped"),
            Kind::Renamed => format!("the table {table} was renamed or replaced by another one"),
            Kind::Unlogged => format!("the table {table} was set unlogged, and a crash of the server empties it without an event"),
            Kind::WithoutTrigger if trigger.is_empty() => format!("the table {table} has no trigger of the set"),
            Kind::WithoutTrigger => format!("the table {table} has no trigger {trigger:?} of the set"),
            Kind::Disabled => format!("the trigger {trigger:?} on {table} is disabled"),
            Kind::NotAlways => format!(
                "the trigger {trigger:?} on {table} is enabled but not ALWAYS: it was disabled for a while (`pg_dump --disable-triggers` and frameworks' fixtures do so), and does not fire where session_replication_role is replica"
            ),
            Kind::Altered => format!(
                "the trigger {trigger:?} on {table} or a function that it calls was replaced, or has another owner or other privileges"
            ),
            Kind::Touched => format!(
                "the trigger {trigger:?} on {table} is as it has to be again, but was changed: it may have been disabled for a while"
            ),
            Kind::Unwatched => format!(
                "the partition {table} is new, and TRUNCATE of it alone is not captured: a relay that may change the table sees to it within ten seconds"
            ),
            Kind::Foreign => format!("the partition {table} is a foreign table, whose rows change where no trigger fires: detach it"),
            Kind::TriggerRenamed => format!("the trigger {trigger:?} on {table} was renamed, and still captures"),
        }
    }
}

/// The tables of which changes may be missing, each once.
#[must_use]
pub fn tables(faults: &[Fault]) -> Vec<&str> {
    let tables: BTreeSet<&str> = faults.iter().filter(|fault| fault.loses()).map(|fault| fault.table.as_str()).collect();
    tables.into_iter().collect()
}

/// What a person has to know and do; nothing if there is no fault.
#[must_use]
pub fn report(faults: &[Fault]) -> Option<String> {
    if faults.is_empty() {
        return None;
    }
    // A table's triggers are mostly changed together.
    let mut said: Vec<String> = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let same = |other: &&Fault| other.table == fault.table && other.kind == fault.kind;
        if faults.iter().position(|other| same(&other)) == Some(index) {
            let others = faults.iter().filter(same).count() - 1;
            let more = if others > 0 { format!(" (and {others} more of its triggers)") } else { String::new() };
            said.push(fault.text() + &more);
        }
    }
    let remedy = "run `set update`, with the same configuration unless it has to change";
    let tables = tables(faults);
    let loss = if tables.is_empty() {
        format!("; {remedy}")
    } else {
        format!(
            "; which changes are missing from the stream is unknown: {remedy}, and then bootstrap the targets of {} again (`replicate --bootstrap`)",
            tables.join(", ")
        )
    };
    Some(said.join("; ") + &loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_each_kind_of_each_table_once_and_what_to_load_again() {
        let fault = |table: &str, trigger: &str, kind: &str| Fault::read(table, trigger, kind);
        assert_eq!(report(&[]), None);
        let text =
            report(&[fault("public.a", "x:i", "disabled"), fault("public.a", "x:u", "disabled"), fault("public.b", "x:t", "altered")])
                .unwrap();
        assert_eq!(text.matches("public.a is disabled").count(), 1, "{text}");
        assert!(
            text.contains("(and 1 more of its triggers)") && text.contains("bootstrap the targets of public.a, public.b again"),
            "{text}"
        );
        let text = report(&[fault("public.a", "x:i", "trigger renamed")]).unwrap();
        assert!(!text.contains("bootstrap") && text.contains("set update"), "{text}");
    }
}
