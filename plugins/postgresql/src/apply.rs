//! Parts of a batch on their way into the target.
//!
//! A part is sent as sets of rows behind a savepoint, and not waited for until the next
//! one is ready. If the server refuses it, or affects another number of rows than it
//! should, the part is taken back and applied row by row in the source's order: that
//! succeeds where only the order of a set was at fault, and names the row where not.
//! What a row does not fit is for a person to mend in the target, and is tried again.

use std::rc::Rc;

use crate::database::{Database, describe, failed, refused};
use crate::part::{Part, Planned, Shape, Table};
use crate::pgshovel::plugin::postgres::DatabaseError;
use crate::pgshovel::plugin::types::{Change, Error, Mutation, Row};
use crate::plan::{Plan, Statement};

const DOING: &str = "cannot apply a batch to the target";

/// Around what is written to a table that is guarded.
pub const GUARD: &str = "SET LOCAL session_replication_role = origin";
pub const UNGUARD: &str = "SET LOCAL session_replication_role = replica";

/// How many rows one statement takes; 500 to 5000 make no difference.
const ROWS_MAX: usize = 1000;

/// How many single rows are sent before their results are taken.
const ROWS_SENT_MAX: usize = 1000;

/// How many rows a statement should affect, or may if they can be gone already.
#[derive(Clone, Copy, Debug)]
struct Expected {
    rows: u64,
    may_be_fewer: bool,
}

impl Expected {
    fn is(self, affected: u64) -> bool {
        affected == self.rows || (self.may_be_fewer && affected < self.rows)
    }
}

/// The part that is being gathered, and the one that is under way.
#[derive(Debug, Default)]
pub struct Apply {
    gathered: Option<Part>,
    sent: Option<(Part, Vec<Option<Expected>>)>,
}

impl Apply {
    pub fn add(&mut self, database: &impl Database, planned: Planned) -> Result<(), Error> {
        let Some(part) = &mut self.gathered else {
            self.gathered = Some(Part::starting_with(planned));
            return Ok(());
        };
        let given_back = part.add(planned);
        if part.is_full() || given_back.is_err() {
            self.send(database)?;
        }
        if let Err(planned) = given_back {
            self.gathered = Some(Part::starting_with(*planned));
        }
        Ok(())
    }

    /// Returns when all that was added has been applied in the open transaction.
    pub fn finish(&mut self, database: &impl Database) -> Result<(), Error> {
        self.send(database)?;
        self.settle(database)
    }

    /// Forgets what was added: the transaction is rolled back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn send(&mut self, database: &impl Database) -> Result<(), Error> {
        let Some(part) = self.gathered.take() else { return Ok(()) };
        self.settle(database)?;
        match &part.shape {
            Shape::Sets(tables) => {
                let expected = send_sets(database, &part.mutations, tables)?;
                self.sent = Some((part, expected));
                Ok(())
            }
            Shape::Ordered { .. } => in_order(database, &part.mutations).map_err(|refused| refused.error),
            Shape::Truncates => truncate(database, &part.mutations),
        }
    }

    /// Returns when all that was sent has been applied.
    pub fn settle(&mut self, database: &impl Database) -> Result<(), Error> {
        let Some((part, expected)) = self.sent.take() else { return Ok(()) };
        let answers = database.settle().map_err(|failure| failed(DOING, failure))?;
        if let Some(error) = answers.iter().filter_map(|answer| answer.as_ref().err()).next()
            && error.passing
        {
            return Err(refused(DOING, error));
        }
        let as_expected = answers.len() == expected.len()
            && answers.iter().zip(expected).all(|(answer, expected)| match answer {
                Ok(affected) => expected.is_none_or(|expected| expected.is(*affected)),
                Err(_) => false,
            });
        if as_expected {
            return execute(database, "RELEASE SAVEPOINT part");
        }
        execute(database, "ROLLBACK TO SAVEPOINT part")?;
        in_order(database, &part.mutations).map_err(|refused| refused.error)
    }
}

fn submit(database: &impl Database, sql: &str, columns: &[Vec<Option<String>>]) -> Result<(), Error> {
    database.submit(sql, columns).map_err(|failure| failed(DOING, failure))
}

fn execute(database: &impl Database, sql: &str) -> Result<(), Error> {
    database.execute(sql, &[]).map(|_| ()).map_err(|failure| failed(DOING, failure))
}

