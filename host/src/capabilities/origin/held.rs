//! A table that is held, and how its rows are read without running code of others.
//!
//! PostgreSQL has no way to read a table by its OID: names are looked up again by each
//! statement, and a lock on a table does not keep its schema from being renamed. A view in the
//! table's place would run its owner's code as this session's role. So would a query of the very
//! table, since the planner evaluates constant calls in the expressions of its indexes,
//! statistics and constraints. `COPY table TO` takes nothing but a table, and plans
//! nothing. So tables are read by that, partition by partition; which tables the session
//! has opened in the end is seen by its locks.

use std::fmt::Write as _;
use std::time::Duration;

use tokio_postgres::Client;

use super::source::Table;
use crate::error::{Code, Error, Result};
use crate::postgres::{connect, quote};

/// The tables below $1, by their OIDs, and itself.
const TREE: &str = "SELECT ARRAY(SELECT t.relid::oid FROM pg_catalog.pg_partition_tree($1::oid::regclass) t UNION SELECT $1)";

/// Those of the tables $1 that hold rows: name, whether the role may read it by itself, and whether
/// one of the columns $2 is generated. And, of all, whose code could run in a query as a role that
/// may do more than read: NULL if nobody's.
const PARTS: &str = "\
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), \
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
       EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY ($2) AND a.attgenerated <> ''), \
       (SELECT pg_catalog.quote_ident(o.rolname) FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace \
          JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database() \
          JOIN pg_catalog.pg_roles o ON o.oid IN (r.relowner, CASE s.nspowner WHEN 'pg_database_owner'::pg_catalog.regrole THEN d.datdba ELSE s.nspowner END), pg_catalog.pg_roles me \
         WHERE r.oid = ANY ($1) AND me.rolname = current_user AND NOT o.rolsuper AND o.oid <> me.oid \
           AND (me.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles e WHERE pg_catalog.pg_has_role(me.oid, e.oid, 'MEMBER') \
                 AND e.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))) LIMIT 1), \
       pg_catalog.quote_ident(current_user) \
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.oid = ANY ($1) AND c.relkind <> 'p' ORDER BY c.oid";

/// Whether this session has opened no tables but $1, the system's, and what belongs to them.
const OPENED: &str = "\
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation \
  WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.relation >= 16384 AND l.relation <> ALL ($1) \
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
    AND (c.relkind IS NULL OR c.relkind NOT IN ('t', 'i', 'I')))";

/// A table whose lock this session has.
pub(super) struct Held {
    /// It, and the tables below it.
    oids: Vec<u32>,
    /// What reads its rows, one after the other.
    pub statements: Vec<String>,
}

/// Keeps the table as it is from here on. One that was rewritten (ALTER TABLE, TRUNCATE)
/// since the snapshot was taken would show no rows to it, without a word: `Retry`, for
/// another snapshot.
pub(super) async fn hold(client: &Client, table: &Table, lock_timeout: Duration) -> Result<Held> {
    let relation = &table.relation;
    let name = format!("{}.{}", quote(&relation.schema), quote(&relation.table));
    let only = if table.is_partitioned { "" } else { "ONLY " };
    // It needs the right to read all columns, and runs no code if a view is there.
    let lock = format!("SET lock_timeout = {}; LOCK TABLE {only}{name} IN ACCESS SHARE MODE", lock_timeout.as_millis());
    client.batch_execute(&lock).await.map_err(|error| altered(&error))?;
    let same = client.query_one("SELECT pg_catalog.to_regclass($1)::oid IS NOT DISTINCT FROM $2", &[&name, &table.oid]).await;
    if !same.map_err(|error| altered(&error))?.get::<_, bool>(0) {
        return Err(taken());
    }
    // The catalog's row is as of the snapshot, what the function says as of now.
    let rewritten = "SELECT EXISTS (SELECT FROM pg_catalog.pg_partition_tree($1::oid::regclass) p JOIN pg_catalog.pg_class c ON c.oid = p.relid \
         WHERE p.isleaf AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)) OR EXISTS (SELECT FROM pg_catalog.pg_class c \
         WHERE c.oid = $1 AND c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid))";
    let row = client.query_one(rewritten, &[&table.oid]).await.map_err(|error| altered(&error))?;
    if row.get(0) {
        return Err(Error::retry(Code::SnapshotGone, "it was rewritten or truncated since the snapshot was taken; another one is taken"));
    }
    let oids: Vec<u32> = client.query_one(TREE, &[&table.oid]).await.map_err(|error| altered(&error))?.get(0);
    let statements = statements(client, table, &oids).await?;
    Ok(Held { oids, statements })
}

impl Held {
    /// Refuses (`Retry`) what was read if a table of another's was read under the name.
    pub async fn check(&self, client: &Client) -> Result<()> {
        let row = client.query_one(OPENED, &[&self.oids]).await.map_err(|error| connect::explain(&error))?;
        if row.get(0) { Ok(()) } else { Err(taken()) }
    }
}

fn taken() -> Error {
    Error::retry(Code::SnapshotGone, "another table has its name since the snapshot was taken; another one is taken")
}

async fn statements(client: &Client, table: &Table, oids: &[u32]) -> Result<Vec<String>> {
    let columns: Vec<&str> = table.relation.columns.iter().map(|column| column.name.as_str()).collect();
    let parts = client.query(PARTS, &[&oids, &columns]).await.map_err(|error| altered(&error))?;
    let mut reason = None;
    let mut statements = Vec::new();
    for part in &parts {
        let (name, may_read, generates): (&str, bool, bool) = (part.get(0), part.get(1), part.get(2));
        if generates {
            reason = Some("it has generated columns".to_owned());
        } else if !may_read {
            reason = Some(format!("the role may not read its partition {name}"));
        }
        // `COPY t () TO` is no statement.
        statements.push(if columns.is_empty() { query(table) } else { format!("COPY {name} ({}) TO STDOUT", list(&columns)) });
    }
    let (Some(reason), Some(first)) = (reason, parts.first()) else { return Ok(statements) };
    let (stranger, me): (Option<&str>, &str) = (first.get(3), first.get(4));
    match stranger {
        None => Ok(vec![query(table)]),
        Some(stranger) => Err(Error::stop(
            Code::TableUntrusted,
            format!(
                "{reason}, so that it can be read by a query only, in which {stranger} could run code as the role {me}, which may do more than read tables: \
             load as a role of less rights (`set create` prints which it needs, --source-dsn names it), or leave generated columns out of the set"
            ),
        )),
    }
}

/// For what COPY does not take. Rows of children by inheritance belong to the children; rows of
/// partitions to the root. Views and foreign tables in its place are refused by
/// `restrict_nonsystem_relation_kind`, where the server knows it.
fn query(table: &Table) -> String {
    let relation = &table.relation;
    let columns: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    let only = if table.is_partitioned { "" } else { "ONLY " };
    format!("COPY (SELECT {} FROM {only}{}.{}) TO STDOUT", list(&columns), quote(&relation.schema), quote(&relation.table))
}

fn list(columns: &[&str]) -> String {
    let mut list = String::new();
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(list, "{comma}{}", quote(column));
    }
    list
}

/// A table or column that is gone was altered after the snapshot's catalog was read:
/// the next snapshot tells whether the set still fits. What is not a table took its place.
pub(super) fn altered(error: &tokio_postgres::Error) -> Error {
    let explained = connect::explain(error);
    match error.as_db_error().map(|refusal| refusal.code().code()) {
        Some("42P01" | "42703" | "42809") => Error::retry(Code::SnapshotGone, explained.message),
        _ => explained,
    }
}
