//! What is wrong with a set's configuration, in the database it is meant for.
//! Pure: everything that is wrong, not the first of it.

use std::collections::BTreeSet;
use std::fmt;

use proto::interfaces::configurations::{ReplicationSetConfiguration, TableConfiguration};

use crate::error::{Code, Error};
use crate::nearest::advice;
use crate::postgres::catalog::{Facts, Leftover, Table};
use crate::postgres::quote;
use crate::postgres::trigger::EVENT_TABLES;

use crate::names;

/// `CREATE OR REPLACE TRIGGER` is of this version.
const SERVER_VERSION_MIN: i32 = 140_000;

/// Encodings of databases whose texts are not known to be texts: PostgreSQL passes their
/// bytes on as they are.
const ENCODINGS_UNKNOWN: [&str; 2] = ["SQL_ASCII", "MULE_INTERNAL"];

/// How many statements a remedy shows.
const STATEMENTS_SHOWN: usize = 20;

/// How many problems one message lists.
const LISTED_MAX: usize = 50;

/// One thing that a person must change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field of the configuration: `tables[2].primary_keys[0]`.
    pub field: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)
    }
}

/// One error of all problems.
#[must_use]
pub fn refuse(set: &str, problems: &[Problem]) -> Error {
    let mut text = match problems.len() {
        1 => format!("the configuration of the set {set:?} has a problem:"),
        count => format!("the configuration of the set {set:?} has {count} problems:"),
    };
    for problem in problems.iter().take(LISTED_MAX) {
        text.push_str(&format!("\n  {problem}"));
    }
    if problems.len() > LISTED_MAX {
        text.push_str(&format!("\n  and {} more", problems.len() - LISTED_MAX));
    }
    Error::configure(Code::SetUnfit, text)
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { field: field.into(), text: text.into() });
    }
}

/// Everything that keeps `configuration` from being captured by `cluster_id`.
#[must_use]
pub fn problems(cluster: &str, set: &str, cluster_id: &str, configuration: &ReplicationSetConfiguration, facts: &Facts) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    database(&mut problems, cluster, set, cluster_id, facts);
    if configuration.tables.is_empty() {
        problems.add("tables", "there is none; a set needs at least one");
    }
    let mut seen = BTreeSet::new();
    for (index, wanted) in configuration.tables.iter().enumerate() {
        let field = format!("tables[{index}]");
        if !seen.insert((wanted.schema(), wanted.name.as_str())) {
            problems.add(field, format!("the table {} is given twice", shown(wanted)));
            continue;
        }
        match facts.tables.iter().find(|table| table.schema == wanted.schema() && table.name == wanted.name) {
            Some(found) => table(&mut problems, &field, wanted, found, configuration, facts),
            None => problems.add(format!("{field}.name"), missing(wanted, facts)),
        }
    }
    problems.0
}

