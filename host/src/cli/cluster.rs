//! `pgshovel cluster …`

use clap::Subcommand;
use proto::interfaces::configurations::ClusterConfiguration;
use uuid::Uuid;

use super::common::Common;
use super::output::{ListFormat, print_json, print_script, print_table};
use crate::admin;
use crate::admin::changer::{Changer, Unobserved};
use crate::admin::recover::Recovered;
use crate::error::{Code, Error, Result};
use crate::registry::acl::Closed;
use crate::registry::{Cluster, VERSION};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the cluster in ZooKeeper, and the chroot it is in.
    ///
    /// Does nothing if the cluster exists. Databases are not touched: each is made
    /// ready when the first set is created in it.
    #[command(after_help = "Example:\n  pgshovel --zookeeper-hosts zk1:2181,zk2:2181/pgshovel cluster initialize")]
    Initialize {
        /// Print what would be done, and do nothing.
        #[arg(long, env = "PGSHOVEL_DRY_RUN", value_parser = clap::builder::FalseyValueParser::new())]
        dry_run: bool,
    },
    /// Bring the cluster, and what it has in its databases, to the version of this program.
    ///
    /// All databases change together, or none does. With credentials for ZooKeeper the
    /// cluster's nodes are closed to everybody else first, of any version. Relays and workers of another
    /// series of versions stop; start those of this one afterwards.
    #[command(after_help = "Example:\n  pgshovel cluster upgrade --dry-run")]
    Upgrade {
        /// Also from a later version to an earlier one, and again to the same one; accepts a database that pg_upgrade has given a new identity.
        #[arg(long, env = "PGSHOVEL_FORCE", value_parser = clap::builder::FalseyValueParser::new())]
        force: bool,
        /// Print the steps and their SQL, and take none.
        #[arg(long, env = "PGSHOVEL_DRY_RUN", value_parser = clap::builder::FalseyValueParser::new())]
        dry_run: bool,
    },
    /// Finish or undo what commands left behind that died, and say what was done.
    ///
    /// Every command that changes a set does this for the set by itself first, and
    /// every relay from time to time. A command that still runs is waited for.
    Recover {
        /// As what.
        #[arg(long, env = "PGSHOVEL_FORMAT", default_value = "table", value_name = "FORMAT")]
        format: ListFormat,
        /// HOST:PORT/NAME of a database that a change in flight names, and that is ours although no set is
        /// in it. Where others can write to ZooKeeper such a change is not obeyed otherwise.
        #[arg(long, env = "PGSHOVEL_ALLOW_DATABASE", value_name = "PLACE")]
        allow_database: Vec<String>,
    },
}

pub async fn run(common: &Common, command: &Command) -> Result<()> {
    match command {
        Command::Initialize { dry_run } => initialize(common, *dry_run).await,
        Command::Upgrade { force, dry_run } => upgrade(common, *force, *dry_run).await,
        Command::Recover { format, allow_database } => recover(common, *format, allow_database).await,
    }
}

async fn initialize(common: &Common, dry_run: bool) -> Result<()> {
    let (name, hosts) = (&common.cluster, &common.zookeeper_hosts);
    if dry_run {
        crate::names::check_cluster(name)?;
        println!("-- in ZooKeeper at {hosts}, as far as they are missing: create the chroot, /{name} and /{name}/sets");
        return Ok(());
    }
    let (cluster, configuration, created) = common.ensemble()?.initialize(name).await?;
    if created {
        println!("created the cluster {name:?} of version {} in ZooKeeper at {hosts}", configuration.version);
    } else {
        println!("the cluster {name:?} of version {} exists in ZooKeeper at {hosts}", configuration.version);
    }
    cluster.tell_if_open().await
}

