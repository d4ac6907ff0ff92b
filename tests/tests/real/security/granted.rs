//! What every role may do with what a cluster makes: read in the catalogs and compared with what is
//! meant, and tried with random statements.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tests::harness::{Database, World};

/// Their names end in the cluster's. The first may no more than connect.
const ROLES: [&str; 9] = ["stranger", "relay", "loader", "reader", "writer", "all_reader", "table_owner", "schema_owner", "database_owner"];

/// How many statements each role tries.
const STATEMENTS: usize = 120;
const SEED: u64 = 15;

/// What the role $1 may do, a line for each object. $2 to $4 the cluster's schemas, and the tables'.
const MAY: &str = "
WITH n AS (SELECT * FROM pg_namespace WHERE nspname IN ($2, $3, $4, 'pgq')),
may (kind, name, owner, privileges) AS (
  SELECT 'schema', quote_ident(nspname), nspowner, (SELECT string_agg(p, ' ') FROM unnest(ARRAY['USAGE', 'CREATE']) p WHERE has_schema_privilege($1, n.oid, p)) FROM n
  UNION ALL
  SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END, c.oid::regclass::text, c.relowner,
         (SELECT string_agg(p, ' ') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
           WHERE has_table_privilege($1, c.oid, p) OR p IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege($1, c.oid, p))
    FROM n JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  UNION ALL
  SELECT 'sequence', c.oid::regclass::text, c.relowner, (SELECT string_agg(p, ' ') FROM unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) p WHERE has_sequence_privilege($1, c.oid, p))
    FROM n JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'S'
  UNION ALL
  SELECT CASE WHEN p.prosecdef THEN 'definer' ELSE 'function' END, p.oid::regprocedure::text, p.proowner, CASE WHEN has_function_privilege($1, p.oid, 'EXECUTE') THEN 'EXECUTE' END
    FROM n JOIN pg_proc p ON p.pronamespace = n.oid AND p.prorettype <> 'trigger'::regtype
)
SELECT kind || ' ' || name || ':' || coalesce(' ' || privileges, '') || CASE WHEN pg_has_role($1, owner, 'MEMBER') THEN ' OWNER' ELSE '' END
  FROM may WHERE privileges IS NOT NULL OR pg_has_role($1, owner, 'MEMBER') ORDER BY 1";

/// Roles, who is whose member, and what roles are let do by the server.
const ROLES_ARE: &str = "
SELECT string_agg(concat_ws(' ', r.rolname, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolbypassrls, r.rolreplication,
         (SELECT string_agg(m.roleid::regrole::text, ',' ORDER BY m.roleid) FROM pg_auth_members m WHERE m.member = r.oid)), E'\\n' ORDER BY r.rolname)
  FROM pg_roles r WHERE r.rolname ~ $$(pgq|[_:]@$)$$";

/// What is meant. A role may also do what those before it in the brackets may.
const MEANT: &str = include_str!("granted.txt");

struct Setting {
    world: World,
    source: Database,
}

impl Setting {
    async fn new() -> Self {
        let world = World::start().await;
        world.zookeeper().await;
        let source = world.source("granted").await;
        let cluster = world.cluster();
        let roles: String = ROLES.iter().map(|role| format!("CREATE ROLE {role}_{cluster} LOGIN; ")).collect();
        source
            .execute(&format!(
                "{roles} CREATE ROLE admin_{cluster} LOGIN; CREATE ROLE \"pgshovel:{cluster}\" NOLOGIN; GRANT \"pgshovel:{cluster}\", table_owner_{cluster} TO admin_{cluster};
                 ALTER DEFAULT PRIVILEGES IN SCHEMA pgq GRANT USAGE ON SEQUENCES TO \"pgshovel:{cluster}\"; GRANT CREATE ON DATABASE {name} TO admin_{cluster};
                 GRANT pgq_admin TO admin_{cluster}; GRANT pgq_reader, pg_read_all_stats TO admin_{cluster} WITH ADMIN OPTION;
                 GRANT pgq_reader TO reader_{cluster}; GRANT pgq_writer TO writer_{cluster}; GRANT pg_read_all_data TO all_reader_{cluster};
                 ALTER DATABASE {name} OWNER TO database_owner_{cluster}; CREATE SCHEMA app AUTHORIZATION schema_owner_{cluster}; GRANT USAGE, CREATE ON SCHEMA app TO table_owner_{cluster};
                 SET ROLE table_owner_{cluster}; CREATE TABLE app.a (id int PRIMARY KEY, x int); CREATE TABLE app.part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id);
                 CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES FROM (0) TO (100000); RESET ROLE; REVOKE CREATE ON SCHEMA app FROM table_owner_{cluster};
                 GRANT USAGE ON SCHEMA app TO schema_owner_{cluster} WITH GRANT OPTION; GRANT USAGE ON SCHEMA app TO admin_{cluster} WITH GRANT OPTION",
                name = source.name()
            ))
            .await;
        let dsn = source.dsn().replace("user=postgres", &format!("user=admin_{cluster}"));
        let tables = ["a", "part"].map(|name| format!("tables {{ schema: \"app\" name: {name:?} primary_keys: \"id\" }}\n")).concat();
        world.write("set.pgshovel", &format!("database {{ dsn: {dsn:?} }}\n{tables}"));
        world.pgshovel(["cluster", "initialize"]).succeeds().await;
        let (relay, loader) = (format!("relay_{cluster}"), format!("loader_{cluster}"));
        world.pgshovel(["set", "create", "s", "set.pgshovel", "--relay-role", &relay, "--loader-role", &loader]).succeeds().await;
        Self { world, source }
    }

    /// What each role may do beyond the first.
    async fn may(&self) -> String {
        let cluster = self.world.cluster();
        let (own, capture) = (format!("pgshovel_{cluster}"), format!("pgshovel:{cluster}"));
        let mut text = String::new();
        let mut everybody: Vec<String> = Vec::new();
        for role in ROLES {
            let rows = self.source.query(MAY, &[&format!("{role}_{cluster}"), &own, &capture, &"app"]).await;
            let lines: Vec<String> = rows.iter().map(|row| row.get::<_, String>(0).replace(&cluster, "@")).collect();
            text.push_str(&format!("[{role}]\n"));
            for line in lines.iter().filter(|line| !everybody.contains(line)) {
                text.push_str(&format!("{line}\n"));
            }
            if everybody.is_empty() {
                everybody = lines;
            }
        }
        text
    }

    async fn end(self) {
        let (cluster, source) = (self.world.cluster(), &self.source);
        self.world.pgshovel(["set", "drop", "s"]).succeeds().await;
        let roles: Vec<String> = ROLES.iter().chain(&["admin"]).map(|role| format!("{role}_{cluster}")).collect();
        source
            .execute(&format!(
                "ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {roles} CASCADE; DROP ROLE {roles}",
                source.name(),
                roles = roles.join(", ")
            ))
            .await;
    }
}