fn database(problems: &mut Problems, cluster: &str, set: &str, cluster_id: &str, facts: &Facts) {
    let field = "database.dsn";
    let (role, database) = (&facts.role, &facts.database);
    if facts.server_version < SERVER_VERSION_MIN {
        problems.add(field, format!("the server is PostgreSQL {}; 14 or later is needed", facts.server_version / 10_000));
    }
    if facts.in_recovery {
        problems.add(field, "the server is a replica, which cannot be changed; give the primary");
    }
    if ENCODINGS_UNKNOWN.contains(&facts.encoding.as_str()) {
        problems.add(
            field,
            format!("the encoding of the database {database:?} is {}, from which its texts cannot be told; dump it, and restore it into one of UTF8", facts.encoding),
        );
    }
    if !facts.counts_writes {
        problems.add(
            field,
            "track_counts is off, so an event that a statement wrote cannot be told from one that was forged (nor does autovacuum run); set it to on",
        );
    }
    match &facts.pgq {
        None => problems.add(
            field,
            format!("PgQ is not installed in the database {database:?}; on Debian install the package postgresql-{}-pgq3, then run `CREATE EXTENSION pgq` there, or load the PL-only build of PgQ where extensions are not allowed", facts.server_version / 10_000),
        ),
        Some(pgq) if !pgq.may_use => {
            problems.add(field, format!("the role {role:?} may not use PgQ; as its owner run `GRANT pgq_admin TO {role:?}`"));
        }
        Some(_) => {}
    }
    capture_role(problems, cluster, facts);
    match &facts.managed {
        None if !facts.may_create => {
            problems
                .add(field, format!("the role {role:?} may not create a schema; run `GRANT CREATE ON DATABASE {database:?} TO {role:?}`"));
        }
        Some(managed) if !managed.may_use => {
            problems.add(
                field,
                format!("the role {role:?} may not use the schema that another role created for this cluster; connect as that role"),
            );
        }
        Some(managed) => {
            if let Some((node, owner, _)) = &managed.node {
                if owner != cluster_id {
                    problems.add(field, format!("the database belongs to another cluster of this name ({owner}, this one is {cluster_id}); use another --cluster, or drop the schema that the other one left there"));
                } else if !managed.same_server {
                    problems.add(field, format!("the database is a copy of node {node}: it was restored or cloned; drop the schema and the queues that were copied, or run `cluster upgrade --force` if it is the same database after pg_upgrade"));
                }
            }
        }
        None => {}
    }
    for Leftover { cluster, remedy } in &facts.leftover {
        let more = remedy.len().saturating_sub(STATEMENTS_SHOWN);
        let more = if more == 0 { String::new() } else { format!("; and {more} more, which pg_trigger lists") };
        let remedy: Vec<&str> = remedy.iter().rev().take(STATEMENTS_SHOWN).rev().map(String::as_str).collect();
        problems.add(
            field,
            format!(
                "the database {database:?} is a copy of one that the cluster {cluster:?} captures, and its triggers write every change into the queues that were copied with it, which nobody reads; run: {}{more}",
                remedy.join("; ")
            ),
        );
    }
    if let Some(queue) = &facts.queue {
        if facts.managed.as_ref().is_none_or(|managed| managed.set.is_none()) {
            problems.add(field, format!("PgQ has a queue of the name that the set {set:?} would have, and it is not ours; drop it with pgq.drop_queue, or choose another name"));
        } else if queue.tables != EVENT_TABLES {
            problems.add(
                field,
                format!(
                    "the queue of the set has {} event tables, {EVENT_TABLES} are needed; drop the set and create it again",
                    queue.tables
                ),
            );
        }
    }
}

fn capture_role(problems: &mut Problems, cluster: &str, facts: &Facts) {
    let field = "database.dsn";
    let (found, role, name) = (&facts.capture_role, quote(&facts.role), quote(&names::capture_role(cluster)));
    if found.powerful {
        problems.add(field, format!("the role {name}, which the functions are to run as that capture, can log in or has rights of its own; take them away, or drop the role"));
    } else if !found.usable {
        let create = if found.exists { String::new() } else { format!("CREATE ROLE {name} NOLOGIN; ") };
        problems.add(
            field,
            format!(
                "what captures runs as a role of its own, which {role} may not set up; as a superuser run: {create}GRANT {name} TO {role}"
            ),
        );
    }
    let Some(owner) = &found.withheld_by else { return };
    match &facts.queue {
        Some(queue) if queue.writable => {}
        Some(queue) => problems.add(
            field,
            format!("{role} may not let the role {name} draw the ids of events; as a superuser run: GRANT USAGE ON SEQUENCE {} TO {name}", queue.sequence),
        ),
        None => problems.add(
            field,
            format!(
                "{role} may not let the role {name} draw the ids of events; as a superuser run once: ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA pgq GRANT USAGE ON SEQUENCES TO {name}",
                quote(owner)
            ),
        ),
    }
}

fn missing(wanted: &TableConfiguration, facts: &Facts) -> String {
    let schema = wanted.schema();
    if wanted.name.is_empty() {
        return "the name is empty".to_owned();
    }
    if !facts.known.iter().any(|(known, _)| known == schema) {
        let schemas: BTreeSet<&str> = facts.known.iter().map(|(known, _)| known.as_str()).collect();
        return format!("the table {} does not exist, nor is there any table in its schema; {}", shown(wanted), advice(schema, schemas));
    }
    let tables = facts.known.iter().filter(|(known, _)| known == schema).map(|(_, table)| table.as_str());
    format!("the table {} does not exist; {}", shown(wanted), advice(&wanted.name, tables))
}

