//! What a plugin may do with Kafka: `kafka.wit` in Rust, served by librdkafka.
//!
//! Order and durability are not negotiable here: one partition, an idempotent
//! producer that waits for all in-sync replicas, a consumer that reports lost
//! messages instead of skipping them. No consumer group keeps an offset.

mod consumer;
mod failure;
mod grant;
mod link;
mod producer;
mod topic;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::error::{Error, Result};

pub use consumer::{Consumer, Entry};
pub use failure::Failure;
use failure::{Outcome, client_failure, no_thread, property_error};
pub use grant::Properties;
pub use link::Kafka;
pub use producer::Producer;
pub use topic::ensure_topic;

/// How long a message may wait for its acknowledgement.
const DELIVERY_TIMEOUT_MS: &str = "20000";
/// So that librdkafka's own queue takes one message of any size.
const PRODUCER_QUEUE_KIB_MAX: &str = "2097151";
/// What a consumer fetches ahead of `next`.
const CONSUMER_QUEUE_KIB_MAX: &str = "16384";
/// A broker closes the connection on a request of more than its
/// `socket.request.max.bytes`, 100 MiB by default, without a word: better known before.
const MESSAGE_BYTES_MAX: &str = "104000000";
/// Threads of a client beside those for brokers, and of ours that it is used from, with some to spare.
const CLIENT_THREADS: usize = 6;
/// How long before it is seen again whether a client is still held.
const RELEASE_PAUSE: Duration = Duration::from_millis(5);
const PARTITION: i32 = 0;

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
            return Err(Error::configure("the kafka grant has no `bootstrap.servers`: name at least one broker as `host:port`"));
        }
        if let Some((name, value)) = PINNED.iter().find(|(name, _)| properties.contains_key(*name)) {
            return Err(Error::configure(format!("the kafka grant sets `{name}`, which is always `{value}` here: remove it")));
        }
        let brokers = Self { properties: Arc::new(properties) };
        brokers.configuration().create_native_config().map_err(|error| Error::configure(property_error(&error)))?;
        Ok(brokers)
    }

    /// `host:port`, or several with commas between them.
    pub fn at(servers: &str) -> Result<Self> {
        Self::new(BTreeMap::from([("bootstrap.servers".to_owned(), servers.to_owned())]))
    }

    fn configuration(&self) -> ClientConfig {
        let mut configuration = ClientConfig::new();
        let own = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in DEFAULTS.into_iter().chain(own).chain(PINNED) {
            configuration.set(name, value);
        }
        configuration
    }

    fn servers(&self) -> &str {
        self.properties.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// A client of librdkafka's. `doing` is what for.
    fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(&self, context: C, doing: &str) -> Outcome<T> {
        self.check_room().map_err(|error| no_thread(doing, error))?;
        self.configuration().create_with_context(context).map_err(|error| client_failure(&error, doing, self, &Reports::default()))
    }
}

impl Brokers {
    /// Whether there is room for the threads of a client: one for each broker that is named,
    /// and its own. librdkafka aborts the process where there is none.
    fn check_room(&self) -> std::io::Result<()> {
        let count = CLIENT_THREADS + self.servers().split(',').count();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let mut started = Vec::new();
        let mut result = Ok(());
        while result.is_ok() && started.len() < count {
            let held = Arc::clone(&held);
            // Each stays until all are there: until the channel is closed.
            let wait = move || {
                let _ = locked(&held).recv();
            };
            match std::thread::Builder::new().spawn(wait) {
                Ok(thread) => started.push(thread),
                Err(error) => result = Err(error),
            }
        }
        drop(hold);
        for thread in started {
            // It cannot have panicked, and nothing is wrong if it has.
            let _ = thread.join();
        }
        result
    }
}

/// Values may be passwords.
impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.properties.keys()).finish()
    }
}

/// What librdkafka says beside its answers: logged, and the last error kept to
/// explain a time-out.
#[derive(Default)]
struct Reports {
    last: Mutex<Option<String>>,
    /// The last error of TLS or SASL: no server is away then.
    denied: Mutex<Option<String>>,
}

impl Reports {
    fn note(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(target: "pgshovel::kafka", "{reason}");
        // What a server says of our certificate comes after the handshake, as if the connection broke.
        let alert = reason.contains("SSL alert");
        if alert || matches!(error.rdkafka_error_code(), Some(Code::SSL | Code::Authentication)) {
            *locked(&self.denied) = Some(reason.to_owned());
        }
        *locked(&self.last) = Some(reason.to_owned());
    }

