//! What a database says of itself, for plans and validation: one reading, a few
//! queries, whatever the number of tables.

use std::collections::{BTreeMap, BTreeSet};

use proto::interfaces::configurations::ReplicationSetConfiguration;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Oid;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::connect::explain;
use super::event::relation::Described;
use super::event::value::Encoding;
use super::quote;
use super::trigger;
use super::trust::{self, Purpose, Schemas};
use crate::error::{Code, Error, Result};
use crate::names;
use crate::observe::fault::Fault;

/// How many tables are read for "did you mean".
const KNOWN_MAX: i64 = 10_000;

/// Everything a plan for one set in one database depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// 150018 for 15.18.
    pub server_version: i32,
    pub role: String,
    pub database: String,
    pub in_recovery: bool,
    /// Of the database: `UTF8`.
    pub encoding: String,
    /// `track_counts`: the server counts what a session writes.
    pub counts_writes: bool,
    /// May create a schema in the database.
    pub may_create: bool,
    /// `None`: PgQ is not installed.
    pub pgq: Option<Pgq>,
    pub schemas: Schemas,
    /// `None`: the cluster has no schema here.
    pub managed: Option<Managed>,
    pub queue: Option<Queue>,
    /// Tables that have triggers of the set, by their key.
    pub captured: BTreeMap<String, Captured>,
    /// The functions of the set, as `trigger::function_signature` names them.
    pub functions: Vec<String>,
    /// The tables that were asked for and exist.
    pub tables: Vec<Table>,
    /// Schema and name of every table, for advice.
    pub known: Vec<(String, String)>,
    /// What is wrong with the set's triggers.
    pub faults: Vec<Fault>,
    pub capture_role: CaptureRole,
    /// Other clusters' triggers that were restored or cloned with the database.
    pub leftover: Vec<Leftover>,
    /// Of transactions that are prepared at a time; 0: none may be.
    pub prepared_max: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pgq {
    /// May create queues, register consumers and insert into event tables.
    pub may_use: bool,
}

/// The role that the functions run as that capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureRole {
    pub exists: bool,
    /// It can log in, or has an attribute or a membership.
    pub powerful: bool,
    /// The session's role may give it functions, or will once it has created it.
    pub usable: bool,
    /// The owner of PgQ, if the session's role could not let the capture role draw event ids.
    pub withheld_by: Option<String>,
}

/// Triggers of a cluster that has its sets in another database, of which this one is a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub cluster: String,
    /// Statements that drop them, and what they call.
    pub remedy: Vec<String>,
}

/// What the cluster's schema holds of the database and the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    pub may_use: bool,
    /// The schema has records of the triggers of sets, as those of this version have.
    pub records: bool,
    /// Node, cluster id and version; `None`: the schema is there, but empty.
    pub node: Option<(Uuid, String, String)>,
    /// The stored system identifier and database are those of this server.
    pub same_server: bool,
    /// Of the set: version, change, epoch.
    pub set: Option<(String, String, i64)>,
    /// All sets that the schema knows.
    pub sets: Vec<String>,
    /// Of the set: (version, key) to columns and identity.
    pub relations: BTreeMap<(String, String), (String, Vec<String>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub id: i32,
    pub tables: i32,
    pub consumers: Vec<String>,
    /// The sequence of its events' ids.
    pub sequence: String,
    /// The capture role may insert events.
    pub writable: bool,
    /// `pg_class.oid` of the view that the set's triggers write through.
    pub view: Option<Oid>,
}

