//! A network between the worker and its target, to be cut.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub port: u16,
    open: watch::Sender<bool>,
}

impl Proxy {
    /// Listens on a port of its own and connects whoever comes to `to`.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, gate) = watch::channel(true);
        tokio::spawn(async move {
            let gate = Arc::new(gate);
            while let Ok((near, _)) = listener.accept().await {
                let mut gate = (*gate).clone();
                // Without a gate the connection is closed again.
                if *gate.borrow() {
                    tokio::spawn(async move {
                        tokio::select! {
                            () = carry(near, to) => {}
                            _ = gate.wait_for(|open| !open) => {}
                        }
                    });
                }
            }
        });
        Self { port, open }
    }

    /// Ends all connections and lets none through.
    pub fn cut(&self) {
        self.open.send(false).unwrap();
    }

    pub fn mend(&self) {
        self.open.send(true).unwrap();
    }
}

async fn carry(mut near: TcpStream, to: u16) {
    if let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await {
        // Either end may close it at any time.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}
