//! The brokers that a grant names, and the properties of librdkafka that go with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::error::{Code, Error, Result};

/// How long a message may wait for its acknowledgement.
const DELIVERY_TIMEOUT_MS: &str = "20000";
/// So that librdkafka's own queue takes one message of any size.
const PRODUCER_QUEUE_KIB_MAX: &str = "2097151";
/// What a consumer fetches ahead of `next`.
const CONSUMER_QUEUE_KIB_MAX: &str = "16384";
/// A broker closes the connection on a request of more than its
/// `socket.request.max.bytes`, 100 MiB by default, without a word: better known before.
const MESSAGE_BYTES_MAX: &str = "104000000";

/// What this module promises depends on them, so a grant may not set them.
const PINNED: [(&str, &str); 9] = [
    ("enable.idempotence", "true"),
    ("enable.gapless.guarantee", "true"),
    ("acks", "all"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
    ("check.crcs", "true"),
];

/// A grant may set these otherwise.
const DEFAULTS: [(&str, &str); 12] = [
    ("client.id", "pgshovel"),
    // Manual assignment needs a name, although no member ever joins the group.
    ("group.id", "pgshovel"),
    ("isolation.level", "read_committed"),
    ("compression.type", "lz4"),
    ("linger.ms", "2"),
    // A small message must not wait until the broker has acknowledged the one before.
    ("socket.nagle.disable", "true"),
    ("message.timeout.ms", DELIVERY_TIMEOUT_MS),
    ("message.max.bytes", MESSAGE_BYTES_MAX),
    ("receive.message.max.bytes", "2147483647"),
    ("queue.buffering.max.kbytes", PRODUCER_QUEUE_KIB_MAX),
    ("queued.max.messages.kbytes", CONSUMER_QUEUE_KIB_MAX),
    // The error that matters is reported by what it stops, in the same words.
    ("log.connection.close", "false"),
];

/// The brokers that a grant names, and how to reach them.
#[derive(Clone)]
pub struct Brokers {
    properties: Arc<BTreeMap<String, String>>,
}

impl Brokers {
    /// `properties` are librdkafka's, `bootstrap.servers` among them. Checked
    /// without a connection.
    pub fn new(properties: BTreeMap<String, String>) -> Result<Self> {
        if properties.get("bootstrap.servers").is_none_or(|servers| servers.trim().is_empty()) {
            return Err(Error::configure(
                Code::KafkaGrantInvalid,
                "the kafka grant has no `bootstrap.servers`: name at least one broker as `host:port`",
            ));
        }
        if let Some((name, value)) = PINNED.iter().find(|(name, _)| properties.contains_key(*name)) {
            return Err(Error::configure(
                Code::KafkaGrantInvalid,
                format!("the kafka grant sets `{name}`, which is always `{value}` here: remove it"),
            ));
        }
        let brokers = Self { properties: Arc::new(properties) };
        brokers
            .configuration()
            .create_native_config()
            .map_err(|error| Error::configure(Code::KafkaGrantInvalid, property_error(&error)))?;
        Ok(brokers)
    }

    /// `host:port`, or several with commas between them.
    pub fn at(servers: &str) -> Result<Self> {
        Self::new(BTreeMap::from([("bootstrap.servers".to_owned(), servers.to_owned())]))
    }

    pub(super) fn configuration(&self) -> ClientConfig {
        let mut configuration = ClientConfig::new();
        let own = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in DEFAULTS.into_iter().chain(own).chain(PINNED) {
            configuration.set(name, value);
        }
        configuration
    }

    pub(super) fn servers(&self) -> &str {
        self.properties.get("bootstrap.servers").map_or("", String::as_str)
    }
}

/// Values may be passwords.
impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.properties.keys()).finish()
    }
}

/// librdkafka's error repeats the value, which may be a password.
fn property_error(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            let reason = if value.is_empty() { reason.clone() } else { reason.replace(value.as_str(), "…") };
            format!("the property `{name}` of the kafka grant is not accepted: {reason}")
        }
        other => format!("the kafka grant is not accepted: {other}"),
    }
}
