//! Whether the target is where its rows come from, or is captured itself.
//!
//! What is written to a captured table is captured again. In the source of the set that
//! is never meant. In the source of another set it is: changes then pass from set to set.
//! In a copy of a source, made by `pg_dump` say, the triggers are left over: what they
//! call belongs to a database that is elsewhere.

use crate::database::{Database, failed};
use crate::pgshovel::plugin::types::{Context, Error, Value};
use crate::plan::quote;

/// So many statements are shown; a query makes the others.
const STATEMENTS_SHOWN: usize = 20;

/// Tables of this database that the set captures.
#[derive(Debug, Default)]
pub struct Captured(Vec<(String, String)>);

impl Captured {
    /// `tables` are the set's in the database with this system identifier and OID: none
    /// of them is here if that is another one.
    pub fn of(database: &impl Database, server: u64, oid: u32, tables: Vec<(String, String)>) -> Result<Self, Error> {
        let doing = "cannot tell whether the target is the source";
        let ask = |sql| database.query(sql, &[]).map_err(|failure| failed(doing, failure));
        let own = ask(
            "SELECT oid::int8, has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') FROM pg_database WHERE datname = current_database()",
        )?;
        let Some([Value::Integer(own), Value::Boolean(may_ask)]) = own.first().map(Vec::as_slice) else {
            return Err(Error::Stop(format!("{doing}: the server does not know its database")));
        };
        if *own != i64::from(oid) {
            return Ok(Self::default());
        }
        if !may_ask {
            return Err(Error::Stop(format!(
                "{doing}: both have the OID {oid}, and the role may not ask for the server's identifier: \
                 GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO it"
            )));
        }
        let own = ask("SELECT system_identifier FROM pg_catalog.pg_control_system()")?;
        let is_same = matches!(own.first().map(Vec::as_slice), Some([Value::Integer(own)]) if own.cast_unsigned() == server);
        Ok(Self(if is_same { tables } else { Vec::new() }))
    }

    /// What is sent to the set's tables as `place` maps them.
    pub fn check_all(&self, place: impl Fn(&str) -> String) -> Result<(), Error> {
        self.0.iter().try_for_each(|(schema, table)| self.check(&place(schema), table))
    }

    /// `Stop` for a table of the set.
    pub fn check(&self, schema: &str, table: &str) -> Result<(), Error> {
        if !self.0.iter().any(|captured| (captured.0.as_str(), captured.1.as_str()) == (schema, table)) {
            return Ok(());
        }
        Err(Error::Stop(format!(
            "the target is the source: {schema}.{table} of its database is a table of the set, and what is written to it would be captured \
             again; grant the target another database, or send the rows to another schema with the key schemas of the configuration"
        )))
    }
}

/// Triggers that call a function of a cluster's schemas, be it in their condition (those of
/// the cluster C lie in `pgshovel:C`, its configuration in `pgshovel_C`), and
/// whether the table with the OID $1 fires one, or has partitions that do. A partition has
/// clones, which go with the trigger that they are of.
const TRIGGERS: &str = "\
WITH RECURSIVE tree (oid) AS (SELECT $1::int8::oid UNION ALL \
  SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relispartition), \
called (trigger, schema) AS (SELECT k.trigger, 'pgshovel_' || substr(s.nspname, 10) FROM (SELECT oid, tgfoid FROM pg_trigger WHERE NOT tgisinternal UNION \
    SELECT objid, refobjid FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND refclassid = 'pg_proc'::regclass) k (trigger, function) \
  JOIN pg_proc f ON f.oid = k.function JOIN pg_namespace s ON s.oid = f.pronamespace WHERE s.nspname ~ '^pgshovel[:_]'), \
family (root, schema, member) AS (SELECT t.oid, k.schema, t.oid FROM called k JOIN pg_trigger t ON t.oid = k.trigger WHERE t.tgparentid = 0 UNION \
  SELECT f.root, f.schema, t.oid FROM family f JOIN pg_trigger t ON t.tgparentid = f.member) \
SELECT f.schema, t.tgname::text, format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname), bool_or(m.tgrelid IN (SELECT oid FROM tree)) \
FROM family f JOIN pg_trigger t ON t.oid = f.root JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
JOIN pg_trigger m ON m.oid = f.member AND m.tgenabled <> 'D' GROUP BY 1, 2, 3 ORDER BY 3";

