//! Sessions that write to the source until they are told to stop, or it goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::harness::Database;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

pub struct Writers {
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
    sessions: Vec<JoinHandle<()>>,
}

impl Writers {
    pub async fn start(source: &Database, sessions: u64) -> Self {
        let (stop, transactions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for seed in 0..sessions {
            let (client, stop, transactions) = (source.connect().await, Arc::clone(&stop), Arc::clone(&transactions));
            tasks.push(tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(seed);
                while !stop.load(Ordering::Relaxed) && !client.is_closed() {
                    transaction(&client, &mut random).await;
                    transactions.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Self { stop, transactions, sessions: tasks }
    }

    /// Transactions that ended so far.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for session in self.sessions {
            session.await.unwrap();
        }
    }
}

/// A few changes of any kind, one in ten rolled back.
async fn transaction(client: &Client, random: &mut StdRng) {
    let mut sql = String::from("BEGIN;");
    for _ in 0..random.random_range(1..6) {
        let (id, other) = (random.random_range(1..5000), random.random_range(5000..9000));
        sql += &match random.random_range(0..8) {
            0 => format!("INSERT INTO accounts VALUES ({id}, 'new', 0.10, true) ON CONFLICT (id) DO UPDATE SET name = 'again';"),
            1 => format!("UPDATE accounts SET balance = balance + 1.01 WHERE id BETWEEN {id} AND {id} + 20;"),
            2 => format!("DELETE FROM accounts WHERE id = {id};"),
            3 => format!("UPDATE accounts SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM accounts WHERE id = {other});"),
            4 => format!("INSERT INTO \"Line items\" VALUES ({id}, {other}, NULL, 'NaN', now()) ON CONFLICT DO NOTHING;"),
            5 => format!("UPDATE \"Line items\" SET \"what it was\" = E'tab\\t\\'quote' WHERE account = {id};"),
            6 => format!("DELETE FROM \"Line items\" WHERE account = {id};"),
            _ => format!("UPDATE accounts SET name = NULL, active = NOT active WHERE id = {id};"),
        };
    }
    sql += if random.random_range(0..10) == 0 { "ROLLBACK" } else { "COMMIT" };
    if client.batch_execute(&sql).await.is_err() {
        // Two sessions met, in a deadlock or a key that both inserted, or the source went away.
        let _ = client.batch_execute("ROLLBACK").await;
    }
}
