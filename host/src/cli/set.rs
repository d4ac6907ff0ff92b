//! `pgshovel set …`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};
use proto::interfaces::configurations::ReplicationSetConfiguration;
use serde_json::json;

use super::common::Common;
use super::output::{ListFormat, print_json, print_script, print_table, shown};
use super::queue::{self, Check, Seen};
use crate::admin::changer::{Changer, Unobserved};
use crate::admin::{self, Ready};
use crate::error::{Code, Error, Result};
use crate::postgres::{connect, own, rights, secret};
use crate::registry::StoredSet;

/// How many bytes a configuration may have: what ZooKeeper takes, with room to spare.
const CONFIGURATION_BYTES_MAX: u64 = 512 * 1024;

const EXAMPLE: &str = "\
Example of a configuration:
  database {
    dsn: \"host=localhost dbname=app user=app\"
  }
  tables {
    name: \"accounts\"
    primary_keys: \"id\"
  }
  tables {
    schema: \"sales\"
    name: \"orders\"
    primary_keys: \"shop\"
    primary_keys: \"number\"
    columns: \"total\"
  }

A table without `columns` is captured with every column, also with those added
later. ALTER TABLE needs no change of the set: events say what their rows were. They
are larger for that, and writes slower, until `set update` with the same configuration.

Events are in the order of writing, whatever triggers, foreign keys and functions of the
database write beside a statement. Rows are captured by the table that holds them: a
partitioned table whole, through whichever table it is written; of a table that others
inherit from its own rows, and those of the others by their own names.

What is not captured, and what has a limit:
  - Rows that a partition brings or takes along when it is attached, detached or dropped:
    the relay says which table, and about how many rows. And TRUNCATE of it alone,
    after it is attached, until the relay has seen it: that takes 10 seconds, or
    `set update` with the same configuration.
  - TRUNCATE of a partition alone fails in a REPEATABLE READ transaction, and where
    row-level security hides rows from the role of the set: its rows could not be told.
    And where the partition is another role's, and expressions of its indexes or
    statistics call functions of the database: they could run as the role of the set.
  - Unlogged, temporary and foreign tables, and views.
  - Databases whose encoding is SQL_ASCII or MULE_INTERNAL.
  - A row is written to the queue as JSON, an update as two; PostgreSQL takes
    less than 1 GB of both together, and of bytea a byte is two digits. A table with
    larger rows has to leave the column out (`columns`), or its writes fail.
  - A row of up to 100 MB passes relay and worker with `limits: { memory: 1GiB }`
    in the sections `stream`, `loader` and `target`; Kafka takes messages of up to
    104 MB, of which an update needs both rows, unless it is told otherwise. What is
    too large for them stops the relay or the worker with what to raise; nothing is
    lost, and it goes on from there at the next start.

Nobody needs a right on the schemas that a set makes, and `GRANT USAGE ON SCHEMA` of
pgshovel:CLUSTER lets a role call what writes events. The functions there refuse what
no statement of the session has written; who may use the schema (as members of
pg_read_all_data may), and in whose transaction a table is written, by himself or by a
function that he may call, is trusted with the events of that table.

A password is left out of the dsn, since ZooKeeper would show it (--store-password stores
it all the same). Each process gets its own: by a password file (PGPASSFILE, ~/.pgpass),
which is asked for each host; by --source-dsn, with the host; or by PGPASSWORD, which is
sent to servers only that --source-dsn, PGHOST or the configuration in FILE names.

