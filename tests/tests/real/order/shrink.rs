//! Fewer statements, rows, triggers and foreign keys that still go wrong.
//!
//! Each attempt is one transaction of the source that is rolled back: it takes away a part
//! of the schema, writes the rows that were there, runs the statements, and replays
//! the events that it finds in the queue's table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::harness::Database;
use tokio_postgres::Client;

use super::replay::Tables;
use super::schema::{Family, Kind};
use super::session::{self, Lost};
use super::statement::{Mode, Statement};

#[derive(Clone, Debug)]
pub struct Case {
    /// Indexes of the parts of the schema that are not there.
    dropped: BTreeSet<usize>,
    /// SQL that inserts one row each.
    rows: Vec<String>,
    statements: Vec<Statement>,
    savepoints: bool,
}

impl Case {
    pub fn new(family: &Family, before: &Tables, statements: Vec<Statement>, mode: Mode) -> Self {
        let rows = before.iter().flat_map(|(name, table)| {
            table.rows.values().map(move |row| {
                let values: Vec<String> =
                    row.iter().map(|value| value.as_ref().map_or("NULL".to_owned(), |value| format!("'{value}'"))).collect();
                format!("INSERT INTO {}.{name} ({}) VALUES ({})", family.name, table.columns.join(", "), values.join(", "))
            })
        });
        Self { dropped: BTreeSet::new(), rows: rows.collect(), statements, savepoints: mode == Mode::Savepoints }
    }

    /// Takes away what is not needed for `problem` of [`attempt`] to come up.
    pub async fn shrink(mut self, source: &Database, family: &Family, queue: &str) -> Option<(Self, String)> {
        let mut client = session::connect(source).await;
        let mut problem = attempt(&client, family, queue, &self).await.ok()??;
        'again: loop {
            for candidate in self.smaller(family) {
                match attempt(&client, family, queue, &candidate).await {
                    Ok(None) => {}
                    Ok(Some(found)) => {
                        (self, problem) = (candidate, found);
                        continue 'again;
                    }
                    Err(Lost) => client = session::connect(source).await,
                }
            }
            return Some((self, problem));
        }
    }

    /// The same with less of one thing, the least first.
    fn smaller(&self, family: &Family) -> Vec<Self> {
        let mut smaller = Vec::new();
        for range in ranges(self.statements.len()) {
            let mut fewer = self.clone();
            fewer.statements.drain(range);
            smaller.push(fewer);
        }
        for range in ranges(self.rows.len()) {
            let mut fewer = self.clone();
            fewer.rows.drain(range);
            smaller.push(fewer);
        }
        for (index, _) in family.parts.iter().enumerate().filter(|(index, part)| part.drop.is_some() && !self.dropped.contains(index)) {
            let mut fewer = self.clone();
            fewer.dropped.insert(index);
            smaller.push(fewer);
        }
        if self.savepoints {
            smaller.push(Self { savepoints: false, ..self.clone() });
        }
        smaller
    }

    /// As SQL that a person can run.
    pub fn text(&self, family: &Family) -> String {
        let kept = |index: &usize| !self.dropped.contains(index);
        let statements = self.statements.iter().map(|statement| match &statement.copied {
            None => format!("{};\n", statement.sql),
            Some(rows) => format!("{};\n{rows}\\.\n", statement.sql),
        });
        let changes =
            format!("{}{}", self.rows.iter().map(|row| format!("{row};\n")).collect::<String>(), statements.clone().collect::<String>());
        // What nothing else names is left out, the last first.
        let mut needed: Vec<&str> = Vec::new();
        let mut text = changes;
        for (_, part) in family.parts.iter().enumerate().filter(|(index, _)| kept(index)).collect::<Vec<_>>().into_iter().rev() {
            if part.name.is_empty() || text.contains(&part.name) {
                text.push_str(&part.create);
                needed.push(&part.create);
            }
        }
        let schema: String = needed.iter().rev().map(|create| format!("{create};\n")).collect();
        let rows: String = self.rows.iter().map(|row| format!("{row};\n")).collect();
        let savepoints = if self.savepoints { " -- each statement in a savepoint" } else { "" };
        format!(
            "{schema}-- captured from here on, these without triggers and foreign keys\n{rows}BEGIN;{savepoints}\n{}COMMIT;\n",
            statements.collect::<String>()
        )
    }
}

