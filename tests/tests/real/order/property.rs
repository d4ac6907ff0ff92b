//! Random transactions, relayed and replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use futures_util::future::join_all;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tests::harness::{Database, World};
use tokio_postgres::SimpleQueryMessage;

use super::replay::{self, Failure, Replayed, Rows, Tables};
use super::schema::{self, Family, Trick};
use super::session::{self, Outcome};
use super::shrink::Case;
use super::statement::{Feature, Mode, Transaction};

const TRANSACTIONS: u64 = 5000;
/// Transactions of one database.
const ROUND: u64 = 2500;
const FAMILIES: usize = 12;
/// Databases that are written to at once.
const ROUNDS_AT_ONCE: usize = 2;
/// Failures that are shrunk.
const SHRUNK_MAX: usize = 8;
/// How often each feature, trick and action is seen at least, in [`TRANSACTIONS`].
const SEEN_MIN: u64 = 10;

/// Transactions that were committed and wrote, or tried to.
#[derive(Debug, Default)]
struct Coverage {
    transactions: u64,
    alone: u64,
    repeatable_read: u64,
    /// Beside other sessions.
    concurrent: u64,
    refused: u64,
    /// Statements: tried, taken, and committed.
    features: BTreeMap<Feature, [u64; 3]>,
    tricks: BTreeMap<String, u64>,
    /// Deletes and updates of rows that foreign keys refer to, by action; with what they caused.
    actions: BTreeMap<String, u64>,
}

impl Coverage {
    fn add(&mut self, other: &Self) {
        self.transactions += other.transactions;
        self.alone += other.alone;
        self.repeatable_read += other.repeatable_read;
        self.concurrent += other.concurrent;
        self.refused += other.refused;
        for (feature, counts) in &other.features {
            let sum = self.features.entry(*feature).or_default();
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        for (from, to) in [(&other.tricks, &mut self.tricks), (&other.actions, &mut self.actions)] {
            for (name, count) in from {
                *to.entry(name.clone()).or_default() += count;
            }
        }
    }

    fn ran(&mut self, transaction: &Transaction, outcome: &Outcome, concurrent: bool) {
        for (index, statement) in transaction.statements.iter().enumerate() {
            let Some(taken) = outcome.taken.get(index) else { continue };
            let [tried, accepted, committed] = self.features.entry(statement.feature).or_default();
            *tried += 1;
            *accepted += u64::from(*taken);
            *committed += u64::from(*taken && outcome.committed);
        }
        if outcome.xid.is_none() {
            self.refused += 1;
            return;
        }
        self.transactions += 1;
        self.alone += u64::from(transaction.mode == Mode::Alone);
        self.repeatable_read += u64::from(transaction.repeatable_read);
        self.concurrent += u64::from(concurrent);
    }

    fn replayed(&mut self, family: &Family, replayed: &Replayed) {
        for kinds in replayed.kinds.values() {
            let has = |table: &str, kind: char| kinds.iter().any(|(of, found)| of == table && *found == kind);
            for reference in &family.references {
                for (verb, action, cause) in [("DELETE", reference.on_delete, 'D'), ("UPDATE", reference.on_update, 'U')] {
                    let effect = match (action, verb) {
                        ("CASCADE", "DELETE") => has(&reference.from, 'D'),
                        ("NO ACTION" | "RESTRICT", _) => true,
                        _ => has(&reference.from, 'U'),
                    };
                    if has(&reference.to, cause) && effect {
                        *self.actions.entry(format!("ON {verb} {action}")).or_default() += 1;
                    }
                }
            }
        }
    }

    /// What was seen less often than it should be.
    fn missing(&self) -> Vec<String> {
        let features = Feature::ALL
            .iter()
            .map(|feature| (format!("{feature:?}"), self.features.get(feature).map_or(0, |[_, _, committed]| *committed)));
        let tricks = Trick::ALL.iter().map(|trick| (trick.sequence(), self.tricks.get(&trick.sequence()).copied().unwrap_or(0)));
        let actions = ["NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"];
        let actions = actions.iter().flat_map(|action| ["DELETE", "UPDATE"].map(|verb| format!("ON {verb} {action}")));
        let actions = actions.map(|name| (name.clone(), self.actions.get(&name).copied().unwrap_or(0)));
        let modes = [("alone", self.alone), ("repeatable read", self.repeatable_read), ("concurrent", self.concurrent)];
        let modes = modes.map(|(name, count)| (name.to_owned(), count));
        features
            .chain(tricks)
            .chain(actions)
            .chain(modes)
            .filter(|(_, count)| *count < SEEN_MIN)
            .map(|(name, count)| format!("{name}: {count}"))
            .collect()
    }

    /// Of all statements, those that PostgreSQL took, in percent.
    fn taken(&self) -> u64 {
        let (tried, taken) = self.features.values().fold((0, 0), |sum, [tried, taken, _]| (sum.0 + tried, sum.1 + taken));
        100 * taken / tried.max(1)
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} transactions, {} of one statement, {} REPEATABLE READ, {} beside other sessions; {} more were refused, rolled back or empty",
            self.transactions, self.alone, self.repeatable_read, self.concurrent, self.refused
        )?;
        writeln!(f, "statements: tried, taken, committed:")?;
        for (feature, [tried, taken, committed]) in &self.features {
            writeln!(f, "  {:28} {tried:6} {taken:6} {committed:6}", format!("{feature:?}"))?;
        }
        writeln!(f, "writes of triggers and functions, and foreign keys with their actions:")?;
        for (name, count) in self.tricks.iter().chain(&self.actions) {
            writeln!(f, "  {name:28} {count:6}")?;
        }
        Ok(())
    }
}

