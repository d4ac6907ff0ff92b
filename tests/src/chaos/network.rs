//! The network between pgshovel's processes and the servers, which breaks where it
//! is told to.
//!
//! All processes come to one port per server. Who is at the other end of a
//! connection is found in /proc, so that one process can be cut off from a server
//! that the others still reach.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pgshovel::error::{Code, Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    Source,
    Target,
    ZooKeeper,
    Broker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Connections break, and no new one lives.
    Cut,
    /// Nothing arrives, and nobody is told: packets get lost.
    Silence,
}

/// Damage of the ways to some servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub damage: Damage,
    pub servers: Vec<Server>,
    /// The names of those that suffer; `None`: whoever comes.
    pub whom: Option<Vec<&'static str>>,
}

impl Fault {
    fn hits(&self, server: Server, name: Option<&'static str>) -> bool {
        let named = |whom: &Vec<&'static str>| name.is_some_and(|name| whom.contains(&name));
        self.servers.contains(&server) && self.whom.as_ref().is_none_or(named)
    }
}

/// The links to all servers. They end with this.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    links: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    faults: watch::Sender<Vec<Fault>>,
    names: Mutex<BTreeMap<u32, &'static str>>,
}

impl Default for Network {
    fn default() -> Self {
        let shared = Shared { faults: watch::Sender::new(Vec::new()), names: Mutex::default() };
        Self { shared: Arc::new(shared), links: JoinSet::new() }
    }
}

impl Network {
    /// From now on `port` leads to `server`, which listens on the port `to`.
    pub async fn link(&mut self, port: u16, server: Server, to: u16) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|error| Error::stop(Code::ToolFailed, format!("cannot listen on port {port}: {error}")))?;
        self.links.spawn(serve(Arc::clone(&self.shared), listener, Link { port, server, to }));
        Ok(())
    }

    /// Gives a process a name; its connections from now on are known by it.
    pub fn introduce(&self, pid: u32, name: &'static str) {
        let mut names = self.shared.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|_, other| *other != name);
        names.insert(pid, name);
    }

    /// Beside what is damaged already.
    pub fn damage(&self, fault: Fault) {
        self.shared.faults.send_modify(|faults| faults.push(fault));
    }

    pub fn mend(&self, fault: &Fault) {
        self.shared.faults.send_modify(|faults| faults.retain(|other| other != fault));
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    port: u16,
    server: Server,
    to: u16,
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, link: Link) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, address)) = accepted {
                    let name = shared.name(address, link.port);
                    let way = Way { faults: shared.faults.subscribe(), server: link.server, name };
                    connections.spawn(carry(client, way, link.to));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    /// The name of the process that connects from `client` to `port`.
    fn name(&self, client: SocketAddr, port: u16) -> Option<&'static str> {
        let inode = inode(client.port(), port)?;
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().find(|(pid, _)| holds(**pid, &inode)).map(|(_, name)| *name)
    }
}

/// Of the socket of 127.0.0.1 that is connected from port `from` to port `to`: see proc(5).
fn inode(from: u16, to: u16) -> Option<String> {
    let address = |port: u16| format!("{:08X}:{port:04X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()));
    let (from, to) = (address(from), address(to));
    let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
    sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let found = fields.get(1) == Some(&from.as_str()) && fields.get(2) == Some(&to.as_str());
        fields.get(9).filter(|_| found).map(|inode| (*inode).to_owned())
    })
}

fn holds(pid: u32, inode: &str) -> bool {
    let socket = format!("socket:[{inode}]");
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&socket)))
}

/// What a connection sees of the network.
#[derive(Clone)]
struct Way {
    faults: watch::Receiver<Vec<Fault>>,
    server: Server,
    name: Option<&'static str>,
}

impl Way {
    async fn wait_for(&mut self, wanted: impl Fn(&[Damage]) -> bool) {
        let (server, name) = (self.server, self.name);
        let suffered = |faults: &Vec<Fault>| -> Vec<Damage> {
            faults.iter().filter(|fault| fault.hits(server, name)).map(|fault| fault.damage).collect()
        };
        // Without a sender there is no network, and nobody to care.
        let _ = self.faults.wait_for(|faults| wanted(&suffered(faults))).await;
    }

    async fn unless_silent(&mut self) {
        self.wait_for(|damage| !damage.contains(&Damage::Silence)).await;
    }

    async fn cut(&mut self) {
        self.wait_for(|damage| damage.contains(&Damage::Cut)).await;
    }
}

/// Both ends are closed on return.
async fn carry(client: TcpStream, mut way: Way, to: u16) {
    let mut watched = way.clone();
    let both = async {
        way.unless_silent().await;
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
        // Without it every small answer waits for the one before.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::try_join!(copy(from_client, to_server, way.clone()), copy(from_server, to_client, way)).map(drop)
    };
    tokio::select! {
        biased;
        () = watched.cut() => {}
        // A connection that failed at one end ends at the other one.
        _ = both => {}
    }
}

/// Nothing passes in silence, not even the end.
async fn copy(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, mut way: Way) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await;
        way.unless_silent().await;
        match read? {
            0 => return to.shutdown().await,
            count => to.write_all(buffer.get(..count).unwrap_or_default()).await?,
        }
    }
}