/// What to leave out of `count` things: halves, then quarters, and at last each.
fn ranges(count: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut size = count.div_ceil(2);
    while size > 0 {
        ranges.extend((0..count).step_by(size).rev().map(|start| start..(start + size).min(count)));
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    ranges
}

/// What is wrong with the events; `None`: nothing.
async fn attempt(client: &Client, family: &Family, queue: &str, case: &Case) -> Result<Option<String>, Lost> {
    client.batch_execute("BEGIN").await.unwrap();
    let problem = run(client, family, queue, case).await?;
    client.batch_execute("ROLLBACK").await.map_err(|_| Lost)?;
    Ok(problem)
}

async fn run(client: &Client, family: &Family, queue: &str, case: &Case) -> Result<Option<String>, Lost> {
    let drops = case.dropped.iter().filter_map(|index| family.parts[*index].drop.as_deref());
    let mut prepare: String = drops.map(|drop| format!("{drop};")).collect();
    let tables: Vec<&str> = family.tables.iter().map(|table| table.name.as_str()).collect();
    let parents = family.tables.iter().filter(|table| table.kind == Kind::Child).map(|table| format!(", {}_up", table.name));
    prepare.push_str(&format!(
        "SET LOCAL session_replication_role = replica; TRUNCATE {}{}; {} SET LOCAL session_replication_role = origin",
        tables.join(", "),
        parents.collect::<String>(),
        case.rows.iter().map(|row| format!("{row};")).collect::<String>()
    ));
    let prefix = client.query_one("SELECT queue_data_pfx FROM pgq.queue WHERE queue_name = $1", &[&queue]).await.unwrap();
    let prefix: String = prefix.get(0);
    let mark: i64 = client.query_one(&format!("SELECT coalesce(max(ev_id), 0) FROM {prefix}"), &[]).await.unwrap().get(0);
    client.batch_execute(&prepare).await.unwrap_or_else(|error| panic!("{prepare}: {error:?}"));
    for statement in &case.statements {
        if !session::take(client, statement, case.savepoints).await? && !case.savepoints {
            return Ok(None);
        }
    }
    if client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.is_err() {
        return Ok(None);
    }
    let events = format!("SELECT ev_id, ev_type, ev_data, ev_extra1, ev_extra2 FROM {prefix} WHERE ev_id > $1 ORDER BY ev_id");
    let events = client.query(&events, &[&mark]).await.unwrap();
    let mut rows: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    let mut listed = String::new();
    for event in events {
        let (kind, table): (String, String) = (event.get(1), event.get(3));
        let parse = |index: usize| event.get::<_, Option<&str>>(index).map(|text| serde_json::from_str::<Value>(text).unwrap());
        let (new, old) = (parse(2), parse(4));
        let shown = |row: &Option<Value>| row.as_ref().map(|row| format!(" {row}")).unwrap_or_default();
        listed.push_str(&format!("  {kind} {table}{}{}\n", shown(&old), shown(&new)));
        let Some(of) = family.tables.iter().find(|known| known.name == table) else { continue };
        let key = |row: &Value| if of.composite { format!("{} {}", row["id"], row["g"]) } else { row["id"].to_string() };
        let rows = rows.entry(table).or_default();
        if kind == "T" {
            rows.clear();
        }
        if let Some(old) = &old
            && rows.remove(&key(old)).as_ref() != Some(old)
        {
            return Ok(Some(format!("{listed}  the last event's old row is not what the events before left")));
        }
        if let Some(new) = new
            && rows.insert(key(&new), new).is_some()
        {
            return Ok(Some(format!("{listed}  the last event's key is taken")));
        }
    }
    for table in &family.tables {
        let found = client.query(&format!("SELECT row_to_json(w)::text FROM {} w", table.name), &[]).await.unwrap();
        let mut found: Vec<Value> = found.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect();
        let mut left: Vec<Value> = rows.remove(&table.name).unwrap_or_default().into_values().collect();
        let order = |row: &Value| (row["id"].as_i64(), row["g"].as_i64());
        found.sort_by_key(order);
        left.sort_by_key(order);
        if found != left {
            return Ok(Some(format!("{listed}  {} holds {found:?}, and the events leave {left:?}", table.name)));
        }
    }
    Ok(None)
}
