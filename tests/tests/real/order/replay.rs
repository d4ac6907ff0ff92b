//! A stream, replayed strictly: into rows, and by the checker that keeps digests only.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use pgshovel::config;
use pgshovel::plugins::{Context, Engine, Options, stream};
use pgshovel::ports::Stream as _;
use proto::batch::step::{self, Action, Reader};
use proto::codec;
use proto::row::{Change, Mutation, Relation, Row, Value};
use proto::strict;
use tests::harness::World;
use tests::paths;

/// Far longer than a relay takes to publish what was committed.
const SOON: Duration = Duration::from_secs(120);

/// The rows of a table by the texts of their keys.
pub type Rows = BTreeMap<Vec<Text>, Vec<Text>>;
/// A value as PostgreSQL prints it.
pub type Text = Option<String>;
/// The tables of a schema, by name.
pub type Tables = BTreeMap<String, Table>;

#[derive(Clone, Debug, Default)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Rows,
}

/// An event that does not fit, the first of its schema.
#[derive(Debug)]
pub struct Failure {
    pub transaction: u64,
    pub problem: String,
    /// The tables of the schema before the transaction's first event.
    pub before: Tables,
    /// The transaction's events, up to this one.
    pub events: Vec<String>,
}

/// What a stream left.
#[derive(Debug, Default)]
pub struct Replayed {
    /// By schema.
    pub schemas: BTreeMap<String, Tables>,
    pub failures: BTreeMap<String, Failure>,
    /// Per transaction, which tables had which kind of event.
    pub kinds: HashMap<u64, Vec<(String, char)>>,
    pub events: u64,
    current: HashMap<String, Current>,
}

/// The transaction that a schema's last event was of.
#[derive(Debug)]
struct Current {
    transaction: u64,
    before: Tables,
    events: Vec<String>,
}

impl Replayed {
    /// What does not fit changes nothing, as for the checker.
    fn apply(&mut self, mutation: &Mutation) -> bool {
        self.events += 1;
        let relation = &mutation.relation;
        let tables = self.schemas.entry(relation.schema.clone()).or_default();
        let current = self.current.entry(relation.schema.clone()).or_insert_with(|| Current {
            transaction: mutation.transaction,
            before: tables.clone(),
            events: Vec::new(),
        });
        if current.transaction != mutation.transaction {
            *current = Current { transaction: mutation.transaction, before: tables.clone(), events: Vec::new() };
        }
        let (kind, shown) = show(mutation);
        current.events.push(shown);
        self.kinds.entry(mutation.transaction).or_default().push((format!("{}.{}", relation.schema, relation.table), kind));
        let table = tables.entry(relation.table.clone()).or_default();
        table.columns = relation.columns.iter().map(|column| column.name.clone()).collect();
        table.columns.sort();
        let Err(problem) = change(&mut table.rows, relation, &mutation.change) else { return true };
        if !self.failures.contains_key(&relation.schema) {
            let failure = Failure {
                transaction: mutation.transaction,
                problem: format!("event {}: {problem}", mutation.id),
                before: current.before.clone(),
                events: current.events.clone(),
            };
            self.failures.insert(relation.schema.clone(), failure);
        }
        false
    }
}

fn change(rows: &mut Rows, relation: &Relation, change: &Change) -> Result<(), String> {
    let take = |rows: &mut Rows, old: &Row| {
        let (key, old) = (key(relation, old), texts(relation, old));
        match rows.get(&key) {
            None => Err(format!("the row {key:?} is not there")),
            Some(found) if *found != old => Err(format!("the row is {found:?}, and its old values {old:?}")),
            Some(_) => Ok(rows.remove(&key)),
        }
    };
    let put = |rows: &mut Rows, new: &Row| {
        let key = key(relation, new);
        if rows.contains_key(&key) {
            return Err(format!("the key {key:?} is taken"));
        }
        rows.insert(key, texts(relation, new));
        Ok(())
    };
    match change {
        Change::Insert(new) => put(rows, new),
        Change::Delete(old) => take(rows, old).map(drop),
        Change::Update { before, after } => {
            take(rows, before)?;
            put(rows, after).inspect_err(|_| drop(rows.insert(key(relation, before), texts(relation, before))))
        }
        Change::Truncate => {
            rows.clear();
            Ok(())
        }
    }
}