TLS is as with libpq: sslmode (disable, allow, prefer, require, verify-ca, verify-full),
sslrootcert, sslcert, sslkey, sslpassword and channel_binding, their variables (PGSSLMODE,
…) and the files in ~/.postgresql. Only verify-full makes sure that it is the right server.
The files are read on the machine of each process that connects.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a replication set: from here on every change of its tables is captured.
    #[command(after_help = EXAMPLE)]
    Create {
        /// The name of the new set.
        name: String,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        roles: Roles,
    },
    /// List the replication sets, and how large and how far behind their queues are.
    /// Passwords are not printed.
    List {
        /// As what.
        #[arg(long, env = "PGSHOVEL_FORMAT", default_value = "table", value_name = "FORMAT")]
        format: ListFormat,
    },
    /// Print the configuration of a set, and its version on standard error.
    #[command(
        after_help = "Example, to change a set:\n  pgshovel set inspect app --show-secrets > app.pgshovel\n  $EDITOR app.pgshovel\n  pgshovel set update app app.pgshovel"
    )]
    Inspect {
        /// The set; NAME@VERSION fails if it is of another version.
        name: String,
        /// As what: `text` is what `set update` reads.
        #[arg(long, env = "PGSHOVEL_FORMAT", default_value = "text", value_name = "FORMAT")]
        format: InspectFormat,
        /// Print passwords too, instead of ********.
        #[arg(long, env = "PGSHOVEL_SHOW_SECRETS", value_parser = FalseyValueParser::new())]
        show_secrets: bool,
    },
    /// Look at queues and workers: what queues take on disk, who reads them, what is unread and
    /// how old, and how the worker is that leads. Fails if a queue is larger or older than it
    /// may be, if a table of its set is captured no more, or if its worker waits for what a
    /// person has to mend: for cron and monitoring.
    #[command(after_help = "Example:\n  pgshovel set check --all --queue-bytes-max 5000000000 --lag-max 600")]
    Check(Check),
    /// Change a set: its tables, their columns, its database.
    ///
    /// No change of a row is lost, whatever writes to the tables meanwhile. What an
    /// added table or column holds already is not in the stream: `replicate --bootstrap`
    /// loads it. A set whose database is another one moves
    /// there, once its relay has published what the old one captured; workers then have
    /// to be told `replicate --allow-node`, or `--bootstrap`.
    ///
    /// Where transactions hold locks on the tables it is tried again for half a minute,
    /// and nobody waits behind it for longer than half a second at a time.
    #[command(after_help = EXAMPLE)]
    Update {
        /// The set; NAME@VERSION fails if it was changed since it was of that version.
        name: String,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        roles: Roles,
    },
    /// Drop a set: its triggers, functions and queue, and nothing else.
    Drop {
        /// The set; NAME@VERSION fails if it was changed since it was of that version.
        name: String,
        /// Also if its database is gone: only ZooKeeper is changed then.
        #[arg(long, env = "PGSHOVEL_FORCE", value_parser = FalseyValueParser::new())]
        force: bool,
        /// Print the steps and their SQL, and take none.
        #[arg(long, env = "PGSHOVEL_DRY_RUN", value_parser = FalseyValueParser::new())]
        dry_run: bool,
    },
}

/// Where a configuration comes from, and what is done with it.
#[derive(Args, Debug)]
pub struct Source {
    /// The configuration, in protobuf text format; - is standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// Print the steps and their SQL, and take none.
    #[arg(long, env = "PGSHOVEL_DRY_RUN", value_parser = FalseyValueParser::new())]
    dry_run: bool,
    /// Store the password that is in the configuration's connection string, where everybody can
    /// read it who reaches ZooKeeper, its logs and its backups.
    #[arg(long, env = "PGSHOVEL_STORE_PASSWORD", value_parser = FalseyValueParser::new())]
    store_password: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum InspectFormat {
    /// Protobuf text format.
    Text,
    /// For a person.
    Table,
    /// One object.
    Json,
}

/// The roles that a set's processes connect as.
#[derive(Args, Debug)]
pub struct Roles {
    /// Grant this role what a relay needs, and no more; it must exist. To grant pgq_reader
    /// takes a superuser, or its admin option.
    #[arg(long, env = "PGSHOVEL_RELAY_ROLE", value_name = "ROLE")]
    relay_role: Option<String>,
    /// Grant this role what a worker needs while it bootstraps, and no more: to read the
    /// tables. It must exist. `set drop` does not take it back.
    #[arg(long, env = "PGSHOVEL_LOADER_ROLE", value_name = "ROLE")]
    loader_role: Option<String>,
}

impl Roles {
    const fn is_empty(&self) -> bool {
        self.relay_role.is_none() && self.loader_role.is_none()
    }