/// A table with triggers of the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Name, and the name of the function if the trigger is as it has to be; those
    /// on clones in partitions are not listed.
    pub triggers: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`
    pub oid: Oid,
    /// `pg_class.reltype`
    pub row_type_oid: Oid,
    pub schema: String,
    pub name: String,
    pub key: String,
    /// `pg_class.relkind` and `relpersistence`.
    pub kind: char,
    pub persistence: char,
    pub is_partition: bool,
    pub owned: bool,
    /// The partitioned tables above it: schema and name.
    pub ancestors: Vec<(String, String)>,
    /// The tables below a partitioned table that hold its rows.
    pub partitions: Vec<Partition>,
    pub columns: Vec<Column>,
    pub unique: Vec<Unique>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub key: String,
    pub owned: bool,
    /// It is a foreign table.
    pub foreign: bool,
    /// Row-level security hides rows of it from the role.
    pub hides_rows: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub described: Described,
    /// `pg_attribute.attnum`
    pub number: i16,
    /// `pg_attribute.atttypmod`
    pub type_modifier: i32,
    pub not_null: bool,
}

/// A valid, unconditional unique index over plain columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    pub name: String,
    pub columns: Vec<String>,
    /// Checked at once, not at the end of a transaction.
    pub immediate: bool,
}

/// Reads what a plan needs to know of `set`, and of the tables that
/// `configuration` names. Runs inside the caller's transaction, if there is one.
pub async fn read(client: &Client, cluster: &str, set: &str, configuration: Option<&ReplicationSetConfiguration>) -> Result<Facts> {
    let schemas = trust::check(client, cluster, Purpose::Administer).await?;
    let reading = |error: tokio_postgres::Error| explain(&error).context("cannot read the database's catalog");
    let row = client.query_one(SERVER, &[]).await.map_err(reading)?;
    let mut facts = Facts {
        server_version: row.get(0),
        role: row.get(1),
        database: row.get(2),
        in_recovery: row.get(3),
        may_create: row.get(4),
        schemas,
        pgq: (schemas.pgq && row.get::<_, bool>(5)).then_some(Pgq { may_use: false }),
        prepared_max: row.get(7),
        encoding: row.get(8),
        counts_writes: row.get(9),
        ..Facts::default()
    };
    if let Some(pgq) = &mut facts.pgq {
        pgq.may_use = client.query_one(PGQ, &[]).await.map_err(reading)?.get(0);
        facts.queue = client.query_opt(QUEUE, &[&names::queue(cluster, set)]).await.map_err(reading)?.map(|row| Queue {
            id: row.get(0),
            tables: row.get(1),
            consumers: row.get(2),
            sequence: row.get(3),
            writable: false,
            view: None,
        });
    }
    let (schema, capture_schema) = (names::schema(cluster), names::capture_schema(cluster));
    let role = names::capture_role(cluster);
    if let Some(queue) = &mut facts.queue {
        let row = client.query_one(VIEW, &[&capture_schema, &set, &role, &queue.sequence]).await.map_err(reading)?;
        (queue.view, queue.writable) = (row.get(0), row.get(1));
    }
    let row = client.query_one(CAPTURE_ROLE, &[&role]).await.map_err(reading)?;
    facts.capture_role = CaptureRole { exists: row.get(0), powerful: row.get(1), usable: row.get(2), withheld_by: row.get(3) };
    if facts.schemas.own {
        facts.managed = Some(managed(client, &schema, set).await?);
    }
    let comment = trigger::comment(set);
    facts.leftover = leftover(client, cluster).await?;
    let schemas = [&schema, &capture_schema];
    let (records, faults) = match facts.managed.as_ref().is_some_and(|managed| managed.records) {
        true => faults(client, cluster, set).await.map_err(|error| explain(&error).context("cannot look at the set's triggers"))?,
        false => (BTreeSet::new(), Vec::new()),
    };
    facts.faults = faults;
    for row in client.query(CAPTURED, &[&schemas.as_slice(), &comment]).await.map_err(reading)? {
        let (oid, function): (Oid, String) = (row.get(2), row.get(3));
        facts.captured.entry(row.get(0)).or_default().triggers.insert(row.get(1), records.contains(&oid).then_some(function));
    }
    facts.functions = client
        .query(FUNCTIONS, &[&schemas.as_slice(), &comment])
        .await
        .map_err(reading)?
        .iter()
        .map(|row| format!("{}.{}({})", quote(row.get(0)), quote(row.get(1)), row.get::<_, &str>(2)))
        .collect();
    if let Some(configuration) = configuration {
        facts.tables = tables(client, configuration).await?;
        facts.known = client.query(KNOWN, &[&KNOWN_MAX]).await.map_err(reading)?.iter().map(|row| (row.get(0), row.get(1))).collect();
    }
    Ok(facts)
}

/// What a copy of a database has of the clusters that it was captured for.
async fn leftover(client: &Client, own: &str) -> Result<Vec<Leftover>> {
    let reading = |error: tokio_postgres::Error| explain(&error).context("cannot look for the triggers of other clusters");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in client.query(STRANGERS, &[&own]).await.map_err(reading)? {
        found.entry(row.get(0)).or_default().push(row.get(1));
    }
    let mut leftover = Vec::new();
    for (cluster, mut remedy) in found {
        let (schema, capture) = (quote(&names::schema(&cluster)), quote(&names::capture_schema(&cluster)));
        let readable = client.query_one(CONFIGURATION, &[&format!("{schema}.configuration")]).await.map_err(reading)?.get(0);
        if readable {
            let here = format!(
                "SELECT EXISTS (SELECT FROM {schema}.configuration c, pg_catalog.pg_control_system() s, pg_catalog.pg_database d
                  WHERE d.datname = pg_catalog.current_database() AND c.system_identifier = s.system_identifier AND c.database_oid = d.oid)"
            );
            if client.query_one(&here, &[]).await.map_err(reading)?.get(0) {
                continue;
            }
            remedy.extend([format!("DROP SCHEMA {capture}, {schema} CASCADE")]);
            leftover.push(Leftover { cluster, remedy });
        }
    }
    Ok(leftover)
}

/// The set's triggers that are as they have to be, and what is wrong with the others.
async fn faults(client: &Client, cluster: &str, set: &str) -> std::result::Result<(BTreeSet<Oid>, Vec<Fault>), tokio_postgres::Error> {
    let records = client.query(&trigger::shared::intact(cluster), &[&set]).await?.iter().map(|row| row.get(0)).collect();
    let faults = client.query(&trigger::shared::faults(cluster), &[&set]).await?;
    Ok((records, faults.iter().map(|row| Fault::read(row.get(0), row.get(1), row.get(2))).collect()))
}

async fn managed(client: &Client, schema: &str, set: &str) -> Result<Managed> {
    let quoted = quote(schema);
    let reading = |error: tokio_postgres::Error| explain(&error).context(format!("cannot read the schema {schema}"));
    let may_use = client
        .query_one("SELECT pg_catalog.has_schema_privilege($1, 'USAGE') AND pg_catalog.has_schema_privilege($1, 'CREATE')", &[&schema])
        .await
        .map_err(reading)?
        .get(0);
    let mut managed = Managed { may_use, ..Managed::default() };
    if !may_use {
        return Ok(managed);
    }
    let present = client.query_one("SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname IN ('configuration', 'sets', 'relations')", &[&schema]).await.map_err(reading)?;
    match present.get::<_, i64>(0) {
        0 => return Ok(managed),
        3 => {}
        _ => {
            return Err(Error::configure(
                Code::SchemaForeign,
                format!(
                    "the schema {schema:?} is not one of this pgshovel: some of its tables are missing; if it is left from pgshovel 2015, drop it with its queues, then create the set"
                ),
            ));
        }
    }
    managed.records = client
        .query_one(
            "SELECT pg_catalog.to_regclass($2) IS NOT NULL
                AND EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass($1) AND attname = 'made')",
            &[&format!("{quoted}.captured"), &format!("{quoted}.relays")],
        )
        .await
        .map_err(reading)?
        .get(0);
    let node = format!(
        "SELECT c.node, c.cluster, c.version, c.system_identifier = s.system_identifier AND c.database_oid = d.oid
         FROM {quoted}.configuration c, pg_catalog.pg_control_system() s, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
    );
    match client.query_opt(&node, &[]).await {
        Ok(Some(row)) => {
            managed.node = Some((row.get(0), row.get(1), row.get(2)));
            managed.same_server = row.get(3);
        }
        Ok(None) => managed.same_server = true,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
            return Err(Error::configure(
                Code::SchemaForeign,
                format!(
                    "the schema {schema:?} is not one of this pgshovel; if it is left from pgshovel 2015, drop it with its queues, then create the set"
                ),
            ));
        }
        Err(error) => return Err(reading(error)),
    }
    for row in client.query(&format!("SELECT name, version, change, epoch FROM {quoted}.sets ORDER BY name"), &[]).await.map_err(reading)? {
        let name: String = row.get(0);
        if name == set {
            managed.set = Some((row.get(1), row.get(2), row.get(3)));
        }
        managed.sets.push(name);
    }
    let relations = format!("SELECT version, key, columns::text, identity FROM {quoted}.relations WHERE set = $1");
    for row in client.query(&relations, &[&set]).await.map_err(reading)? {
        managed.relations.insert((row.get(0), row.get(1)), (row.get(2), row.get(3)));
    }
    Ok(managed)
}

async fn tables(client: &Client, configuration: &ReplicationSetConfiguration) -> Result<Vec<Table>> {
    let reading = |error: tokio_postgres::Error| explain(&error).context("cannot read the definitions of the tables");
    let schemas: Vec<&str> = configuration.tables.iter().map(|table| table.schema()).collect();
    let names: Vec<&str> = configuration.tables.iter().map(|table| table.name.as_str()).collect();
    let mut tables: BTreeMap<Oid, Table> = BTreeMap::new();
    for row in client.query(TABLES, &[&schemas, &names]).await.map_err(reading)? {
        tables.insert(row.get(0), table(&row));
    }
    let oids: Vec<Oid> = tables.keys().copied().collect();
    for row in client.query(&COLUMNS.join(JSON_IS_EXACT), &[&oids]).await.map_err(reading)? {
        if let Some(table) = tables.get_mut(&row.get(0)) {
            table.columns.push(column(&row));
        }
    }
    for row in client.query(INDEXES, &[&oids]).await.map_err(reading)? {
        if let Some(table) = tables.get_mut(&row.get(0)) {
            table.unique.push(Unique { name: row.get(1), columns: row.get(2), immediate: row.get(3) });
        }
    }
    for row in client.query(ANCESTORS, &[&oids]).await.map_err(reading)? {
        if let Some(table) = tables.get_mut(&row.get(0)) {
            table.ancestors.push((row.get(1), row.get(2)));
        }
    }
    for row in client.query(PARTITIONS, &[&oids]).await.map_err(reading)? {
        if let Some(table) = tables.get_mut(&row.get(0)) {
            table.partitions.push(Partition { key: row.get(1), owned: row.get(2), hides_rows: row.get(3), foreign: row.get(4) });
        }
    }
    Ok(tables.into_values().collect())
}

fn table(row: &Row) -> Table {
    let letter = |index: usize| char::from(row.get::<_, i8>(index).cast_unsigned());
    Table {
        oid: row.get(0),
        schema: row.get(1),
        name: row.get(2),
        key: row.get(3),
        kind: letter(4),
        persistence: letter(5),
        is_partition: row.get(6),
        owned: row.get(7),
        row_type_oid: row.get(8),
        ancestors: Vec::new(),
        partitions: Vec::new(),
        columns: Vec::new(),
        unique: Vec::new(),
    }
}

fn column(row: &Row) -> Column {
    let encoding = if row.get(4) { Encoding::Json } else { Encoding::Text };
    Column {
        described: Described { name: row.get(1), type_name: row.get(2), oid: row.get(3), encoding },
        number: row.get(6),
        type_modifier: row.get(7),
        not_null: row.get(5),
    }
}

const SERVER: &str = "\
SELECT pg_catalog.current_setting('server_version_num')::int4, current_user::text, pg_catalog.current_database()::text,
       pg_catalog.pg_is_in_recovery(), pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       pg_catalog.to_regclass('pgq.queue') IS NOT NULL AND pg_catalog.to_regclass('pgq.event_template') IS NOT NULL,
       pg_catalog.current_setting('server_version'), pg_catalog.current_setting('max_prepared_transactions')::int4,
       pg_catalog.current_setting('server_encoding'), pg_catalog.current_setting('track_counts')::boolean";

const PGQ: &str = "\
SELECT pg_catalog.has_schema_privilege('pgq', 'USAGE')
   AND pg_catalog.has_table_privilege('pgq.event_template', 'INSERT')
   AND pg_catalog.has_table_privilege('pgq.queue', 'SELECT')
   AND pg_catalog.has_function_privilege('pgq.create_queue(text)', 'EXECUTE')";

const QUEUE: &str = "\
SELECT q.queue_id, q.queue_ntables,
       ARRAY(SELECT c.co_name FROM pgq.subscription s JOIN pgq.consumer c ON c.co_id = s.sub_consumer WHERE s.sub_queue = q.queue_id ORDER BY 1), q.queue_event_seq
FROM pgq.queue q WHERE q.queue_name = $1";

/// A clone of a trigger on a partition goes with the trigger it was cloned from. A
/// trigger depends on the function that it executes, and on those in its condition.
const CAPTURED: &str = "\
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), t.tgname::text, t.oid, p.proname::text
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = p.oid AND d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
JOIN pg_catalog.pg_trigger t ON t.oid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pn.nspname = ANY ($1) AND pg_catalog.obj_description(p.oid, 'pg_proc') = $2 AND NOT t.tgisinternal AND t.tgparentid = 0
ORDER BY 1, 2";

/// Triggers whose condition or function lies in the capturing schema of another cluster
/// than $1: the cluster, and what drops the trigger.
const STRANGERS: &str = "\
SELECT DISTINCT pg_catalog.substr(pn.nspname, 10), pg_catalog.format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname)
FROM pg_catalog.pg_namespace pn
JOIN pg_catalog.pg_proc p ON p.pronamespace = pn.oid
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = p.oid AND d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
JOIN pg_catalog.pg_trigger t ON t.oid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pn.nspname LIKE 'pgshovel:%' AND pn.nspname <> 'pgshovel:' || $1 AND NOT t.tgisinternal AND t.tgparentid = 0
ORDER BY 1, 2";

/// Whether $1 is a plain table that the role may read, with columns of the types that ours
/// have: a view, a rule, or the cast of another type would run the code of its owner.
const CONFIGURATION: &str = "\
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind = 'r' AND NOT c.relrowsecurity AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid)
  AND (SELECT pg_catalog.count(*) = 2 AND pg_catalog.bool_and(a.atttypid = CASE a.attname WHEN 'database_oid' THEN 26 ELSE 20 END AND a.attgenerated = '') FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ('system_identifier', 'database_oid'))
  AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))";

const FUNCTIONS: &str = "\
SELECT n.nspname::text, p.proname::text, pg_catalog.oidvectortypes(p.proargtypes)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY ($1) AND pg_catalog.obj_description(p.oid, 'pg_proc') = $2 ORDER BY 2";

/// The view $2 in the schema $1, and whether the role $3 may insert through it, and draw ids
/// from the sequence $4.
const VIEW: &str = "\
SELECT v.oid, coalesce(pg_catalog.has_table_privilege(r.oid, v.oid, 'INSERT') AND pg_catalog.has_sequence_privilege(r.oid, $4, 'USAGE'), false)
FROM (SELECT) one
LEFT JOIN (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'v') v ON true
LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $3";

/// The role $1. Since PostgreSQL 16 CREATEROLE alone gives no role that another one created.
const CAPTURE_ROLE: &str = "\
SELECT r.oid IS NOT NULL,
       coalesce(r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
                OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid), false),
       CASE WHEN r.oid IS NULL THEN me.rolsuper OR me.rolcreaterole
            ELSE pg_catalog.pg_has_role(r.oid, 'USAGE') OR pg_catalog.pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION')
              OR me.rolcreaterole AND pg_catalog.current_setting('server_version_num')::int4 < 160000 END,
       CASE WHEN NOT pg_catalog.pg_has_role(p.proowner, 'USAGE') AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) a
              WHERE d.defaclrole = p.proowner AND d.defaclobjtype = 'S' AND d.defaclnamespace IN (0, p.pronamespace)
                AND a.grantee = r.oid AND a.privilege_type = 'USAGE')
            THEN pg_catalog.pg_get_userbyid(p.proowner)::text END
FROM pg_catalog.pg_roles me
LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1
LEFT JOIN pg_catalog.pg_proc p ON p.oid = pg_catalog.to_regprocedure('pgq.create_queue(text)')
WHERE me.rolname = current_user";

const KNOWN: &str = "\
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname <> 'pgq' AND n.nspname !~ '^(pg_|pgshovel[_:])'
ORDER BY 1, 2 LIMIT $1";

const TABLES: &str = "\
SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
       c.relkind, c.relpersistence, c.relispartition,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.reltype
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind NOT IN ('i', 'I', 'S', 't')
  AND (n.nspname, c.relname) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])))";

/// Of a type `t`: `row_to_json` prints it as its own text output, or in a way that is
/// turned back exactly: built-in scalars. Of a type of the user it would look for a cast
/// to json, and call its function. `trigger::shared` asks the same where a table was altered.
pub const JSON_IS_EXACT: &str =
    "t.oid < 16384 AND (t.typtype = 'b' AND t.typcategory <> 'A' AND t.oid NOT IN (114, 3802) OR t.typtype IN ('r', 'm'))";

/// Before and behind [`JSON_IS_EXACT`].
const COLUMNS: [&str; 2] = [
    "\
SELECT a.attrelid, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid, ",
    ", a.attnotnull, a.attnum, a.atttypmod
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum",
];

/// Not those over expressions or some rows only, nor those that are not valid.
const INDEXES: &str = "\
SELECT i.indrelid, c.relname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k (number, position)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.position <= i.indnkeyatts ORDER BY k.position),
       i.indimmediate
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY ($1) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indrelid, i.indisprimary DESC, c.relname";

const ANCESTORS: &str = "\
WITH RECURSIVE above (oid, parent) AS (
  SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = ANY ($1)
  UNION SELECT above.oid, i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.parent
)
SELECT above.oid, n.nspname::text, c.relname::text FROM above
JOIN pg_catalog.pg_class c ON c.oid = above.parent JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p' ORDER BY 1, 2, 3";

const PARTITIONS: &str = "\
SELECT p.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       pg_catalog.row_security_active(c.oid), c.relkind = 'f'
FROM pg_catalog.pg_class p, pg_catalog.pg_partition_tree(p.oid) t
JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.oid = ANY ($1) AND p.relkind = 'p' AND c.relkind IN ('r', 'f') ORDER BY 1, 2";