/// Sends a savepoint and the sets behind it; what each statement should affect.
fn send_sets(database: &impl Database, mutations: &[Planned], tables: &[Table]) -> Result<Vec<Option<Expected>>, Error> {
    let mut expected = Vec::new();
    let plain = |sql: &str, expected: &mut Vec<Option<Expected>>| {
        expected.push(None);
        submit(database, sql, &[])
    };
    plain("SAVEPOINT part", &mut expected)?;
    let send = |statement: &Statement, rows: &[usize], may_be_fewer: bool, expected: &mut Vec<Option<Expected>>| {
        for chunk in rows.chunks(ROWS_MAX) {
            let mut columns = statement.columns(chunk.len());
            for planned in chunk.iter().filter_map(|at| mutations.get(*at)) {
                let (before, after) = both(&planned.mutation);
                statement.push(before, after, &mut columns);
            }
            submit(database, &statement.sql, &columns)?;
            expected.push(Some(Expected { rows: chunk.len() as u64, may_be_fewer }));
        }
        Ok(())
    };
    for table in tables {
        let (plan, work) = (&table.plan, table.work());
        if plan.is_guarded {
            plain(GUARD, &mut expected)?;
        }
        send(&plan.delete, &work.delete, plan.may_be_gone, &mut expected)?;
        if let Some(update) = &plan.update {
            send(update, &work.update, false, &mut expected)?;
        }
        send(&plan.insert, &work.insert, false, &mut expected)?;
        if plan.is_guarded {
            plain(UNGUARD, &mut expected)?;
        }
    }
    Ok(expected)
}

/// The row as it was and as it is; the same where there is but one.
fn both(mutation: &Mutation) -> (&Row, &Row) {
    const NONE: &Row = &Row::new();
    match &mutation.change {
        Change::Insert(row) | Change::Delete(row) => (row, row),
        Change::Update(both) => (&both.before, &both.after),
        Change::Truncate => (NONE, NONE),
    }
}

/// The statements for one mutation, and what they should affect.
fn statements<'a>(plan: &'a Plan, mutation: &Mutation) -> impl Iterator<Item = (&'a Statement, Expected)> {
    let exactly = Expected { rows: 1, may_be_fewer: false };
    let removed = Expected { rows: 1, may_be_fewer: plan.may_be_gone };
    let statements = match &mutation.change {
        Change::Insert(_) => [None, Some((&plan.insert, exactly))],
        Change::Delete(_) => [Some((&plan.delete, removed)), None],
        Change::Update(both) if plan.keeps_key(&both.before, &both.after) => [None, plan.update.as_ref().map(|update| (update, exactly))],
        Change::Update(_) => match &plan.rekey {
            Some(rekey) => [None, Some((rekey, exactly))],
            None => [Some((&plan.delete, removed)), Some((&plan.insert, exactly))],
        },
        Change::Truncate => [None, None],
    };
    statements.into_iter().flatten()
}

/// Why rows could not be applied one by one.
#[derive(Debug)]
pub struct Refused {
    pub error: Error,
    /// Of the server, if it refused a row.
    pub sqlstate: Option<String>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, sqlstate: None }
    }
}

/// One by one, each statement sent before the last is answered.
pub fn in_order(database: &impl Database, mutations: &[Planned]) -> Result<(), Refused> {
    let mut is_guarded = false;
    for chunk in mutations.chunks(ROWS_SENT_MAX) {
        let mut sent: Vec<(&Planned, Option<Expected>)> = Vec::with_capacity(chunk.len());
        for planned in chunk {
            if planned.plan.is_guarded != is_guarded {
                is_guarded = planned.plan.is_guarded;
                submit(database, if is_guarded { GUARD } else { UNGUARD }, &[])?;
                sent.push((planned, None));
            }
            let (before, after) = both(&planned.mutation);
            for (statement, expected) in statements(&planned.plan, &planned.mutation) {
                let mut columns = statement.columns(1);
                statement.push(before, after, &mut columns);
                submit(database, &statement.sql, &columns)?;
                sent.push((planned, Some(expected)));
            }
        }
        let answers = database.settle().map_err(|failure| failed(DOING, failure))?;
        for ((planned, expected), answer) in sent.into_iter().zip(answers) {
            match answer {
                Ok(affected) if expected.is_none_or(|expected| expected.is(affected)) => {}
                Ok(affected) => return Err(Error::Blocked(astray(planned, affected)).into()),
                Err(error) if error.passing => return Err(refused(DOING, &error).into()),
                Err(error) => {
                    let blocked = Error::Blocked(unacceptable(planned, &error));
                    return Err(Refused { error: blocked, sqlstate: Some(error.sqlstate) });
                }
            }
        }
    }
    if is_guarded {
        execute(database, UNGUARD)?;
    }
    Ok(())
}

