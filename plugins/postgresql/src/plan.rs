//! How the rows of one relation are written to one table: SQL text. Pure.

use sha2::{Digest as _, Sha256};

use crate::catalog::{Column, Table};
use crate::fit;
use crate::pgshovel::plugin::types::{Relation, Row, Value};
use crate::settings::Types;
use crate::text;

/// One relation of the source, matched with its table of the target.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The table's name, quoted.
    pub target: String,
    /// It is written as `origin` in a session that is `replica`.
    pub is_guarded: bool,
    /// Rows are applied one by one in the source's order: triggers or foreign keys see each.
    pub in_order: bool,
    /// A row that is to be deleted may have gone with one that it referred to.
    pub may_be_gone: bool,
    pub insert: Statement,
    /// Where the key stays; `None` where the table has nothing beside its key.
    pub update: Option<Statement>,
    pub delete: Statement,
    /// Where the key changes; `None` where that takes a delete and an insert.
    pub rekey: Option<Statement>,
    pub copy: String,
    /// Those that are inserted, quoted, with commas between them.
    pub columns: String,
    pub empty: String,
    pub truncate: String,
    /// Indexes into a row.
    identity: Vec<usize>,
    inserted: Vec<usize>,
    /// A change of these is no plain update: the key, and what the target generates.
    fixed: Vec<usize>,
    key_names: Vec<String>,
    /// Columns whose type is not the source's, for a person.
    differing: Vec<String>,
    /// A row is found by reading the whole table.
    is_scanned: bool,
}

/// A statement over a set of rows: `$n` is the n-th of its columns as `text[]`.
#[derive(Clone, Debug)]
pub struct Statement {
    pub sql: String,
    /// Indexes into a row as it was: the columns that come first.
    keys: Vec<usize>,
    /// Indexes into the row as it is: the columns behind them.
    values: Vec<usize>,
}

/// The columns of a set: all of the same length; `None` is NULL.
pub type Columns = Vec<Vec<Option<String>>>;

impl Statement {
    /// Columns for about `rows` rows.
    #[must_use]
    pub fn columns(&self, rows: usize) -> Columns {
        (0..self.keys.len() + self.values.len()).map(|_| Vec::with_capacity(rows)).collect()
    }

    /// Appends what the statement takes of one row.
    pub fn push(&self, before: &Row, after: &Row, columns: &mut Columns) {
        let values = pick(before, &self.keys).chain(pick(after, &self.values));
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(text::of(value));
        }
    }
}

