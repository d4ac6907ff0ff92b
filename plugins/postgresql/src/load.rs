//! Rows of a bootstrap on their way into their tables.
//!
//! Each chunk is one COPY behind a savepoint, not waited for until the next one is
//! ready. Rows that refer to rows which are not there yet are refused by a foreign key
//! that is not DEFERRABLE; these, and all of their table that follow, are put into a
//! temporary table. At the end one statement inserts them all: PostgreSQL checks foreign
//! keys when a statement ends, so rows of one statement may refer to each other, in a
//! table and around any circle of tables. Tables are emptied in the same way.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::apply::{GUARD, Refused, UNGUARD, in_order};
use crate::copy;
use crate::database::{Database, describe, failed, refused};
use crate::part::Planned;
use crate::pgshovel::plugin::postgres::{DatabaseError, Failure};
use crate::pgshovel::plugin::types::{Change, Error, Mutation, Row, Value};
use crate::plan::{Plan, quote};
use crate::settings::Empty;

const DOING: &str = "cannot load rows into the target";

/// `foreign_key_violation`.
const REFERS: &str = "23503";

/// A load, from its first table to its commit.
#[derive(Debug, Default)]
pub struct Load {
    /// Tables that were met, by their names.
    met: HashMap<String, Rc<Plan>>,
    /// Those that rows were sent to.
    filled: HashSet<String>,
    /// Those that other tables' rows kept from being emptied alone.
    unemptied: Vec<Rc<Plan>>,
    under_way: Option<UnderWay>,
    staged: Vec<Staged>,
}

#[derive(Debug)]
struct UnderWay {
    plan: Rc<Plan>,
    rows: Vec<Row>,
}

/// Rows that wait in a temporary table.
#[derive(Debug)]
struct Staged {
    plan: Rc<Plan>,
    table: String,
    rows: u64,
}

impl Load {
    pub fn is_first(&mut self, plan: &Rc<Plan>) -> bool {
        self.met.insert(plan.target.clone(), Rc::clone(plan)).is_none()
    }

    /// Forgets all: the transaction is over.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Empties a table, now, or, if rows refer to its rows, together with the others.
    pub fn empty(&mut self, database: &impl Database, plan: &Rc<Plan>, how: Empty) -> Result<(), Error> {
        execute(database, "SAVEPOINT load")?;
        match database.execute(&emptying(std::slice::from_ref(plan), how), &[]) {
            Ok(_) => execute(database, "RELEASE SAVEPOINT load"),
            Err(Failure::Refused(error)) if refers(&error, how) => {
                self.unemptied.push(Rc::clone(plan));
                execute(database, "ROLLBACK TO SAVEPOINT load")
            }
            Err(failure) => Err(failed(&format!("cannot empty {} of the target before it is loaded", plan.target), failure)),
        }
    }

    fn empty_together(&mut self, database: &impl Database, how: Empty) -> Result<(), Error> {
        let plans = std::mem::take(&mut self.unemptied);
        if plans.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = plans.iter().map(|plan| plan.target.as_str()).collect();
        let sql = match how {
            Empty::Delete => emptying(&plans, how),
            // With those that refer to them, and are empty by now: TRUNCATE wants it so.
            Empty::Truncate => {
                let met = self.met.values().filter(|plan| !self.filled.contains(&plan.target));
                emptying(&met.cloned().collect::<Vec<_>>(), how)
            }
        };
        let doing = format!("cannot empty {} of the target before it is loaded", names.join(", "));
        match database.execute(&sql, &[]) {
            Ok(_) => Ok(()),
            Err(Failure::Refused(error)) if refers(&error, how) => Err(Error::Blocked(format!(
                "{doing}: {}; the rows that refer to it are in no table of the set, or in one that is loaded later: delete them, or drop the \
                 foreign key while the bootstrap runs",
                describe(&error)
            ))),
            Err(failure) => Err(failed(&doing, failure)),
        }
    }

