//! The role `writer`.

use std::time::Duration;

use bytes::Bytes;
use proto::batch::Batch;
use tokio::time::timeout;
use wasmtime::component::ResourceAny;

use super::{by_index, to_batch};
use crate::config::Section;
use crate::error::Result;
use crate::plugins::bindings::exports::pgshovel::plugin::writer::{Guest, GuestIndices};
use crate::plugins::examine::Role;
use crate::plugins::session::Session;
use crate::plugins::{Context, Engine};
use crate::ports;

/// An open writer.
pub struct Writer {
    session: Session,
    guest: Guest,
    sink: ResourceAny,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.fmt(f)
    }
}

/// Opens the section's component as a writer.
pub async fn open(engine: &Engine, section: &Section, context: &Context) -> Result<Writer> {
    let (mut session, instance, pre) = Session::start(engine, section, Role::Writer, context, None).await?;
    let guest = GuestIndices::new(&pre).and_then(|indices| indices.load(&mut session.store, &instance));
    let guest = guest.map_err(|error| session.mismatch(&error))?;
    let limit = session.begin(Duration::ZERO)?;
    let opened = timeout(limit, guest.sink().call_open(&mut session.store, &session.context, &session.configuration)).await;
    let sink = session.end("open", opened, by_index)?;
    Ok(Writer { session, guest, sink })
}

impl ports::Writer for Writer {
    async fn push(&mut self, batch: &Batch, messages: Vec<Bytes>) -> Result<()> {
        let batch = to_batch(batch);
        // No copy where the message is the only owner of its bytes.
        let messages: Vec<Vec<u8>> = messages.into_iter().map(Vec::from).collect();
        let limit = self.session.begin(Duration::ZERO)?;
        let pushed = timeout(limit, self.guest.sink().call_push(&mut self.session.store, self.sink, &batch, &messages)).await;
        self.session.end("push", pushed, |index| format!("message {index}"))
    }

    async fn flush(&mut self) -> Result<()> {
        let limit = self.session.begin(Duration::ZERO)?;
        let flushed = timeout(limit, self.guest.sink().call_flush(&mut self.session.store, self.sink)).await;
        self.session.end("flush", flushed, by_index)
    }
}
