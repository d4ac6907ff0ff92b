//! Clusters and sets: created, changed and dropped, refused, killed half-way.

mod absence;
mod actors;
mod backlog;
mod capture;
mod consistent;
mod crashes;
mod forgery;
mod leadership;
mod lifecycle;
mod load;
mod locks;
mod refusals;
mod rivals;
mod tap;
mod triggers;

use pgshovel::registry::access::Access;
use pgshovel::registry::{Cluster, Ensemble};
use tests::harness::{Database, World};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS a (id int PRIMARY KEY, x int, y text);
     CREATE TABLE IF NOT EXISTS b (id int PRIMARY KEY, x int, y text);
     CREATE TABLE IF NOT EXISTS c (id int PRIMARY KEY, x int, y text)";

/// Who administers, and the password: what only this user can have put in flight is ended
/// wherever it is, by anybody who is the same user. Of open clusters see `security::zookeeper`.
const USER: &str = "admin:secret";

/// ZooKeeper, as [`USER`].
fn ensemble(hosts: &str) -> Ensemble {
    Ensemble { access: Access::new(&format!("digest:{USER}"), "test", None).unwrap(), ..Ensemble::at(hosts) }
}

/// A client for what no command does.
async fn client(world: &World) -> zookeeper_client::Client {
    let connector = zookeeper_client::Client::connector().with_auth("digest", USER.as_bytes());
    connector.connect(&world.zookeeper().await).await.unwrap()
}

/// A database with tables `a`, `b` and `c`, and a cluster in ZooKeeper.
async fn setting() -> (World, Database) {
    let world = World::start().await;
    world.known_as(&format!("digest:{USER}"));
    world.zookeeper().await;
    let source = world.source("admin").await;
    source.execute(TABLES).await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    (world, source)
}

/// Text of a configuration: tables, each with the columns to capture.
fn configuration(dsn: &str, tables: &[(&str, &[&str])]) -> String {
    let mut text = format!("database {{ dsn: {dsn:?} }}\n");
    for (table, columns) in tables {
        let columns: String = columns.iter().map(|column| format!(" columns: {column:?}")).collect();
        text.push_str(&format!("tables {{ name: {table:?} primary_keys: \"id\"{columns} }}\n"));
    }
    text
}

async fn create(world: &World, name: &str, text: &str) {
    world.write("set.pgshovel", text);
    world.pgshovel(["set", "create", name, "set.pgshovel"]).succeeds().await;
}

async fn connect(world: &World) -> Cluster {
    ensemble(&world.zookeeper().await).connect(&world.cluster()).await.unwrap()
}

/// Everything that belongs to clusters in a database, as one text: what two
/// moments are compared by.
async fn traces(database: &Database) -> String {
    let sql = "SELECT coalesce(string_agg(trace, E'\\n' ORDER BY trace), '') FROM (
        SELECT 'schema ' || nspname AS trace FROM pg_namespace WHERE nspname LIKE 'pgshovel%'
        UNION ALL SELECT 'trigger ' || tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'function ' || proname || ' ' || md5(prosrc) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname LIKE 'pgshovel%'
        UNION ALL SELECT 'queue ' || queue_name FROM pgq.queue
        UNION ALL SELECT 'consumer ' || co_name FROM pgq.consumer
        UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts WHERE database = current_database()) t";
    database.value(sql).await.unwrap_or_default()
}

/// The table that events of `source` make of nothing, as `key:row` lines.
async fn replay(source: &Database, queue: &str, key: &str) -> std::collections::BTreeMap<String, serde_json::Value> {
    let prefix = source.value(&format!("SELECT queue_data_pfx FROM pgq.queue WHERE queue_name = '{queue}'")).await.unwrap();
    let sql = format!("SELECT ev_type, ev_data, ev_extra2 FROM {prefix} WHERE ev_extra1 = $1 ORDER BY ev_id");
    let mut rows = std::collections::BTreeMap::new();
    let parse = |text: Option<String>| text.map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
    for event in source.query(&sql, &[&key]).await {
        let (kind, new, old) = (event.get::<_, String>(0), parse(event.get(1)), parse(event.get(2)));
        if let Some(old) = &old {
            assert!(rows.remove(&old["id"].to_string()).is_some(), "{kind} of a row that is not there: {old}");
        }
        if kind == "T" {
            rows.clear();
        }
        if let Some(new) = new {
            assert!(rows.insert(new["id"].to_string(), new.clone()).is_none(), "{kind} of a row that is there: {new}");
        }
    }
    rows
}

/// A table as [`replay`] gives it.
async fn rows(source: &Database, table: &str) -> std::collections::BTreeMap<String, serde_json::Value> {
    let rows = source.query(&format!("SELECT row_to_json(t)::text FROM {table} t"), &[]).await;
    rows.iter().map(|row| serde_json::from_str::<serde_json::Value>(row.get(0)).unwrap()).map(|row| (row["id"].to_string(), row)).collect()
}
