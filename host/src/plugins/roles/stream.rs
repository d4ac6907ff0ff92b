//! The role `stream`: the receiving end.

use std::time::Duration;

use tokio::time::timeout;
use wasmtime::component::ResourceAny;

use super::by_index;
use crate::capabilities::role::Role;
use crate::config::Section;
use crate::error::Result;
use crate::plugins::bindings::exports::pgshovel::plugin::reader::{Entry, Guest, GuestIndices};
use crate::plugins::context::Context;
use crate::plugins::engine::Engine;
use crate::plugins::session::Session;
use crate::ports;

/// See `reader.wit`.
const POSITION_BYTES_MAX: usize = 4 << 10;

/// An open stream.
pub struct Stream {
    session: Session,
    guest: Guest,
    source: ResourceAny,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.fmt(f)
    }
}

/// Opens the section's component as a stream.
pub async fn open(engine: &Engine, section: &Section, context: &Context) -> Result<Stream> {
    let (mut session, instance, pre) = Session::start(engine, section, Role::Stream, context, None).await?;
    let guest = GuestIndices::new(&pre).and_then(|indices| indices.load(&mut session.store, &instance));
    let guest = guest.map_err(|error| session.mismatch(&error))?;
    let limit = session.begin(Duration::ZERO)?;
    let opened = timeout(limit, guest.source().call_open(&mut session.store, &session.context, &session.configuration)).await;
    let source = session.end("open", opened, by_index)?;
    Ok(Stream { session, guest, source })
}

impl ports::Stream for Stream {
    async fn seek(&mut self, after: Option<&[u8]>) -> Result<()> {
        let limit = self.session.begin(Duration::ZERO)?;
        let sought = timeout(limit, self.guest.source().call_seek(&mut self.session.store, self.source, after)).await;
        self.session.end("seek", sought, by_index)
    }

    async fn next(&mut self, max_messages: u32, max_wait: Duration) -> Result<Vec<ports::Entry>> {
        let limit = self.session.begin(max_wait)?;
        let wait_ms = u32::try_from(max_wait.as_millis()).unwrap_or(u32::MAX);
        let next = timeout(limit, self.guest.source().call_next(&mut self.session.store, self.source, max_messages, wait_ms)).await;
        let entries = self.session.end("next", next, by_index)?;
        if entries.len() > max_messages as usize {
            return Err(self
                .session
                .invalid("next", format_args!("{} messages where at most {max_messages} were asked for", entries.len())));
        }
        if let Some(entry) = entries.iter().find(|entry| entry.position.len() > POSITION_BYTES_MAX) {
            return Err(self.session.invalid("next", format_args!("a position of {} bytes", entry.position.len())));
        }
        Ok(entries.into_iter().map(|Entry { position, message }| ports::Entry { position, message }).collect())
    }
}
