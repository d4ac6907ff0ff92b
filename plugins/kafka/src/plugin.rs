//! The component: the roles `writer` and `stream` over the capability `kafka`.

use crate::settings::{Settings, decode_position, encode_position};

use bindings::exports::pgshovel::plugin::{stream_reader, writer};
use bindings::pgshovel::plugin::kafka::{self, Consumer, Failure, Producer};
use bindings::pgshovel::plugin::types::{Batch, Context, Error};

/// Generated, and bound to the component model's calling convention.
#[allow(unsafe_code, missing_debug_implementations, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "writer-stream-plugin" });

    export!(Component);

    use super::Component;
}

struct Component;

/// How many bytes a position has: see `encode_position`.
const POSITION_BYTES: u32 = 8;

impl writer::Guest for Component {
    type Session = Sending;
}

impl stream_reader::Guest for Component {
    type Session = Receiving;
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(text) => Self::Retry(text),
            Failure::Refused(text) | Failure::Misuse(text) => Self::Stop(text),
        }
    }
}

/// The settings and the topic, which is there when this returns.
fn prepare(context: &Context, configuration: &str) -> Result<(Settings, String), Error> {
    let settings = Settings::parse(configuration).map_err(Error::Configure)?;
    let topic = settings.topic(&context.cluster, &context.set);
    let own: Vec<(String, String)> = settings.settings.clone().into_iter().collect();
    kafka::ensure_topic(settings.grant.as_deref(), &topic, settings.replicas, &own)?;
    Ok((settings, topic))
}

struct Sending(Producer);

impl writer::GuestSession for Sending {
    fn open(context: Context, configuration: String) -> Result<writer::Session, Error> {
        let (settings, topic) = prepare(&context, &configuration)?;
        Ok(writer::Session::new(Self(Producer::open(settings.grant.as_deref(), &topic)?)))
    }

    fn push(&self, _batch: Batch, messages: Vec<u8>, lengths: Vec<u32>) -> Result<(), Error> {
        Ok(self.0.push(&messages, &lengths)?)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(self.0.flush()?)
    }
}

struct Receiving(Consumer);

impl stream_reader::GuestSession for Receiving {
    fn open(context: Context, configuration: String) -> Result<stream_reader::Session, Error> {
        let (settings, topic) = prepare(&context, &configuration)?;
        Ok(stream_reader::Session::new(Self(Consumer::open(settings.grant.as_deref(), &topic)?)))
    }

    fn seek(&self, after: Option<Vec<u8>>) -> Result<(), Error> {
        let offset = after.map(|position| decode_position(&position)).transpose().map_err(Error::Stop)?;
        Ok(self.0.seek(offset)?)
    }

    fn next(&self, max_messages: u32, max_wait_ms: u32) -> Result<stream_reader::Entries, Error> {
        let kafka::Entries { messages, lengths, offsets } = self.0.next(max_messages, max_wait_ms)?;
        let positions: Vec<u8> = offsets.iter().copied().flat_map(encode_position).collect();
        let position_lengths = vec![POSITION_BYTES; offsets.len()];
        Ok(stream_reader::Entries { messages, lengths, positions, position_lengths })
    }
}
