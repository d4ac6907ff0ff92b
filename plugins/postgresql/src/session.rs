//! The target: rows, mutations and state in one transaction of one database.

use std::collections::HashMap;
use std::rc::Rc;

use crate::apply::Apply;
use crate::catalog;
use crate::database::{Database, failed, refused};
use crate::load::Load;
use crate::origin::{Captured, check_triggers};
use crate::part::Planned;
use crate::pgshovel::plugin::log::Level;
use crate::pgshovel::plugin::postgres::Failure;
use crate::pgshovel::plugin::types::{Change, Context, Error, Mutation, Relation, Row, Value};
use crate::plan::{Plan, quote};
use crate::settings::{Settings, Triggers, Types};

/// Sessions apply by key: a plan made while a table was small must not scan it once it
/// has grown; see also `plan::Names::matches`. Row security would hide rows without a word.
const SETTINGS: &str = "SELECT set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false), \
    set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false), set_config('row_security', 'off', false)";

/// Ends the session that holds the advisory lock of the text $1.
const END_HOLDER: &str = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l, (SELECT hashtextextended($1, 0) AS key) k \
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND l.classid = ((k.key >> 32) & 4294967295)::oid AND l.objid = (k.key & 4294967295)::oid";

/// One session of the target. See `wit/target.wit` for the order of its calls.
#[derive(Debug)]
pub struct Session<D> {
    database: D,
    context: Context,
    settings: Settings,
    /// The state table, quoted.
    state_table: String,
    has_state_table: bool,
    captured: Captured,
    /// The state that the next transaction must find.
    known: Option<Vec<u8>>,
    is_open: bool,
    plans: HashMap<(String, String), (Relation, Rc<Plan>)>,
    apply: Apply,
    load: Load,
    log: Log,
}

/// Where messages for the operator go.
pub type Log = fn(Level, &str);

impl<D: Database> Session<D> {
    /// Changes nothing yet.
    pub fn open(database: D, context: Context, configuration: &str, log: Log) -> Result<Self, Error> {
        let settings =
            Settings::parse(configuration).map_err(|error| Error::Configure(format!("{}.configuration: {error}", context.section)))?;
        let state_table = format!("{}.{}", quote(&settings.state.0), quote(&settings.state.1));
        let session = Self {
            database,
            context,
            settings,
            state_table,
            has_state_table: false,
            captured: Captured::default(),
            known: None,
            is_open: false,
            plans: HashMap::new(),
            apply: Apply::default(),
            load: Load::default(),
            log,
        };
        session.database.query(SETTINGS, &[]).map_err(|failure| failed("cannot prepare a session of the target", failure))?;
        session.take_role()?;
        Ok(session)
    }

    pub fn load_state(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.exclude_others()?;
        self.known = None;
        if !self.has_state_table()? {
            return Ok(None);
        }
        let sql = format!("SELECT state FROM {} WHERE cluster = $1 AND \"set\" = $2", self.state_table);
        let found = self.database.query(&sql, &self.name()).map_err(|failure| failed("cannot read the state of the target", failure))?;
        self.known = found.into_iter().flatten().find_map(|value| match value {
            Value::Bytes(state) => Some(state),
            _ => None,
        });
        Ok(self.known.clone())
    }

    /// See [`crate::origin`].
    pub fn set_source(&mut self, server: u64, oid: u32, tables: Vec<(String, String)>, is_transformed: bool) -> Result<(), Error> {
        self.captured = Captured::of(&self.database, server, oid, tables)?;
        self.plans.clear();
        if is_transformed {
            // Each table is looked at when its rows come.
            return Ok(());
        }
        self.captured.check_all(|schema| self.settings.schema(schema).to_owned())
    }

