//! A single ZooKeeper server, from Debian's package.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pgshovel::error::{Code, Error, Result};
use tokio::task::block_in_place;
use zookeeper_client as zookeeper;

use super::certificates::{Certificate, write_private};
use super::command::{create_folder, write};
use super::fleet::Fleet;
use super::port;
use super::process::{Process, await_ready};

/// Who may read and write all nodes, whatever their ACLs: with this the tests copy them.
const SUPER: &str = "super:super-secret";
/// The user, and the digest (SHA-1, base64) of all of [`SUPER`].
const SUPER_DIGEST: &str = "super:2KCAOlea08rlrYvOZvQwvrr82Jc=";

/// A running server, that forgets all when it is dropped.
#[derive(Debug)]
pub struct ZooKeeper {
    pub port: u16,
    /// Where it speaks TLS, if it does.
    pub secure_port: Option<u16>,
    /// What its configuration says of that.
    security: String,
    name: String,
    folder: PathBuf,
    fleet: Arc<Fleet>,
    process: Option<Process>,
}

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Security<'a> {
    /// TLS on a second port: the authority of clients' certificates, and its own certificate.
    pub tls: Option<(&'a Certificate, &'a Certificate)>,
    /// Users by SASL (DIGEST-MD5), with their passwords.
    pub users: &'a [(&'a str, &'a str)],
    /// Nobody else is served.
    pub demands_sasl: bool,
    /// Nobody without a certificate is served by TLS.
    pub demands_certificate: bool,
}

impl ZooKeeper {
    pub fn create(fleet: &Arc<Fleet>, name: &str) -> Result<Self> {
        Self::create_with(fleet, name, Security::default())
    }

    pub fn create_with(fleet: &Arc<Fleet>, name: &str, security: Security<'_>) -> Result<Self> {
        let folder = fleet.folder().join(name);
        create_folder(&folder)?;
        let secure_port = security.tls.map(|_| port::free()).transpose()?;
        let mut text = String::new();
        if let (Some((authority, certificate)), Some(secure_port)) = (security.tls, secure_port) {
            let (clients, own) = (folder.join("clients.pem"), folder.join("own.pem"));
            write_private(&clients, &authority.certificate_pem()?)?;
            write_private(&own, &[certificate.key_pem()?, certificate.certificate_pem()?].concat())?;
            text.push_str(&format!(
                "secureClientPort={secure_port}\nsecureClientPortAddress=127.0.0.1\n\
                 serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
                 ssl.keyStore.location={}\nssl.keyStore.type=PEM\nssl.trustStore.location={}\nssl.trustStore.type=PEM\n\
                 ssl.clientAuth={}\nssl.hostnameVerification=false\n",
                own.display(),
                clients.display(),
                if security.demands_certificate { "need" } else { "want" }
            ));
        }
        if !security.users.is_empty() {
            text.push_str("authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n");
            let users: String = security.users.iter().map(|(user, password)| format!(" user_{user}=\"{password}\"")).collect();
            write(
                &folder.join("jaas.conf"),
                &format!("Server {{ org.apache.zookeeper.server.auth.DigestLoginModule required{users}; }};\n"),
            )?;
        }
        if security.demands_sasl {
            text.push_str("enforce.auth.enabled=true\nenforce.auth.schemes=sasl\n");
        }
        let (name, fleet) = (name.to_owned(), Arc::clone(fleet));
        let mut server = Self { port: port::free()?, secure_port, security: text, name, folder, fleet, process: None };
        server.start()?;
        Ok(server)
    }

