//! What the capturing functions of all sets share: a schema of its own, see `shared.sql`.

use crate::cluster::name;
use crate::postgres::catalog::JSON_IS_EXACT;
use crate::postgres::event::FORMAT;
use crate::postgres::{literal, quote};

use super::settings::Setting;
use super::{COMMENT, columns};

/// What tells one definition of a function from another.
const DEFINITION: &str = "pg_catalog.concat_ws(E'\\n', p.proname, p.proowner, p.prolang, p.prosecdef, p.provolatile, p.proargtypes, p.proconfig, \
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.grantor, a.grantee, a.privilege_type), ',' ORDER BY a.grantee, a.grantor) FROM pg_catalog.aclexplode(p.proacl) a), p.prosrc)";

/// Creates what sets share in a database, or replaces it. Locks no table. The cluster's
/// own schema must be there.
#[must_use]
pub fn create(cluster: &str) -> String {
    let (schema, capture) = (name::schema(cluster), name::capture_schema(cluster));
    let places = [
        ("@capture@", quote(&capture)),
        ("@capture_name@", literal(&capture)),
        ("@capture_quoted@", literal(&quote(&capture))),
        ("@schema@", quote(&schema)),
        ("@role@", quote(&name::capture_role(cluster))),
        ("@role_name@", literal(&quote(&name::capture_role(cluster)))),
        ("@switch@", literal(&format!("{}(text)", switch(cluster)))),
        ("@queue_prefix@", literal(&name::queue(cluster, ""))),
        ("@comment_prefix@", literal(COMMENT)),
        ("@definition@", DEFINITION.to_owned()),
        ("@settings@", Setting::clauses(Setting::ALL)),
        ("@format@", literal(FORMAT)),
        ("@json_is_exact@", JSON_IS_EXACT.to_owned()),
        ("@text@", literal(&columns::text_output("r", "%1$I").replace("'%s'", "'%%s'"))),
    ];
    // In one pass: the name of a cluster may look like a place.
    let mut text = String::new();
    let mut rest = include_str!("shared.sql");
    while let Some((at, place, value)) = places.iter().filter_map(|(place, value)| Some((rest.find(place)?, place, value))).min() {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        text.push_str(value);
        rest = after.strip_prefix(place).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// Removes it.
#[must_use]
pub fn drop(cluster: &str) -> String {
    format!("DROP SCHEMA IF EXISTS {} CASCADE;", quote(&name::capture_schema(cluster)))
}

/// The function that lets a set's triggers write to the queue's current table: its
/// argument is the set, it returns whether they wrote to another one.
#[must_use]
pub fn switch(cluster: &str) -> String {
    format!("{}.switch", quote(&name::schema(cluster)))
}

/// Records the set's triggers as they are, as what they have to be.
#[must_use]
pub fn record(cluster: &str, set: &str) -> String {
    let (schema, set) = (quote(&name::schema(cluster)), literal(set));
    format!(
        "DELETE FROM {schema}.captured WHERE \"set\" = {set};
INSERT INTO {schema}.captured (\"set\", relation, key, trigger, name, function, digest)
SELECT c.\"set\", c.relation, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(r.relname), c.trigger, c.name, c.function, c.digest
FROM {schema}.capturing c JOIN pg_catalog.pg_class r ON r.oid = c.relation JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE c.\"set\" = {set};"
    )
}

/// The triggers of the set $1 with their clones on partitions, for a query behind it.
fn clones(schema: &str) -> String {
    format!(
        "WITH RECURSIVE clones (key, name, original, relation, trigger, enabled) AS (
  SELECT c.key, c.name, c.trigger, c.relation, c.trigger, 'A'::\"char\" FROM {schema}.captured c WHERE c.\"set\" = $1
  UNION ALL SELECT k.key, k.name, k.original, t.tgrelid, t.oid, t.tgenabled FROM clones k JOIN pg_catalog.pg_trigger t ON t.tgparentid = k.trigger
)"
    )
}

/// The triggers of the set $1 that are as they have to be, by their OIDs.
#[must_use]
pub fn intact(cluster: &str) -> String {
    let schema = quote(&name::schema(cluster));
    format!(
        "{clones}
SELECT c.trigger FROM {schema}.captured c JOIN {schema}.capturing n ON n.trigger = c.trigger AND n.\"set\" = c.\"set\"
WHERE c.\"set\" = $1 AND n.enabled = 'A' AND n.digest = c.digest AND n.name = c.name
  AND NOT EXISTS (SELECT FROM clones k WHERE k.original = c.trigger AND k.enabled <> 'A')",
        clones = clones(&schema)
    )
}

/// The set's triggers that are not as they have to be: table, trigger, what is wrong.
/// A clone on a partition may be disabled by itself. $1 the set.
#[must_use]
pub fn faults(cluster: &str) -> String {
    let schema = quote(&name::schema(cluster));
    format!(
        "{clones}
SELECT f.key, f.name, f.fault FROM (
  SELECT c.key, c.name, CASE
      WHEN c.function ~ ':[pq]$' AND (r.oid IS NULL OR NOT r.relispartition) THEN NULL
      WHEN r.oid IS NULL THEN 'dropped'
      WHEN c.function !~ ':[pq]$' AND pg_catalog.to_regclass(c.key) IS DISTINCT FROM c.relation THEN 'renamed'
      WHEN r.relpersistence <> 'p' THEN 'unlogged'
      WHEN n.trigger IS NULL THEN 'without trigger'
      WHEN n.enabled = 'D' THEN 'disabled'
      WHEN n.enabled <> 'A' THEN 'not always'
      WHEN n.digest <> c.digest THEN 'altered'
      WHEN n.name <> c.name THEN 'trigger renamed'
    END AS fault
  FROM {schema}.captured c LEFT JOIN {schema}.capturing n ON n.trigger = c.trigger AND n.\"set\" = c.\"set\" LEFT JOIN pg_catalog.pg_class r ON r.oid = c.relation
  WHERE c.\"set\" = $1
  UNION ALL
  SELECT pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(r.relname), k.name, CASE k.enabled WHEN 'D' THEN 'disabled' ELSE 'not always' END
  FROM clones k JOIN pg_catalog.pg_class r ON r.oid = k.relation JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
  WHERE k.enabled <> 'A'
  UNION ALL
  SELECT pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(r.relname), '', 'foreign'
  FROM {schema}.captured c, pg_catalog.pg_partition_tree(c.relation) t
  JOIN pg_catalog.pg_class r ON r.oid = t.relid JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
  WHERE c.\"set\" = $1 AND c.function LIKE '%:t' AND r.relkind = 'f'
  UNION ALL
  SELECT r.key, '', 'without trigger' FROM {schema}.sets s JOIN {schema}.relations r ON r.\"set\" = s.name AND r.version = s.version
  WHERE s.name = $1 AND NOT EXISTS (SELECT FROM {schema}.captured c WHERE c.\"set\" = $1 AND c.key = r.key)
) f WHERE f.fault IS NOT NULL ORDER BY 1, 2, 3",
        clones = clones(&schema)
    )
}