async fn upgrade(common: &Common, force: bool, dry_run: bool) -> Result<()> {
    let cluster = common.connect().await?;
    let configuration = cluster.configuration_of_any_version().await?;
    if later(&configuration.version, VERSION) && !force {
        return Err(Error::configure(
            Code::VersionDiffers,
            format!(
                "the cluster {:?} is of version {}, which is later than this pgshovel {VERSION}; run that one, or go back with --force",
                common.cluster, configuration.version
            ),
        ));
    }
    close(&cluster, dry_run).await?;
    if configuration.version == VERSION && configuration.id.is_some() && !force {
        println!("the cluster {:?} is of version {VERSION} already", common.cluster);
        return Ok(());
    }
    if configuration.id.is_none() {
        return adopt(&cluster, configuration, dry_run).await;
    }
    let changer = Changer::new(&cluster, &configuration, &Unobserved);
    changer.settle(crate::registry::pending::WHOLE_CLUSTER).await?;
    let basis = changer.basis().await?;
    let databases = admin::databases(&changer).await?;
    if dry_run {
        print_script(&admin::script::upgrade_script(&changer, VERSION, &databases).await?)?;
        return Ok(());
    }
    let count = databases.len();
    changer.upgrade(VERSION, basis, databases).await?;
    println!("the cluster {:?} and its {count} databases are of version {VERSION}", common.cluster);
    Ok(())
}

/// Lets the users of this process alone into the cluster's nodes, and says so.
async fn close(cluster: &Cluster, dry_run: bool) -> Result<()> {
    let access = cluster.access();
    if dry_run && access.is_known() {
        println!("-- in ZooKeeper: let {access} alone read and change /{} and all nodes below it", cluster.name());
        return Ok(());
    }
    match cluster.close().await? {
        Some(Closed { nodes, changed }) => {
            println!("{access} alone can read and change the {nodes} nodes of the cluster in ZooKeeper; {changed} had another ACL before");
            Ok(())
        }
        None => cluster.tell_if_open().await,
    }
}

/// A cluster of pgshovel 2015 has no id. Its sets are captured in another way, and
/// cannot be taken over.
async fn adopt(cluster: &Cluster, mut configuration: ClusterConfiguration, dry_run: bool) -> Result<()> {
    let revision = cluster.cluster_revision().await?;
    let sets = cluster.set_names().await?;
    if !sets.is_empty() {
        return Err(Error::configure(
            Code::ClusterOfOriginal,
            format!(
                "the cluster {:?} was made by pgshovel 2015 and has the sets {}; save them with `set inspect`, drop them with that pgshovel, upgrade the cluster, then create them again",
                cluster.name(),
                sets.join(", ")
            ),
        ));
    }
    if dry_run {
        println!("-- in ZooKeeper: set /{} to version {VERSION} and give it an id", cluster.name());
        return Ok(());
    }
    configuration.id = Some(Uuid::new_v4().to_string());
    VERSION.clone_into(&mut configuration.version);
    cluster.set_configuration(&configuration, revision).await?;
    println!("the cluster {:?} is of version {VERSION}", cluster.name());
    Ok(())
}

async fn recover(common: &Common, format: ListFormat, allowed: &[String]) -> Result<()> {
    let (cluster, configuration) = common.open().await?;
    let recovery = Changer::new(&cluster, &configuration, &Unobserved).naming(allowed).recover().await?;
    match format {
        ListFormat::Json => print_json(&recovery.done)?,
        ListFormat::Table if recovery.done.is_empty() && recovery.failed.is_none() => println!("nothing was left behind"),
        ListFormat::Table if recovery.done.is_empty() => {}
        ListFormat::Table => {
            let header = ["OUTCOME", "CHANGE", "SET", ""];
            let rows = std::iter::once(header).chain(recovery.done.iter().map(Recovered::cells));
            print_table(rows.map(|row| row.map(str::to_owned).to_vec()).collect())?;
        }
    }
    recovery.failed.map_or(Ok(()), Err)
}

/// Whether the version `one` comes after `other`, number by number.
fn later(one: &str, other: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> { version.split(['.', '-', '+']).map_while(|number| number.parse().ok()).collect() };
    numbers(one) > numbers(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_an_order() {
        assert!(later("0.10.0", "0.9.1") && later("1.0.0", "0.9.1"));
        assert!(!later("0.1.0", "0.1.0") && !later("0.1.0-dev", "0.1.0") && !later("x", "0.1.0"));
    }
}
