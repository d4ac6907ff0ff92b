//! `pgshovel stream lint|show CONFIG SET`

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use proto::batch::step::{Action, Options, Reader, Skip};
use proto::batch::{Batch, Id, Uuid};
use proto::codec::{self, Change, Columns, Message, Operation};
use proto::row::{self, Value};
use proto::strict;

use super::common::Common;
use super::output::print;
use super::plugin::Host;
use crate::config;
use crate::error::{Code, Error, Result};
use crate::plugins::{Context, Role, check, stream};
use crate::ports::{Entry, Stream as _};
use crate::printable::printable;
use crate::replicate::{place, situation};

/// The longest wait: a plugin counts it in milliseconds of 32 bits.
const WAIT_SECONDS_MAX: u64 = 24 * 60 * 60;

/// The most keys that --strict may know: 150 GB of memory.
const KEYS_MAX: u64 = 1_000_000_000;

/// What one call of the stream may return.
const NEXT_MESSAGES_MAX: u32 = 4096;

/// Look into streams.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Read a stream from its oldest message to its present end, and say whether a worker could.
    ///
    /// Prints counts. Ends with 1 at the first message that breaks the grammar
    /// `Begin, Mutation*, Commit | Rollback`, with its position, or that is none of
    /// pgshovel, and where there is no message at all: the name of the set may be wrong.
    /// A batch that is open at the end is not an error: a relay may be at work.
    ///
    /// With --strict it ends with 1, too, at the first committed event that cannot have
    /// happened after those before it: an insert whose key another row has, an update or
    /// delete of a row that is not there or had other values, an update to a key that is
    /// taken. What a stream does not show is not judged: the rows that a table had before
    /// the stream began, until an event touches them or a TRUNCATE removes them; after
    /// ALTER TABLE, the values that rows had before; and tables whose set was updated
    /// begin anew. It keeps two digests of each row, and no values.
    Lint {
        #[command(flatten)]
        input: Input,
        /// Check that each event can have happened.
        #[arg(long)]
        strict: bool,
        /// How many keys --strict knows at most, of all tables; beyond that it forgets those that
        /// no event touched for longest. Each takes up to 150 bytes of memory.
        #[arg(long, env = "PGSHOVEL_KEYS_MAX", default_value_t = strict::KEYS_MAX as u64, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
        keys_max: u64,
        /// How many messages may pass before the first one that begins a batch, in a stream whose
        /// oldest messages are no longer retained.
        #[arg(long, env = "PGSHOVEL_PRIMING_MESSAGES", default_value_t = Options::default().priming_messages_max, value_name = "COUNT")]
        priming_messages: u64,
        /// Let the stream change, once, to this node, as `replicate` does.
        #[arg(long, value_name = "UUID")]
        allow_node: Option<uuid::Uuid>,
        /// Let the epoch of the stream's relays fall, once, to this one, as `replicate` does.
        #[arg(long, value_name = "EPOCH")]
        allow_epoch: Option<u64>,
    },
    /// Print the messages of a stream, a line each: position, publisher, number, and what it says.
    ///
    /// Of a row only what identifies it is printed, unless --rows asks for all of it.
    Show {
        #[command(flatten)]
        input: Input,
        /// The position of the first message to print, as `show` and error messages print it.
        #[arg(long, value_name = "POSITION")]
        from: Option<String>,
        /// How many messages to print.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..), value_name = "COUNT")]
        limit: u64,
        /// Print whole rows, with what is secret in them.
        #[arg(long)]
        rows: bool,
    },
}

/// Which stream.
#[derive(clap::Args, Debug)]
pub struct Input {
    /// A YAML file with the section `stream`: that of the relay, or of the worker.
    pub configuration: PathBuf,
    /// The replication set.
    pub set: String,
    /// How long no message may come until that counts as the stream's end.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=WAIT_SECONDS_MAX))]
    pub wait: u64,
    #[command(flatten)]
    pub plugins: Host,
}

