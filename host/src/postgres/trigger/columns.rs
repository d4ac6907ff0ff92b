//! Which columns a trigger writes into an event, and how.
//!
//! A version of a set's configuration says which columns a table has, of which
//! types, and so what its events look like. Every function first looks whether
//! that is still so. If not, it builds its statement anew from the columns that
//! there are, and describes them in the event: whatever ALTER TABLE did, no write
//! fails, and every event can be read as what it was when it was captured.
//!
//! `row_to_json` of the whole row is exact for built-in scalars and enums only;
//! where a table has other types, columns are named.

use crate::postgres::catalog::JSON_IS_EXACT;
use crate::postgres::event::value::Encoding;
use crate::postgres::{literal, quote, schema};

use super::Context;

/// How a row is called inside the functions: no column of a table is called
/// so, so that the name means the row.
pub(super) const ROW: &str = "\"pgshovel:row\"";

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
    /// `pg_class.oid` of the configured table.
    pub table: u32,
    /// In the table's order.
    pub list: Vec<Column>,
    /// The numbers of those that identify a row, in their order.
    pub identity: Vec<i16>,
    /// Every column of the table, also those added later.
    pub every: bool,
}

impl Columns {
    /// Whether `row_to_json` of the whole row gives the same.
    #[must_use]
    pub fn whole_row(&self) -> bool {
        self.every && self.list.iter().all(|column| column.encoding == Encoding::Json)
    }

    /// The columns, taken from a row that is called `row`.
    pub(super) fn select(&self, row: &str) -> String {
        let columns: Vec<String> = self.list.iter().map(|column| column.select(row)).collect();
        columns.join(", ")
    }

    /// True if the table has the columns that the function was written for. Their
    /// order does not matter: that of a partition may be another. Where the snapshot may
    /// be older than the columns, only rows of the catalog count that were not changed
    /// since: see `postgres::schema::columns`.
    pub(super) fn check(&self) -> String {
        let columns: Vec<String> =
            self.list.iter().map(|column| literal(&format!("{} {} {}", column.name, column.type_oid, column.type_modifier))).collect();
        let count = self.list.len();
        let current = |row: &str| {
            let unchanged = schema::unchanged(&format!("{row}.xmax"));
            format!("({row}.xmax = 0 OR current_setting('transaction_isolation') = 'read committed' OR {unchanged})")
        };
        // A column that comes changes the table's row of the catalog.
        let others = if self.every { format!(" AND count(*) = {count} AND bool_and({})", current("c")) } else { String::new() };
        format!(
            "(SELECT count(*) FILTER (WHERE a.attname || ' ' || a.atttypid || ' ' || a.atttypmod = ANY (ARRAY[{}]) AND {}) = {count}{others} FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped)",
            columns.join(", "),
            current("a")
        )
    }

    /// A statement that puts `select` of the columns that there are now into
    /// `pgshovel_columns`, and what they are into `pgshovel_format`: see
    /// `postgres::event::Layout`. Captured columns that were renamed are found by
    /// their number in the configured table, since a partition has its own. A type that
    /// is newer than the snapshot is written as its text.
    pub(super) fn look_up(&self, context: &Context<'_>) -> String {
        let source = schema::columns(context.cluster);
        let numbers = |numbers: &mut dyn Iterator<Item = i16>| numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
        let name_of = |numbers: &str| format!("FROM {source}({}) c WHERE c.attnum = ANY (ARRAY[{numbers}]::int2[])", self.table);
        let captured = numbers(&mut self.list.iter().map(|column| column.number));
        let identity = numbers(&mut self.identity.iter().copied());
        let only = if self.every { String::new() } else { format!("\n    WHERE a.attname IN (SELECT c.attname {})", name_of(&captured)) };
        format!(
            "SELECT coalesce(string_agg(format(CASE WHEN e.json THEN '%1$s.%2$I' ELSE {text} END, {row}, a.attname), ', ' ORDER BY a.attnum), ''),
    {format} || ' ' || json_build_object(
      'columns', json_agg(json_build_object('name', a.attname, 'type', a.type, 'oid', a.atttypid::int8, 'encoding', CASE WHEN e.json THEN 'json' ELSE 'text' END) ORDER BY a.attnum),
      'identity', (SELECT json_agg(c.attname ORDER BY array_position(ARRAY[{identity}]::int2[], c.attnum)) {of_identity}))
    INTO pgshovel_columns, pgshovel_format
    FROM {source}(TG_RELID) a LEFT JOIN pg_type t ON t.oid = a.atttypid CROSS JOIN LATERAL (SELECT coalesce({exact}, false) AS json) e{only};
",
            text = literal(&text_output("%1$s", "%2$I").replace("'%s'", "'%%s'")),
            row = literal(ROW),
            format = literal(super::FORMAT),
            of_identity = name_of(&identity),
            exact = JSON_IS_EXACT,
        )
    }
}

impl Column {
    fn select(&self, row: &str) -> String {
        let name = quote(&self.name);
        match self.encoding {
            Encoding::Json => format!("{row}.{name}"),
            Encoding::Text => text_output(row, &name),
        }
    }
}

/// The output of the type's own function, which a cast to text need not be; or NULL.
fn text_output(row: &str, name: &str) -> String {
    format!("CASE WHEN {row}.{name} IS DISTINCT FROM NULL THEN format('%s', {row}.{name}) END AS {name}")
}
