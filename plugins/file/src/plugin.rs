//! The component: the roles `writer` and `stream` over the granted folder.

use std::cell::{Cell, RefCell};

use pgshovel_plugin_shared::{Flat, cut};
use wasip2::clocks::monotonic_clock::{now, subscribe_duration};

use crate::failure::Failure;
use crate::reader::{Entries, Reader};
use crate::segment::Position;
use crate::settings::{Settings, folder};
use crate::wasi::Path;
use crate::writer::Writer;

use bindings::exports::pgshovel::plugin::{stream_reader, writer};
use bindings::pgshovel::plugin::log;
use bindings::pgshovel::plugin::types::{Batch, Context, Error};

/// Generated, and bound to the component model's calling convention.
#[allow(unsafe_code, missing_debug_implementations, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "writer-stream-plugin" });

    export!(Component);

    use super::Component;
}

struct Component;

impl writer::Guest for Component {
    type Session = Sending;
}

impl stream_reader::Guest for Component {
    type Session = Receiving;
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(text) => Self::Retry(text),
            Failure::Stop(text) => Self::Stop(text),
            Failure::Configure(text) => Self::Configure(text),
        }
    }
}

struct Sending(RefCell<Writer<Path>>);

impl writer::GuestSession for Sending {
    fn open(context: Context, configuration: String) -> Result<writer::Session, Error> {
        let settings = Settings::parse(&configuration)?;
        let path = Path::new(&folder(&context.cluster, &context.set))?;
        path.prepare()?;
        let (writer, cut) = Writer::open(path, settings)?;
        if let Some(cut) = cut {
            log::emit(
                log::Level::Warn,
                &format!("{}: cut {} bytes from byte {} on, which were never flushed", cut.file, cut.bytes, cut.byte),
            );
        }
        Ok(writer::Session::new(Self(RefCell::new(writer))))
    }

    fn push(&self, _batch: Batch, messages: Vec<u8>, lengths: Vec<u32>) -> Result<(), Error> {
        let messages = cut(&messages, &lengths);
        let messages =
            messages.ok_or_else(|| Error::Stop("the lengths are not those of the messages: this is a bug of the host".to_owned()))?;
        Ok(self.0.borrow_mut().push(&messages)?)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(self.0.borrow_mut().flush()?)
    }
}

struct Receiving {
    reader: RefCell<Reader<Path>>,
    /// When a message came last, or the position was set.
    since_ns: Cell<u64>,
}

impl stream_reader::GuestSession for Receiving {
    fn open(context: Context, configuration: String) -> Result<stream_reader::Session, Error> {
        // What it says is for writers, but a mistake in it should not wait for one.
        Settings::parse(&configuration)?;
        let path = Path::new(&folder(&context.cluster, &context.set))?;
        Ok(stream_reader::Session::new(Self { reader: RefCell::new(Reader::open(path)), since_ns: Cell::new(now()) }))
    }

    fn seek(&self, after: Option<Vec<u8>>) -> Result<(), Error> {
        let position = after.map(|bytes| Position::decode(&bytes)).transpose()?;
        self.since_ns.set(now());
        Ok(self.reader.borrow_mut().seek(position)?)
    }

    fn next(&self, max_messages: u32, max_wait_ms: u32) -> Result<stream_reader::Entries, Error> {
        let mut reader = self.reader.borrow_mut();
        let deadline_ns = now() + u64::from(max_wait_ms) * 1_000_000;
        loop {
            let entries = reader.next(max_messages as usize)?;
            if !entries.is_empty() {
                self.since_ns.set(now());
            } else if let Some(pause_ns) = pause(deadline_ns, self.since_ns.get()) {
                subscribe_duration(pause_ns).block();
                continue;
            }
            return Ok(entries.into());
        }
    }
}

impl From<Entries> for stream_reader::Entries {
    fn from(Entries { messages, positions: places }: Entries) -> Self {
        let mut positions = Flat::default();
        for place in places {
            positions.push(&place.encode());
        }
        Self { messages: messages.bytes, lengths: messages.lengths, positions: positions.bytes, position_lengths: positions.lengths }
    }
}

/// WASI 0.2 tells nobody that a file has changed, so a reader looks, the less often the
/// longer nothing has come. `None` when the time is over.
fn pause(deadline_ns: u64, since_ns: u64) -> Option<u64> {
    const SHORTEST_NS: u64 = 1_000_000;
    const LONGEST_NS: u64 = 50_000_000;
    let now = now();
    let left_ns = deadline_ns.checked_sub(now).filter(|left| *left > 0)?;
    Some((now.saturating_sub(since_ns) / 2).clamp(SHORTEST_NS, LONGEST_NS).min(left_ns))
}