/// A right that is new fails here, whoever gave it to whom: it is written into `granted.txt`
/// if it is meant (`UPDATE_EXPECT=1`), and else taken away.
#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_what_is_meant_and_nothing_else() {
    let setting = Setting::new().await;
    let may = setting.may().await;
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/security/granted.txt"), &may).unwrap();
    } else {
        let missing: Vec<&str> = MEANT.lines().filter(|line| !may.lines().any(|other| other == *line)).collect();
        let more: Vec<&str> = may.lines().filter(|line| !MEANT.lines().any(|other| other == *line)).collect();
        assert!(may == MEANT, "no more: {missing:#?}\nnew: {more:#?}\n{may}");
    }
    setting.end().await;
}

/// Objects that statements are about.
struct Objects {
    relations: Vec<String>,
    functions: Vec<String>,
    sequences: Vec<String>,
    schemas: Vec<String>,
    roles: Vec<String>,
}

impl Objects {
    async fn of(source: &Database, cluster: &str) -> Self {
        let names = async |sql: &str| {
            let sql = sql.replace('@', cluster);
            source.query(&sql, &[]).await.iter().map(|row| row.get(0)).collect::<Vec<String>>()
        };
        const IN: &str =
            "FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE n.nspname IN ('pgshovel_@', 'pgshovel:@', 'pgq')";
        Self {
            relations: names(&format!("SELECT c.oid::regclass::text {IN} AND c.relkind IN ('r', 'v')")).await,
            sequences: names(&format!("SELECT c.oid::regclass::text {IN} AND c.relkind = 'S'")).await,
            functions: names("SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('pgshovel_@', 'pgshovel:@', 'pgq')").await,
            schemas: names("SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname IN ('pgshovel_@', 'pgshovel:@', 'pgq')").await,
            roles: names("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname ~ '(^pgq|^pg_read|^pg_exec|[_:]@$)'").await,
        }
    }