/// One database, with its set, relay and stream.
struct Round<'a> {
    world: &'a World,
    source: Database,
    seed: u64,
    transactions: u64,
    set: String,
}

/// What a round has to say.
struct Report {
    coverage: Coverage,
    events: u64,
    failures: Vec<String>,
}

impl Round<'_> {
    async fn run(self) -> Report {
        let families: Vec<Family> = (0..FAMILIES).map(|number| Family::random(&mut self.random(number, 0), number)).collect();
        self.source.execute(&format!("{}; CREATE TABLE fence (id int PRIMARY KEY)", schema::cover())).await;
        let mut tables = "tables { name: \"fence\" primary_keys: \"id\" }\n".to_owned();
        for family in &families {
            for part in &family.parts {
                self.source.execute(&part.create).await;
            }
            for table in &family.tables {
                let g = if table.composite { "primary_keys: \"g\"" } else { "" };
                for (name, _) in table.captured() {
                    let (schema, name) = name.split_once('.').unwrap();
                    writeln!(tables, "tables {{ name: {name:?} schema: {schema:?} primary_keys: \"id\" {g} }}").unwrap();
                }
            }
        }
        let (set, file) = (&self.set, format!("{}.pgshovel", self.set));
        self.world.write(&file, &format!("database {{ dsn: {:?} }}\n{tables}", self.source.dsn()));
        self.world.pgshovel(["set", "create", set, &file]).succeeds().await;
        std::fs::create_dir_all(self.world.folder().join(set)).unwrap();
        let stream = format!("stream: {{ path: file.wasm, grants: {{ files: {{ path: ./{set}, mode: read-write }} }} }}\n");
        let configuration = format!("{set}.yaml");
        self.world.write(&configuration, &stream);
        let relay = self.world.pgshovel(["relay", &configuration, set]).start().await;
        let mut coverage = Coverage::default();
        let mut histories = Vec::new();
        for (number, family) in families.iter().enumerate() {
            histories.push(self.write(number, family, &mut coverage).await);
        }
        self.source.execute("INSERT INTO fence VALUES (1)").await;
        let replayed = replay::replay(self.world, set).await;
        assert_eq!(relay.terminate().await.code, Some(0));
        for trick in Trick::ALL {
            let sequence = trick.sequence();
            let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
            coverage.tricks.insert(sequence, self.source.value(&sql).await.unwrap().parse().unwrap());
        }
        let mut failures = Vec::new();
        for (family, history) in families.iter().zip(&histories) {
            coverage.replayed(family, &replayed);
            if let Some(failure) = self.judge(family, history, &replayed, failures.len() < SHRUNK_MAX).await {
                failures.push(failure);
            }
        }
        Report { coverage, events: replayed.events, failures }
    }

    fn random(&self, family: usize, session: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(family as u64 * 16 + session))
    }

    /// Runs the family's transactions; returns those that were committed.
    async fn write(&self, number: usize, family: &Family, coverage: &mut Coverage) -> Vec<(Transaction, Outcome)> {
        // Nothing was there before the stream began: now the stream says so.
        let tables: Vec<String> = family.tables.iter().flat_map(|table| table.captured().into_iter().map(|(name, _)| name)).collect();
        self.source
            .execute(&format!("SET session_replication_role = replica; TRUNCATE {}; RESET session_replication_role", tables.join(", ")))
            .await;
        let sessions = match number % 4 {
            2 => 2,
            3 => 3,
            _ => 1,
        };
        let quota = self.transactions / FAMILIES as u64 / sessions + 1;
        let sessions = (1..=sessions).map(|session| async move {
            let mut client = session::connect(&self.source).await;
            let mut random = self.random(number, session);
            let (mut ran, mut committed) = (Vec::new(), 0);
            while committed < quota && (ran.len() as u64) < 10 * quota {
                let transaction = Transaction::random(&mut random, family);
                let Ok(outcome) = session::run(&client, &transaction).await else {
                    client = session::connect(&self.source).await;
                    continue;
                };
                committed += u64::from(outcome.xid.is_some());
                ran.push((transaction, outcome));
            }
            ran
        });
        let ran = join_all(sessions).await;
        let concurrent = ran.len() > 1;
        let ran: Vec<(Transaction, Outcome)> = ran.into_iter().flatten().collect();
        for (transaction, outcome) in &ran {
            coverage.ran(transaction, outcome, concurrent);
        }
        ran.into_iter().filter(|(_, outcome)| outcome.xid.is_some()).collect()
    }

    /// What is wrong with a family's part of the stream.
    async fn judge(&self, family: &Family, history: &[(Transaction, Outcome)], replayed: &Replayed, shrink: bool) -> Option<String> {
        let empty = Tables::new();
        let failed = replayed.failures.get(&family.name);
        let (problem, before, transactions) = match failed {
            Some(Failure { transaction, problem, before, .. }) => {
                let of = history.iter().filter(|(_, outcome)| outcome.xid == Some(*transaction)).collect::<Vec<_>>();
                (problem.clone(), before, of)
            }
            None => {
                let left = replayed.schemas.get(&family.name).unwrap_or(&empty);
                (self.difference(family, left).await?, &empty, history.iter().collect())
            }
        };
        let mut text = format!(
            "seed {}, {}: {problem}\nagain: PGSHOVEL_TEST_ORDER_SEED={} PGSHOVEL_TEST_ORDER_TRANSACTIONS={} cargo test --locked -p pgshovel-tests --test real order::property\n",
            self.seed, family.name, self.seed, self.transactions
        );
        if let Some(failure) = failed {
            writeln!(text, "its transaction's events: {:#?}", failure.events).unwrap();
        }
        if shrink {
            let mode = if transactions.iter().all(|(transaction, _)| transaction.mode != Mode::Savepoints) {
                Mode::Plain
            } else {
                Mode::Savepoints
            };
            let taken = transactions.iter().flat_map(|(transaction, outcome)| {
                transaction.statements.iter().zip(&outcome.taken).filter(|(_, taken)| **taken).map(|(statement, _)| statement.clone())
            });
            let case = Case::new(family, before, taken.collect(), mode);
            let queue = format!("pgshovel:{}:{}", self.world.cluster(), self.set);
            if let Some((case, problem)) = case.shrink(&self.source, family, &queue).await {
                writeln!(text, "the least that goes wrong so:\n{}\n{problem}", case.text(family)).unwrap();
                return Some(text);
            }
        }
        text.push_str("its transactions:\n");
        transactions.iter().rev().take(20).rev().for_each(|(transaction, _)| text.push_str(&transaction.text()));
        Some(text)
    }

    /// Between the source's rows and those that the stream leaves.
    async fn difference(&self, family: &Family, left: &Tables) -> Option<String> {
        let captured = family.tables.iter().flat_map(|table| table.captured().into_iter().map(move |captured| (table, captured)));
        for (table, (path, only)) in captured {
            let (_, name) = path.split_once('.').unwrap();
            let empty = Default::default();
            let replayed = left.get(name).unwrap_or(&empty);
            let messages = self.source.client().simple_query(&format!("SELECT * FROM {only}{path}")).await.unwrap();
            let mut rows = Rows::new();
            for message in messages {
                let SimpleQueryMessage::Row(row) = message else { continue };
                let text = |column: &str| row.get(column).map(str::to_owned);
                let columns = if replayed.columns.is_empty() { vec!["id".to_owned()] } else { replayed.columns.clone() };
                let key = if table.composite { vec![text("g"), text("id")] } else { vec![text("id")] };
                rows.insert(key, columns.iter().map(|column| text(column)).collect());
            }
            if rows != replayed.rows {
                let key = rows.keys().chain(replayed.rows.keys()).collect::<BTreeSet<_>>();
                let key = key.into_iter().find(|key| rows.get(*key) != replayed.rows.get(*key)).unwrap();
                return Some(format!(
                    "{path}: the row {key:?} is {:?}, and the stream leaves {:?} ({:?})",
                    rows.get(key),
                    replayed.rows.get(key),
                    replayed.columns
                ));
            }
        }
        None
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: no number")))
}

