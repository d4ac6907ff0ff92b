//! The servers and the processes that break, and how they are started again.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgshovel::error::{Code, Error, Result};
use pgshovel::postgres::connect::{connect, explain};
use tokio::time::sleep;
use zookeeper_client as zookeeper;

use super::admin::Admin;
use super::network::{Network, Server};
use super::task::{Ports, SET};
use super::things;
use crate::screen::Screen;
use crate::servers::{Fleet, Kafka, Process, port};
use crate::stage::{Stage, Stream, ZOOKEEPER_USER, finish};

/// Each with its key. The last one nobody writes, so that it may leave the set and come back.
pub const TABLES: [(&str, &[&str]); 7] = [
    ("pgbench_accounts", &["aid"]),
    ("pgbench_branches", &["bid"]),
    ("pgbench_tellers", &["tid"]),
    ("pgbench_history", &["id"]),
    ("things", &["id"]),
    ("Odd \"pairs\"", &["left_half", "Right half"]),
    ("calm", &["id"]),
];
/// Of the leaders' place in ZooKeeper.
const CLUSTER: &str = "default";
const LEADS_WITHIN: Duration = Duration::from_secs(120);
/// Far faster than anybody would want it: a queue's tables turn many times a run.
const ROTATION_PERIOD_S: &str = "5";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Relay,
    Worker,
}

/// Two relays and two workers of one set, and what they work with.
#[derive(Debug)]
pub struct Cast {
    pub stage: Stage,
    pub stream: Stream,
    pub network: Network,
    pub members: Vec<Member>,
    pub admin: Admin,
}

#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    pub role: Role,
    pub process: Process,
}

const MEMBERS: [(Role, &str); 4] =
    [(Role::Relay, "relay-1"), (Role::Relay, "relay-2"), (Role::Worker, "worker-1"), (Role::Worker, "worker-2")];

impl Cast {
    pub async fn gather(screen: &mut Screen, fleet: &Arc<Fleet>, stream: Stream) -> Result<Self> {
        screen.begin("starting private servers");
        let ports = Ports { source: port::free()?, target: port::free()?, zookeeper: port::free()?, broker: port::free()? };
        let mut stage = Stage::set_behind(fleet, stream, Some(ports.broker)).await?;
        stage.zookeeper_hosts = format!("127.0.0.1:{}", ports.zookeeper);
        let mut network = Network::default();
        network.link(ports.source, Server::Source, stage.source.port).await?;
        network.link(ports.target, Server::Target, stage.target.port).await?;
        network.link(ports.zookeeper, Server::ZooKeeper, stage.zookeeper.port).await?;
        if let Some(kafka) = &stage.kafka {
            network.link(ports.broker, Server::Broker, kafka.port).await?;
        }
        screen.done("servers started");
        screen.begin("making tables and sets");
        fill(&stage).await?;
        configure(&stage, &ports, stream)?;
        stage.administer(&["cluster", "initialize"]).await?;
        stage.administer(&["set", "create", SET, "all.pgshovel"]).await?;
        let admin = Admin::begin(&stage, &ports).await?;
        screen.done("tables and sets made");
        let mut cast = Self { stage, stream, network, members: Vec::new(), admin };
        for (role, name) in MEMBERS {
            let process = cast.start(role, name)?;
            cast.members.push(Member { name, role, process });
        }
        Ok(cast)
    }

    fn start(&self, role: Role, name: &'static str) -> Result<Process> {
        let mut command = self.stage.command(match role {
            Role::Relay => &["relay", "all.yaml", SET, "--rotation-period", ROTATION_PERIOD_S],
            Role::Worker => &["replicate", "all.yaml", SET],
        })?;
        let process = self.stage.process(name, name, &mut command, "TERM")?;
        self.network.introduce(process.pid(), name);
        Ok(process)
    }

    /// Kills members, all of which run.
    pub fn kill(&mut self, indices: &[usize]) -> Result<()> {
        self.all_run()?;
        indices.iter().try_for_each(|index| self.member(*index)?.process.kill().map(drop))
    }

