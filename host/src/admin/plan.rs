//! From what is to be captured and what a database holds to the statements that
//! lead from one to the other. Pure: a change runs these steps, and `--dry-run`
//! prints them.

use std::collections::{BTreeMap, BTreeSet};

use proto::interfaces::configurations::{ReplicationSetConfiguration, TableConfiguration};
use uuid::Uuid;

use crate::error::{Code, Error, Result};
use crate::postgres::catalog::{Column, Facts};
use crate::postgres::event::relation::Described;
use crate::postgres::quote;
use crate::postgres::schema::{self, Description, Stamp, TableLock};
use crate::postgres::trigger::{self, Capture, Columns, Context, Event, shared};

use crate::registry::set;

/// One step of a change inside a database's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does, for a person: "create the queue pgshovel:default:bank".
    pub title: String,
    pub sql: String,
}

impl Step {
    fn new(title: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { title: title.into(), sql: sql.into() }
    }
}

/// Whose change it is.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub cluster: &'a str,
    /// `ClusterConfiguration.id`
    pub cluster_id: &'a str,
    /// `ClusterConfiguration.version`
    pub version: &'a str,
    pub set: &'a str,
    pub stamp: Stamp<'a>,
}

/// Makes the database ready to capture the set: schema, node, queue. `node` is
/// used if the database has none yet.
#[must_use]
pub fn prepare(scope: &Scope<'_>, facts: &Facts, node: Uuid) -> Vec<Step> {
    let mut steps = Vec::new();
    let known = facts.managed.as_ref().and_then(|managed| managed.node.as_ref());
    if known.is_none() || !facts.managed.as_ref().is_some_and(|managed| managed.records) {
        steps.push(Step::new("create the cluster's schema", schema::create(scope.cluster, facts.schemas)));
    } else if !facts.faults.is_empty() {
        steps.push(Step::new("create what captures changes again", schema::create_shared(scope.cluster, facts.schemas)));
    }
    if known.is_none_or(|(_, _, version)| version != scope.version) {
        let node = known.map_or(node, |(node, _, _)| *node);
        steps.push(Step::new(
            format!("name this database node {node}"),
            schema::identify(scope.cluster, node, scope.cluster_id, scope.version),
        ));
    }
    if facts.queue.is_none() {
        let queue = crate::names::queue(scope.cluster, scope.set);
        steps.push(Step::new(
            format!("create the queue {queue} with the consumer {:?}", schema::CONSUMER),
            schema::create_queue(scope.cluster, scope.set),
        ));
    }
    steps.extend(open_queue(scope, facts));
    steps
}

/// Lets the set's triggers write to its queue.
fn open_queue(scope: &Scope<'_>, facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    let queue = facts.queue.as_ref();
    if queue.is_none_or(|queue| queue.view.is_none()) {
        let title = "create the view through which triggers write to the queue";
        steps.push(Step::new(title, schema::create_view(scope.cluster, scope.set)));
    }
    if queue.is_none_or(|queue| !queue.writable) {
        let title = format!("let the role {:?} insert events", crate::names::capture_role(scope.cluster));
        steps.push(Step::new(title, schema::let_insert(scope.cluster, scope.set)));
    }
    steps
}

/// Captures `configuration`, and nothing else of the set. The configuration must have no
/// problems. Tables are locked last, all of them together.
pub fn capture(scope: &Scope<'_>, configuration: &ReplicationSetConfiguration, facts: &Facts) -> Result<Vec<Step>> {
    let mut captures = configuration.tables.iter().map(|wanted| describe(wanted, facts)).collect::<Result<Vec<_>>>()?;
    captures.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
    let version = free_version(&set::version(configuration), facts, &captures);
    let view = facts.queue.as_ref().and_then(|queue| queue.view);
    let context = Context { cluster: scope.cluster, set: scope.set, version: &version, view };
    let mut steps = vec![Step::new(
        format!("record version {version} of the set {:?}", scope.set),
        schema::record_set(scope.cluster, scope.set, &version, scope.stamp),
    )];
    let mut wanted_functions = BTreeSet::new();
    steps.push(Step::new("begin to create functions", schema::begin_giving(scope.cluster)));
    for (capture, description) in &captures {
        let key = &capture.key;
        steps.push(Step::new(format!("describe {key}"), schema::describe(scope.cluster, scope.set, &version, description)));
        for event in capture.events() {
            if wanted_functions.insert(trigger::function_signature(&context, capture, *event)) {
                steps.push(Step::new(
                    format!("create the function for {event} of {key}"),
                    trigger::create_function(&context, capture, *event),
                ));
            }
        }
    }
    steps.push(Step::new("end to create functions", schema::end_giving(scope.cluster)));
    steps.extend(triggers(&context, facts, &captures));
    let unwanted = facts.functions.iter().filter(|function| !wanted_functions.contains(*function));
    steps.extend(unwanted.map(|function| drop_function(function)));
    steps.push(Step::new("record how the triggers have to be", shared::record(scope.cluster, scope.set)));
    Ok(steps)
}