fn key(relation: &Relation, row: &Row) -> Vec<Text> {
    let mut identity = relation.identity.clone();
    identity.sort_by_key(|index| &relation.columns[*index as usize].name);
    identity.iter().map(|index| text(&row[*index as usize])).collect()
}

/// In the order of the columns' names: a partition may have them in another one.
fn texts(relation: &Relation, row: &Row) -> Vec<Text> {
    let mut values: Vec<(&str, Text)> = relation.columns.iter().map(|column| column.name.as_str()).zip(row.iter().map(text)).collect();
    values.sort();
    values.into_iter().map(|(_, value)| value).collect()
}

fn text(value: &Value) -> Text {
    match value {
        Value::Null => None,
        Value::Boolean(boolean) => Some(if *boolean { "t" } else { "f" }.to_owned()),
        Value::Integer(integer) => Some(integer.to_string()),
        Value::Text(text) => Some(text.clone()),
        other => panic!("no table here has such a type: {other:?}"),
    }
}

/// The kind and the whole event, in brief.
fn show(mutation: &Mutation) -> (char, String) {
    let table = &mutation.relation.table;
    let row = |row: &Row| {
        let named = mutation.relation.columns.iter().zip(row.iter().map(text));
        named.map(|(column, value)| format!("{}={}", column.name, value.as_deref().unwrap_or("-"))).collect::<Vec<_>>().join(" ")
    };
    match &mutation.change {
        Change::Insert(new) => ('I', format!("I {table} ({})", row(new))),
        Change::Update { before, after } => ('U', format!("U {table} ({}) to ({})", row(before), row(after))),
        Change::Delete(old) => ('D', format!("D {table} ({})", row(old))),
        Change::Truncate => ('T', format!("T {table}")),
    }
}

/// Reads the stream of `section` from its start, as `stream lint --strict` does, until a
/// row comes into the table `fence`.
pub async fn replay(world: &World, set: &str) -> Replayed {
    let engine = Engine::new(Options { search: vec![paths::plugins().unwrap()], cache: None }).unwrap();
    let section = config::relay(&world.folder().join(format!("{set}.yaml"))).unwrap().stream;
    let context = Context { cluster: world.cluster(), set: set.to_owned() };
    let mut stream = stream::open(&engine, &section, &context).await.unwrap();
    stream.seek(None).await.unwrap();
    let mut reader = Reader::new(step::Options { owner: Some((world.cluster(), set.to_owned())), ..step::Options::default() });
    let (mut checker, mut replayed, mut open) = (strict::Checker::new(strict::KEYS_MAX), Replayed::default(), Vec::new());
    let (started, mut over) = (Instant::now(), false);
    while !over {
        assert!(started.elapsed() < SOON, "the fence has not come in {} s", SOON.as_secs());
        let entries = stream.next(4096, Duration::from_millis(200)).await.unwrap();
        for entry in entries.iter() {
            let message = codec::decode(entry.message).unwrap();
            let action = reader.step(message).unwrap_or_else(|violation| panic!("{violation}"));
            let fits = checker.step(&action);
            match action {
                Action::Apply(mutation) => open.push((mutation, fits)),
                Action::Begin { .. } | Action::Rollback => open.clear(),
                Action::Commit => {
                    for (mutation, fits) in open.drain(..) {
                        let fitted = replayed.apply(&mutation);
                        assert_eq!(
                            fitted,
                            fits.is_ok(),
                            "rows and digests do not agree on event {} of transaction {}: {fits:?}, {:?}: {:?}",
                            mutation.id,
                            mutation.transaction,
                            show(&mutation),
                            replayed.failures.get(&mutation.relation.schema)
                        );
                        over |= mutation.relation.table == "fence";
                    }
                }
                Action::Skip(_) => {}
            }
        }
    }
    let counts = checker.counts();
    // Of the fence it did not know that there was no row.
    assert_eq!((counts.unchecked, counts.forgotten), (1, 0), "{counts:?}");
    replayed
}
