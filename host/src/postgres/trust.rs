//! Whose code runs when the cluster's schema, or PgQ's, is used.
//!
//! Whoever may create schemas in a database, as its owner may, can prepare one of the name
//! that a set's would have, or that PgQ's has: with views, rules, policies, triggers or
//! functions that run as the role that uses them. So before anything in there is read or
//! called, its owners are looked at: they must not gain by what they have made.

use tokio_postgres::Client;

use super::connect::explain;
use crate::error::{Code, Error, Result};
use crate::names;

/// What a session is about to do with the schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Change them: the owner has to be the session's role, or a superuser.
    Administer,
    /// Read the queue, or what is recorded of the set: unless the session's role is a
    /// superuser, the owner may also be a member of pgq_admin.
    Read,
}

/// How many objects a message names.
const NAMED_MAX: i64 = 3;

/// What of the schemas $1 to $3 (the cluster's own, what captures, PgQ) belongs to a role
/// that is not to be trusted, or is not of its kind: what it is, and its owner. $4 whether
/// the schemas are only read, $5 the capture role.
const STRANGE: &str = "\
WITH me AS (SELECT r.oid, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
trusted AS (
  SELECT r.oid FROM pg_catalog.pg_roles r, me
   WHERE r.oid = me.oid OR r.rolsuper
      OR $4 AND NOT me.rolsuper AND pg_catalog.to_regrole('pgq_admin') IS NOT NULL AND pg_catalog.pg_has_role(r.oid, pg_catalog.to_regrole('pgq_admin')::oid, 'MEMBER')
), places AS (
  SELECT n.oid, n.nspname, n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname IN ($1, $2, $3)
), relations AS (
  SELECT c.*, p.nspname FROM places p JOIN pg_catalog.pg_class c ON c.relnamespace = p.oid
   WHERE c.relkind NOT IN ('i', 'I', 'S') AND (p.nspname <> $3 OR c.relname IN ('queue', 'tick', 'consumer', 'subscription', 'event_template', 'retry_queue'))
), objects AS (
  SELECT 'the schema ' || pg_catalog.quote_ident(p.nspname) AS what, p.nspowner AS owner, NULL AS wrong FROM places p
  UNION ALL
  SELECT 'the table or view ' || pg_catalog.quote_ident(r.nspname) || '.' || pg_catalog.quote_ident(r.relname), r.relowner,
         CASE WHEN r.relkind <> CASE r.nspname WHEN $2 THEN 'v' ELSE 'r' END THEN 'is none of ours'
              WHEN r.relrowsecurity THEN 'has row-level security'
              WHEN r.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = r.oid) THEN 'has a rule'
              WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = r.oid AND NOT t.tgisinternal) THEN 'has a trigger' END
    FROM relations r
  UNION ALL
  SELECT 'the function ' || p.oid::pg_catalog.regprocedure, p.proowner, NULL
    FROM places n JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
   WHERE n.nspname <> $2 OR p.proowner IS DISTINCT FROM (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = $5)
)
SELECT EXISTS (SELECT FROM places p WHERE p.nspname = $1), EXISTS (SELECT FROM places p WHERE p.nspname = $2), EXISTS (SELECT FROM places p WHERE p.nspname = $3),
       pg_catalog.quote_ident(current_user), pg_catalog.quote_ident(session_user),
       ARRAY(SELECT o.what || ' ' || coalesce(o.wrong, 'belongs to ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(o.owner))) FROM objects o
              WHERE o.wrong IS NOT NULL OR o.owner NOT IN (SELECT oid FROM trusted)
              ORDER BY o.what LIKE 'the schema %' DESC, o.what LIMIT $6)";

/// How many functions of PgQ run as its owner and look names up wherever the session says, if a role
/// could put something there that is neither a superuser nor that owner; and the owner.
const PGQ_IS_OPEN: &str = "\
SELECT count(*), pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(p.proowner))
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
 WHERE n.nspname = 'pgq' AND p.prosecdef AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) c WHERE c LIKE 'search_path=%')
   AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE NOT r.rolsuper AND r.oid <> p.proowner AND r.rolname !~ '^pg_'
                AND (pg_catalog.has_database_privilege(r.oid, d.oid, 'TEMPORARY, CREATE')
                     OR EXISTS (SELECT FROM pg_catalog.pg_namespace s WHERE s.nspname !~ '^pg_' AND pg_catalog.has_schema_privilege(r.oid, s.oid, 'CREATE'))))
 GROUP BY p.proowner ORDER BY 1 DESC LIMIT 1";

/// What closes it: the same for each function, so that names in it are PostgreSQL's or qualified.
const CLOSE_PGQ: &str = "\
DO $$ DECLARE f regprocedure; BEGIN
  FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'pgq'::regnamespace AND p.prosecdef LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', f);
  END LOOP;
END $$;";

/// What to say where PgQ itself lets roles of the database become its owner.
pub async fn advice(client: &Client) -> Result<Option<String>> {
    let row = client.query_opt(PGQ_IS_OPEN, &[]).await.map_err(|error| explain(&error).context("cannot look at PgQ's functions"))?;
    Ok(row.map(|row| {
        let (count, owner): (i64, String) = (row.get(0), row.get(1));
        format!(
            "WARNING: {count} functions of PgQ run as {owner} and find names by the search_path of whoever calls them: a role that may create a temporary table, an operator or a function in this database can run code as {owner}. A superuser closes that in the database, and again after each upgrade of PgQ, by\n{CLOSE_PGQ}"
        )
    }))
}

/// Which schemas were there when their owners were looked at. One that was not is not used
/// later either: it would be somebody's who made it, or gave it that name, since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// Of the cluster's own tables.
    pub own: bool,
    /// Of what captures.
    pub capture: bool,
    pub pgq: bool,
}

/// Refuses (`Configure`) schemas whose owner could run code as the session's role, and a
/// session whose role is not the one that it connected as: a setting of the database, which
/// its owner makes, would decide then whom the code of others may run as.
pub async fn check(client: &Client, cluster: &str, purpose: Purpose) -> Result<Schemas> {
    let (schema, capture, role) = (names::schema(cluster), names::capture_schema(cluster), names::capture_role(cluster));
    let reads = purpose == Purpose::Read;
    let row = client.query_one(STRANGE, &[&schema, &capture, &"pgq", &reads, &role, &NAMED_MAX]).await;
    let row = row.map_err(|error| explain(&error).context("cannot look at the owners of the cluster's schema"))?;
    let (me, connected): (String, String) = (row.get(3), row.get(4));
    if me != connected {
        return Err(Error::configure(
            Code::RoleUntrusted,
            format!(
                "the session connected as {connected} and is the role {me}, as a setting says: ALTER DATABASE or ALTER ROLE … RESET role; connect as {me} if that is the role to use"
            ),
        ));
    }
    let found: Vec<String> = row.get(5);
    if found.is_empty() {
        return Ok(Schemas { own: row.get(0), capture: row.get(1), pgq: row.get(2) });
    }
    let wanted = match purpose {
        Purpose::Administer => format!(
            "connect as that role, give it to a superuser or to {me} (ALTER … OWNER TO), or, if it is none of yours, drop the schema (DROP SCHEMA … CASCADE)"
        ),
        Purpose::Read => {
            "connect as a role that is no superuser (`set create` prints which rights it needs), and let the owner be a member of pgq_admin; or, if the schema is none of yours, drop it".to_owned()
        }
    };
    Err(Error::configure(Code::RoleUntrusted, format!("{}: its owner could run code as the role {me}; {wanted}", found.join("; "))))
}
