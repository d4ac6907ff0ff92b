//! A single ZooKeeper server, from Debian's package.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pgshovel::error::{Error, Result};
use tokio::task::block_in_place;
use zookeeper_client as zookeeper;

use super::{Fleet, Process, await_ready, create_folder, port, write};

/// A running server, that forgets all when it is dropped.
#[derive(Debug)]
pub struct ZooKeeper {
    pub port: u16,
    name: String,
    folder: PathBuf,
    fleet: Arc<Fleet>,
    process: Option<Process>,
}

impl ZooKeeper {
    pub fn create(fleet: &Arc<Fleet>, name: &str) -> Result<Self> {
        let folder = fleet.folder().join(name);
        create_folder(&folder)?;
        let mut server = Self { port: port::free()?, name: name.to_owned(), folder, fleet: Arc::clone(fleet), process: None };
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
        write(&self.folder.join("zoo.cfg"), &text)
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
        let class_path = format!("{}:/usr/share/java/zookeeper.jar", self.folder.display());
        let mut command = Command::new("java");
        command
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
            std::fs::remove_dir_all(&data).map_err(|error| Error::stop(format!("cannot remove {}: {error}", data.display())))?;
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
    Error::retry(format!("ZooKeeper: {error}"))
}

/// All nodes that are nobody's session's, each behind the one above it.
async fn nodes(hosts: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let client = zookeeper::Client::connect(hosts).await.map_err(explain)?;
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(path) = open.pop() {
        let node = if path.is_empty() { "/" } else { &path };
        // Whoever changes something may be at work.
        let children = match client.list_children(node).await {
            Err(zookeeper::Error::NoNode) => continue,
            children => children.map_err(explain)?,
        };
        open.extend(children.iter().map(|child| format!("{path}/{child}")).filter(|path| path != "/zookeeper"));
        match client.get_data(node).await {
            Ok((data, stat)) if stat.ephemeral_owner == 0 && !path.is_empty() => found.push((path, data)),
            Ok(_) | Err(zookeeper::Error::NoNode) => {}
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(found)
}

async fn put(hosts: &str, nodes: Vec<(String, Vec<u8>)>) -> Result<()> {
    let client = zookeeper::Client::connect(hosts).await.map_err(explain)?;
    let options = zookeeper::CreateMode::Persistent.with_acls(zookeeper::Acls::anyone_all());
    for (path, data) in nodes {
        client.create(&path, &data, &options).await.map_err(explain)?;
    }
    Ok(())
}
