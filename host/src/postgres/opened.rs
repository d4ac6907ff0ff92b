//! A connection that is open, and the task that drives it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// How long a server may take until a connection is ready for use, unless the DSN
/// says otherwise; of several, each.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Asks the server to give up what the session does.
pub(super) type Cancel = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), Cause>> + Send + Sync>;

/// A connection, driven by a task of its own.
pub(super) struct Opened {
    pub client: Client,
    pub driver: JoinHandle<()>,
    /// Of one with bounds.
    pub cancel: Option<Cancel>,
}

/// Drives the connection until it ends.
pub(super) fn drive<S, T>(connection: tokio_postgres::Connection<S, T>, place: String) -> JoinHandle<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // Whoever uses the client sees the same failure and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%place, %error, "connection to PostgreSQL ended");
        }
    })
}
