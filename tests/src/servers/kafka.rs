//! A single Apache Kafka broker in KRaft mode, from the jars that the install
//! script fetches with Maven.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use pgshovel::error::{Code, Error, Result};

use super::certificates::{Certificate, write_private};
use super::command::{create_folder, run, write};
use super::fleet::Fleet;
use super::port;
use super::process::{Process, await_ready};
use crate::paths;

/// Any 16 bytes in base64 will do: the cluster is alone.
const CLUSTER_ID: &str = "cGdzaG92ZWwtdGVzdHMtMQ";
const JAVA: [&str; 5] =
    ["-Xms192m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.showDateTime=true"];

/// A running broker. Topics are not made by themselves.
#[derive(Debug)]
pub struct Kafka {
    pub port: u16,
    /// Of a broker that speaks TLS and SASL too.
    pub secure: Option<SecurePorts>,
    name: String,
    folder: PathBuf,
    fleet: Arc<Fleet>,
    process: Option<Process>,
}

/// Where a broker asks clients who they are.
#[derive(Clone, Copy, Debug)]
pub struct SecurePorts {
    /// TLS, and a certificate of the client's.
    pub ssl: u16,
    /// SASL over TLS.
    pub sasl_ssl: u16,
    /// SASL without TLS, by PLAIN alone.
    pub sasl_plaintext: u16,
}

/// By SCRAM.
pub const ALICE: (&str, &str) = ("alice", "alice-secret");
/// By PLAIN.
pub const BOB: (&str, &str) = ("bob", "bob-secret");

impl Kafka {
    /// One that has ports for clients who say who they are, by a certificate of `authority`'s,
    /// or by SASL: [`ALICE`], [`BOB`], or whoever an unsigned token names.
    pub fn create_secure(fleet: &Arc<Fleet>, name: &str, authority: &Certificate, own: &Certificate) -> Result<Self> {
        let folder = fleet.folder().join(name);
        create_folder(&folder)?;
        write_private(&folder.join("clients.pem"), &authority.certificate_pem()?)?;
        write_private(&folder.join("own.pem"), &[own.key_pem()?, own.certificate_pem()?].concat())?;
        let (port, controller) = (port::free()?, port::free()?);
        let ports = SecurePorts { ssl: port::free()?, sasl_ssl: port::free()?, sasl_plaintext: port::free()? };
        let text = properties(port, port, controller, &folder.join("data").display().to_string());
        write(&folder.join("server.properties"), &format!("{text}{}", security(port, controller, ports)))?;
        let mut server = Self { port, secure: Some(ports), name: name.to_owned(), folder, fleet: Arc::clone(fleet), process: None };
        let mut format = server.java("kafka.tools.StorageTool")?;
        format.args(["format", "--cluster-id", CLUSTER_ID, "--config", "server.properties"]);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            format.args(["--add-scram", &format!("{mechanism}=[name={},password={}]", ALICE.0, ALICE.1)]);
        }
        run(&mut format)?;
        server.start()?;
        Ok(server)
    }

    pub fn create(fleet: &Arc<Fleet>, name: &str) -> Result<Self> {
        Self::create_behind(fleet, name, None)
    }

    /// As [`Kafka::create`], but clients are told to come to `advertised`, which has
    /// to lead to [`Kafka::port`].
    pub fn create_behind(fleet: &Arc<Fleet>, name: &str, advertised: Option<u16>) -> Result<Self> {
        let folder = fleet.folder().join(name);
        create_folder(&folder)?;
        let (port, controller) = (port::free()?, port::free()?);
        write(
            &folder.join("server.properties"),
            &properties(port, advertised.unwrap_or(port), controller, &folder.join("data").display().to_string()),
        )?;
        let server = Self { port, secure: None, name: name.to_owned(), folder, fleet: Arc::clone(fleet), process: None };
        run(server.java("kafka.tools.StorageTool")?.args(["format", "--cluster-id", CLUSTER_ID, "--config", "server.properties"]))?;
        let mut server = server;
        server.start()?;
        Ok(server)
    }

    /// Of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Starts it where it stopped; returns when it serves.
    pub fn start(&mut self) -> Result<()> {
        let log = self.fleet.folder().join(format!("{}.log", self.name));
        let seen = std::fs::metadata(&log).map_or(0, |data| data.len());
        let seen = usize::try_from(seen).unwrap_or(usize::MAX);
        let mut command = self.java("kafka.Kafka")?;
        command.arg("server.properties");
        let mut process = Process::start(&self.fleet, &format!("Kafka ({})", self.name), &mut command, &log, "KILL")?;
        await_ready(&mut process, || {
            let text = std::fs::read(&log).unwrap_or_default();
            text.get(seen..).is_some_and(|text| String::from_utf8_lossy(text).contains("Kafka Server started"))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it; what it wrote is still there at the next start.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop().map(drop),
            None => Ok(()),
        }
    }

    /// As clients name it.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn java(&self, class: &str) -> Result<Command> {
        let jars = match std::env::var_os("PGSHOVEL_KAFKA_JARS") {
            Some(folder) => PathBuf::from(folder),
            None => paths::build()?.join("kafka"),
        };
        if !jars.is_dir() {
            return Err(Error::stop(Code::ToolFailed, format!("Kafka's jars are not in {}; run `make install`", jars.display())));
        }
        let mut command = Command::new("java");
        command.args(JAVA).arg("-cp").arg(jars.join("*")).arg(class).current_dir(&self.folder);
        Ok(command)
    }
}

fn properties(port: u16, advertised: u16, controller: u16, data: &str) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=BROKER://127.0.0.1:{advertised}\n\
         listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=BROKER\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         num.partitions=1\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}

/// What stands last counts.
fn security(port: u16, controller: u16, ports: SecurePorts) -> String {
    let SecurePorts { ssl, sasl_ssl, sasl_plaintext } = ports;
    let clients = format!("SSL://127.0.0.1:{ssl},SASLSSL://127.0.0.1:{sasl_ssl},SASLPLAIN://127.0.0.1:{sasl_plaintext}");
    let security = "org.apache.kafka.common.security";
    let mut text = format!(
        "listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},{clients}\n\
         advertised.listeners=BROKER://127.0.0.1:{port},{clients}\n\
         listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASLSSL:SASL_SSL,SASLPLAIN:SASL_PLAINTEXT\n\
         ssl.keystore.type=PEM\nssl.keystore.location=own.pem\nssl.truststore.type=PEM\nssl.truststore.location=clients.pem\n\
         listener.name.ssl.ssl.client.auth=required\n\
         listener.name.saslssl.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER\n\
         listener.name.saslplain.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.saslssl.oauthbearer.sasl.jaas.config={security}.oauthbearer.OAuthBearerLoginModule required \
         unsecuredLoginStringClaim_sub=\"broker\";\n"
    );
    for mechanism in ["scram-sha-256", "scram-sha-512"] {
        text.push_str(&format!("listener.name.saslssl.{mechanism}.sasl.jaas.config={security}.scram.ScramLoginModule required;\n"));
    }
    for listener in ["saslssl", "saslplain"] {
        let (user, password) = BOB;
        text.push_str(&format!(
            "listener.name.{listener}.plain.sasl.jaas.config={security}.plain.PlainLoginModule required user_{user}=\"{password}\";\n"
        ));
    }
    text
}
