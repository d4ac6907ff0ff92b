//! A session that a plugin uses: what the server sends is bounded, and what it does
//! ends with the session.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::bounded::Bounds;
use super::opened::{Cancel, Opened};
use super::{connect, pool};
use crate::budget::Budget;
use crate::error::Result;

/// How long a request to cancel may take, and a session to end after it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);

/// What ends a session that goes on all the same: a statement can catch a cancellation.
const TERMINATE: &str = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
     WHERE pg_catalog.concat(pid, ' ', backend_start) OPERATOR(pg_catalog.=) $1";

/// How many sessions are being ended.
static ENDING: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Returns when no session is being ended any more, or `within` has passed.
pub async fn ended(within: Duration) {
    let mut ending = ENDING.subscribe();
    // A session that takes longer is ended by the server, which notices that the process is gone.
    let _ = timeout(within, ending.wait_for(|count| *count == 0)).await;
}

/// Dropping it ends the session, and the statement that it runs, if [`Self::is_busy`].
pub struct Session {
    client: Option<Arc<Client>>,
    driver: Option<JoinHandle<()>>,
    cancel: Option<Cancel>,
    bounds: Bounds,
    /// The server's process, and since when: see [`pool::session`].
    identity: Option<String>,
    dsn: String,
    application: String,
    /// The server may be at work: a statement was sent, and not answered.
    pub is_busy: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_busy", &self.is_busy).finish_non_exhaustive()
    }
}

impl Session {
    /// See [`connect::connect`]. Messages of the server take their share of `budget`.
    pub async fn connect(dsn: &str, application: &str, budget: &Budget) -> Result<Self> {
        let bounds = Bounds::new(budget);
        let Opened { client, driver, cancel } = connect::open_bounded(dsn, application, &bounds).await?;
        let identity = pool::session(&client).await.map_err(|error| connect::explain(&error))?;
        Ok(Self {
            client: Some(Arc::new(client)),
            driver: Some(driver),
            cancel,
            bounds,
            identity,
            dsn: dsn.to_owned(),
            application: application.to_owned(),
            is_busy: false,
        })
    }

    /// The driver's client. Whoever keeps it keeps the session.
    #[must_use]
    pub fn client(&self) -> Arc<Client> {
        #[allow(clippy::expect_used)]
        Arc::clone(self.client.as_ref().expect("only drop takes it"))
    }

    /// Why the session was broken off: the server sent more than the budget holds.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.bounds.refusal()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The driver says goodbye when the last client is gone and all is answered.
        self.client = None;
        let (Some(driver), Some(cancel)) = (self.driver.take(), self.cancel.take()) else { return };
        let Ok(runtime) = Handle::try_current() else { return driver.abort() };
        if !self.is_busy {
            return;
        }
        let (identity, dsn, application) = (self.identity.take(), std::mem::take(&mut self.dsn), std::mem::take(&mut self.application));
        ENDING.send_modify(|count| *count += 1);
        runtime.spawn(async move {
            end(driver, cancel, identity, &dsn, &application).await;
            ENDING.send_modify(|count| *count -= 1);
        });
    }
}

async fn end(mut driver: JoinHandle<()>, cancel: Cancel, identity: Option<String>, dsn: &str, application: &str) {
    // What the server says to it, its session says too.
    let _ = timeout(CANCEL_TIMEOUT, cancel()).await;
    if timeout(CANCEL_TIMEOUT, &mut driver).await.is_ok() {
        return;
    }
    driver.abort();
    let terminate = async {
        let client = connect::connect(dsn, application).await.ok()?;
        client.execute_typed(TERMINATE, &[(&identity?, tokio_postgres::types::Type::TEXT)]).await.ok()
    };
    if timeout(CANCEL_TIMEOUT, terminate).await.ok().flatten().is_none() {
        tracing::warn!(
            application,
            "a session of a plugin cannot be ended: the server ends it when it notices that nobody reads its answer"
        );
    }
}