    fn statement(&self, random: &mut StdRng) -> String {
        let pick = |names: &[String], random: &mut StdRng| names.choose(random).unwrap().clone();
        let (relation, function, sequence) = (pick(&self.relations, random), pick(&self.functions, random), pick(&self.sequences, random));
        let (schema, role, other) = (pick(&self.schemas, random), pick(&self.roles, random), pick(&self.roles, random));
        let (name, parameters) = function.split_once('(').unwrap();
        let arguments: Vec<String> = parameters
            .trim_end_matches(')')
            .split(',')
            .filter(|kind| !kind.is_empty())
            .map(|kind| match kind {
                "text" => ["'s'", "'default'", "'app.a'", "'pgshovel:@:s'", "'SELECT 1'", "NULL"].choose(random).unwrap().to_string(),
                "bigint" | "integer" | "oid" => ["1", "0", "2", "'app.a'::regclass::oid::int"].choose(random).unwrap().to_string(),
                "boolean" => ["true", "false"].choose(random).unwrap().to_string(),
                "record" => "ROW(1, 2)".to_owned(),
                kind => format!("NULL::{kind}"),
            })
            .collect();
        match random.random_range(0..24) {
            0..5 => format!("SELECT {name}({})", arguments.join(", ")),
            5 => format!("ALTER FUNCTION {function} OWNER TO {role}"),
            6 => format!("ALTER FUNCTION {function} SECURITY INVOKER"),
            7 => format!("ALTER FUNCTION {function} SET search_path = app"),
            8 => format!("CREATE OR REPLACE FUNCTION {name}({parameters} RETURNS boolean LANGUAGE sql AS 'SELECT true'"),
            9 => format!("DROP FUNCTION {function} CASCADE"),
            10 => format!("GRANT ALL ON {relation} TO {role}"),
            11 => format!("GRANT EXECUTE ON FUNCTION {function} TO {role}"),
            12 => format!("GRANT {role} TO {other}"),
            13 => format!("ALTER ROLE {role} SUPERUSER"),
            14 => format!("DELETE FROM {relation}"),
            15 => format!(
                "UPDATE {relation} SET {} = NULL",
                ["ev_data", "version", "queue_data_pfx", "sub_last_tick", "epoch", "digest"].choose(random).unwrap()
            ),
            16 => format!("INSERT INTO {relation} DEFAULT VALUES"),
            17 => format!("TRUNCATE {relation}"),
            18 => format!(
                "ALTER TABLE {relation} {}",
                ["OWNER TO stranger", "ENABLE ROW LEVEL SECURITY", "ADD z int", "DISABLE TRIGGER ALL"].choose(random).unwrap()
            ),
            19 => format!(
                "{} ON {relation} {}",
                if random.random() { "CREATE TRIGGER t BEFORE INSERT" } else { "CREATE RULE r AS" },
                if random.random() { "EXECUTE FUNCTION suppress_redundant_updates_trigger()" } else { "INSERT TO x DO INSTEAD NOTHING" }
            ),
            20 => format!("LOCK TABLE {relation} IN {} MODE", ["ACCESS SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"].choose(random).unwrap()),
            21 => format!("SELECT setval('{sequence}', 1); SELECT nextval('{sequence}')"),
            22 => format!("ALTER SCHEMA {schema} RENAME TO stolen; DROP SCHEMA {schema} CASCADE; CREATE TABLE {schema}.mine (id int)"),
            _ => format!("SET ROLE {role}; ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON TABLES TO {other}"),
        }
    }
}

/// Whatever a role tries, what is captured afterwards is what is written, and nobody has more
/// rights than before.
#[tokio::test(flavor = "multi_thread")]
async fn no_role_breaks_the_capture_or_rises() {
    let setting = Setting::new().await;
    let (source, cluster) = (&setting.source, setting.world.cluster());
    let objects = Objects::of(source, &cluster).await;
    let roles_are = ROLES_ARE.replace('@', &cluster);
    let (may, roles) = (setting.may().await, source.value(&roles_are).await);
    let mut random = StdRng::seed_from_u64(SEED);
    let (mut taken, mut refused) = (0, 0);
    for role in ROLES {
        let dsn = source.dsn().replace("user=postgres", &format!("user={role}_{cluster}"));
        let session = pgshovel::postgres::connect::connect(&dsn, "test").await.unwrap();
        session.batch_execute("SET statement_timeout = '2s'; SET lock_timeout = '200ms'").await.unwrap();
        let mut tried = Vec::new();
        for _ in 0..STATEMENTS {
            let statement = objects.statement(&mut random).replace('@', &cluster);
            match session.batch_execute(&statement).await {
                Ok(()) => taken += 1,
                Err(error) => {
                    assert!(error.code().is_some(), "{statement}: {error:?}");
                    refused += 1;
                }
            }
            tried.push(statement);
            let _ = session.batch_execute("ROLLBACK; RESET ROLE").await;
        }
        drop(session);
        let tried = || format!("{role}:\n{}", tried.join(";\n"));
        let writes = "INSERT INTO app.a VALUES (1, 2); UPDATE app.a SET x = 3; DELETE FROM app.a; INSERT INTO app.part VALUES (1, 2); TRUNCATE app.part_1";
        let events = "SELECT string_agg(ev_type || coalesce(ev_data, '') || coalesce(ev_extra2, '') || ev_extra1, ' ' ORDER BY ev_id) FROM pgq.event_template WHERE ev_txid = txid_current()";
        source.execute(&format!("BEGIN; {writes}")).await;
        let captured = source.value(events).await;
        source.execute("COMMIT").await;
        assert_eq!(
            captured.as_deref(),
            Some(
                "I{\"id\":1,\"x\":2}app.a U{\"id\":1,\"x\":3}{\"id\":1,\"x\":2}app.a D{\"id\":1,\"x\":3}app.a I{\"id\":1,\"x\":2}app.part D{\"id\":1,\"x\":2}app.part"
            ),
            "{}",
            tried()
        );
        assert_eq!(source.value(&roles_are).await, roles, "{}", tried());
        let now = setting.may().await;
        let changed: Vec<&str> = now.lines().filter(|line| !may.lines().any(|other| other == *line)).collect();
        assert!(now == may, "{changed:#?} {}", tried());
    }
    assert!(taken > ROLES.len() && refused > 10 * taken / 2, "{taken} {refused}");
    println!("{taken} statements taken, {refused} refused");
    setting.end().await;
}