/// `PGSHOVEL_TEST_ORDER_TRANSACTIONS` says how many, `PGSHOVEL_TEST_ORDER_SEED` which.
#[tokio::test(flavor = "multi_thread")]
async fn any_transactions_replay_as_they_happened() {
    let transactions = number("PGSHOVEL_TEST_ORDER_TRANSACTIONS").unwrap_or(TRANSACTIONS);
    let seed = number("PGSHOVEL_TEST_ORDER_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("PGSHOVEL_TEST_ORDER_SEED={seed} PGSHOVEL_TEST_ORDER_TRANSACTIONS={transactions}");
    let world = World::start().await;
    world.zookeeper().await;
    world.pgshovel(["cluster", "initialize"]).succeeds().await;
    let (mut coverage, mut failures, mut events) = (Coverage::default(), Vec::new(), 0);
    let rounds: Vec<u64> = (0..transactions.div_ceil(ROUND)).collect();
    for some in rounds.chunks(ROUNDS_AT_ONCE) {
        let reports = some.iter().map(|round| {
            let world = &world;
            async move {
                let source = world.source("order").await;
                let transactions = ROUND.min(transactions - round * ROUND);
                Round { world, source, seed: seed.wrapping_add(*round), transactions, set: format!("order{round}") }.run().await
            }
        });
        for report in join_all(reports).await {
            coverage.add(&report.coverage);
            events += report.events;
            failures.extend(report.failures);
        }
    }
    println!("{events} events of {coverage}{}% of the statements were taken", coverage.taken());
    assert!(failures.is_empty(), "{} of {} families went wrong:\n\n{}", failures.len(), rounds.len() * FAMILIES, failures.join("\n\n"));
    if transactions >= TRANSACTIONS {
        assert!(coverage.transactions >= TRANSACTIONS && coverage.taken() >= 60, "{coverage}");
        assert_eq!(coverage.missing(), [""; 0], "{coverage}");
    }
}
