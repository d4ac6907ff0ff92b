//! The network between pgshovel and a server, that can be cut.

use std::net::Ipv4Addr;

use pgshovel::error::{Error, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::servers::port;

/// A port that leads to another one. It ends with this.
#[derive(Debug)]
pub struct Link {
    pub port: u16,
    whole: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Link {
    pub async fn to(server: u16) -> Result<Self> {
        let port = port::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|error| Error::stop(format!("cannot listen on port {port}: {error}")))?;
        let (whole, seen) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(serve(listener, server, seen));
        Ok(Self { port, whole, _task: task })
    }

    /// Breaks all connections, and takes no new ones.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn serve(listener: TcpListener, server: u16, whole: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(carry(client, server, whole.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Both ends are closed on return.
async fn carry(mut client: TcpStream, server: u16, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    for stream in [&client, &server] {
        // Without it every small answer waits for the one before; a failure costs speed alone.
        let _ = stream.set_nodelay(true);
    }
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
