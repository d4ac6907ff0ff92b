//! The role `writer`.

use std::time::Duration;

use proto::batch::Batch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wasmtime::component::ResourceAny;

use super::to_batch;
use crate::capabilities::role::Role;
use crate::capabilities::types;
use crate::config::Section;
use crate::error::{Code, Error, Rejected, Result};
use crate::plugins::bindings::exports::pgshovel::plugin::writer::{Guest, GuestIndices};
use crate::plugins::context::Context;
use crate::plugins::engine::Engine;
use crate::plugins::session::{Session, nothing};
use crate::ports::{self, Messages};

/// An open writer. It works on a push in a task of its own, so that whoever pushes
/// prepares the next one meanwhile.
pub struct Writer {
    /// Away while a push is under way.
    plugin: Option<Box<Plugin>>,
    /// The push under way. Dropping the writer aborts it.
    pushing: JoinSet<(Box<Plugin>, Result<()>)>,
}

struct Plugin {
    session: Session,
    guest: Guest,
    resource: ResourceAny,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("plugin", &self.plugin.as_ref().map(|plugin| &plugin.session)).finish_non_exhaustive()
    }
}

/// Opens the section's component as a writer.
pub async fn open(engine: &Engine, section: &Section, context: &Context) -> Result<Writer> {
    let (mut session, instance, pre) = Session::start(engine, section, Role::Writer, context, None).await?;
    let guest = GuestIndices::new(&pre).and_then(|indices| indices.load(&mut session.store, &instance));
    let guest = guest.map_err(|error| session.mismatch(&error))?;
    let limit = session.begin(Duration::ZERO)?;
    let opened = timeout(limit, guest.session().call_open(&mut session.store, &session.context, &session.configuration)).await;
    let resource = session.end("open", opened, nothing)?;
    Ok(Writer { plugin: Some(Box::new(Plugin { session, guest, resource })), pushing: JoinSet::new() })
}

impl Plugin {
    async fn push(&mut self, batch: types::Batch, messages: Messages) -> Result<()> {
        let limit = self.session.begin(Duration::ZERO)?;
        let pushed = timeout(
            limit,
            self.guest.session().call_push(&mut self.session.store, self.resource, &batch, messages.bytes(), messages.lengths()),
        )
        .await;
        self.session.end("push", pushed, |index| (index as usize).lt(&messages.lengths().len()).then_some(Rejected::Message))
    }

    async fn flush(&mut self) -> Result<()> {
        let limit = self.session.begin(Duration::ZERO)?;
        let flushed = timeout(limit, self.guest.session().call_flush(&mut self.session.store, self.resource)).await;
        self.session.end("flush", flushed, nothing)
    }
}

impl Writer {
    /// Waits for the push that is under way.
    async fn settle(&mut self) -> Result<Box<Plugin>> {
        if let Some(ended) = self.pushing.join_next().await {
            let (plugin, pushed) = ended.map_err(|error| Error::bug(format!("a push into a plugin ended by itself: {error}")))?;
            if let Err(error) = pushed {
                self.plugin = Some(plugin);
                return Err(error);
            }
            return Ok(plugin);
        }
        self.plugin.take().ok_or_else(|| Error::trap(Code::PluginLate, "a push into the writer did not return; open it again"))
    }
}

impl ports::Writer for Writer {
    async fn push(&mut self, batch: &Batch, messages: Messages) -> Result<()> {
        let mut plugin = self.settle().await?;
        let batch = to_batch(batch);
        self.pushing.spawn(async move {
            let pushed = plugin.push(batch, messages).await;
            (plugin, pushed)
        });
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let plugin = self.settle().await?;
        self.plugin.insert(plugin).flush().await
    }
}
