//! The processes that break, and how they are started again.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use pgshovel::error::{Error, Result};

use super::load::THINGS;
use super::network::Link;
use crate::screen::Screen;
use crate::servers::{Fleet, Kafka, Process};
use crate::stage::{Stage, Stream, finish};

pub const SET: &str = "chaos";
pub const TABLES: [&str; 5] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "things", "calm"];
const MEMBERS: [(&str, &str); 4] = [("relay", "relay-1"), ("relay", "relay-2"), ("replicate", "worker-1"), ("replicate", "worker-2")];

/// Two relays and two workers of one set, and what they work with.
#[derive(Debug)]
pub struct Cast {
    pub stage: Stage,
    pub to_source: Link,
    pub to_target: Link,
    pub to_zookeeper: Link,
    /// The relays, then the workers.
    pub members: Vec<Member>,
}

#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    role: &'static str,
    pub process: Process,
}

impl Cast {
    pub async fn gather(screen: &mut Screen, fleet: &Arc<Fleet>, stream: Stream) -> Result<Self> {
        screen.begin("starting private servers");
        let mut stage = Stage::set(fleet, stream).await?;
        let to_source = Link::to(stage.source.port).await?;
        let to_target = Link::to(stage.target.port).await?;
        let to_zookeeper = Link::to(stage.zookeeper.port).await?;
        stage.zookeeper_hosts = format!("{}:{}", Ipv4Addr::LOCALHOST, to_zookeeper.port);
        for (server, database, steps) in [(&stage.source, "source", "dtgp"), (&stage.target, "target", "dtp")] {
            finish(server.client("pgbench", database).args(["-i", "-q", "-I", steps]), "pgbench -i").await?;
            let tables = format!("{THINGS}; CREATE TABLE calm (id int PRIMARY KEY)");
            finish(server.client("psql", database).args(["-q", "-c", &tables]), "psql").await?;
        }
        configure(&stage, &to_source, &to_target, stream)?;
        stage.administer(&["cluster", "initialize"]).await?;
        stage.administer(&["set", "create", SET, "all.pgshovel"]).await?;
        let members = MEMBERS.iter().map(|(role, name)| Ok(Member { name, role, process: start(&stage, role, name)? }));
        let members = members.collect::<Result<_>>()?;
        screen.done("servers, two relays and two workers started");
        Ok(Self { stage, to_source, to_target, to_zookeeper, members })
    }

    /// Starts a member that was killed.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let member = self.members.get_mut(index).ok_or_else(|| Error::bug("no such member"))?;
        member.process = start(&self.stage, member.role, member.name)?;
        Ok(())
    }

    /// Nobody ends by himself.
    pub fn all_run(&mut self) -> Result<()> {
        for member in &mut self.members {
            if let Some(status) = member.process.exited()? {
                return Err(Error::stop(format!(
                    "{} ended by itself ({status}); its log ends with:\n{}",
                    member.name,
                    member.process.tail()
                )));
            }
        }
        Ok(())
    }
}

fn start(stage: &Stage, role: &str, name: &'static str) -> Result<Process> {
    let mut command = stage.command(&[role, "all.yaml", SET])?;
    stage.process(name, name, &mut command, "TERM")
}

/// `all.pgshovel` and `fewer.pgshovel`, without the table that nobody writes, take turns.
fn configure(stage: &Stage, source: &Link, target: &Link, stream: Stream) -> Result<()> {
    let keys = ["aid", "bid", "tid", "id", "id"];
    let table = |(name, key): (&&str, &str)| format!("tables {{ name: \"{name}\" primary_keys: \"{key}\" }}\n");
    let tables: Vec<String> = TABLES.iter().zip(keys).map(table).collect();
    let database = format!("database {{ dsn: \"host=127.0.0.1 port={} user=postgres dbname=source\" }}\n", source.port);
    stage.write("all.pgshovel", &format!("{database}{}", tables.concat()))?;
    stage.write("fewer.pgshovel", &format!("{database}{}", tables[..4].concat()))?;
    let stream = match stream {
        Stream::File => "{ path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }".to_owned(),
        Stream::Kafka => {
            format!("{{ path: kafka.wasm, grants: {{ kafka: \"{}\" }} }}", stage.kafka.as_ref().map(Kafka::bootstrap).unwrap_or_default())
        }
    };
    let target = format!("postgresql://postgres@127.0.0.1:{}/target", target.port);
    stage.write(
        "all.yaml",
        &format!(
            "stream: {stream}\nloader: {{ path: postgresql.wasm }}\ntarget: {{ path: postgresql.wasm, grants: {{ postgres: \"{target}\" }} }}\n"
        ),
    )
}

/// Sends a signal to a process and to its children: a PostgreSQL server is many.
pub fn signal_all(pid: u32, signal: &str) -> Result<()> {
    let script = "pids=\"$2 $(cat /proc/$2/task/*/children 2>/dev/null)\"; kill -s \"$1\" $pids 2>/dev/null; true";
    let status = Command::new("sh").args(["-c", script, "sh", signal, &pid.to_string()]).status();
    status.map(drop).map_err(|error| Error::stop(format!("cannot run sh: {error}")))
}