    /// The statements that grant the rights of both, or of those that are named.
    fn statements(&self, cluster: &str, configuration: &ReplicationSetConfiguration) -> Vec<String> {
        let name = |role: &Option<String>, other: &Option<String>, stand_in: &str| {
            role.clone().or_else(|| other.is_none().then(|| stand_in.to_owned()))
        };
        let relay = name(&self.relay_role, &self.loader_role, "relay_role");
        let loader = name(&self.loader_role, &self.relay_role, "loader_role");
        let mut statements = relay.map(|role| rights::relay(cluster, &role)).unwrap_or_default();
        statements.extend(loader.map(|role| rights::loader(cluster, &role, configuration)).unwrap_or_default());
        statements
    }
}

pub async fn run(common: &Common, command: &Command) -> Result<()> {
    match command {
        Command::Create { name, source, roles } => {
            crate::names::check_set(name)?;
            let wanted = source.read()?;
            let granted = wanted.clone();
            let version = crate::registry::set::version(&wanted);
            let (cluster, configuration) = common.open().await?;
            let changer = Changer::new(&cluster, &configuration, &Unobserved);
            let ready = changer.create(name, wanted).await?;
            carry_out(&changer, ready, source.dry_run, &format!("created the set {name:?}, version {version}")).await?;
            give(common, source, roles, &granted).await?;
            if !source.dry_run
                && let Some(advice) = admin::advice_on_pgq(&granted.database.dsn).await?
            {
                println!("{}", shown(&advice));
            }
            if roles.is_empty() && !source.dry_run {
                println!("The processes need these rights, and no more; --relay-role and --loader-role grant them:");
                print_statements(&roles.statements(&common.cluster, &granted));
            }
            Ok(())
        }
        Command::Update { name, source, roles } => {
            let (name, expected) = split(name);
            let wanted = source.read()?;
            let granted = wanted.clone();
            let version = crate::registry::set::version(&wanted);
            let (cluster, configuration) = common.open().await?;
            let changer = Changer::new(&cluster, &configuration, &Unobserved);
            let ready = changer.update(name, expected, wanted).await?;
            carry_out(&changer, ready, source.dry_run, &format!("updated the set {name:?}, version {version}")).await?;
            give(common, source, roles, &granted).await
        }
        Command::Drop { name, force, dry_run } => {
            let (name, expected) = split(name);
            let (cluster, configuration) = common.open().await?;
            let changer = Changer::new(&cluster, &configuration, &Unobserved);
            let ready = changer.drop(name, expected, *force).await?;
            carry_out(&changer, ready, *dry_run, &format!("dropped the set {name:?}")).await
        }
        Command::Check(check) => queue::check(common, check).await,
        Command::List { format } => list(common, *format).await,
        Command::Inspect { name, format, show_secrets } => inspect(common, name, *format, *show_secrets).await,
    }
}

/// Grants the rights, or prints what would.
async fn give(common: &Common, source: &Source, roles: &Roles, configuration: &ReplicationSetConfiguration) -> Result<()> {
    if roles.is_empty() {
        return Ok(());
    }
    let statements = roles.statements(&common.cluster, configuration);
    if source.dry_run {
        println!();
        print_statements(&statements);
        return Ok(());
    }
    admin::grant(&configuration.database.dsn, &statements)
        .await
        .map_err(|error| error.context("the set is as it should be, but not all rights are granted; `set update` does that, too"))?;
    println!(
        "granted what these roles need: {}",
        [&roles.relay_role, &roles.loader_role].into_iter().flatten().cloned().collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

fn print_statements(statements: &[String]) {
    for statement in statements {
        println!("  {statement};");
    }
}

async fn carry_out(changer: &Changer<'_>, ready: Ready, dry_run: bool, done: &str) -> Result<()> {
    if dry_run {
        print_script(&changer.script(&ready)?)?;
        return Ok(());
    }
    let advice = ready.advice();
    changer.run(ready).await?;
    println!("{done}");
    if let Some(advice) = advice {
        println!("{}", shown(&advice));
    }
    Ok(())
}

/// NAME or NAME@VERSION.
fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('@').map_or((name, None), |(name, version)| (name, Some(version)))
}

impl Source {
    /// The configuration. What it names, PGPASSWORD may be sent to.
    fn read(&self) -> Result<ReplicationSetConfiguration> {
        let wanted = read(&self.file)?;
        let dsn = &wanted.database.dsn;
        if !self.store_password && secret::has_password(dsn) && !secret::is_masked(dsn) {
            return Err(Error::configure(
                Code::PasswordExposed,
                "database.dsn: the connection string has a password, and everybody who reaches ZooKeeper can read what is stored there: leave it out, and give each \
                 process PGSHOVEL_SOURCE_DSN, PGPASSWORD or a password file (PGPASSFILE, ~/.pgpass), or a client's certificate (sslcert); to store it all the same, add --store-password",
            ));
        }
        own::name(dsn);
        Ok(wanted)
    }
}

fn read(file: &Path) -> Result<ReplicationSetConfiguration> {
    let stdin = file == Path::new("-");
    let shown = if stdin { "standard input".to_owned() } else { file.display().to_string() };
    let unreadable = |error: std::io::Error| Error::configure(Code::FileUnreadable, format!("cannot read {shown}: {error}"));
    let mut text = String::new();
    let limit = CONFIGURATION_BYTES_MAX + 1;
    let length = if stdin {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    if length.map_err(unreadable)? as u64 >= limit {
        return Err(Error::configure(
            Code::FileUnreadable,
            format!("{shown} is larger than {CONFIGURATION_BYTES_MAX} bytes, which no configuration is"),
        ));
    }
    if text.trim().is_empty() {
        return Err(Error::configure(
            Code::FileUnreadable,
            format!("{shown} is empty; it takes a configuration such as `pgshovel set create --help` shows"),
        ));
    }
    proto::text::parse(&text).map_err(|error| Error::configure(Code::SetConfigurationInvalid, format!("{shown}, {error}")))
}

async fn list(common: &Common, format: ListFormat) -> Result<()> {
    let cluster = common.connect().await?;
    cluster.configuration().await?;
    let mut sets = Vec::new();
    for name in cluster.set_names().await? {
        sets.extend(cluster.find_set(&name).await?);
    }
    let mut sets = queue::look_all(&cluster, sets).await;
    sets.iter_mut().for_each(|seen| hide(&mut seen.set));
    match format {
        ListFormat::Json => print_json(&sets.iter().map(as_json).collect::<Vec<_>>()),
        ListFormat::Table => {
            let header = ["SET", "VERSION", "DATABASE", "QUEUE", "LAG", "TABLES"].map(str::to_owned).to_vec();
            let rows = sets.iter().map(|Seen { set, queue }| {
                let tables = tables(&set.configuration).join(", ");
                vec![set.name.clone(), set.version.clone(), place(&set.configuration), queue::disk(queue), queue::lag(queue), tables]
            });
            print_table(std::iter::once(header).chain(rows).collect())?;
            Ok(())
        }
    }
}

async fn inspect(common: &Common, name: &str, format: InspectFormat, show_secrets: bool) -> Result<()> {
    let (name, expected) = split(name);
    let cluster = common.connect().await?;
    cluster.configuration().await?;
    let mut set = cluster.set(name).await?;
    if let Some(expected) = expected.filter(|expected| *expected != set.version) {
        return Err(Error::stop(Code::ChangedMeanwhile, format!("the set {name:?} is of version {}, not {expected}", set.version)));
    }
    // What `set update` reads is in ZooKeeper alone.
    let queue = match format {
        InspectFormat::Text => None,
        InspectFormat::Json | InspectFormat::Table => Some(queue::look(&cluster, &set).await),
    };
    if !show_secrets {
        hide(&mut set);
    }
    match (format, queue) {
        (InspectFormat::Json, Some(queue)) => print_json(&as_json(&Seen { set, queue })),
        (InspectFormat::Table, Some(queue)) => {
            println!("set:      {}\nversion:  {}\ndatabase: {}", set.name, set.version, set.configuration.database.dsn);
            println!("queue:    {} of disk, {} behind\n", queue::disk(&queue), queue::lag(&queue));
            if let Ok(queue) = &queue {
                let header = ["CONSUMER", "UNREAD", "LAG", "RELAY"].map(str::to_owned).to_vec();
                print_table(std::iter::once(header).chain(queue::consumers(queue, &[])).collect())?;
                println!();
            }
            let header = ["TABLE", "IDENTITY", "COLUMNS"].map(str::to_owned).to_vec();
            let rows = set.configuration.tables.iter().zip(tables(&set.configuration)).map(|(table, name)| {
                let columns = if table.columns.is_empty() { "all".to_owned() } else { table.columns.join(", ") };
                vec![name, table.primary_keys.join(", "), columns]
            });
            print_table(std::iter::once(header).chain(rows).collect())?;
            Ok(())
        }
        _ => {
            eprintln!("version: {}", set.version);
            print!("{}", proto::text::print(&set.configuration));
            Ok(())
        }
    }
}

fn hide(set: &mut StoredSet) {
    set.configuration.database.dsn = secret::mask(&set.configuration.database.dsn);
}

/// Passwords stay only if the caller left them in.
fn as_json(seen: &Seen) -> serde_json::Value {
    let set = &seen.set;
    let tables: Vec<serde_json::Value> = set
        .configuration
        .tables
        .iter()
        .map(|table| json!({"schema": table.schema(), "name": table.name, "primary_keys": table.primary_keys, "columns": table.columns}))
        .collect();
    let mut object =
        json!({"name": set.name, "version": set.version, "database": {"dsn": set.configuration.database.dsn}, "tables": tables});
    seen.add_to(&mut object);
    object
}

fn tables(configuration: &ReplicationSetConfiguration) -> Vec<String> {
    configuration.tables.iter().map(|table| format!("{}.{}", table.schema(), table.name)).collect()
}

fn place(configuration: &ReplicationSetConfiguration) -> String {
    connect::parse(&configuration.database.dsn)
        .map_or_else(|_| "(not a valid connection string)".to_owned(), |config| connect::describe(&config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_follows_an_at() {
        assert_eq!(split("app"), ("app", None));
        assert_eq!(split("app@0123"), ("app", Some("0123")));
    }
}