    /// Sends rows, not none. What was sent before must be settled.
    pub fn send(&mut self, database: &impl Database, plan: Rc<Plan>, rows: Vec<Row>, how: Empty) -> Result<(), Error> {
        self.empty_together(database, how)?;
        self.filled.insert(plan.target.clone());
        if let Some(staged) = self.staged.iter_mut().find(|staged| staged.plan.target == plan.target) {
            if !Rc::ptr_eq(&staged.plan, &plan) {
                return Err(Error::Retry(format!("{DOING}: {} was altered meanwhile", plan.target)));
            }
            return staged.add(database, &rows);
        }
        let submit = |sql| database.submit(sql, &[]);
        let guarded = |sql| if plan.is_guarded { submit(sql) } else { Ok(()) };
        let sent = submit("SAVEPOINT load")
            .and_then(|()| guarded(GUARD))
            .and_then(|()| database.submit_copy(&plan.copy, data(&plan, &rows).as_bytes()))
            .and_then(|()| guarded(UNGUARD));
        sent.map_err(|failure| failed(DOING, failure))?;
        self.under_way = Some(UnderWay { plan, rows });
        Ok(())
    }

    /// Waits for the rows under way.
    pub fn settle(&mut self, database: &impl Database) -> Result<(), Error> {
        let Some(UnderWay { plan, rows }) = self.under_way.take() else { return Ok(()) };
        let answers = database.settle().map_err(|failure| failed(DOING, failure))?;
        // What follows the first refusal is refused because of it.
        let error = answers.iter().find_map(|answer| answer.as_ref().err());
        if let Some(error) = error
            && error.passing
        {
            return Err(refused(DOING, error));
        }
        // The COPY comes after the savepoint, and after the guard if there is one.
        let copied = answers.get(1 + usize::from(plan.is_guarded));
        if error.is_none() && matches!(copied, Some(Ok(copied)) if usize::try_from(*copied) == Ok(rows.len())) {
            return execute(database, "RELEASE SAVEPOINT load");
        }
        execute(database, "ROLLBACK TO SAVEPOINT load")?;
        if error.is_some_and(|error| error.sqlstate == REFERS) {
            let mut staged = Staged::begin(database, plan, self.staged.len())?;
            staged.add(database, &rows)?;
            self.staged.push(staged);
            return Ok(());
        }
        one_by_one(database, &plan, rows, error)
    }

    /// Returns when all rows are in their tables.
    pub fn finish(&mut self, database: &impl Database, how: Empty) -> Result<(), Error> {
        self.settle(database)?;
        self.empty_together(database, how)?;
        let staged = std::mem::take(&mut self.staged);
        if staged.is_empty() { Ok(()) } else { insert(database, &staged) }
    }
}

/// Names the row that was refused, if it is one. What it is refused with may be another
/// error, since rows that refer to later ones have none behind them now.
fn one_by_one(database: &impl Database, plan: &Rc<Plan>, rows: Vec<Row>, error: Option<&DatabaseError>) -> Result<(), Error> {
    let insert = |row| Mutation { id: 0, relation: 0, change: Change::Insert(row), transaction: 0, timestamp_us: 0, version: 0 };
    let rows: Vec<Planned> = rows.into_iter().map(|row| Planned { plan: Rc::clone(plan), mutation: insert(row) }).collect();
    match (in_order(database, &rows), error) {
        (Err(Refused { sqlstate: Some(sqlstate), .. }), Some(error)) if sqlstate == REFERS => {
            Err(refused(&format!("{DOING}, into {}", plan.target), error))
        }
        (result, _) => result.map_err(|refused| refused.error),
    }
}

