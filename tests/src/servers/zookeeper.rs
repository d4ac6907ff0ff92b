//! A single ZooKeeper server, from Debian's package.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pgshovel::error::Result;

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
        let port = port::free()?;
        let data = folder.join("data");
        let text = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=500\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
            data.display()
        );
        write(&folder.join("zoo.cfg"), &text)?;
        let mut server = Self { port, name: name.to_owned(), folder, fleet: Arc::clone(fleet), process: None };
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