#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Plan {
    /// The error names the table, the difference and the remedy.
    pub fn new(relation: &Relation, schema: &str, table: &Table, types: Types) -> Result<Self, String> {
        let place = format!("{schema}.{}", relation.table);
        let mut columns = Vec::with_capacity(relation.columns.len());
        let (mut missing, mut differing, mut changing) = (Vec::new(), Vec::new(), Vec::new());
        for captured in &relation.columns {
            match table.columns.iter().find(|column| column.name == captured.name) {
                Some(column) => {
                    if captured.type_name != column.declared {
                        let name = quote(&captured.name);
                        let difference = format!("{name} is {} in the source and {} in the target", captured.type_name, column.declared);
                        if !fit::keeps(captured, column) {
                            changing.push(difference.clone());
                        }
                        differing.push(difference);
                    }
                    columns.push(column);
                }
                None => missing.push(format!("{} {}", quote(&captured.name), captured.type_name)),
            }
        }
        if !missing.is_empty() {
            return Err(lacks(&place, &missing, relation, table));
        }
        if types == Types::Same && !changing.is_empty() {
            return Err(format!(
                "the table {place} of the target has a type that may change a value on its way: {}; give it the source's type there \
                 with ALTER TABLE … ALTER COLUMN … TYPE, or accept what it makes of the values with `types: convert` in the \
                 configuration of the target",
                changing.join("; ")
            ));
        }
        let identity: Vec<usize> = relation.identity.iter().filter_map(|index| usize::try_from(*index).ok()).collect();
        if identity.is_empty() || identity.iter().any(|index| *index >= columns.len()) {
            return Err(format!("the rows of {place} arrive without a key: give the table primary_keys in the set"));
        }
        let inserted: Vec<usize> = with_index(&columns).filter(|(_, column)| !column.is_generated).map(|(index, _)| index).collect();
        if inserted.is_empty() {
            return Err(format!("all columns of the table {place} of the target are generated: nothing can be written to it"));
        }
        let fixed: Vec<usize> =
            with_index(&columns).filter(|(index, column)| identity.contains(index) || column.is_identity).map(|(index, _)| index).collect();
        let updated: Vec<usize> = inserted.iter().copied().filter(|index| !fixed.contains(index)).collect();
        let target = format!("{}.{}", quote(schema), quote(&relation.table));
        let names = Names { target: &target, only: if table.partitioned { "" } else { "ONLY " }, columns: &columns };
        let rekeyed = !columns.iter().any(|column| column.is_identity);
        Ok(Self {
            is_guarded: table.is_guarded,
            in_order: table.has_triggers || table.is_linked,
            may_be_gone: table.is_cascaded,
            insert: Statement { sql: names.insert(&inserted), keys: Vec::new(), values: inserted.clone() },
            update: (!updated.is_empty()).then(|| Statement {
                sql: names.update(&updated, &identity),
                keys: identity.clone(),
                values: updated,
            }),
            delete: Statement { sql: names.delete(&identity), keys: identity.clone(), values: Vec::new() },
            rekey: rekeyed.then(|| Statement { sql: names.update(&inserted, &identity), keys: identity.clone(), values: inserted.clone() }),
            copy: names.copy(&inserted),
            columns: names.list(&inserted, |_, column| quote(&column.name)),
            empty: format!("DELETE FROM {}{target}", names.only),
            truncate: format!("{}{target}", names.only),
            key_names: identity.iter().filter_map(|index| columns.get(*index)).map(|column| column.name.clone()).collect(),
            inserted,
            fixed,
            is_scanned: !identity.iter().filter_map(|index| columns.get(*index)).any(|column| column.leads_index),
            identity,
            target,
            differing,
        })
    }

    /// What to tell the operator of a table whose rows no index finds.
    #[must_use]
    pub fn lacks_index(&self) -> Option<String> {
        let key = self.key_names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        self.is_scanned.then(|| {
            format!(
                "the table {target} of the target has no index that begins with a column of its key: every changed row is looked for in the \
                 whole table; let its owner run: CREATE UNIQUE INDEX ON {target} ({key})",
                target = self.target
            )
        })
    }

    /// The row's key as bytes: equal if and only if the texts of all its columns are.
    #[must_use]
    pub fn key(&self, row: &Row) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.identity.len() * 10);
        for value in pick(row, &self.identity) {
            match value {
                Value::Null => key.push(0),
                Value::Integer(integer) => {
                    key.push(1);
                    key.extend_from_slice(&integer.to_le_bytes());
                }
                other => {
                    let text = text::of(other).unwrap_or_default();
                    key.push(2);
                    key.extend_from_slice(&text.len().to_le_bytes());
                    key.extend_from_slice(text.as_bytes());
                }
            }
        }
        key
    }

    /// Whether an update leaves the key, and what the target generates, as it is.
    #[must_use]
    pub fn keeps_key(&self, before: &Row, after: &Row) -> bool {
        pick(before, &self.fixed).zip(pick(after, &self.fixed)).all(|(before, after)| match (before, after) {
            // NaN is a key like any other.
            (Value::Float(before), Value::Float(after)) => before.to_bits() == after.to_bits(),
            (before, after) => before == after,
        })
    }

    /// Values for `copy`.
    pub fn inserted<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a Value> {
        pick(row, &self.inserted)
    }

    /// What a value that does not fit may come from: ` (…)`, or nothing.
    #[must_use]
    pub fn show_differing(&self) -> String {
        if self.differing.is_empty() { String::new() } else { format!(" ({})", self.differing.join("; ")) }
    }

    /// The key for a person who has the row, and not a value of it: the first digits of
    /// `sha256(convert_to(concat_ws('|', KEY…), 'UTF8'))`.
    #[must_use]
    pub fn key_digest(&self, row: &Row) -> String {
        let texts: Vec<String> = pick(row, &self.identity).filter_map(text::of).collect();
        let digest = Sha256::digest(texts.join("|"));
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A column that the source renamed is one that the target lacks, and one that no row
/// has any more.
fn lacks(place: &str, missing: &[String], relation: &Relation, table: &Table) -> String {
    let unknown = |column: &&Column| !relation.columns.iter().any(|captured| captured.name == column.name);
    let others: Vec<String> = table.columns.iter().filter(unknown).map(|column| quote(&column.name)).collect();
    let rename = if others.is_empty() {
        String::new()
    } else {
        format!(
            " (or ALTER TABLE … RENAME COLUMN, if it was one of {} in the source; under load a batch may hold rows of both names, and lacks \
             the old one then: add the new one instead, and when the worker has passed, copy the old one's values where it is NULL, and \
             drop the old one)",
            others.join(", ")
        )
    };
    format!(
        "the table {place} of the target lacks what the source captures: {}; add it there with ALTER TABLE … ADD COLUMN{rename}, \
         or take it out of the set",
        missing.join(", ")
    )
}

fn with_index<'a>(columns: &'a [&'a Column]) -> impl Iterator<Item = (usize, &'a Column)> {
    columns.iter().copied().enumerate()
}

fn pick<'a>(row: &'a Row, indexes: &'a [usize]) -> impl Iterator<Item = &'a Value> {
    indexes.iter().map(|index| row.get(*index).unwrap_or(&Value::Null))
}

struct Names<'a> {
    target: &'a str,
    only: &'a str,
    columns: &'a [&'a Column],
}