impl Staged {
    fn begin(database: &impl Database, plan: Rc<Plan>, number: usize) -> Result<Self, Error> {
        let table = format!("pg_temp.{}", quote(&format!("pgshovel load {number}")));
        let sql = format!("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA", table, plan.columns, plan.target);
        match database.execute(&sql, &[]) {
            Ok(_) => Ok(Self { plan, table, rows: 0 }),
            Err(Failure::Refused(error)) if error.sqlstate == "42501" => Err(Error::Blocked(format!(
                "{DOING}: rows of {} refer to rows that are loaded later, and the role may not put them aside: {}; GRANT TEMPORARY ON \
                 DATABASE, or SET ON PARAMETER session_replication_role, to the role of the target, or make the foreign key DEFERRABLE",
                plan.target,
                describe(&error)
            ))),
            Err(failure) => Err(failed(DOING, failure)),
        }
    }

    fn add(&mut self, database: &impl Database, rows: &[Row]) -> Result<(), Error> {
        let sql = format!("COPY {} FROM STDIN", self.table);
        database.submit_copy(&sql, data(&self.plan, rows).as_bytes()).map_err(|failure| failed(DOING, failure))?;
        for answer in database.settle().map_err(|failure| failed(DOING, failure))? {
            self.rows += answer.map_err(|error| refused(&format!("{DOING}, into {}", self.plan.target), &error))?;
        }
        Ok(())
    }
}

fn insert(database: &impl Database, staged: &[Staged]) -> Result<(), Error> {
    let inserts: Vec<String> = staged
        .iter()
        .enumerate()
        .map(|(number, staged)| {
            let Plan { target, columns, .. } = &*staged.plan;
            format!("i{number} AS (INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT * FROM {} RETURNING 1)", staged.table)
        })
        .collect();
    let counts: Vec<String> = (0..staged.len()).map(|number| format!("(SELECT count(*) FROM i{number})")).collect();
    let sql = format!("WITH {} SELECT {}", inserts.join(", "), counts.join(", "));
    let is_guarded = staged.iter().any(|staged| staged.plan.is_guarded);
    if is_guarded {
        execute(database, GUARD)?;
    }
    let counts = database.query(&sql, &[]).map_err(|failure| match failure {
        Failure::Refused(error) if error.sqlstate == REFERS => Error::Blocked(format!(
            "{DOING}: {}; a row refers to one that is neither there nor in the source: see that the table which the foreign key refers to \
             is in the set, or drop the foreign key",
            describe(&error)
        )),
        failure => failed(DOING, failure),
    })?;
    for (staged, count) in staged.iter().zip(counts.iter().flatten()) {
        if !matches!(count, Value::Integer(count) if u64::try_from(*count) == Ok(staged.rows)) {
            return Err(Error::Blocked(format!(
                "{DOING}: of {} rows of {} the server inserted others than all; look for a trigger or rule of that table that redirects rows",
                staged.rows, staged.plan.target
            )));
        }
    }
    if is_guarded { execute(database, UNGUARD) } else { Ok(()) }
}

fn emptying(plans: &[Rc<Plan>], how: Empty) -> String {
    match (how, plans) {
        (Empty::Delete, [plan]) => plan.empty.clone(),
        (Empty::Delete, plans) => {
            let deletes: Vec<String> = plans.iter().enumerate().map(|(number, plan)| format!("d{number} AS ({})", plan.empty)).collect();
            format!("WITH {} SELECT", deletes.join(", "))
        }
        (Empty::Truncate, plans) => {
            let tables: Vec<&str> = plans.iter().map(|plan| plan.truncate.as_str()).collect();
            format!("TRUNCATE {}", tables.join(", "))
        }
    }
}

/// Whether rows of other tables are in the way. TRUNCATE does not look for rows.
fn refers(error: &DatabaseError, how: Empty) -> bool {
    error.sqlstate == REFERS || (how == Empty::Truncate && error.sqlstate == "0A000")
}

fn data(plan: &Plan, rows: &[Row]) -> String {
    let mut data = String::new();
    for row in rows {
        copy::write_row(plan.inserted(row), &mut data);
    }
    data
}

fn execute(database: &impl Database, sql: &str) -> Result<(), Error> {
    database.execute(sql, &[]).map(|_| ()).map_err(|failure| failed(DOING, failure))
}