fn table(
    problems: &mut Problems,
    field: &str,
    wanted: &TableConfiguration,
    found: &Table,
    configuration: &ReplicationSetConfiguration,
    facts: &Facts,
) {
    let name = shown(wanted);
    if let Some(reason) = unsupported(found) {
        problems.add(format!("{field}.name"), format!("{name} {reason}"));
        return;
    }
    if !found.owned {
        problems.add(
            format!("{field}.name"),
            format!(
                "the role {:?} does not own {name}, which triggers need; connect as its owner, or run `GRANT` of the owner's role to it",
                facts.role
            ),
        );
    }
    for partition in &found.partitions {
        let key = &partition.key;
        if partition.foreign {
            problems.add(
                format!("{field}.name"),
                format!("{key}, a partition of {name}, is a foreign table: its rows change where no trigger fires; detach it"),
            );
        }
        if !partition.owned {
            problems.add(
                format!("{field}.name"),
                format!("the role {:?} does not own {key}, a partition of {name}, which triggers need", facts.role),
            );
        }
        if partition.hides_rows {
            problems.add(
                format!("{field}.name"),
                format!(
                    "row-level security hides rows of {key}, a partition of {name}, from the role {role:?}, so TRUNCATE of it could not be captured; run `ALTER TABLE {key} NO FORCE ROW LEVEL SECURITY` or `ALTER ROLE {role:?} BYPASSRLS`",
                    role = facts.role
                ),
            );
        }
    }
    for (schema, table) in &found.ancestors {
        if configuration.tables.iter().any(|other| other.schema() == schema && other.name == *table) {
            problems.add(format!("{field}.name"), format!("{name} is a partition of {schema}.{table}, which the set has already"));
        }
    }
    identity(problems, field, wanted, found);
    let known = || found.columns.iter().map(|column| column.described.name.as_str());
    let mut seen = BTreeSet::new();
    for (index, column) in wanted.columns.iter().enumerate() {
        let field = format!("{field}.columns[{index}]");
        if !seen.insert(column) {
            problems.add(field, format!("the column {column:?} is given twice"));
        } else if !known().any(|known| known == column) {
            problems.add(field, format!("{name} has no column {column:?}; {}", advice(column, known())));
        }
    }
}

/// Why a table cannot be captured.
fn unsupported(table: &Table) -> Option<&'static str> {
    match (table.kind, table.persistence) {
        ('v' | 'm', _) => Some("is a view: its rows belong to other tables, capture those"),
        ('f', _) => Some("is a foreign table: its rows change where no trigger fires, capture them there"),
        ('c', _) => Some("is a composite type, not a table"),
        (_, 't') => Some("is a temporary table: it ends with its session"),
        (_, 'u') => {
            Some("is an unlogged table: a crash of the server empties it, and no trigger would say so; run `ALTER TABLE … SET LOGGED`")
        }
        ('r', _)
            if matches!(table.schema.as_str(), "pg_catalog" | "information_schema" | "pgq") || table.schema.starts_with("pgshovel_") =>
        {
            Some("belongs to the system, or to the queue itself")
        }
        ('r' | 'p', _) => None,
        _ => Some("is of a kind that has no rows"),
    }
}

fn identity(problems: &mut Problems, field: &str, wanted: &TableConfiguration, found: &Table) {
    let name = shown(wanted);
    let known = || found.columns.iter().map(|column| column.described.name.as_str());
    if wanted.primary_keys.is_empty() {
        let hint = match usable_keys(found).first() {
            Some(key) => format!("its unique index {:?} is over {}", key.0, key.1.join(", ")),
            None => "the table has no key that could serve: create a unique index over columns that are NOT NULL".to_owned(),
        };
        problems.add(format!("{field}.primary_keys"), format!("{name} needs columns that identify its rows; {hint}"));
        return;
    }
    let before = problems.0.len();
    let mut seen = BTreeSet::new();
    for (index, key) in wanted.primary_keys.iter().enumerate() {
        let field = format!("{field}.primary_keys[{index}]");
        match found.columns.iter().find(|column| column.described.name == *key) {
            _ if !seen.insert(key) => problems.add(field, format!("the column {key:?} is given twice")),
            None => problems.add(field, format!("{name} has no column {key:?}; {}", advice(key, known()))),
            Some(column) if !column.not_null => {
                problems.add(field, format!("the column {key:?} of {name} may be null, and so cannot identify a row; run `ALTER TABLE … ALTER COLUMN … SET NOT NULL`"));
            }
            Some(_) => {}
        }
    }
    let covered = || found.unique.iter().filter(|index| index.columns.iter().all(|column| wanted.primary_keys.contains(column)));
    if before == problems.0.len() && !covered().any(|index| index.immediate) {
        let keys: Vec<String> = usable_keys(found).iter().map(|(_, columns)| columns.join(", ")).collect();
        let hint = match covered().next() {
            Some(deferrable) => {
                format!("the constraint {:?} is DEFERRABLE, and rows may share a key until its transaction ends", deferrable.name)
            }
            None if keys.is_empty() => "create a unique index over them".to_owned(),
            None => format!("unique are: {}", keys.join("; ")),
        };
        problems.add(
            format!("{field}.primary_keys"),
            format!("nothing keeps two rows of {name} from having the same {}; {hint}", wanted.primary_keys.join(", ")),
        );
    }
}