    pub fn load(&mut self, relation: &Relation, rows: Vec<Row>) -> Result<(), Error> {
        // First, since the catalog cannot be asked behind a refusal.
        self.load.settle(&self.database)?;
        let plan = self.plan(relation, self.settings.types)?;
        check_width(relation, rows.iter())?;
        self.ensure_transaction()?;
        if self.load.is_first(&plan) {
            match self.known {
                Some(_) => self.load.empty(&self.database, &plan, self.settings.empty)?,
                None => self.check_empty(&plan)?,
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.load.send(&self.database, plan, rows, self.settings.empty)
    }

    pub fn begin(&mut self) -> Result<(), Error> {
        if self.is_open {
            return Err(Error::Stop("begin was called while a batch was open: this is a bug of the host".to_owned()));
        }
        self.ensure_transaction()
    }

    pub fn apply(&mut self, relations: &[Relation], mutations: Vec<Mutation>) -> Result<(), Error> {
        let mut plans = HashMap::with_capacity(relations.len());
        for relation in relations {
            // Rows of pgshovel 2015 have no version, and types that are guessed.
            let types = if relation.version.is_empty() { Types::Convert } else { self.settings.types };
            plans.insert(relation.id, (self.plan(relation, types)?, relation));
        }
        for mutation in mutations {
            let found = plans.get(&mutation.relation);
            let (plan, relation) =
                found.ok_or_else(|| Error::Stop(format!("event {} is of no relation: this is a bug of the host", mutation.id)))?;
            match &mutation.change {
                Change::Insert(row) | Change::Delete(row) => check_width(relation, [row])?,
                Change::Update(both) => check_width(relation, [&both.before, &both.after])?,
                Change::Truncate => {}
            }
            self.apply.add(&self.database, Planned { plan: Rc::clone(plan), mutation })?;
        }
        Ok(())
    }

    pub fn commit(&mut self, expected: Option<Vec<u8>>, state: Vec<u8>) -> Result<(), Error> {
        self.ensure_transaction()?;
        self.load.finish(&self.database, self.settings.empty)?;
        self.apply.finish(&self.database)?;
        self.replace_state(expected, state.clone())?;
        self.database.execute("COMMIT", &[]).map_err(|failure| failed("cannot commit to the target", failure))?;
        self.is_open = false;
        self.load.clear();
        self.known = Some(state);
        Ok(())
    }

    pub fn rollback(&mut self) -> Result<(), Error> {
        self.apply.clear();
        self.load.clear();
        if !std::mem::take(&mut self.is_open) {
            return Ok(());
        }
        let settled = self.database.settle().map(|_| ());
        let rolled_back = settled.and_then(|()| self.database.execute("ROLLBACK", &[]));
        rolled_back.map(|_| ()).map_err(|failure| failed("cannot roll back in the target", failure))
    }

    /// Skips foreign keys and ordinary triggers, as native logical replication does,
    /// where the settings want it and the role may.
    fn take_role(&self) -> Result<(), Error> {
        if self.settings.triggers == Triggers::Fire {
            return Ok(());
        }
        let remedy = "GRANT SET ON PARAMETER session_replication_role TO the role of the target (PostgreSQL 15), or connect as a superuser";
        match self.database.execute("SET session_replication_role = replica", &[]) {
            Ok(_) => Ok(()),
            Err(Failure::Refused(error)) if error.sqlstate == "42501" && self.settings.triggers == Triggers::Auto => {
                let effect = "foreign keys and triggers of the target take part, and tables that have them are written row by row";
                (self.log)(Level::Info, &format!("{effect}; to skip them: {remedy}"));
                Ok(())
            }
            Err(Failure::Refused(error)) if error.sqlstate == "42501" => {
                Err(Error::Stop(format!("triggers: skip is configured, which the role may not: {remedy}")))
            }
            Err(failure) => Err(failed("cannot prepare a session of the target", failure)),
        }
    }

    fn has_state_table(&mut self) -> Result<bool, Error> {
        let found = self.database.query("SELECT to_regclass($1) IS NOT NULL", &[Value::Text(self.state_table.clone())]);
        let found =
            found.map_err(|failure| failed(&format!("cannot look for the state table {} in the target", self.state_table), failure))?;
        self.has_state_table = matches!(found.first().map(Vec::as_slice), Some([Value::Boolean(true)]));
        Ok(self.has_state_table)
    }

    fn make_state_table(&mut self) -> Result<(), Error> {
        let doing = format!("cannot make the state table {} in the target", self.state_table);
        let schema = format!("CREATE SCHEMA IF NOT EXISTS {}", quote(&self.settings.state.0));
        let table = format!(
            "CREATE TABLE IF NOT EXISTS {} (cluster text, \"set\" text, state bytea NOT NULL, \
             changed timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (cluster, \"set\"))",
            self.state_table
        );
        for sql in [schema, table] {
            let Err(failure) = self.database.execute(&sql, &[]) else { continue };
            match &failure {
                // Another worker is making it.
                Failure::Refused(error) if matches!(error.sqlstate.as_str(), "23505" | "42P06" | "42P07") => {}
                Failure::Refused(error) if error.sqlstate == "42501" && !sql.starts_with("CREATE TABLE") => {}
                Failure::Refused(error) if error.sqlstate == "42501" => {
                    return Err(Error::Stop(format!(
                        "{doing}: the role may not; let its owner run: {sql}; and grant SELECT, INSERT and UPDATE"
                    )));
                }
                _ => return Err(failed(&doing, failure)),
            }
        }
        if self.has_state_table()? { Ok(()) } else { Err(Error::Retry(format!("{doing}: it was dropped at once"))) }
    }

    /// The host lets one worker of a set start at a time, so one that still holds the set
    /// leads no more: it may be paused, or cut off, with a transaction open, or its
    /// server may not have noticed its end. Its session is ended.
    fn exclude_others(&self) -> Result<(), Error> {
        let doing = "cannot take the target over";
        let free = self.database.query("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", &[self.lock()]);
        let free = free.map_err(|failure| failed(doing, failure))?;
        if matches!(free.first().map(Vec::as_slice), Some([Value::Boolean(true)])) {
            return Ok(());
        }
        let held = format!("{doing}: another worker writes {} to it", self.described());
        match self.database.query(END_HOLDER, &[self.lock()]) {
            Ok(_) => Err(Error::Retry(format!("{held}, and its session was ended, since it leads no more"))),
            Err(Failure::Refused(error)) if error.sqlstate == "42501" => {
                Err(Error::Retry(format!("{held}, and the role may not end its session: GRANT pg_signal_backend TO it")))
            }
            Err(failure) => Err(failed(&held, failure)),
        }
    }

    /// What a worker locks while it has a transaction open.
    fn lock(&self) -> Value {
        Value::Text(format!("pgshovel {} {:?} {:?}", self.state_table, self.context.cluster, self.context.set))
    }

    /// Begins a transaction, unless one is open, and keeps other workers out of the set
    /// until it ends.
    fn ensure_transaction(&mut self) -> Result<(), Error> {
        if self.is_open {
            return Ok(());
        }
        if !self.has_state_table && !self.has_state_table()? {
            self.make_state_table()?;
        }
        let doing = "cannot begin a transaction in the target";
        for sql in ["BEGIN ISOLATION LEVEL READ COMMITTED", "SET CONSTRAINTS ALL DEFERRED"] {
            self.database.submit(sql, &[]).map_err(|failure| failed(doing, failure))?;
        }
        self.is_open = true;
        let sql = format!(
            "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)), (SELECT state FROM {} WHERE cluster = $2 AND \"set\" = $3)",
            self.state_table
        );
        let [cluster, set] = self.name();
        let found = self.database.query(&sql, &[self.lock(), cluster, set]);
        // What was sent first was refused first.
        for answer in self.database.settle().map_err(|failure| failed(doing, failure))? {
            answer.map_err(|error| refused(doing, &error))?;
        }
        let found = found.map_err(|failure| failed(doing, failure))?;
        let state = match found.first().map(Vec::as_slice) {
            Some([Value::Boolean(true), Value::Null]) => None,
            Some([Value::Boolean(true), Value::Bytes(state)]) => Some(state),
            _ => return Err(Error::Retry(format!("{doing}: another worker writes {} to it", self.described()))),
        };
        match (state, &self.known) {
            (state, known) if state == known.as_ref() => Ok(()),
            (None, _) => Err(self.gone()),
            (Some(_), _) => Err(self.fenced()),
        }
    }

    fn replace_state(&self, expected: Option<Vec<u8>>, state: Vec<u8>) -> Result<(), Error> {
        let [cluster, set] = self.name();
        let state = Value::Bytes(state);
        let replaced = match expected {
            None => {
                let sql = format!("INSERT INTO {} (cluster, \"set\", state) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", self.state_table);
                self.database.execute(&sql, &[cluster, set, state])
            }
            Some(expected) => {
                let sql = format!(
                    "UPDATE {} SET state = $3, changed = now() WHERE cluster = $1 AND \"set\" = $2 AND state = $4",
                    self.state_table
                );
                self.database.execute(&sql, &[cluster, set, state, Value::Bytes(expected)])
            }
        };
        match replaced.map_err(|failure| failed("cannot store the state in the target", failure))? {
            1 => Ok(()),
            _ => Err(self.overtaken()),
        }
    }

    /// The transaction holds the set's lock, so this is no other worker that does as
    /// it should.
    fn overtaken(&self) -> Error {
        Error::Stop(format!(
            "the state of {} in {} of the target changed inside the worker's own transaction: another worker is at work, or somebody edited \
             it; stop the other one, or start this one again to go on from the state that is there",
            self.described(),
            self.state_table
        ))
    }

    /// A commit whose answer a broken network kept from the worker, or from the one
    /// before it, may come through late: the state that is there says how to go on.
    fn fenced(&self) -> Error {
        Error::Retry(format!(
            "the state of {} in {} of the target is not what this worker stored there: another worker is at work, or somebody edited it; \
             this one goes on from the state that is there",
            self.described(),
            self.state_table
        ))
    }

    fn gone(&self) -> Error {
        Error::Stop(format!(
            "the state of {} is no longer in {} of the target: somebody deleted it; put the row back, or replicate with --bootstrap to load \
             the target anew",
            self.described(),
            self.state_table
        ))
    }

    /// Rows without a state are not this set's, or nobody knows how far they are.
    fn check_empty(&self, plan: &Plan) -> Result<(), Error> {
        let sql = format!("SELECT EXISTS (SELECT FROM {})", plan.truncate);
        let found = self
            .database
            .query(&sql, &[])
            .map_err(|failure| failed(&format!("cannot look into {} of the target", plan.target), failure))?;
        if !matches!(found.first().map(Vec::as_slice), Some([Value::Boolean(true)])) {
            return Ok(());
        }
        Err(Error::Stop(format!(
            "{} of the target holds rows, and {} holds no state of {}: the rows are somebody else's, or the state was deleted; \
             empty the table, or replicate with --bootstrap to replace what the set's tables hold",
            plan.target,
            self.state_table,
            self.described()
        )))
    }

    fn plan(&mut self, relation: &Relation, types: Types) -> Result<Rc<Plan>, Error> {
        let place = (relation.schema.clone(), relation.table.clone());
        if let Some((known, plan)) = self.plans.get(&place)
            && known.columns == relation.columns
            && known.identity == relation.identity
        {
            return Ok(Rc::clone(plan));
        }
        let schema = self.settings.schema(&relation.schema);
        self.captured.check(schema, &relation.table)?;
        // If what is under way is refused, that is the error, and not that the catalog
        // cannot be asked behind it.
        self.apply.settle(&self.database)?;
        let table = catalog::read(&self.database, schema, &relation.table)?;
        check_triggers(&self.database, &self.context, &Value::Integer(table.oid), &format!("{schema}.{}", relation.table))?;
        let plan = Rc::new(Plan::new(relation, schema, &table, types).map_err(Error::Blocked)?);
        if let Some(warning) = plan.lacks_index() {
            (self.log)(Level::Warn, &warning);
        }
        self.plans.insert(place, (relation.clone(), Rc::clone(&plan)));
        Ok(plan)
    }

    fn name(&self) -> [Value; 2] {
        [Value::Text(self.context.cluster.clone()), Value::Text(self.context.set.clone())]
    }

    fn described(&self) -> String {
        format!("the set {:?} of the cluster {:?}", self.context.set, self.context.cluster)
    }
}

fn check_width<'a>(relation: &Relation, rows: impl IntoIterator<Item = &'a Row>) -> Result<(), Error> {
    let columns = relation.columns.len();
    match rows.into_iter().find(|row| row.len() != columns) {
        None => Ok(()),
        Some(row) => Err(Error::Stop(format!(
            "a row of {}.{} has {} values for {columns} columns: the host or a transform made it so",
            relation.schema,
            relation.table,
            row.len()
        ))),
    }
}
