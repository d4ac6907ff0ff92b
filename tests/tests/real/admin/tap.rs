//! A connection to a server, on which a request is lost, or its reply, or all.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// A reply has come whole when nothing follows it for so long.
const QUIET: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    ZooKeeper,
    PostgreSql,
}

/// What does not arrive; then the connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Request,
    Reply,
}

/// Listens on a port of its own, which leads to a server.
#[derive(Debug)]
pub struct Tap {
    pub port: u16,
    shared: Arc<Shared>,
    frozen: watch::Sender<bool>,
    cut: watch::Sender<bool>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    /// How many lasting requests are still let through, and what is lost then.
    aim: Mutex<Option<(u32, Loss)>>,
    struck: Notify,
}

impl Tap {
    pub async fn to(port: u16, server: Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { server, aim: Mutex::new(None), struck: Notify::new() });
        let (frozen, seen) = watch::channel(false);
        let (cut, gone) = watch::channel(false);
        let mut task = JoinSet::new();
        let carried = Arc::clone(&shared);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (shared, seen, mut gone) = (Arc::clone(&carried), seen.clone(), gone.clone());
                connections.spawn(async move {
                    tokio::select! {
                        biased;
                        _ = gone.wait_for(|gone| *gone) => {}
                        () = carry(client, port, shared, seen) => {}
                    }
                });
            }
        });
        Self { port: own, shared, frozen, cut, _task: task }
    }

    /// Loses something of the request that comes after `spared` others. Only requests
    /// count that change what lasts.
    pub fn lose(&self, spared: u32, loss: Loss) {
        *self.shared.aim.lock().unwrap() = Some((spared, loss));
    }

    /// Loses nothing any more. Whether it still was to.
    pub fn spare(&self) -> bool {
        self.shared.aim.lock().unwrap().take().is_some()
    }

    /// Returns once something was lost.
    pub async fn struck(&self) {
        self.shared.struck.notified().await;
    }

    /// Breaks all connections and takes no new ones, as a server that is down; and is
    /// up again.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// Takes everything and passes on nothing, as a server that is stopped, or a
    /// network that swallows; and goes on.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

async fn carry(client: TcpStream, port: u16, shared: Arc<Shared>, frozen: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (mute, muted) = watch::channel(false);
    let replied = Notify::new();
    // Whichever ends, both connections break.
    tokio::select! {
        _ = requests(from_client, to_server, &shared, &mute, &replied, frozen.clone()) => {}
        _ = replies(from_server, to_client, muted, &replied, frozen) => {}
    }
}

async fn thawed(frozen: &mut watch::Receiver<bool>) {
    // The sender lives as long as the tap.
    let _ = frozen.wait_for(|frozen| !frozen).await;
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    muted: watch::Receiver<bool>,
    replied: &Notify,
    mut frozen: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        thawed(&mut frozen).await;
        if *muted.borrow() {
            replied.notify_one();
        } else {
            to.write_all(&buffer[..count]).await?;
        }
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    mute: &watch::Sender<bool>,
    replied: &Notify,
    mut frozen: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut greeted = false;
    loop {
        let (frame, greets) = read(&mut from, shared.server, greeted).await?;
        greeted |= greets;
        thawed(&mut frozen).await;
        let lost = if lasting(shared.server, &frame) { shared.aimed_at() } else { None };
        match lost {
            None => to.write_all(&frame).await?,
            Some(Loss::Request) => {
                shared.struck.notify_one();
                return Ok(());
            }
            Some(Loss::Reply) => {
                mute.send_replace(true);
                to.write_all(&frame).await?;
                replied.notified().await;
                while tokio::time::timeout(QUIET, replied.notified()).await.is_ok() {}
                shared.struck.notify_one();
                return Ok(());
            }
        }
    }
}

impl Shared {
    /// What is lost of this request.
    fn aimed_at(&self) -> Option<Loss> {
        let mut aim = self.aim.lock().unwrap();
        match *aim {
            Some((0, loss)) => {
                *aim = None;
                Some(loss)
            }
            Some((spared, loss)) => {
                *aim = Some((spared - 1, loss));
                None
            }
            None => None,
        }
    }
}

/// One message with its length, and whether it was the greeting.
async fn read(from: &mut OwnedReadHalf, server: Server, greeted: bool) -> std::io::Result<(Vec<u8>, bool)> {
    let mut frame = Vec::new();
    // PostgreSQL's messages have a type in front of the length, but the first, and the
    // length counts itself.
    let typed = server == Server::PostgreSql && greeted;
    let head = if typed { 5 } else { 4 };
    frame.resize(head, 0);
    from.read_exact(&mut frame).await?;
    let length = u32::from_be_bytes(frame[head - 4..].try_into().unwrap()) as usize;
    let rest = if server == Server::PostgreSql { length - 4 } else { length };
    frame.resize(head + rest, 0);
    from.read_exact(&mut frame[head..]).await?;
    Ok((frame, true))
}

fn lasting(server: Server, frame: &[u8]) -> bool {
    match server {
        // Length, xid, and the operation: create, delete, setData, multi, create2 of ZooKeeper's ZooDefs.OpCode.
        Server::ZooKeeper => frame.len() > 12 && matches!(i32::from_be_bytes(frame[8..12].try_into().unwrap()), 1 | 2 | 5 | 14 | 15),
        Server::PostgreSql => {
            let ends = [&b"COMMIT"[..], b"PREPARE TRANSACTION", b"COMMIT PREPARED", b"ROLLBACK PREPARED"];
            frame[0] == b'Q' && ends.iter().any(|end| frame[5..].starts_with(end))
        }
    }
}
