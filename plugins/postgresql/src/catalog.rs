//! A table of the target, as its catalog describes it.

use crate::database::{Database, failed};
use crate::pgshovel::plugin::types::{Error, Row, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: i64,
    /// Rows belong to partitions: `ONLY` would find none.
    pub partitioned: bool,
    /// It has a DEFERRABLE unique constraint, which PostgreSQL checks by a trigger: it has
    /// to be written as `origin` in a session that is `replica`, or duplicates get in.
    pub is_guarded: bool,
    /// Triggers fire that are not the system's own, in the role it is written in.
    pub has_triggers: bool,
    /// A foreign key from or to it is checked at once, in the role it is written in.
    pub is_linked: bool,
    /// Rows vanish with the rows that they refer to.
    pub is_cascaded: bool,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The type to cast to, without its modifier: a cast to `varchar(3)` cuts
    /// silently, the assignment to the column refuses. Of a domain its base type.
    pub type_name: String,
    /// The type as the column has it, with its modifier.
    pub declared: String,
    /// The same, but of a domain its base type with the modifier that the domain gives it.
    pub base: String,
    /// What makes a value of `%s`, a text, where a cast would not ask the type's input
    /// function: the one to regclass refuses `-`.
    pub input: Option<String>,
    /// What `=` of its unique indexes is: found by name since the search path has
    /// only `pg_catalog`, and the type may be of an extension.
    pub equality: String,
    /// `ARRAY[value]` is an array of the type: no array of arrays is.
    pub has_array: bool,
    /// An index of all rows begins with it: they are found by it.
    pub leads_index: bool,
    pub is_generated: bool,
    /// `GENERATED ALWAYS AS IDENTITY`.
    pub is_identity: bool,
}

const TABLE: &str = "\
WITH found AS ( \
  SELECT c.oid, c.relkind::text AS kind, current_setting('session_replication_role') = 'replica' AS is_replica, \
    EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x') AND k.condeferrable) AS is_deferrable \
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2), \
written AS (SELECT *, is_replica AND NOT is_deferrable AS skips FROM found) \
SELECT w.kind, w.is_replica AND w.is_deferrable, \
  EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = w.oid AND NOT t.tgisinternal \
    AND t.tgenabled IN ('A', CASE WHEN w.skips THEN 'R' ELSE 'O' END)), \
  NOT w.skips AND EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND NOT k.condeferrable AND w.oid IN (k.conrelid, k.confrelid)), \
  NOT w.skips AND EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = w.oid AND k.confdeltype = 'c'), \
  w.oid::int8 \
FROM written w";

const COLUMNS: &str = "\
SELECT a.attname::text, format_type(base.oid, -1), \
  coalesce((SELECT quote_ident(n.nspname) || '.' || o.oprname FROM pg_opclass k \
    JOIN pg_amop m ON m.amopfamily = k.opcfamily AND m.amopstrategy = 3 AND m.amoplefttype = k.opcintype AND m.amoprighttype = k.opcintype \
    JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace \
    WHERE k.opcintype = base.oid AND k.opcdefault AND k.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree')), 'pg_catalog.='), \
  (SELECT t.typarray <> 0 FROM pg_type t WHERE t.oid = base.oid), a.attgenerated <> '', a.attidentity = 'a', format_type(a.atttypid, a.atttypmod), format_type(base.oid, base.modifier), \
  (SELECT i.oid::regproc || '(pg_catalog.textout(%s)' || CASE i.pronargs WHEN 1 THEN '' ELSE ', ' || coalesce(nullif(own.typelem, 0), own.oid) || ', -1' END || ')' \
     FROM pg_type own JOIN pg_proc i ON i.oid = own.typinput \
    WHERE own.oid = base.oid AND EXISTS (SELECT FROM pg_cast k WHERE k.castsource = 25 AND k.casttarget = own.oid AND k.castmethod = 'f')), \
  EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam \
    WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'hash')) \
FROM pg_attribute a \
CROSS JOIN LATERAL (WITH RECURSIVE b (oid, base, kind, modifier, given) AS ( \
    SELECT t.oid, t.typbasetype, t.typtype, a.atttypmod, t.typtypmod FROM pg_type t WHERE t.oid = a.atttypid \
    UNION ALL SELECT t.oid, t.typbasetype, t.typtype, b.given, t.typtypmod FROM b JOIN pg_type t ON t.oid = b.base WHERE b.kind = 'd') \
  SELECT oid, modifier FROM b WHERE kind <> 'd') AS base \
WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Reads one table; what does not exist, or takes no rows, is `blocked`.
pub fn read(database: &impl Database, schema: &str, name: &str) -> Result<Table, Error> {
    let doing = "cannot read the catalog of the target";
    let place = [Value::Text(schema.to_owned()), Value::Text(name.to_owned())];
    let found = database.query(TABLE, &place).map_err(|failure| failed(doing, failure))?;
    let Some(
        [
            Value::Text(kind),
            Value::Boolean(guarded),
            Value::Boolean(triggers),
            Value::Boolean(linked),
            Value::Boolean(cascaded),
            Value::Integer(oid),
        ],
    ) = found.first().map(Vec::as_slice)
    else {
        return Err(Error::Blocked(format!(
            "the target has no table {schema}.{name}: create it there, for example with pg_dump --schema-only --table, \
             or rename the one that should be it; or send its schema elsewhere with the key schemas of the configuration"
        )));
    };
    if !matches!(kind.as_str(), "r" | "p") {
        return Err(Error::Blocked(format!(
            "{schema}.{name} of the target is no table: pgshovel writes to tables and partitioned tables only"
        )));
    }
    let columns = database.query(COLUMNS, &[Value::Integer(*oid)]).map_err(|failure| failed(doing, failure))?;
    let columns: Option<Vec<Column>> = columns.into_iter().map(column).collect();
    let columns = columns.ok_or_else(|| Error::Stop(format!("{doing}: the columns of {schema}.{name} are described in an unknown way")))?;
    Ok(Table {
        oid: *oid,
        partitioned: kind == "p",
        is_guarded: *guarded,
        has_triggers: *triggers,
        is_linked: *linked,
        is_cascaded: *cascaded,
        columns,
    })
}

impl Column {
    /// The value that `text`, an expression of SQL, stands for.
    #[must_use]
    pub fn read(&self, text: &str) -> String {
        match &self.input {
            Some(input) => input.replace("%s", text),
            None => format!("{text}::{}", self.type_name),
        }
    }
}

fn column(row: Row) -> Option<Column> {
    match <[Value; 10]>::try_from(row).ok()? {
        [
            Value::Text(name),
            Value::Text(type_name),
            Value::Text(equality),
            Value::Boolean(has_array),
            Value::Boolean(is_generated),
            Value::Boolean(is_identity),
            Value::Text(declared),
            Value::Text(base),
            input @ (Value::Text(_) | Value::Null),
            Value::Boolean(leads_index),
        ] => {
            let input = if let Value::Text(input) = input { Some(input) } else { None };
            Some(Column { name, type_name, declared, base, input, equality, has_array, leads_index, is_generated, is_identity })
        }
        _ => None,
    }
}