/// Triggers to drop and to create, once their tables are locked.
fn triggers(context: &Context<'_>, facts: &Facts, captures: &[(Capture, Description)]) -> Vec<Step> {
    let mut wanted: BTreeMap<&str, Vec<(String, Event, &Capture)>> = facts.captured.keys().map(|key| (key.as_str(), Vec::new())).collect();
    for (capture, _) in captures {
        for event in capture.events() {
            let name = trigger::trigger_name(context.cluster, context.set, *event);
            for table in capture.tables(*event) {
                wanted.entry(table).or_default().push((name.clone(), *event, capture));
            }
        }
    }
    let (mut locks, mut steps) = (BTreeMap::new(), Vec::new());
    for (key, wanted) in wanted {
        let present = facts.captured.get(key);
        let unwanted =
            present.iter().flat_map(|table| table.triggers.keys()).filter(|name| !wanted.iter().any(|(wanted, ..)| wanted == *name));
        for name in unwanted {
            locks.insert(key, TableLock::AccessExclusive);
            steps.push(drop_trigger(key, name));
        }
        for (name, event, capture) in wanted {
            let function = trigger::function_name(context, capture, event);
            if present.and_then(|table| table.triggers.get(&name)) != Some(&Some(function)) {
                locks.entry(key).or_insert(TableLock::ShareRowExclusive);
                steps.push(Step::new(
                    format!("create the trigger for {event} on {key}"),
                    trigger::create_trigger(context, capture, event, key),
                ));
            }
        }
    }
    let known: Vec<(&str, u32)> = captures.iter().map(|(capture, _)| (capture.key.as_str(), capture.table_oid)).collect();
    let same =
        (!locks.is_empty()).then(|| Step::new("make sure that these are the tables that were looked at", schema::same_tables(&known)));
    lock(locks).into_iter().chain(same).chain(steps).collect()
}

/// Takes the locks that the steps after it need.
fn lock(tables: BTreeMap<&str, TableLock>) -> Option<Step> {
    let names: Vec<&str> = tables.keys().copied().collect();
    (!names.is_empty()).then(|| Step::new(format!("lock {}", names.join(", ")), schema::lock_tables(tables)))
}

/// Removes all and only what belongs to the set; with the last set of the
/// database, the cluster's schema too.
#[must_use]
pub fn remove(scope: &Scope<'_>, facts: &Facts) -> Vec<Step> {
    removal(scope, facts, None)
}

/// As `remove`, once everything that was captured is relayed: the set goes on in
/// another database.
#[must_use]
pub fn leave(scope: &Scope<'_>, facts: &Facts) -> Vec<Step> {
    let relayed = facts.queue.as_ref().map(|queue| {
        let title = format!("wait until what was captured of the set {:?} is relayed", scope.set);
        Step::new(title, schema::await_relayed(queue.id))
    });
    removal(scope, facts, relayed)
}

/// `relayed` comes when nothing is captured any more.
fn removal(scope: &Scope<'_>, facts: &Facts, relayed: Option<Step>) -> Vec<Step> {
    let tables = facts.captured.keys().map(|key| (key.as_str(), TableLock::AccessExclusive));
    let mut steps: Vec<Step> = lock(tables.collect()).into_iter().chain(relayed).collect();
    for (key, captured) in &facts.captured {
        steps.extend(captured.triggers.keys().map(|name| drop_trigger(key, name)));
    }
    steps.extend(facts.functions.iter().map(|function| drop_function(function)));
    let Some(managed) = &facts.managed else { return steps };
    if facts.queue.is_some() && managed.set.is_some() {
        let queue = crate::names::queue(scope.cluster, scope.set);
        steps.push(Step::new(format!("drop the queue {queue}"), schema::drop_queue(scope.cluster, scope.set)));
    }
    if managed.sets.iter().all(|other| other == scope.set) {
        steps.push(Step::new("drop the cluster's schema: this was its last set here", schema::drop(scope.cluster)));
    } else {
        steps.push(Step::new(format!("forget the set {:?}", scope.set), schema::forget_set(scope.cluster, scope.set)));
    }
    steps
}

