//! The connections of one plugin: kept while they are of use, and never more than it may have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http2;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::body::Outgoing;
use super::connection::{Connection, Dialler, Place, Sender};
use super::origin::Server;
use super::refusal::{Code, Refusal, Result};
use crate::budget::Budget;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// A server as one grant reaches it: another grant may show it another certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub grant: usize,
    pub server: Server,
}

/// Cheap to clone; clones are the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    budget: Budget,
    connections: Mutex<Connections>,
    /// A connection was given back, or closed.
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Connections {
    /// Of HTTP/1.1, the one that was used last behind.
    idle: HashMap<Key, Vec<Idle>>,
    shared: HashMap<Key, Shared>,
    /// Who connects by TLS to a server does so alone: one connection may serve all of them.
    dialling: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
    /// Something will look for connections that nobody uses.
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    connection: Connection,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Shared {
    sender: http2::SendRequest<Outgoing>,
    connection: Arc<Connection>,
    used: Instant,
}

/// A connection for one request. Dropping it closes the connection, unless others use it too.
#[derive(Debug)]
pub struct Lease {
    pub sender: Sender,
    key: Key,
    held: Option<Held>,
    pool: Pool,
}

#[derive(Debug)]
enum Held {
    Own(Connection),
    Shared { _connection: Arc<Connection> },
}

impl Pool {
    pub fn new(budget: Budget) -> Self {
        Self { inner: Arc::new(Inner { budget, connections: Mutex::default(), freed: Arc::default() }) }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Each change is whole or not there, whatever panicked.
        self.inner.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what nobody uses, and keeps nothing any more.
    pub fn close(&self) {
        *self.connections() = Connections::default();
    }

    /// A connection that is free, or a new one. Waits for one until `until`; to make one
    /// takes `connect` at most.
    pub async fn connection(&self, key: &Key, dialler: &Dialler, connect: Duration, until: Instant) -> Result<Lease> {
        let full = || {
            Refusal::new(
                Code::ConnectionLimit,
                format!("no connection to {} came free in time: the plugin holds as many as limits.connections lets it", key.server),
            )
        };
        loop {
            // Known before it is looked: nothing is missed in between.
            let freed = self.inner.freed.notified();
            if let Some(lease) = self.kept(key) {
                return Ok(lease);
            }
            let turn = self.turn(key);
            let alone = match &turn {
                Some(turn) => Some(timeout_at(until, turn.lock()).await.map_err(|_| full())?),
                None => None,
            };
            if turn.is_some()
                && let Some(lease) = self.kept(key)
            {
                return Ok(lease);
            }
            let Some(handle) = self.handle() else {
                drop(alone);
                timeout_at(until, freed).await.map_err(|_| full())?;
                continue;
            };
            let place = Place::new(handle, Arc::clone(&self.inner.freed));
            let (sender, connection) = dialler.connect(&key.server, Some(place), until.min(Instant::now() + connect)).await?;
            return Ok(self.lease(key, sender, connection));
        }
    }

    fn turn(&self, key: &Key) -> Option<Arc<tokio::sync::Mutex<()>>> {
        key.server.secure.then(|| Arc::clone(self.connections().dialling.entry(key.clone()).or_default()))
    }

    fn kept(&self, key: &Key) -> Option<Lease> {
        let mut connections = self.connections();
        let connections = &mut *connections;
        if let Some(shared) = connections.shared.get_mut(key) {
            if !shared.sender.is_closed() {
                shared.used = Instant::now();
                let (sender, connection) = (Sender::Http2(shared.sender.clone()), Arc::clone(&shared.connection));
                let held = Some(Held::Shared { _connection: connection });
                return Some(Lease { sender, key: key.clone(), held, pool: self.clone() });
            }
            connections.shared.remove(key);
        }
        let idle = connections.idle.get_mut(key)?;
        while let Some(Idle { sender, connection, since }) = idle.pop() {
            if !sender.is_closed() && since.elapsed() < IDLE {
                return Some(Lease { sender, key: key.clone(), held: Some(Held::Own(connection)), pool: self.clone() });
            }
        }
        None
    }

    /// A place for one more connection, now or when it is told to be free: for it, one that
    /// nobody uses may have to go.
    fn handle(&self) -> Option<crate::budget::Handle> {
        if let Ok(handle) = self.inner.budget.handle() {
            return Some(handle);
        }
        let mut connections = self.connections();
        let oldest = connections.idle.values_mut().filter(|idle| !idle.is_empty()).min_by_key(|idle| idle[0].since);
        if let Some(idle) = oldest {
            drop(idle.remove(0));
        } else {
            let unused = connections.shared.iter().filter(|(_, shared)| Arc::strong_count(&shared.connection) == 1);
            let oldest = unused.min_by_key(|(_, shared)| shared.used).map(|(key, _)| key.clone())?;
            connections.shared.remove(&oldest);
        }
        self.inner.budget.handle().ok()
    }

    fn lease(&self, key: &Key, sender: Sender, connection: Connection) -> Lease {
        let (sender, held) = match sender {
            Sender::Http2(sender) => {
                let connection = Arc::new(connection);
                let shared = Shared { sender: sender.clone(), connection: Arc::clone(&connection), used: Instant::now() };
                self.connections().shared.insert(key.clone(), shared);
                self.sweep();
                self.inner.freed.notify_waiters();
                (Sender::Http2(sender), Held::Shared { _connection: connection })
            }
            sender @ (Sender::Http1(_) | Sender::None) => (sender, Held::Own(connection)),
        };
        Lease { sender, key: key.clone(), held: Some(held), pool: self.clone() }
    }

    /// Looks after connections that nobody uses, as long as there are some.
    fn sweep(&self) {
        if std::mem::replace(&mut self.connections().swept, true) {
            return;
        }
        let inner: Weak<Inner> = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE / 2).await;
                let Some(inner) = inner.upgrade() else { return };
                let pool = Self { inner };
                if pool.swept() {
                    return;
                }
            }
        });
    }

    /// Closes what was idle for long; whether nothing is left to look after.
    fn swept(&self) -> bool {
        let mut connections = self.connections();
        for idle in connections.idle.values_mut() {
            idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE);
        }
        connections.idle.retain(|_, idle| !idle.is_empty());
        connections.shared.retain(|_, shared| {
            let in_use = Arc::strong_count(&shared.connection) > 1;
            !shared.sender.is_closed() && (in_use || shared.used.elapsed() < IDLE)
        });
        let done = connections.idle.is_empty() && connections.shared.is_empty();
        if done {
            connections.swept = false;
        }
        self.inner.freed.notify_waiters();
        done
    }
}

impl Lease {
    /// Keeps the connection for the next request, if it can take one within `settling`.
    pub async fn give_back(mut self, settling: Duration) {
        if let Sender::Http1(sender) = &mut self.sender
            && !matches!(tokio::time::timeout(settling, sender.ready()).await, Ok(Ok(())))
        {
            return;
        }
        let key = self.key.clone();
        let pool = self.pool.clone();
        let Some(held) = self.held.take() else { return };
        if let (Sender::Http1(_), Held::Own(connection)) = (&self.sender, held)
            && !self.sender.is_closed()
        {
            // What is left is dropped without effect: the connection is kept here.
            let sender = std::mem::replace(&mut self.sender, Sender::None);
            pool.connections().idle.entry(key).or_default().push(Idle { sender, connection, since: Instant::now() });
            pool.sweep();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held = None;
        // It may have been given back; one that is closed tells so itself.
        self.pool.inner.freed.notify_waiters();
    }
}