pub async fn run(common: &Common, command: &Command) -> Result<()> {
    match command {
        Command::Lint { input, strict, keys_max, priming_messages, allow_node, allow_epoch } => {
            let options = Options {
                priming_messages_max: *priming_messages,
                node_change: allow_node.map(uuid::Uuid::into_bytes),
                epoch_change: *allow_epoch,
                owner: Some((common.cluster.clone(), input.set.clone())),
            };
            let checker = strict
                .then(|| Strict { checker: strict::Checker::new(usize::try_from(*keys_max).unwrap_or(usize::MAX)), impossible: None });
            let mut lint = Lint { reader: Reader::new(options), counts: Counts::default(), strict: checker };
            let result = read(common, input, |entry| lint.read(entry).map(|()| true)).await;
            print(&lint.counts.to_string())?;
            if let Some(strict) = &lint.strict {
                print(&strict.to_string())?;
            }
            result?;
            if lint.counts.messages == 0 {
                return Err(Error::stop(
                    Code::StreamEmpty,
                    format!(
                        "the stream of set {0:?} holds no message: nothing was relayed yet, or no set has this name; `pgshovel set inspect {0}` knows",
                        input.set
                    ),
                ));
            }
            print(if *strict {
                "the stream is sound, and each event that was checked can have happened\n"
            } else {
                "the stream is sound\n"
            })
            .map(drop)
        }
        Command::Show { input, from, limit, rows } => {
            let (mut awaited, mut left) = (from.as_deref(), *limit);
            read(common, input, |entry| {
                if left > 0 && awaited.is_none_or(|from| from == place(entry.position)) {
                    awaited = None;
                    left = if print(&show(entry, *rows))? { left - 1 } else { 0 };
                }
                Ok(left > 0)
            })
            .await?;
            match awaited {
                None => Ok(()),
                Some(from) => Err(Error::usage(
                    Code::Usage,
                    format!("--from {from}: the stream holds no message at this position; show prints them all without it"),
                )),
            }
        }
    }
}

/// Hands all messages to `take`, until the stream ends or `take` has enough.
async fn read(common: &Common, input: &Input, mut take: impl FnMut(Entry<'_>) -> Result<bool>) -> Result<()> {
    let section = config::relay(&input.configuration)?.stream;
    let context = Context { cluster: common.cluster.clone(), set: input.set.clone() };
    let engine = input.plugins.engine()?;
    check(&engine, &section, Role::Stream).await?;
    let mut stream = stream::open(&engine, &section, &context).await?;
    stream.seek(None).await?;
    loop {
        let entries = stream.next(NEXT_MESSAGES_MAX, Duration::from_secs(input.wait)).await?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries.iter() {
            if !take(entry)? {
                return Ok(());
            }
        }
    }
}

/// A worker's reader, without a target.
struct Lint {
    reader: Reader,
    counts: Counts,
    strict: Option<Strict>,
}

/// Whether the events can have happened.
struct Strict {
    checker: strict::Checker,
    /// What is wrong with the batch that is open, should it commit.
    impossible: Option<Error>,
}

#[derive(Default)]
struct Counts {
    messages: u64,
    committed: u64,
    rolled_back: u64,
    /// Left open by a publisher that died, and sent again.
    discarded: u64,
    inserts: u64,
    updates: u64,
    deletes: u64,
    truncates: u64,
    retried: u64,
    fenced: u64,
    repeated: u64,
    primed: u64,
    publishers: HashSet<Id>,
    nodes: HashSet<Id>,
    first_tick: Option<u64>,
    /// Of the last batch committed.
    last_tick: Option<u64>,
    /// Of the batch that is open.
    open: Option<(u64, u64)>,
}

impl Lint {
    fn read(&mut self, entry: Entry<'_>) -> Result<()> {
        let at = |problem: String| format!("the message at position {}: {problem}", place(entry.position));
        let message =
            codec::decode(entry.message).map_err(|error| Error::stop(Code::MessageForeign, at(format!("is none of pgshovel: {error}"))))?;
        let publisher = message.header.publisher;
        let action = self.reader.step(message).map_err(|violation| match situation(&violation).1 {
            Code::EpochFell => Error::stop(Code::EpochFell, at(violation.to_string())),
            code => Error::stop(code, at(violation.to_string())),
        })?;
        if let Some(strict) = &mut self.strict {
            strict.step(&action, |problem| Error::stop(Code::EventImpossible, at(problem)))?;
        }
        let counts = &mut self.counts;
        counts.messages += 1;
        counts.publishers.insert(publisher);
        match action {
            Action::Begin { batch, discard } => counts.begin(&batch, discard),
            Action::Apply(mutation) => match mutation.change {
                row::Change::Insert(_) => counts.inserts += 1,
                row::Change::Update { .. } => counts.updates += 1,
                row::Change::Delete(_) => counts.deletes += 1,
                row::Change::Truncate => counts.truncates += 1,
            },
            Action::Commit => {
                counts.committed += 1;
                counts.last_tick = counts.open.take().map(|(_, end)| end);
            }
            Action::Rollback => {
                counts.rolled_back += 1;
                counts.open = None;
            }
            Action::Skip(Skip::Seen) => counts.retried += 1,
            Action::Skip(Skip::Fenced) => counts.fenced += 1,
            Action::Skip(Skip::Committed | Skip::Loaded) => counts.repeated += 1,
            Action::Skip(Skip::Priming) => counts.primed += 1,
        }
        Ok(())
    }
}

impl Strict {
    fn step(&mut self, action: &Action, at: impl Fn(String) -> Error) -> Result<()> {
        let checked = self.checker.step(action);
        match action {
            Action::Begin { .. } | Action::Rollback => self.impossible = None,
            Action::Commit => return self.impossible.take().map_or(Ok(()), Err),
            Action::Apply(_) if self.impossible.is_none() => {
                self.impossible = checked.err().map(|impossible| at(impossible.to_string()));
            }
            Action::Apply(_) | Action::Skip(_) => {}
        }
        Ok(())
    }
}

impl std::fmt::Display for Strict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let strict::Counts { checked, unchecked, forgotten } = self.checker.counts();
        writeln!(
            f,
            "checked      {checked} events wholly; {unchecked} of rows that the stream had not shown before, or of which it was forgotten"
        )?;
        writeln!(f, "keys         {} known, {forgotten} forgotten", self.checker.keys())
    }
}