    fn configure(&self) -> Result<()> {
        let text = format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\ntickTime=500\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
            self.data().display(),
            self.port
        );
        write(&self.folder.join("zoo.cfg"), &format!("{text}{}", self.security))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Starts it where it stopped; returns when it serves.
    pub fn start(&mut self) -> Result<()> {
        self.configure()?;
        let log = self.fleet.folder().join(format!("{}.log", self.name));
        // The first names those that it needs in Debian, but one.
        let class_path = format!("{}:/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar", self.folder.display());
        let mut command = Command::new("java");
        let jaas = self.folder.join("jaas.conf");
        if jaas.exists() {
            command.arg(format!("-Djava.security.auth.login.config={}", jaas.display()));
        }
        command
            .arg(format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"))
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path])
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(self.folder.join("zoo.cfg"))
            .current_dir(&self.folder);
        let mut process = Process::start(&self.fleet, &format!("ZooKeeper ({})", self.name), &mut command, &log, "KILL")?;
        // It accepts connections before it serves them.
        await_ready(&mut process, || self.status().is_some_and(|status| status.contains("Mode:")))?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it; what it acknowledged is still there at the next start.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop().map(drop),
            None => Ok(()),
        }
    }

    /// Makes it one that was rebuilt: its data is removed, and its nodes are copied back, but
    /// those of sessions. Its transactions are counted from the beginning again. Clients see
    /// no server meanwhile. In a runtime of several threads.
    pub async fn refill(&mut self) -> Result<()> {
        self.forget().await?;
        block_in_place(|| self.start())
    }

    /// The first part of [`Self::refill`]: it does not run any more.
    pub async fn forget(&mut self) -> Result<()> {
        let nodes = nodes(&self.hosts()).await?;
        let (data, port) = (self.data(), self.port);
        block_in_place(|| {
            self.stop()?;
            std::fs::remove_dir_all(&data)
                .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot remove {}: {error}", data.display())))?;
            self.port = port::free()?;
            self.start()
        })?;
        put(&self.hosts(), nodes).await?;
        block_in_place(|| {
            self.stop()?;
            self.port = port;
            Ok(())
        })
    }

    /// As clients name it, without a chroot.
    #[must_use]
    pub fn hosts(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same, where it speaks TLS.
    #[must_use]
    pub fn secure_hosts(&self) -> Option<String> {
        self.secure_port.map(|port| format!("127.0.0.1:{port}"))
    }

    fn status(&self) -> Option<String> {
        let at_most = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], self.port)), at_most).ok()?;
        stream.set_read_timeout(Some(at_most)).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

fn explain(error: zookeeper::Error) -> Error {
    Error::retry(Code::ToolFailed, format!("ZooKeeper: {error}"))
}

fn all_powerful() -> zookeeper::Connector {
    zookeeper::Client::connector().with_auth("digest", SUPER.as_bytes())
}

/// A node's path, its data, and whom it lets in.
type Node = (String, Vec<u8>, Vec<zookeeper::Acl>);

/// All nodes that are nobody's session's, each behind the one above it.
async fn nodes(hosts: &str) -> Result<Vec<Node>> {
    let client = all_powerful().connect(hosts).await.map_err(explain)?;
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(path) = open.pop() {
        let node = if path.is_empty() { "/" } else { &path };
        // Whoever changes something may be at work.
        let children = match client.list_children(node).await {
            Err(zookeeper::Error::NoNode) => continue,
            children => children.map_err(explain)?,
        };
        open.extend(children.iter().map(|child| format!("{path}/{child}")).filter(|path| path != "/zookeeper"));
        match tokio::try_join!(client.get_data(node), client.get_acl(node)) {
            Ok(((data, stat), (acls, _))) if stat.ephemeral_owner == 0 && !path.is_empty() => found.push((path, data, acls)),
            Ok(_) | Err(zookeeper::Error::NoNode) => {}
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(found)
}

async fn put(hosts: &str, nodes: Vec<Node>) -> Result<()> {
    let client = all_powerful().connect(hosts).await.map_err(explain)?;
    for (path, data, acls) in nodes {
        let options = zookeeper::CreateMode::Persistent.with_acls(zookeeper::Acls::new(&acls));
        client.create(&path, &data, &options).await.map_err(explain)?;
    }
    Ok(())
}
