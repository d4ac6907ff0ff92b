//! Which columns a trigger writes into an event, and how.
//!
//! `row_to_json` of the whole row names no column, so that the function outlives
//! any ALTER TABLE; but it is exact for built-in scalars and enums only, and it
//! captures every column. Otherwise columns are named. Then the function first
//! looks whether the table still has exactly the columns it was written for, and
//! if not builds its statement anew from those there are.

use crate::postgres::event::value::Encoding;
use crate::postgres::{literal, quote};

/// How a row is called inside the functions: no column of a table is called
/// so, so that the name means the row.
pub(super) const ROW: &str = "\"pgshovel:row\"";

/// One captured column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub encoding: Encoding,
    /// The built-in output function to call instead of the cast to text: the
    /// casts of a few types (boolean, char(n), inet) give something else, and a
    /// domain over them has only the cast.
    pub output: Option<(String, u32)>,
}

/// What of a row is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// In the table's order.
    pub list: Vec<Column>,
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

    /// True if the table has the columns that the function was written for.
    pub(super) fn check(&self) -> String {
        let conditions: Vec<String> = self.list.iter().map(Column::check).collect();
        let count = self.list.len();
        let others = if self.every { format!(" AND count(*) = {count}") } else { String::new() };
        format!(
            "(SELECT count(*) FILTER (WHERE {}) = {count}{others} FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped)",
            conditions.join(" OR ")
        )
    }

    /// A statement that puts `select` of the columns that there are now into
    /// `pgshovel_columns`. Of those that the version does not know, what
    /// `row_to_json` does not print exactly is text.
    pub(super) fn look_up(&self) -> String {
        let names = |encoding: Encoding| {
            let names: Vec<String> =
                self.list.iter().filter(|column| column.encoding == encoding).map(|column| literal(&column.name)).collect();
            format!("ARRAY[{}]::name[]", names.join(", "))
        };
        let (json, text) = (names(Encoding::Json), names(Encoding::Text));
        let only = if self.every { String::new() } else { format!(" AND a.attname = ANY ({json} || {text})") };
        format!(
            "SELECT string_agg(format(
      CASE WHEN a.attname = ANY ({json}) OR a.attname <> ALL ({text}) AND t.typtype IN ('b', 'e') AND t.typcategory <> 'A'
        THEN '%1$s.%2$I' ELSE '%1$s.%2$I::text AS %2$I' END, {row}, a.attname), ', ' ORDER BY a.attnum)
    INTO pgshovel_columns FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped{only};
  IF pgshovel_columns IS NULL THEN RETURN NULL; END IF;
",
            row = literal(ROW)
        )
    }
}

impl Column {
    fn select(&self, row: &str) -> String {
        let name = quote(&self.name);
        match (&self.encoding, &self.output) {
            (Encoding::Json, _) => format!("{row}.{name}"),
            (Encoding::Text, None) => format!("{row}.{name}::text AS {name}"),
            (Encoding::Text, Some((function, _))) => format!("pg_catalog.{}({row}.{name})::text AS {name}", quote(function)),
        }
    }

    fn check(&self) -> String {
        let name = literal(&self.name);
        match &self.output {
            Some((_, type_oid)) => format!("a.attname = {name} AND a.atttypid = {type_oid}"),
            None => format!("a.attname = {name}"),
        }
    }
}
