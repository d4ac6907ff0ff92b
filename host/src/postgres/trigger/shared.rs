//! What the capturing functions of all sets share: a schema of its own, see `shared.sql`. And what
//! relays may do with a set's queue: `queue.sql`.

use crate::names;
use crate::postgres::catalog::JSON_IS_EXACT;
use crate::postgres::event::FORMAT;
use crate::postgres::{literal, quote};

use super::capture::COMMENT;
use super::columns;
use super::settings::Setting;

/// What tells one definition of a function from another.
const DEFINITION: &str = "pg_catalog.concat_ws(E'\\n', p.proname, p.proowner, p.prolang, p.prosecdef, p.provolatile, p.proargtypes, p.proconfig, \
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.grantor, a.grantee, a.privilege_type), ',' ORDER BY a.grantee, a.grantor) FROM pg_catalog.aclexplode(p.proacl) a), p.prosrc)";

/// Creates what sets share in a database, or replaces it. Locks no table. The cluster's
/// own schema must be there.
#[must_use]
pub fn create(cluster: &str) -> String {
    let (schema, capture) = (names::schema(cluster), names::capture_schema(cluster));
    let places = [
        ("@capture@", quote(&capture)),
        ("@capture_name@", literal(&capture)),
        ("@capture_quoted@", literal(&quote(&capture))),
        ("@schema@", quote(&schema)),
        ("@role@", quote(&names::capture_role(cluster))),
        ("@role_name@", literal(&quote(&names::capture_role(cluster)))),
        ("@schema_quoted@", literal(&quote(&schema))),
        ("@queue_prefix@", literal(&names::queue(cluster, ""))),
        ("@settings@", Setting::clauses(Setting::ALL)),
        ("@format@", literal(FORMAT)),
        ("@json_is_exact@", JSON_IS_EXACT.to_owned()),
        ("@text@", literal(&columns::text_output("r", "%1$I").replace("'%s'", "'%%s'"))),
    ];
    // In one pass: the name of a cluster may look like a place.
    let mut text = String::new();
    let mut rest = concat!(include_str!("queue.sql"), include_str!("shared.sql"));
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
    format!("DROP SCHEMA IF EXISTS {} CASCADE;", quote(&names::capture_schema(cluster)))
}

/// The function that lets a set's triggers write to the queue's current table: its
/// argument is the set, it returns whether they wrote to another one.
#[must_use]
pub fn switch(cluster: &str) -> String {
    format!("{}.switch", quote(&names::schema(cluster)))
}

/// The triggers of sets as they are, for a query around it: those that call a function of
/// a set, which its comment names. A clone on a partition goes with the trigger that it was
/// cloned from. `made` is the transaction that last changed the trigger: one that was
/// disabled and enabled again looks as before, but for that. It is no view, which would run
/// the code of its owner.
#[must_use]
pub fn capturing(cluster: &str) -> String {
    let (schema, capture) = (quote(&names::schema(cluster)), literal(&quote(&names::capture_schema(cluster))));
    format!(
        "(SELECT s.name AS \"set\", t.tgrelid AS relation, t.oid AS trigger, t.tgname::text AS name, t.tgenabled AS enabled,
       p.proname::text AS function, t.xmin::text AS made,
       pg_catalog.md5(pg_catalog.concat_ws(E'\\n', t.tgtype, t.tgqual::text, t.tgargs, f.definition, p.definition, g.definitions)) AS digest
  FROM {schema}.sets s
  JOIN LATERAL (SELECT p.oid, p.proname, {DEFINITION} AS definition FROM pg_catalog.pg_proc p
                 WHERE p.pronamespace = pg_catalog.to_regnamespace({capture})
                   AND pg_catalog.obj_description(p.oid, 'pg_proc') = {comment} || s.name) p ON true
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = p.oid AND d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
  JOIN pg_catalog.pg_trigger t ON t.oid = d.objid AND NOT t.tgisinternal AND t.tgparentid = 0
  JOIN LATERAL (SELECT {DEFINITION} AS definition FROM pg_catalog.pg_proc p WHERE p.oid = t.tgfoid) f ON true
  JOIN LATERAL (SELECT pg_catalog.string_agg({DEFINITION}, E'\\n' ORDER BY p.oid) AS definitions FROM pg_catalog.pg_proc p
                 WHERE p.pronamespace = pg_catalog.to_regnamespace({capture}) AND pg_catalog.obj_description(p.oid, 'pg_proc') IS NULL) g ON true)",
        comment = literal(COMMENT)
    )
}

/// The function that forgets a partition that is none any more: its arguments are the set, and
/// the partition as SQL named it.
#[must_use]
pub fn forget(cluster: &str) -> String {
    format!("{}.forget", quote(&names::schema(cluster)))
}

/// What a relay may call, with the types of the parameters.
pub const OF_RELAYS: [&str; 7] = [
    "own(text)",
    "draw_first(text)",
    "tick(text, bigint)",
    "thin(text, bigint)",
    "rotate(text, boolean)",
    "forget(text, text)",
    "holds_rows(text, oid)",
];