    /// Starts a member that was killed.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let Member { role, name, .. } = *self.member(index)?;
        let process = self.start(role, name)?;
        self.member(index)?.process = process;
        Ok(())
    }

    pub fn member(&mut self, index: usize) -> Result<&mut Member> {
        self.members.get_mut(index).ok_or_else(|| Error::bug("no such member"))
    }

    /// Nobody ends by himself.
    pub fn all_run(&mut self) -> Result<()> {
        for member in &mut self.members {
            if let Some(status) = member.process.exited()? {
                let tail = member.process.tail();
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!("{} ended by itself ({status}); its log ends with:\n{tail}", member.name),
                ));
            }
        }
        Ok(())
    }

    /// Who of a role leads, and who stands by. Waits until that is settled.
    pub async fn leader_and_standby(&mut self, role: Role) -> Result<(usize, usize)> {
        let started = Instant::now();
        loop {
            let pid = leader_pid(&self.stage.zookeeper.hosts(), role).await;
            let found = |pid: &u32| self.members.iter().position(|member| member.role == role && member.process.pid() == *pid);
            if let Some(leader) = pid.as_ref().ok().and_then(found) {
                let standby = self.members.iter().enumerate().find(|(index, member)| member.role == role && *index != leader);
                return standby.map(|(index, _)| (leader, index)).ok_or_else(|| Error::bug("nobody stands by"));
            }
            self.all_run()?;
            if started.elapsed() > LEADS_WITHIN {
                return Err(Error::stop(
                    Code::ToolFailed,
                    format!("no {role:?} that runs has led for {} s: {pid:?}", LEADS_WITHIN.as_secs()),
                ));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// As the stage's processes are.
fn known() -> zookeeper::Connector {
    zookeeper::Client::connector().with_auth("digest", ZOOKEEPER_USER.as_bytes())
}

/// Of the process at the head of the line: see `registry/lease.rs` of the host.
async fn leader_pid(hosts: &str, role: Role) -> Result<u32> {
    let explain = |error: zookeeper::Error| Error::retry(Code::ToolFailed, format!("ZooKeeper: {error}"));
    let client = known().connect(hosts).await.map_err(explain)?;
    let line = format!("/{CLUSTER}/leaders/{SET}");
    let prefix = match role {
        Role::Relay => "relay-",
        Role::Worker => "worker-",
    };
    let names = client.list_children(&line).await.map_err(explain)?;
    let places = names.iter().filter_map(|name| Some((name.strip_prefix(prefix)?.parse::<u64>().ok()?, name)));
    let (_, first) = places.min().ok_or_else(|| Error::retry(Code::ToolFailed, "nobody stands in line"))?;
    let (token, _) = client.get_data(&format!("{line}/{first}")).await.map_err(explain)?;
    let token = String::from_utf8_lossy(&token);
    let pid = token.split(' ').next().and_then(|pid| pid.parse().ok());
    pid.ok_or_else(|| Error::bug(format!("a candidate calls itself {token:?}")))
}

/// Names of changes in flight.
pub async fn in_flight(stage: &Stage) -> Result<Vec<String>> {
    let explain = |error: zookeeper::Error| Error::retry(Code::ToolFailed, format!("ZooKeeper: {error}"));
    let client = known().connect(&stage.zookeeper.hosts()).await.map_err(explain)?;
    match client.list_children(&format!("/{CLUSTER}/pending")).await {
        Ok(names) => Ok(names),
        Err(zookeeper::Error::NoNode) => Ok(Vec::new()),
        Err(error) => Err(explain(error)),
    }
}

/// Rows that were applied to the target's history, each time they were: an update
/// that is applied twice shows nowhere, an insert does.
const LEDGER: &str = "
CREATE TABLE ledger (id bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ledger VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER note AFTER INSERT ON pgbench_history FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE pgbench_history ENABLE ALWAYS TRIGGER note;";

async fn fill(stage: &Stage) -> Result<()> {
    let tables = format!(
        "ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY; CREATE TABLE calm (id int PRIMARY KEY); {}",
        things::CREATE
    );
    for (server, database, steps) in [(&stage.source, "source", "dtgp"), (&stage.target, "target", "dtp")] {
        finish(server.client("pgbench", database).args(["-i", "-q", "-I", steps]), "pgbench -i").await?;
        let client = connect(&server.dsn(database), "chaos").await?;
        client.batch_execute(&tables).await.map_err(|error| explain(&error).context("making the tables"))?;
    }
    let client = connect(&stage.target.dsn("target"), "chaos").await?;
    client.batch_execute(LEDGER).await.map_err(|error| explain(&error).context("making the ledger"))
}

/// `all.pgshovel`, and `fewer.pgshovel` without the last table; `all.yaml` for the members.
fn configure(stage: &Stage, ports: &Ports, stream: Stream) -> Result<()> {
    let escape = |name: &str| name.replace('"', "\\\"");
    let table = |(name, keys): &(&str, &[&str])| {
        let keys: String = keys.iter().map(|key| format!(" primary_keys: \"{}\"", escape(key))).collect();
        format!("tables {{ name: \"{}\"{keys} }}\n", escape(name))
    };
    let tables: Vec<String> = TABLES.iter().map(table).collect();
    let database = format!("database {{ dsn: \"host=127.0.0.1 port={} user=postgres dbname=source\" }}\n", ports.source);
    stage.write("all.pgshovel", &format!("{database}{}", tables.concat()))?;
    stage.write("fewer.pgshovel", &format!("{database}{}", tables[..TABLES.len() - 1].concat()))?;
    let stream = match stream {
        Stream::File => "{ path: file.wasm, grants: { files: { path: ./stream, mode: read-write } } }".to_owned(),
        Stream::Kafka => format!("{{ path: kafka.wasm, grants: {{ kafka: \"127.0.0.1:{}\" }} }}", ports.broker),
    };
    let target = format!("postgresql://postgres@127.0.0.1:{}/target", ports.target);
    stage.write(
        "all.yaml",
        &format!(
            "stream: {stream}\nloader: {{ path: postgresql.wasm }}\n\
             target: {{ path: postgresql.wasm, grants: {{ postgres: \"{target}\" }} }}\n"
        ),
    )
}

/// A server that was killed starts where it stopped.
pub fn start_server(stage: &mut Stage, server: Server) -> Result<()> {
    tokio::task::block_in_place(|| match (server, &mut stage.kafka) {
        (Server::Source, _) => stage.source.stop().and_then(|()| stage.source.start()),
        (Server::Target, _) => stage.target.stop().and_then(|()| stage.target.start()),
        (Server::ZooKeeper, _) => stage.zookeeper.stop().and_then(|()| stage.zookeeper.start()),
        (Server::Broker, Some(kafka)) => kafka.stop().and_then(|()| kafka.start()),
        (Server::Broker, None) => Err(Error::bug("there is no broker")),
    })
}

/// Of a server's first process.
pub fn server_pid(stage: &Stage, server: Server) -> Result<u32> {
    let pid = match server {
        Server::Source => stage.source.pid(),
        Server::Target => stage.target.pid(),
        Server::ZooKeeper => stage.zookeeper.pid(),
        Server::Broker => stage.kafka.as_ref().and_then(Kafka::pid),
    };
    pid.ok_or_else(|| Error::bug(format!("{server:?} does not run")))
}

/// Sends a signal to a process and to its children: a PostgreSQL server is many.
/// It is stopped first, so that it makes no others meanwhile.
pub fn signal_all(pid: u32, signal: &str) -> Result<()> {
    let script = "kill -s STOP $2; pids=\"$2 $(cat /proc/$2/task/*/children 2>/dev/null)\"; kill -s \"$1\" $pids 2>/dev/null; true";
    let status = Command::new("sh").args(["-c", script, "sh", signal, &pid.to_string()]).status();
    status.map(drop).map_err(|error| Error::stop(Code::ToolFailed, format!("cannot run sh: {error}")))
}