    fn last(&self) -> String {
        locked(&self.last).clone().unwrap_or_else(|| "no answer in time".to_owned())
    }

    fn denied(&self) -> Option<String> {
        locked(&self.denied).clone()
    }
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "pgshovel::kafka", "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }
}

impl ConsumerContext for Reports {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is valid at every moment, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among the clients that a plugin may have. It is given back when the client is gone,
/// threads and all, and not before.
pub type Place = Arc<dyn Send + Sync>;

/// Lets a client go, once nobody else holds it: that waits for threads of the client's own,
/// and no task is to wait with it.
fn release<T: Send + Sync + 'static>(client: Arc<T>, place: Place) {
    let wait = move || {
        let mut client = client;
        while let Err(held) = Arc::try_unwrap(client) {
            client = held;
            std::thread::sleep(RELEASE_PAUSE);
        }
        drop(place);
    };
    // Without a thread it is let go of here: the closure is dropped with the error.
    let _ = std::thread::Builder::new().name("kafka end".to_owned()).spawn(wait);
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::Unavailable("the process is shutting down".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::failure::failure;
    use super::topic::check_topic_name;
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn refusal(pairs: &[(&str, &str)]) -> String {
        Brokers::new(properties(pairs)).expect_err("accepted").message
    }

    #[test]
    fn a_grant_without_brokers_is_named() {
        assert!(refusal(&[]).contains("`bootstrap.servers`"));
        assert!(refusal(&[("bootstrap.servers", " ")]).contains("`host:port`"));
    }

    #[test]
    fn a_grant_cannot_weaken_durability() {
        assert!(refusal(&[("bootstrap.servers", "a:1"), ("acks", "1")]).contains("sets `acks`, which is always `all`"));
    }

    #[test]
    fn an_unknown_property_is_named_and_no_value_is_shown() {
        assert!(refusal(&[("bootstrap.servers", "a:1"), ("no.such.thing", "1")]).contains("`no.such.thing`"));
        let wrong = refusal(&[("bootstrap.servers", "a:1"), ("security.protocol", "hunter2")]);
        assert!(wrong.contains("`security.protocol`") && !wrong.contains("hunter2"), "{wrong}");
        let brokers = Brokers::new(properties(&[("bootstrap.servers", "a:1"), ("client.id", "hunter2")])).unwrap();
        assert_eq!(format!("{brokers:?}"), r#"{"bootstrap.servers", "client.id"}"#);
    }

    #[test]
    fn topics_are_named_as_kafka_allows() {
        let longest = "x".repeat(249);
        for legal in ["a", "pgshovel.c.s", "A_b-9", &longest] {
            assert_eq!(check_topic_name(legal), Ok(()));
        }
        let too_long = "x".repeat(250);
        for illegal in ["", ".", "..", "a b", "ä", "a/b", &too_long] {
            assert!(matches!(check_topic_name(illegal), Err(Failure::Misuse(_))), "{illegal}");
        }
    }

    #[test]
    fn failures_are_told_apart_by_what_helps() {
        let brokers = Brokers::at("a:1").unwrap();
        let reports = Reports::default();
        reports.note(&KafkaError::Global(Code::AllBrokersDown), "connection refused");
        let explain = |code| failure(code, "topic `t`", &brokers, &reports);
        assert!(matches!(explain(Code::AutoOffsetReset), Failure::Refused(text) if text.contains("messages were lost")));
        assert!(matches!(explain(Code::MessageSizeTooLarge), Failure::Refused(text) if text.contains("max.message.bytes")));
        assert!(matches!(explain(Code::NotEnoughReplicas), Failure::Unavailable(_)));
        assert!(matches!(explain(Code::AllBrokersDown), Failure::Unavailable(text) if text.contains("a:1") && text.contains("refused")));
    }

    /// Nothing listens where a port was free a moment ago.
    #[tokio::test]
    async fn absent_brokers_are_unavailable() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let brokers =
            Brokers::new(properties(&[("bootstrap.servers", &free.to_string()), ("message.timeout.ms", "300"), ("linger.ms", "1")]))
                .unwrap();
        let mut producer = Producer::open(&brokers, "t", Arc::new(())).await.unwrap();
        producer.push(&[b"m"]).await.unwrap();
        let failed = producer.flush().await.unwrap_err();
        assert!(matches!(&failed, Failure::Unavailable(text) if text.contains("1 byte")), "{failed}");
        assert_eq!(producer.push(&[b"m"]).await.unwrap_err(), failed);
    }
}