impl Counts {
    fn begin(&mut self, batch: &Batch, discard: bool) {
        self.discarded += u64::from(discard);
        self.nodes.insert(batch.node);
        self.first_tick.get_or_insert(batch.start.id);
        self.open = Some((batch.start.id, batch.end.id));
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mutations = self.inserts + self.updates + self.deletes + self.truncates;
        writeln!(f, "messages     {} of {} publishers and {} nodes", self.messages, self.publishers.len(), self.nodes.len())?;
        writeln!(
            f,
            "batches      {} committed, {} rolled back, {} discarded with their publisher",
            self.committed, self.rolled_back, self.discarded
        )?;
        writeln!(
            f,
            "mutations    {mutations}: {} inserts, {} updates, {} deletes, {} truncates; those of batches sent twice count twice",
            self.inserts, self.updates, self.deletes, self.truncates
        )?;
        writeln!(
            f,
            "passed over  {} written again, {} of publishers that were superseded, {} of batches committed before, {} before the first batch",
            self.retried, self.fenced, self.repeated, self.primed
        )?;
        if let (Some(first), Some(last)) = (self.first_tick, self.last_tick) {
            writeln!(f, "committed    ticks {first} to {last}")?;
        }
        if let Some((start, end)) = self.open {
            writeln!(f, "open         the batch from tick {start} to {end}")?;
        }
        Ok(())
    }
}

/// One message, as a line.
fn show(entry: Entry<'_>, rows: bool) -> String {
    let place = place(entry.position);
    match codec::decode(entry.message) {
        Err(error) => format!("{place} no message of pgshovel ({} bytes): {error}\n", entry.message.len()),
        Ok(message) => {
            let Message { header, batch, operation, .. } = message;
            let publisher = Uuid(header.publisher);
            let epoch = header.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
            // Names and texts are the publisher's: they may steer a terminal.
            let said = printable(&say(&operation, rows), usize::MAX);
            format!("{place} {publisher}/{epoch} {} batch {} {said}\n", header.sequence, batch.id)
        }
    }
}

fn say(operation: &Operation<'_>, rows: bool) -> String {
    match operation {
        Operation::Begin(batch) => {
            let source = batch.source.as_ref().map(|source| format!(" set {:?} cluster {:?}", source.set, source.cluster));
            format!("begin ticks {} to {} node {}{}", batch.start.id, batch.end.id, Uuid(batch.node), source.unwrap_or_default())
        }
        Operation::Commit => "commit".to_owned(),
        Operation::Rollback => "rollback".to_owned(),
        Operation::Mutation(mutation) => {
            let shown = |columns: &Columns<'_>| row(columns, |name| rows || mutation.identity_columns.contains(&name));
            let change = match &mutation.change {
                Change::Insert(new) => format!("insert {}", shown(new)),
                Change::Update { before, after } => format!("update {} to {}", shown(before), shown(after)),
                Change::Delete(old) => format!("delete {}", shown(old)),
                Change::Truncate => "truncate".to_owned(),
            };
            format!("event {} transaction {} {}.{} {change}", mutation.id, mutation.transaction, mutation.schema, mutation.table)
        }
    }
}

/// `(id=7, name="a")`, of the columns that are `wanted`.
fn row(columns: &Columns<'_>, wanted: impl Fn(&str) -> bool) -> String {
    let named = columns.names.iter().zip(&columns.values).filter(|(name, _)| wanted(name));
    let shown: Vec<String> = named.map(|(name, value)| format!("{name}={}", datum(value))).collect();
    format!("({})", shown.join(", "))
}

fn datum(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => float.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}
