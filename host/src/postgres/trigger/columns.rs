//! Which columns a trigger writes into an event, and how.
//!
//! A version of a set's configuration says which columns a table has, of which
//! types, and so what its events look like. Every function first asks whether
//! that is still so. If not, `altered` in `shared.sql` builds a statement anew from the
//! columns that there are, and describes them in the event: whatever ALTER TABLE did, no
//! write fails, and every event can be read as what it was when it was captured.
//!
//! `row_to_json` of the whole row is exact for built-in scalars only; where a table has
//! other types, columns are named. It would look for a cast to json of a type of the user,
//! and call a function of its owner, with the rights of ours.

use crate::postgres::event::value::Encoding;
use crate::postgres::{literal, quote};

use super::settings::Setting;

/// `pg_type.oid` of json and jsonb, which are cast to text by their output functions.
const JSON: u32 = 114;
const JSONB: u32 = 3802;

/// One captured column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// `pg_attribute.attnum` in the configured table, which a rename does not change.
    pub number: i16,
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`
    pub type_modifier: i32,
    pub encoding: Encoding,
}

/// What of a row is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// In the table's order.
    pub list: Vec<Column>,
    /// The numbers of those that identify a row, in their order.
    pub identity: Vec<i16>,
    /// Every column of the table, also those added later.
    pub every: bool,
}

impl Columns {
    /// The text of the row in the variable `row`, as an event holds it, and what it is
    /// selected from: a subquery called `name`, or nothing.
    pub(super) fn row(&self, row: &str, name: &str) -> (String, Option<String>) {
        if self.every && self.list.iter().all(|column| column.encoding == Encoding::Json) {
            return (format!("pg_catalog.row_to_json({row})::pg_catalog.text"), None);
        }
        let columns: Vec<String> = self.list.iter().map(|column| column.select(row)).collect();
        // With the asterisk it is the row, whatever its columns are called.
        (format!("pg_catalog.row_to_json({name}.*)::pg_catalog.text"), Some(format!("(SELECT {}) AS {name}", columns.join(", "))))
    }

    /// What the text of a row depends on.
    pub(super) fn settings(&self) -> Vec<Setting> {
        Setting::of_all(self.list.iter().map(|column| column.type_oid))
    }

    /// The columns for `as_known` in `shared.sql`. Their order does not matter.
    pub(super) fn known(&self) -> String {
        let columns: Vec<String> =
            self.list.iter().map(|column| literal(&format!("{} {} {}", column.name, column.type_oid, column.type_modifier))).collect();
        format!("ARRAY[{}]::pg_catalog.text[]", columns.join(", "))
    }

    /// The arguments `captured` and `identity` of functions in `shared.sql`.
    pub(super) fn numbers(&self) -> String {
        let array = |numbers: &mut dyn Iterator<Item = i16>| {
            let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
            format!("'{{{}}}'", numbers.join(","))
        };
        let captured = if self.every { "NULL".to_owned() } else { array(&mut self.list.iter().map(|column| column.number)) };
        format!("{captured}, {}", array(&mut self.identity.iter().copied()))
    }
}

impl Column {
    fn select(&self, row: &str) -> String {
        let name = quote(&self.name);
        match self.encoding {
            Encoding::Json => format!("{row}.{name}"),
            Encoding::Text if matches!(self.type_oid, JSON | JSONB) => format!("{row}.{name}::pg_catalog.text AS {name}"),
            Encoding::Text => text_output(row, &name),
        }
    }
}

/// The output of the type's own function, which a cast to text need not be; or NULL.
/// PostgreSQL reads `IS DISTINCT FROM NULL` as a test for NULL, without an operator.
pub(super) fn text_output(row: &str, name: &str) -> String {
    format!("CASE WHEN {row}.{name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {row}.{name}) END AS {name}")
}