/// Unique indexes that can identify rows: name and columns.
fn usable_keys(table: &Table) -> Vec<(&str, &[String])> {
    let not_null = |name: &String| table.columns.iter().any(|column| column.not_null && column.described.name == *name);
    table
        .unique
        .iter()
        .filter(|index| index.immediate && index.columns.iter().all(not_null))
        .map(|index| (index.name.as_str(), index.columns.as_slice()))
        .collect()
}

fn shown(table: &TableConfiguration) -> String {
    format!("{}.{}", table.schema(), table.name)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proto::interfaces::configurations::DatabaseConfiguration;

    use super::*;
    use crate::postgres::catalog::{CaptureRole, Column, Managed, Pgq, Queue, Unique};
    use crate::postgres::event::relation::Described;
    use crate::postgres::event::value::Encoding;

    fn column(name: &str, not_null: bool) -> Column {
        let described = Described { name: name.to_owned(), type_name: "integer".to_owned(), oid: 23, encoding: Encoding::Json };
        Column { described, number: 1, type_modifier: -1, not_null }
    }

    fn table(name: &str) -> Table {
        Table {
            row_type_oid: 2,
            oid: 16_384,
            schema: "public".to_owned(),
            name: name.to_owned(),
            key: format!("public.{name}"),
            kind: 'r',
            persistence: 'p',
            is_partition: false,
            owned: true,
            ancestors: Vec::new(),
            partitions: Vec::new(),
            columns: vec![column("id", true), column("other", true), column("note", false)],
            unique: vec![Unique { name: format!("{name}_pkey"), columns: vec!["id".to_owned()], immediate: true }],
        }
    }

    fn facts(tables: Vec<Table>) -> Facts {
        let known = tables.iter().map(|table| (table.schema.clone(), table.name.clone())).collect();
        Facts {
            server_version: 150_018,
            role: "app".into(),
            database: "shop".into(),
            may_create: true,
            counts_writes: true,
            pgq: Some(Pgq { may_use: true }),
            capture_role: CaptureRole { usable: true, ..CaptureRole::default() },
            tables,
            known,
            ..Facts::default()
        }
    }

    fn wanted(name: &str, keys: &[&str], columns: &[&str]) -> TableConfiguration {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        TableConfiguration { name: name.to_owned(), primary_keys: owned(keys), columns: owned(columns), schema: None }
    }

    fn found(tables: Vec<TableConfiguration>, facts: &Facts) -> String {
        let configuration = ReplicationSetConfiguration { database: DatabaseConfiguration { dsn: "host=x".to_owned() }, tables };
        problems("default", "shop", "id", &configuration, facts).iter().map(|problem| format!("{problem}\n")).collect()
    }

    #[test]
    fn a_good_configuration_has_no_problem() {
        let facts = facts(vec![table("a"), table("b")]);
        assert_eq!(found(vec![wanted("a", &["id"], &[]), wanted("b", &["id", "other"], &["note"])], &facts), "");
    }

    #[test]
    fn all_problems_of_tables_are_found_at_once() {
        let mut view = table("view");
        view.kind = 'v';
        let mut leaf = table("leaf");
        leaf.ancestors = vec![("public".to_owned(), "accounts".to_owned())];
        leaf.owned = false;
        let facts = facts(vec![table("accounts"), view, leaf]);
        expect![[r#"
            tables[0].primary_keys[0]: public.accounts has no column "ID"; did you mean "id"?
            tables[0].columns[1]: the column "note" is given twice
            tables[0].columns[2]: public.accounts has no column "zzzzzz"; there is "id", "other", "note"
            tables[1].name: the table public.acounts does not exist; did you mean "accounts"?
            tables[2]: the table public.accounts is given twice
            tables[3].name: public.view is a view: its rows belong to other tables, capture those
            tables[4].name: the role "app" does not own public.leaf, which triggers need; connect as its owner, or run `GRANT` of the owner's role to it
            tables[4].name: public.leaf is a partition of public.accounts, which the set has already
            tables[4].primary_keys: nothing keeps two rows of public.leaf from having the same other; unique are: id
            tables[5].name: the table pubic.accounts does not exist, nor is there any table in its schema; did you mean "public"?
        "#]]
        .assert_eq(&found(
            vec![
                wanted("accounts", &["ID"], &["note", "note", "zzzzzz"]),
                wanted("acounts", &["id"], &[]),
                wanted("accounts", &["id"], &[]),
                wanted("view", &["id"], &[]),
                wanted("leaf", &["other"], &[]),
                TableConfiguration { schema: Some("pubic".to_owned()), ..wanted("accounts", &["id"], &[]) },
            ],
            &facts,
        ));
    }

    #[test]
    fn keys_must_be_unique_and_not_null() {
        let mut keyless = table("keyless");
        keyless.unique.clear();
        let mut deferrable = table("deferrable");
        deferrable.unique[0].immediate = false;
        expect![[r#"
            tables[0].primary_keys: public.keyless needs columns that identify its rows; the table has no key that could serve: create a unique index over columns that are NOT NULL
            tables[1].primary_keys: public.a needs columns that identify its rows; its unique index "a_pkey" is over id
            tables[2].primary_keys[0]: the column "note" of public.b may be null, and so cannot identify a row; run `ALTER TABLE … ALTER COLUMN … SET NOT NULL`
            tables[3].primary_keys: nothing keeps two rows of public.deferrable from having the same id; the constraint "deferrable_pkey" is DEFERRABLE, and rows may share a key until its transaction ends
        "#]]
        .assert_eq(&found(
            vec![wanted("keyless", &[], &[]), wanted("a", &[], &[]), wanted("b", &["note"], &[]), wanted("deferrable", &["id"], &[])],
            &facts(vec![keyless, table("a"), table("b"), deferrable]),
        ));
    }

    #[test]
    fn a_database_says_what_it_lacks() {
        let tables = || vec![wanted("a", &["id"], &[])];
        let mut bare = facts(vec![table("a")]);
        bare.pgq = None;
        bare.may_create = false;
        bare.in_recovery = true;
        bare.server_version = 130_010;
        expect![[r#"
            database.dsn: the server is PostgreSQL 13; 14 or later is needed
            database.dsn: the server is a replica, which cannot be changed; give the primary
            database.dsn: PgQ is not installed in the database "shop"; on Debian install the package postgresql-13-pgq3, then run `CREATE EXTENSION pgq` there, or load the PL-only build of PgQ where extensions are not allowed
            database.dsn: the role "app" may not create a schema; run `GRANT CREATE ON DATABASE "shop" TO "app"`
        "#]]
        .assert_eq(&found(tables(), &bare));
        let mut copied = facts(vec![table("a")]);
        copied.pgq = Some(Pgq { may_use: false });
        copied.queue = Some(Queue { id: 1, tables: 3, consumers: Vec::new(), sequence: String::new(), writable: false, view: None });
        let node = uuid::Uuid::nil();
        copied.managed = Some(Managed { may_use: true, node: Some((node, "id".to_owned(), "0.1.0".to_owned())), ..Managed::default() });
        expect![[r#"
            database.dsn: the role "app" may not use PgQ; as its owner run `GRANT pgq_admin TO "app"`
            database.dsn: the database is a copy of node 00000000-0000-0000-0000-000000000000: it was restored or cloned; drop the schema and the queues that were copied, or run `cluster upgrade --force` if it is the same database after pg_upgrade
            database.dsn: PgQ has a queue of the name that the set "shop" would have, and it is not ours; drop it with pgq.drop_queue, or choose another name
        "#]]
        .assert_eq(&found(tables(), &copied));
    }
}
