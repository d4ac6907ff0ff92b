//! What every administration leaves behind, however it went.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgshovel::registry::StoredSet;
use tests::harness::eventually;

use super::*;

const SOON: Duration = Duration::from_secs(60);

/// Nothing is in flight, prepared or locked, and ZooKeeper says of every database
/// what the database says. Returns the sets.
pub async fn consistent(world: &World, databases: &[&Database]) -> Vec<StoredSet> {
    let cluster = connect(world).await;
    assert_eq!(cluster.in_flight().await.unwrap(), [], "in flight");
    let mut sets = Vec::new();
    for name in cluster.set_names().await.unwrap() {
        sets.push(cluster.set(&name).await.unwrap());
    }
    for database in databases {
        let here: Vec<&StoredSet> = sets.iter().filter(|set| is_in(set, database)).collect();
        agrees(world, database, &here).await;
        unlocked(database).await;
    }
    assert!(sets.iter().all(|set| databases.iter().any(|database| is_in(set, database))), "{sets:?}");
    sets
}

/// By whatever way it is connected to.
fn is_in(set: &StoredSet, database: &Database) -> bool {
    set.configuration.database.dsn.contains(database.name())
}

async fn agrees(world: &World, database: &Database, here: &[&StoredSet]) {
    let (cluster, text) = (world.cluster(), traces(database).await);
    assert!(!text.contains("prepared"), "{text}");
    assert_eq!(text.contains(&format!("schema pgshovel_{cluster}")), !here.is_empty(), "{text}");
    let queues: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("queue ")).collect();
    let expected: Vec<String> = here.iter().map(|set| format!("pgshovel:{cluster}:{}", set.name)).collect();
    assert_eq!(queues, expected.iter().map(String::as_str).collect(), "{text}");
    if here.is_empty() {
        assert!(!text.contains("trigger "), "{text}");
        return;
    }
    let rows = database.query(&format!("SELECT name, version FROM pgshovel_{cluster}.sets"), &[]).await;
    let mut recorded: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for set in here {
        // The same configuration of other columns has a number behind its version.
        let version = recorded.remove(&set.name).unwrap_or_else(|| panic!("{} is not in the database", set.name));
        assert_eq!(version.split('.').next(), Some(set.version.as_str()), "{}", set.name);
        let sql = "SELECT DISTINCT c.relname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                   WHERE t.tgname LIKE 'pgshovel:' || $1 || ':' || $2 || ':_' AND t.tgparentid = 0";
        let captured: BTreeSet<String> = database.query(sql, &[&cluster, &set.name]).await.iter().map(|row| row.get(0)).collect();
        assert_eq!(captured, set.configuration.tables.iter().map(|table| table.name.clone()).collect(), "{}", set.name);
    }
    assert!(recorded.is_empty(), "the database knows more sets: {recorded:?}");
}

/// A session that was killed may take a moment to end.
async fn unlocked(database: &Database) {
    let sql = "SELECT string_agg(l.locktype || ' ' || l.mode || ' ' || coalesce(l.relation::regclass::text, ''), ', ')
               FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
               WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (l.pid IS NULL OR a.application_name = 'pgshovel admin') AND (l.relation >= 16384 OR l.locktype = 'advisory')";
    eventually("no lock of a command", SOON, || async { database.value(sql).await.map_or(Ok(()), Err) }).await;
}