fn drop_trigger(key: &str, name: &str) -> Step {
    Step::new(format!("drop the trigger {name} on {key}"), format!("DROP TRIGGER {} ON {key};", quote(name)))
}

fn drop_function(function: &str) -> Step {
    Step::new(format!("drop the function {function}"), format!("DROP FUNCTION {function};"))
}

/// How a table is captured, and what its rows will be.
fn describe(wanted: &TableConfiguration, facts: &Facts) -> Result<(Capture, Description)> {
    let found = facts.tables.iter().find(|table| table.schema == wanted.schema() && table.name == wanted.name);
    let table = found.ok_or_else(|| Error::stop(Code::TableAbsent, format!("the table {}.{} is gone", wanted.schema(), wanted.name)))?;
    let every = wanted.columns.is_empty();
    let chosen = |column: &&Column| {
        let name = &column.described.name;
        every || wanted.columns.contains(name) || wanted.primary_keys.contains(name)
    };
    let columns: Vec<&Column> = table.columns.iter().filter(chosen).collect();
    let described: Vec<&Described> = columns.iter().map(|column| &column.described).collect();
    let description = Description {
        key: table.key.clone(),
        schema: table.schema.clone(),
        table: table.name.clone(),
        columns: serde_json::to_string(&described).map_err(|error| Error::bug(format!("cannot write JSON: {error}")))?,
        identity: wanted.primary_keys.clone(),
    };
    let column = |column: &&Column| trigger::Column {
        name: column.described.name.clone(),
        number: column.number,
        type_oid: column.described.oid,
        type_modifier: column.type_modifier,
        encoding: column.described.encoding,
    };
    let number = |name: &String| table.columns.iter().find(|column| column.described.name == *name).map(|column| column.number);
    let columns =
        Columns { list: columns.iter().map(column).collect(), identity: wanted.primary_keys.iter().filter_map(number).collect(), every };
    let partitions = (table.kind == 'p').then(|| table.partitions.iter().map(|partition| partition.key.clone()).collect());
    let capture = Capture {
        table_oid: table.oid,
        row_type_oid: table.row_type_oid,
        schema: table.schema.clone(),
        table: table.name.clone(),
        key: table.key.clone(),
        columns,
        is_partition: table.is_partition,
        partitions,
    };
    Ok((capture, description))
}

/// Events under one version must all be read alike. The version is that of the
/// configuration, unless the same configuration once meant other columns: the
/// tables were altered since. Then a number is added.
fn free_version(version: &str, facts: &Facts, captures: &[(Capture, Description)]) -> String {
    let Some(managed) = &facts.managed else { return version.to_owned() };
    let fits = |version: &str| {
        captures.iter().all(|(capture, description)| match managed.relations.get(&(version.to_owned(), capture.key.clone())) {
            None => true,
            Some((columns, identity)) => *identity == description.identity && same_columns(columns, &description.columns),
        })
    };
    let numbered = (2_u64..).map(|number| format!("{version}.{number}"));
    std::iter::once(version.to_owned()).chain(numbered).find(|version| fits(version)).unwrap_or_else(|| version.to_owned())
}

/// Whether two descriptions are the same, however their JSON is written.
fn same_columns(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Vec<Described>>(text).ok();
    read(one) == read(other)
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::Begin => "the start of TRUNCATE",
            Self::Partition => "TRUNCATE of a partition",
            Self::Emptied => "the end of TRUNCATE of a partition",
        })
    }
}

/// Makes ready what belongs to a set for [`capture`] in the version of `scope`.
pub fn refresh(scope: &Scope<'_>, facts: &Facts) -> Result<Vec<Step>> {
    let Some((node, owner, _)) = facts.managed.as_ref().and_then(|managed| managed.node.as_ref()) else {
        return Err(Error::stop(
            Code::DatabaseAhead,
            format!("the database does not know the set {:?}; drop it with --force and create it again", scope.set),
        ));
    };
    if owner != scope.cluster_id {
        return Err(Error::stop(
            Code::DatabaseOfOther,
            format!("the database belongs to another cluster of this name ({owner}, this one is {})", scope.cluster_id),
        ));
    }
    let identify = schema::identify(scope.cluster, *node, scope.cluster_id, scope.version);
    let mut steps = vec![
        Step::new("complete the cluster's schema", schema::create(scope.cluster, facts.schemas)),
        Step::new(format!("record version {} of the cluster for node {node}", scope.version), identify),
    ];
    if facts.queue.is_none() {
        steps.push(Step::new("create the queue, which is gone", schema::create_queue(scope.cluster, scope.set)));
    }
    steps.extend(open_queue(scope, facts));
    Ok(steps)
}
