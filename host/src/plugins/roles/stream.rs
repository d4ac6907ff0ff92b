//! The role `stream`: the receiving end.

use std::time::Duration;

use tokio::time::timeout;
use wasmtime::component::ResourceAny;

use crate::capabilities::role::Role;
use crate::config::Section;
use crate::error::Result;
use crate::plugins::bindings::exports::pgshovel::plugin::stream_reader::{self as guest, Guest, GuestIndices};
use crate::plugins::context::Context;
use crate::plugins::engine::Engine;
use crate::plugins::session::{Session, nothing};
use crate::ports::{self, Entries, Messages};

/// See `stream-reader.wit`.
const POSITION_BYTES_MAX: u32 = 4 << 10;

/// An open stream.
pub struct Stream {
    session: Session,
    guest: Guest,
    resource: ResourceAny,
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
    let opened = timeout(limit, guest.session().call_open(&mut session.store, &session.context, &session.configuration)).await;
    let resource = session.end("open", opened, nothing)?;
    Ok(Stream { session, guest, resource })
}

impl ports::Stream for Stream {
    async fn seek(&mut self, after: Option<&[u8]>) -> Result<()> {
        let limit = self.session.begin(Duration::ZERO)?;
        let sought = timeout(limit, self.guest.session().call_seek(&mut self.session.store, self.resource, after)).await;
        self.session.end("seek", sought, nothing)
    }

    async fn next(&mut self, max_messages: u32, max_wait: Duration) -> Result<Entries> {
        let limit = self.session.begin(max_wait)?;
        let wait_ms = u32::try_from(max_wait.as_millis()).unwrap_or(u32::MAX);
        let next = timeout(limit, self.guest.session().call_next(&mut self.session.store, self.resource, max_messages, wait_ms)).await;
        let guest::Entries { messages, lengths, positions, position_lengths } = self.session.end("next", next, nothing)?;
        if lengths.len() > max_messages as usize {
            return Err(self
                .session
                .invalid("next", format_args!("{} messages where at most {max_messages} were asked for", lengths.len())));
        }
        if let Some(length) = position_lengths.iter().find(|length| **length > POSITION_BYTES_MAX) {
            return Err(self.session.invalid("next", format_args!("a position of {length} bytes")));
        }
        let flat = |what: &str, bytes, lengths| {
            Messages::new(bytes, lengths).map_err(|uncut| self.session.invalid("next", format_args!("{what} {uncut}")))
        };
        let (messages, positions) = (flat("messages", messages, lengths)?, flat("positions", positions, position_lengths)?);
        let (found, expected) = (positions.lengths().len(), messages.lengths().len());
        Entries::new(messages, positions)
            .ok_or_else(|| self.session.invalid("next", format_args!("{found} positions for {expected} messages")))
    }
}
