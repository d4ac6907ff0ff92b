//! Any sequence of changes leaves the same rows, whether it is applied in sets or one
//! statement at a time.

use pgshovel_plugin_postgresql::pgshovel::plugin::types::{Change, Mutation, Row};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::harness::{Database, World};

use super::native::*;

const SEEDS: u64 = 6;
const BATCHES: usize = 6;
const OPERATIONS_MAX: usize = 300;
/// Few keys and few unique values: they are deleted, come back and change places.
const KEYS: i32 = 25;
const UNIQUE_VALUES: i32 = 30;

/// Two tables, and a copy of each that plain statements write.
const TABLES: &str = "\
CREATE TABLE a (k1 int, k2 text, u int UNIQUE, v text, PRIMARY KEY (k1, k2)); CREATE TABLE plain_a (LIKE a INCLUDING ALL); \
CREATE TABLE b (k1 int, k2 text, u int UNIQUE, v text, PRIMARY KEY (k2, k1)); CREATE TABLE plain_b (LIKE b INCLUDING ALL)";

struct Source<'a> {
    database: &'a Database,
    random: StdRng,
}

impl Source<'_> {
    /// One random statement on a plain table, and what its triggers would report; `None`
    /// if the source itself refused it.
    async fn step(&mut self, relation: u32) -> Option<Change> {
        let table = if relation == 1 { "plain_a" } else { "plain_b" };
        let [k1, k2, u, v] = self.row();
        match self.random.random_range(0..100) {
            0..40 => {
                let sql = format!("INSERT INTO {table} VALUES ({k1}, {k2}, {u}, {v}) RETURNING k1::text, k2, u::text, v");
                self.run(&sql).await.map(Change::Insert)
            }
            40..75 => {
                let before = self.any(table).await?;
                let set = if self.random.random_bool(0.15) { format!("k1 = {k1}, v = {v}") } else { format!("u = {u}, v = {v}") };
                let sql = format!("UPDATE {table} SET {set} WHERE {} RETURNING k1::text, k2, u::text, v", condition(&before));
                let after = self.run(&sql).await?;
                Some(update(before, after))
            }
            75..99 => {
                let before = self.any(table).await?;
                let sql = format!("DELETE FROM {table} WHERE {} RETURNING k1::text, k2, u::text, v", condition(&before));
                self.run(&sql).await.map(Change::Delete)
            }
            _ => {
                self.database.execute(&format!("TRUNCATE {table}")).await;
                Some(Change::Truncate)
            }
        }
    }

    fn row(&mut self) -> [String; 4] {
        let u = if self.random.random_bool(0.3) { "NULL".to_owned() } else { self.random.random_range(0..UNIQUE_VALUES).to_string() };
        let v = if self.random.random_bool(0.2) { "NULL".to_owned() } else { format!("'\\\t\"{{x,''{}'", self.random.random::<u32>()) };
        [self.random.random_range(0..KEYS).to_string(), format!("'{}'", ["", "é", "b c"][self.random.random_range(0..3)]), u, v]
    }

    async fn any(&mut self, table: &str) -> Option<Row> {
        let count = self.database.count(table).await;
        if count == 0 {
            return None;
        }
        let at = self.random.random_range(0..count);
        self.run(&format!("SELECT k1::text, k2, u::text, v FROM {table} ORDER BY k1, k2 OFFSET {at} LIMIT 1")).await
    }

    async fn run(&self, sql: &str) -> Option<Row> {
        let row = match self.database.client().query_one(sql, &[]).await {
            Ok(row) => row,
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION) => return None,
            Err(error) => panic!("{sql}: {error:?}"),
        };
        Some(texts([row.get(0), row.get(1), row.get(2), row.get(3)]))
    }
}

fn condition(row: &Row) -> String {
    use pgshovel_plugin_postgresql::pgshovel::plugin::types::Value;
    match row.as_slice() {
        [Value::Text(k1), Value::Text(k2), ..] => format!("k1 = {k1} AND k2 = '{k2}'"),
        other => panic!("no key in {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_of_rows_leave_what_single_statements_leave() {
    let world = World::without_servers();
    for seed in 0..SEEDS {
        let database = world.target("random").await;
        database.execute(TABLES).await;
        let mut session = open(&database).await;
        let mut source = Source { database: &database, random: StdRng::seed_from_u64(seed) };
        let columns = ["k1", "k2", "u", "v"];
        let a = relation("a", &columns, &[0, 1]);
        let b = pgshovel_plugin_postgresql::pgshovel::plugin::types::Relation { id: 2, ..relation("b", &columns, &[1, 0]) };
        let mut state = session.load_state().unwrap();
        let mut id = 0;
        for batch in 0..BATCHES {
            session.begin().unwrap();
            let mut applied = 0;
            for _ in 0..source.random.random_range(1..5) {
                let mut mutations = Vec::new();
                for _ in 0..source.random.random_range(0..OPERATIONS_MAX / 4) {
                    let relation = source.random.random_range(1..=2);
                    id += 1;
                    let change = source.step(relation).await;
                    mutations.extend(change.map(|change| Mutation { id, relation, change, transaction: 1, timestamp_us: 0, version: 0 }));
                }
                applied += mutations.len();
                let relations = [a.clone(), b.clone()];
                session.apply(&relations, mutations).unwrap_or_else(|error| panic!("seed {seed}, batch {batch}: {error:?}"));
            }
            let next = format!("{batch} {applied}").into_bytes();
            session.commit(state, next.clone()).unwrap_or_else(|error| panic!("seed {seed}, batch {batch}: {error:?}"));
            state = Some(next);
            for table in ["a", "b"] {
                let difference = format!(
                    "SELECT count(*) FROM (TABLE {table} EXCEPT ALL TABLE plain_{table} UNION ALL (TABLE plain_{table} EXCEPT ALL TABLE {table})) d"
                );
                assert_eq!(database.value(&difference).await.as_deref(), Some("0"), "seed {seed}, batch {batch}, table {table}");
            }
        }
    }
}
