//! The component: the roles `writer` and `stream` over the capability `kafka`.

use crate::settings::{Settings, decode_position, encode_position};

use bindings::exports::pgshovel::plugin::{reader, writer};
use bindings::pgshovel::plugin::kafka::{self, Consumer, Failure, Producer};
use bindings::pgshovel::plugin::types::{Batch, Context, Error};

/// Generated, and bound to the component model's calling convention.
#[allow(unsafe_code, missing_debug_implementations, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "stream-pair-plugin" });

    export!(Component);

    use super::Component;
}

struct Component;

impl writer::Guest for Component {
    type Sink = Sink;
}

impl reader::Guest for Component {
    type Source = Source;
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
    let settings = Settings::parse(configuration).map_err(Error::Stop)?;
    let topic = settings.topic(&context.cluster, &context.set);
    let own: Vec<(String, String)> = settings.settings.clone().into_iter().collect();
    kafka::ensure_topic(settings.grant.as_deref(), &topic, settings.replicas, &own)?;
    Ok((settings, topic))
}

struct Sink(Producer);

impl writer::GuestSink for Sink {
    fn open(context: Context, configuration: String) -> Result<writer::Sink, Error> {
        let (settings, topic) = prepare(&context, &configuration)?;
        Ok(writer::Sink::new(Self(Producer::open(settings.grant.as_deref(), &topic)?)))
    }

    fn push(&self, _batch: Batch, messages: Vec<u8>, lengths: Vec<u32>) -> Result<(), Error> {
        Ok(self.0.push(&messages, &lengths)?)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(self.0.flush()?)
    }
}

struct Source(Consumer);

impl reader::GuestSource for Source {
    fn open(context: Context, configuration: String) -> Result<reader::Source, Error> {
        let (settings, topic) = prepare(&context, &configuration)?;
        Ok(reader::Source::new(Self(Consumer::open(settings.grant.as_deref(), &topic)?)))
    }

    fn seek(&self, after: Option<Vec<u8>>) -> Result<(), Error> {
        let offset = after.map(|position| decode_position(&position)).transpose().map_err(Error::Stop)?;
        Ok(self.0.seek(offset)?)
    }

    fn next(&self, max_messages: u32, max_wait_ms: u32) -> Result<Vec<reader::Entry>, Error> {
        let entries = self.0.next(max_messages, max_wait_ms)?;
        Ok(entries.into_iter().map(|entry| reader::Entry { position: encode_position(entry.offset), message: entry.message }).collect())
    }
}