/// What was to be done to which row, without a value of it: `cannot update the row of event 9
/// (key 7902699be42c) of "public"."t" in the target`. A row that is loaded has no event.
fn subject(planned: &Planned) -> String {
    let verb = match &planned.mutation.change {
        Change::Insert(_) => "insert",
        Change::Update(_) => "update",
        Change::Delete(_) => "delete",
        Change::Truncate => "truncate",
    };
    let (row, _) = both(&planned.mutation);
    let event = if planned.mutation.id == 0 { String::new() } else { format!(" of event {}", planned.mutation.id) };
    format!("cannot {verb} the row{event} (key {}) of {} in the target", planned.plan.key_digest(row), planned.plan.target)
}

fn astray(planned: &Planned, affected: u64) -> String {
    let subject = subject(planned);
    match (&planned.mutation.change, affected) {
        (Change::Insert(_), _) => {
            format!("{subject}: the server inserted {affected} rows; look for a trigger or rule of that table that redirects rows")
        }
        (_, 0) => format!(
            "{subject}: it is not there. Either somebody else changed the target, or a trigger of it hides the row, or the row came to the \
             source without an event: with a partition that was attached there, or while triggers of the set were disabled, which the \
             relay's log and `pgshovel set check` say. Put the row back as it was in the source before this event, or start again with \
             --bootstrap"
        ),
        _ => format!("{subject}: {affected} rows have this key; make it unique in the target as it is in the source"),
    }
}

fn unacceptable(planned: &Planned, error: &DatabaseError) -> String {
    let subject = subject(planned);
    let remedy = match error.sqlstate.as_str() {
        "23505" => {
            "; the row that is in its way is not of the source, or left it without an event, with a partition that was detached or dropped \
             there, or the two change places: delete it, or make the constraint DEFERRABLE"
        }
        "23503" => {
            "; grant SET ON PARAMETER session_replication_role to the role of the target, make the foreign key DEFERRABLE, or drop it"
        }
        "23502" | "23514" | "23P01" => "; the target is stricter than the source: relax the constraint",
        "42501" if !error.message.contains("row-level security") => {
            "; grant the role of the target SELECT, INSERT, UPDATE, DELETE and TRUNCATE on the table"
        }
        code if code.starts_with("22") => "; the type of a column differs from the source's: make them the same",
        code if code.starts_with("42") && code != "42501" => "; the table differs from the source's: make them the same",
        _ => "",
    };
    let differing =
        if error.sqlstate.starts_with("22") || error.sqlstate.starts_with("42") { planned.plan.show_differing() } else { String::new() };
    format!("{subject}: {}{remedy}{differing}", describe(error))
}

/// All tables at once, as foreign keys between them want it; rows are deleted where the
/// server does not truncate for us.
fn truncate(database: &impl Database, mutations: &[Planned]) -> Result<(), Error> {
    let mut plans: Vec<&Rc<Plan>> = Vec::new();
    for planned in mutations {
        if !plans.iter().any(|plan| plan.target == planned.plan.target) {
            plans.push(&planned.plan);
        }
    }
    let tables: Vec<&str> = plans.iter().map(|plan| plan.truncate.as_str()).collect();
    execute(database, "SAVEPOINT part")?;
    let truncated = database.execute(&format!("TRUNCATE {}", tables.join(", ")), &[]);
    let Err(failure) = truncated else { return execute(database, "RELEASE SAVEPOINT part") };
    match &failure {
        crate::pgshovel::plugin::postgres::Failure::Refused(error) if !error.passing => {}
        _ => return Err(failed(DOING, failure)),
    }
    execute(database, "ROLLBACK TO SAVEPOINT part")?;
    plans.iter().try_for_each(|plan| execute(database, &plan.empty))
}
