//! What the role of a grant may do beyond what a plugin needs.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use tokio_postgres::{Client, SimpleQueryMessage};

/// The role that the session is of, its database, and what it may do that reaches beyond
/// databases: `NULL` where that is nothing.
const RIGHTS: &str = "SELECT current_user, current_database(), CASE WHEN r.rolsuper THEN 'is a superuser' \
     WHEN pg_catalog.pg_has_role(r.oid, e.oid, 'MEMBER') THEN 'is a member of ' || e.rolname END \
     FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_roles e \
     ON e.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') AND pg_catalog.pg_has_role(r.oid, e.oid, 'MEMBER') \
     WHERE r.rolname = current_user ORDER BY e.rolname LIMIT 1";

/// Warns, once for each role and database, of a grant whose role may run programs or read
/// and write files on the server's machine: so may the plugin. A server that
/// does not say is not warned of.
pub(super) async fn warn(client: &Client, application: &str) {
    static WARNED: LazyLock<Mutex<BTreeSet<(String, String)>>> = LazyLock::new(Mutex::default);
    let Ok(answer) = client.simple_query(RIGHTS).await else { return };
    let row = answer.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
    let Some(row) = row else { return };
    let column = |index| row.get(index).unwrap_or_default();
    let (role, database, right) = (column(0), column(1), column(2));
    if right.is_empty() || !WARNED.lock().unwrap_or_else(PoisonError::into_inner).insert((role.to_owned(), database.to_owned())) {
        return;
    }
    tracing::warn!(
        role,
        database,
        application,
        "the role of the grant `postgres` {right}: a plugin may run programs, or read or write files, on the server's machine with it. \
         Grant a role that has what the target needs: CREATE ROLE pgshovel_target LOGIN; GRANT CREATE ON DATABASE {} TO pgshovel_target; \
         GRANT USAGE ON SCHEMA … TO pgshovel_target; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA … TO pgshovel_target; \
         GRANT SET ON PARAMETER session_replication_role TO pgshovel_target",
        crate::postgres::quote(database)
    );
}