impl Names<'_> {
    fn list(&self, indexes: &[usize], item: impl Fn(usize, &Column) -> String) -> String {
        let items = indexes.iter().filter_map(|index| self.columns.get(*index)).enumerate();
        items.map(|(position, column)| item(position, column)).collect::<Vec<_>>().join(", ")
    }

    /// `unnest($1::text[], …) AS v (c0, …)`, with `count` columns.
    fn rows(count: usize) -> String {
        let parameters: Vec<String> = (1..=count).map(|parameter| format!("${parameter}::text[]")).collect();
        let names: Vec<String> = (0..count).map(|position| format!("c{position}")).collect();
        format!("unnest({}) AS v ({})", parameters.join(", "), names.join(", "))
    }

    fn insert(&self, inserted: &[usize]) -> String {
        let names = self.list(inserted, |_, column| quote(&column.name));
        let values = self.list(inserted, |position, column| column.read(&format!("v.c{position}")));
        format!("INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {}", self.target, Self::rows(inserted.len()))
    }

    fn update(&self, updated: &[usize], identity: &[usize]) -> String {
        let after_key = identity.len();
        let set = self.list(updated, |position, column| {
            format!("{} = {}", quote(&column.name), column.read(&format!("v.c{}", position + after_key)))
        });
        let rows = Self::rows(updated.len() + identity.len());
        format!("UPDATE {}{} AS t SET {set} FROM {rows} WHERE {}", self.only, self.target, self.matches(identity))
    }

    fn delete(&self, identity: &[usize]) -> String {
        let rows = Self::rows(identity.len());
        format!("DELETE FROM {}{} AS t USING {rows} WHERE {}", self.only, self.target, self.matches(identity))
    }

    /// `= ANY (ARRAY[…])` and not `=`: PostgreSQL cannot merge by it, and so sees no use in
    /// the order of an index. By `=` it reads the whole index and all of the set for each
    /// of its rows when it takes the table for empty, as statistics from before a
    /// bootstrap say. There is no array of arrays, so these keep `=`.
    fn matches(&self, identity: &[usize]) -> String {
        let matches = identity.iter().filter_map(|index| self.columns.get(*index)).enumerate();
        let matches = matches.map(|(position, column)| {
            let value = column.read(&format!("v.c{position}"));
            let value = if column.has_array { format!("ANY (ARRAY[{value}])") } else { value };
            format!("t.{} OPERATOR({}) {value}", quote(&column.name), column.equality)
        });
        matches.collect::<Vec<_>>().join(" AND ")
    }

    fn copy(&self, inserted: &[usize]) -> String {
        format!("COPY {} ({}) FROM STDIN", self.target, self.list(inserted, |_, column| quote(&column.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgshovel::plugin::types;

    fn relation(columns: &[&str], identity: &[u32]) -> Relation {
        let columns =
            columns.iter().map(|name| types::Column { name: (*name).to_owned(), type_name: "bigint".to_owned(), type_oid: 20 }).collect();
        Relation { id: 1, schema: "s".to_owned(), table: "a\"b".to_owned(), columns, identity: identity.to_vec(), version: String::new() }
    }

    fn column(name: &str) -> Column {
        Column {
            name: name.to_owned(),
            type_name: "bigint".to_owned(),
            declared: "bigint".to_owned(),
            base: "bigint".to_owned(),
            input: None,
            equality: "pg_catalog.=".to_owned(),
            has_array: true,
            leads_index: true,
            is_generated: false,
            is_identity: false,
        }
    }

    fn table(columns: Vec<Column>) -> Table {
        Table { oid: 1, partitioned: false, is_guarded: false, has_triggers: false, is_linked: false, is_cascaded: false, columns }
    }

    #[test]
    fn a_key_that_no_index_begins_with_is_told_of() {
        let unindexed = |name| Column { leads_index: false, ..column(name) };
        let told = |columns| Plan::new(&relation(&["a", "b"], &[0, 1]), "t", &table(columns), Types::Same).unwrap().lacks_index();
        assert_eq!(told(vec![unindexed("a"), column("b")]), None);
        let warning = told(vec![unindexed("a"), unindexed("b")]).unwrap();
        assert!(warning.ends_with("CREATE UNIQUE INDEX ON \"t\".\"a\"\"b\" (\"a\", \"b\")"), "{warning}");
    }

    #[test]
    fn statements_name_what_they_write() {
        let plan = Plan::new(
            &relation(&["id", "va\"lue"], &[0]),
            "t",
            &table(vec![column("va\"lue"), column("extra"), column("id")]),
            Types::Same,
        )
        .unwrap();
        assert_eq!(
            plan.insert.sql,
            "INSERT INTO \"t\".\"a\"\"b\" (\"id\", \"va\"\"lue\") OVERRIDING SYSTEM VALUE \
             SELECT v.c0::bigint, v.c1::bigint FROM unnest($1::text[], $2::text[]) AS v (c0, c1)"
        );
        assert_eq!(
            plan.update.unwrap().sql,
            "UPDATE ONLY \"t\".\"a\"\"b\" AS t SET \"va\"\"lue\" = v.c1::bigint FROM unnest($1::text[], $2::text[]) AS v (c0, c1) \
             WHERE t.\"id\" OPERATOR(pg_catalog.=) ANY (ARRAY[v.c0::bigint])"
        );
        assert_eq!(
            plan.delete.sql,
            "DELETE FROM ONLY \"t\".\"a\"\"b\" AS t USING unnest($1::text[]) AS v (c0) \
             WHERE t.\"id\" OPERATOR(pg_catalog.=) ANY (ARRAY[v.c0::bigint])"
        );
        assert!(plan.rekey.unwrap().sql.contains("SET \"id\" = v.c1::bigint, \"va\"\"lue\" = v.c2::bigint"));
        assert_eq!(plan.copy, "COPY \"t\".\"a\"\"b\" (\"id\", \"va\"\"lue\") FROM STDIN");
    }

    #[test]
    fn a_type_with_a_cast_of_its_own_is_read_by_its_input_function() {
        let input = Column { input: Some("regclassin(pg_catalog.textout(%s))".to_owned()), ..column("id") };
        let plan = Plan::new(&relation(&["id"], &[0]), "t", &table(vec![input]), Types::Same).unwrap();
        assert!(plan.insert.sql.contains("SELECT regclassin(pg_catalog.textout(v.c0)) FROM"), "{}", plan.insert.sql);
        assert!(
            plan.delete.sql.ends_with("OPERATOR(pg_catalog.=) ANY (ARRAY[regclassin(pg_catalog.textout(v.c0))])"),
            "{}",
            plan.delete.sql
        );
    }

    #[test]
    fn a_key_of_arrays_is_compared_with_one() {
        let array = Column { has_array: false, ..column("id") };
        let plan = Plan::new(&relation(&["id"], &[0]), "t", &table(vec![array]), Types::Same).unwrap();
        assert!(plan.delete.sql.ends_with("OPERATOR(pg_catalog.=) v.c0::bigint"), "{}", plan.delete.sql);
    }

    #[test]
    fn what_the_target_generates_is_not_written() {
        let generated = Column { is_generated: true, ..column("sum") };
        let identity = Column { is_identity: true, ..column("id") };
        let plan =
            Plan::new(&relation(&["id", "sum", "x"], &[0]), "t", &table(vec![identity, generated, column("x")]), Types::Same).unwrap();
        let row = vec![Value::Integer(1), Value::Integer(2), Value::Null];
        assert_eq!(plan.inserted(&row).collect::<Vec<_>>(), [&Value::Integer(1), &Value::Null]);
        let update = plan.update.unwrap();
        let mut columns = update.columns(1);
        update.push(&row, &row, &mut columns);
        assert_eq!(columns, [[Some("1".to_owned())], [None]]);
        assert!(plan.rekey.is_none());
    }

    #[test]
    fn a_missing_column_is_named_with_its_type() {
        let error = Plan::new(&relation(&["id", "x"], &[0]), "t", &table(vec![column("id")]), Types::Same).unwrap_err();
        assert!(error.contains("t.a\"b") && error.contains("\"x\" bigint") && error.contains("ADD COLUMN"), "{error}");
        assert!(!error.contains("RENAME"), "{error}");
        let error = Plan::new(&relation(&["id", "x"], &[0]), "t", &table(vec![column("id"), column("y")]), Types::Same).unwrap_err();
        assert!(error.contains("RENAME COLUMN, if it was one of \"y\" in the source"), "{error}");
        // Before, whoever did that under load was told the same of the other name.
        assert!(error.contains("a batch may hold rows of both names") && error.contains("copy the old one's values"), "{error}");
    }

    #[test]
    fn types_that_differ_are_named() {
        let mut relation = relation(&["id", "x"], &[0]);
        relation.columns[1].type_name = "timestamp(3) with time zone".to_owned();
        let plan = |declared: &str, types| {
            let x = Column { declared: declared.to_owned(), base: declared.to_owned(), ..column("x") };
            Plan::new(&relation, "t", &table(vec![column("id"), x]), types)
        };
        assert_eq!(plan("timestamp(3) with time zone", Types::Same).unwrap().show_differing(), "");
        let difference = "\"x\" is timestamp(3) with time zone in the source and bigint in the target";
        let error = plan("bigint", Types::Same).unwrap_err();
        assert!(error.contains(difference) && error.contains("ALTER COLUMN") && error.contains("types: convert"), "{error}");
        assert_eq!(plan("bigint", Types::Convert).unwrap().show_differing(), format!(" ({difference})"));
    }

    #[test]
    fn keys_are_equal_only_if_every_column_is() {
        let plan = Plan::new(&relation(&["a", "b"], &[0, 1]), "t", &table(vec![column("a"), column("b")]), Types::Same).unwrap();
        let text = |text: &str| Value::Text(text.to_owned());
        let rows = [
            vec![text("ab"), text("c")],
            vec![text("a"), text("bc")],
            vec![Value::Null, text("")],
            vec![text(""), Value::Null],
            vec![Value::Integer(1), text("1")],
            vec![text("1"), Value::Integer(1)],
        ];
        for (index, row) in rows.iter().enumerate() {
            for (other, another) in rows.iter().enumerate() {
                assert_eq!(plan.key(row) == plan.key(another), index == other, "{row:?} {another:?}");
            }
        }
        // SELECT left(encode(sha256('1|1'), 'hex'), 12)
        assert_eq!(plan.key_digest(&rows[4]), "3f22d6d875f4");
    }
}