/// Whether the schema has the table that says which database it belongs to, and whether
/// the role may read it.
const READABLE: &str = "\
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') \
FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'configuration' \
WHERE n.nspname = $1 AND 2 = (SELECT count(*) FROM pg_attribute a \
  WHERE a.attrelid = c.oid AND a.attname IN ('system_identifier', 'database_oid') AND NOT a.attisdropped)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belongs {
    /// To this database: a cluster manages it.
    Here,
    Elsewhere,
    /// The role may not ask.
    Unknown,
}

/// Refuses to write to a table whose triggers capture for a database that is elsewhere,
/// or for the very set that is written. `oid` is the table's, `place` its name.
pub fn check_triggers(database: &impl Database, context: &Context, oid: &Value, place: &str) -> Result<(), Error> {
    let doing = "cannot tell whether the target is captured";
    let found = database.query(TRIGGERS, std::slice::from_ref(oid)).map_err(|failure| failed(doing, failure))?;
    let mut schemas: Vec<(String, Belongs)> = Vec::new();
    let (mut statements, mut fires, mut unknown) = (Vec::new(), false, None);
    for row in found {
        let Ok([Value::Text(schema), Value::Text(trigger), Value::Text(statement), Value::Boolean(is_own)]) = <[Value; 4]>::try_from(row)
        else {
            return Err(Error::Stop(format!("{doing}: its triggers are described in an unknown way")));
        };
        let known = schemas.iter().find(|(name, _)| *name == schema).map(|(_, belongs)| *belongs);
        let belongs = match known {
            Some(belongs) => belongs,
            None => look_up(database, &schema)?,
        };
        if known.is_none() {
            schemas.push((schema.clone(), belongs));
        }
        if belongs == Belongs::Here {
            if is_own && is_of(context, &schema, &trigger) {
                return Err(Error::Stop(format!(
                    "the target is the source: the table {place} is captured for the set {:?} of the cluster {:?} itself; grant the target \
                     another database, or take the table out of the set",
                    context.set, context.cluster
                )));
            }
            continue;
        }
        if belongs == Belongs::Unknown {
            unknown = Some(schema);
        }
        fires |= is_own;
        statements.push(statement);
    }
    if !fires {
        return Ok(());
    }
    let unless = unknown.map_or_else(String::new, |schema| {
        let schema = quote(&schema);
        format!(
            "; or, if a cluster captures this very database for other sets, let the role read that: GRANT USAGE ON SCHEMA {schema} TO it, \
             and GRANT SELECT ON {schema}.configuration TO it"
        )
    });
    let more = statements.len().saturating_sub(STATEMENTS_SHOWN);
    let more = if more == 0 { String::new() } else { format!("; and {more} more, which pg_trigger lists") };
    statements.truncate(STATEMENTS_SHOWN);
    Err(Error::Blocked(format!(
        "the table {place} of the target has triggers that capture changes for another database, of which the target is a copy, and what \
         the worker writes would fire them: let the owner run: {}{more}{unless}",
        statements.join("; ")
    )))
}

fn look_up(database: &impl Database, schema: &str) -> Result<Belongs, Error> {
    let doing = "cannot tell which database the triggers of the target capture for";
    let fail = |failure| failed(doing, failure);
    let readable = database.query(READABLE, &[Value::Text(schema.to_owned())]).map_err(fail)?;
    match readable.first().map(Vec::as_slice) {
        None => return Ok(Belongs::Elsewhere),
        Some([Value::Boolean(true)]) => {}
        Some(_) => return Ok(Belongs::Unknown),
    }
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {}.configuration k WHERE k.system_identifier = (SELECT system_identifier FROM pg_control_system()) \
         AND k.database_oid = (SELECT oid FROM pg_database WHERE datname = current_database()))",
        quote(schema)
    );
    let here = database.query(&sql, &[]).map_err(fail)?;
    Ok(if matches!(here.first().map(Vec::as_slice), Some([Value::Boolean(true)])) { Belongs::Here } else { Belongs::Elsewhere })
}

/// Whether a trigger is of the set that the worker replicates, by the names that
/// clusters give.
fn is_of(context: &Context, schema: &str, trigger: &str) -> bool {
    schema.strip_prefix("pgshovel_") == Some(&context.cluster)
        && trigger.strip_prefix("pgshovel:").and_then(|rest| rest.strip_prefix(&format!("{}:{}:", context.cluster, context.set))).is_some()
}