/// Records the set's triggers as they are, as what they have to be.
#[must_use]
pub fn record(cluster: &str, set: &str) -> String {
    let (schema, set, capturing) = (quote(&names::schema(cluster)), literal(set), capturing(cluster));
    format!(
        "DELETE FROM {schema}.captured WHERE \"set\" = {set};
INSERT INTO {schema}.captured (\"set\", relation, key, trigger, name, function, digest, made)
SELECT c.\"set\", c.relation, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(r.relname), c.trigger, c.name, c.function, c.digest, c.made
FROM {capturing} c JOIN pg_catalog.pg_class r ON r.oid = c.relation JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE c.\"set\" = {set};"
    )
}

/// The triggers of the set $1 with their clones on partitions, for a query behind it. A clone
/// was last changed with its original, or when a partition was attached, or was touched.
fn clones(schema: &str) -> String {
    format!(
        "WITH RECURSIVE clones (key, name, original, relation, trigger, enabled, made, touched) AS (
  SELECT c.key, c.name, c.trigger, c.relation, c.trigger, 'A'::\"char\", t.xmin::text, false
  FROM {schema}.captured c JOIN pg_catalog.pg_trigger t ON t.oid = c.trigger WHERE c.\"set\" = $1
  UNION ALL
  SELECT k.key, k.name, k.original, t.tgrelid, t.oid, t.tgenabled, t.xmin::text,
         t.xmin::text <> k.made AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(t.tgrelid) a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.relid WHERE i.xmin = t.xmin)
  FROM clones k JOIN pg_catalog.pg_trigger t ON t.tgparentid = k.trigger
)"
    )
}

/// The triggers of the set $1 that are as they have to be, by their OIDs.
#[must_use]
pub fn intact(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "{clones}
SELECT c.trigger FROM {schema}.captured c JOIN {capturing} n ON n.trigger = c.trigger AND n.\"set\" = c.\"set\"
WHERE c.\"set\" = $1 AND n.enabled = 'A' AND n.digest = c.digest AND n.name = c.name AND n.made = coalesce(c.made, n.made)
  AND NOT EXISTS (SELECT FROM clones k WHERE k.original = c.trigger AND (k.enabled <> 'A' OR k.touched))",
        clones = clones(&schema),
        capturing = capturing(cluster)
    )
}

/// Where partitions without the trigger for `Event::Partition` come from, for a query: `c` and `n`
/// are the partition and its schema, `w` is what the whole table's TRUNCATE is captured by.
#[must_use]
pub fn unwatched(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "FROM {schema}.captured w, pg_catalog.pg_partition_tree(w.relation) t
  JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE w.\"set\" = $1 AND w.function LIKE '%:t' AND c.relkind = 'r' AND t.relid <> w.relation
   AND NOT EXISTS (SELECT FROM {schema}.captured p WHERE p.\"set\" = w.\"set\" AND p.relation = c.oid AND p.function = pg_catalog.left(w.function, -1) || 'p')"
    )
}

/// The set's triggers that are not as they have to be: table, trigger, what is wrong.
/// A clone on a partition may be disabled by itself. $1 the set.
#[must_use]
pub fn faults(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "{clones}
SELECT f.key, f.name, f.fault FROM (
  SELECT c.key, c.name, CASE
      WHEN c.function ~ ':[pq]$' AND (r.oid IS NULL OR NOT r.relispartition) THEN NULL
      WHEN r.oid IS NULL THEN 'dropped'
      WHEN c.function !~ ':[pq]$' AND pg_catalog.quote_ident(p.nspname) || '.' || pg_catalog.quote_ident(r.relname) <> c.key THEN 'renamed'
      WHEN r.relpersistence <> 'p' THEN 'unlogged'
      WHEN n.trigger IS NULL THEN 'without trigger'
      WHEN n.enabled = 'D' THEN 'disabled'
      WHEN n.enabled <> 'A' THEN 'not always'
      WHEN n.digest <> c.digest THEN 'altered'
      WHEN n.name <> c.name THEN 'trigger renamed'
      WHEN n.made <> c.made THEN 'touched'
    END AS fault
  FROM {schema}.captured c LEFT JOIN {capturing} n ON n.trigger = c.trigger AND n.\"set\" = c.\"set\" LEFT JOIN pg_catalog.pg_class r ON r.oid = c.relation
    LEFT JOIN pg_catalog.pg_namespace p ON p.oid = r.relnamespace
  WHERE c.\"set\" = $1
  UNION ALL
  SELECT pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(r.relname), k.name, CASE k.enabled WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'touched' ELSE 'not always' END
  FROM clones k JOIN pg_catalog.pg_class r ON r.oid = k.relation JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
  WHERE k.enabled <> 'A' OR k.touched
  UNION ALL
  SELECT pg_catalog.quote_ident(s.nspname) || '.' || pg_catalog.quote_ident(r.relname), '', 'foreign'
  FROM {schema}.captured c, pg_catalog.pg_partition_tree(c.relation) t
  JOIN pg_catalog.pg_class r ON r.oid = t.relid JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
  WHERE c.\"set\" = $1 AND c.function LIKE '%:t' AND r.relkind = 'f'
  UNION ALL
  SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), '', 'unwatched' {unwatched}
  UNION ALL
  SELECT r.key, '', 'without trigger' FROM {schema}.sets s JOIN {schema}.relations r ON r.\"set\" = s.name AND r.version = s.version
  WHERE s.name = $1 AND NOT EXISTS (SELECT FROM {schema}.captured c WHERE c.\"set\" = $1 AND c.key = r.key)
) f WHERE f.fault IS NOT NULL ORDER BY 1, 2, 3",
        clones = clones(&schema),
        capturing = capturing(cluster),
        unwatched = unwatched(cluster)
    )
}
