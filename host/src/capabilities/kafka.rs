//! What a plugin may do with Kafka: `kafka.wit` in Rust, served by librdkafka.
//!
//! Order and durability are not negotiable here: one partition, an idempotent
//! producer that waits for all in-sync replicas, a consumer that reports lost
//! messages instead of skipping them. No consumer group keeps an offset.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long a broker may take to answer a question about a topic.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before the same is asked again.
const REQUEST_PAUSE: Duration = Duration::from_millis(50);
/// How long a message may wait for its acknowledgement.
const DELIVERY_TIMEOUT_MS: &str = "20000";
/// What a producer holds back before `push` waits; a larger message goes alone.
const PRODUCER_BYTES_MAX: usize = 32 << 20;
/// So that librdkafka's own queue takes one message of any size.
const PRODUCER_QUEUE_KIB_MAX: &str = "2097151";
/// What a consumer fetches ahead of `next`.
const CONSUMER_QUEUE_KIB_MAX: &str = "16384";
/// How long a producer's thread waits for answers in one go. They are taken as they come;
/// but the client spins for the last millisecond of it.
const ANSWERS_POLL: Duration = Duration::from_secs(1);
/// One call of `next` stops collecting here.
const NEXT_BYTES_MAX: usize = 1 << 20;
/// A broker closes the connection on a request of more than its
/// `socket.request.max.bytes`, 100 MiB by default, without a word: better known before.
const MESSAGE_BYTES_MAX: &str = "104000000";
const PARTITION: i32 = 0;
/// How long messages that are given up may take to be accounted for.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);
/// What to do when the stream does not hold what comes next.
const LOST_REMEDY: &str = "replicate once with --bootstrap to load the target anew";

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

/// Why a call failed; the cases of `kafka.wit`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Misuse(String),
}

type Outcome<T> = std::result::Result<T, Failure>;

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

/// What librdkafka says beside its answers: logged, and the last error kept to
/// explain a time-out.
#[derive(Default)]
struct Reports {
    last: Mutex<Option<String>>,
}

impl Reports {
    fn note(&self, reason: &str) {
        tracing::debug!(target: "pgshovel::kafka", "{reason}");
        *locked(&self.last) = Some(reason.to_owned());
    }

    fn last(&self) -> String {
        locked(&self.last).clone().unwrap_or_else(|| "no answer in time".to_owned())
    }
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "pgshovel::kafka", "{facility}: {message}");
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        self.note(reason);
    }
}

impl ConsumerContext for Reports {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is valid at every moment, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose fault an error of librdkafka is. What cannot be told is passing: the
/// retry shows it again.
fn failure(code: Code, doing: &str, brokers: &Brokers, last: &str) -> Failure {
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Failure::Refused(format!("{doing}: the topic does not exist at {}", brokers.servers()))
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => Failure::Refused(format!(
            "{doing}: a message is larger than the broker takes: raise the topic's `max.message.bytes`, and for more than 100 MB also \
                 the broker's `socket.request.max.bytes` and `message.max.bytes` in the grant"
        )),
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => Failure::Refused(format!(
            "{doing}: messages were lost, the broker no longer has the offset that comes next: {last}; {LOST_REMEDY}"
        )),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::SecurityDisabled => Failure::Refused(format!("{doing}: access is denied: {code}")),
        Code::InvalidTopic
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidMessage
        | Code::BadMessage
        | Code::BadCompression
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::UnsupportedCompressionType
        | Code::UnsupportedFeature
        | Code::UnsupportedVersion => Failure::Refused(format!("{doing}: {code}")),
        Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut | Code::MessageTimedOut | Code::Resolve => {
            Failure::Unavailable(format!("{doing}: no broker of {} answers: {last}", brokers.servers()))
        }
        Code::QueueFull => Failure::Refused(format!(
            "{doing}: it is larger than the producer's queue: raise `queue.buffering.max.kbytes` in the grant, or leave it out"
        )),
        other => Failure::Unavailable(format!("{doing}: {other}: {last}")),
    }
}

/// The same for the errors that carry no code.
fn client_failure(error: &KafkaError, doing: &str, brokers: &Brokers, last: &str) -> Failure {
    match error {
        KafkaError::AdminOp(code) => failure(*code, doing, brokers, last),
        other => match other.rdkafka_error_code() {
            Some(code) => failure(code, doing, brokers, last),
            None => Failure::Misuse(format!("{doing}: {other}")),
        },
    }
}

/// The rule of Kafka's own `Topic.validate`.
fn check_topic_name(topic: &str) -> Outcome<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&topic.len()) && topic.chars().all(legal) && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(Failure::Misuse(format!("`{topic}` cannot name a kafka topic: use 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::Unavailable("the process is shutting down".to_owned()))
}

/// Creates the topic with one partition unless it exists. `settings` are the
/// topic's own (`retention.ms`, …) and count for a topic made here only.
pub async fn ensure_topic(brokers: &Brokers, topic: &str, replicas: Option<u16>, settings: &[(String, String)]) -> Outcome<()> {
    check_topic_name(topic)?;
    let doing = format!("kafka topic `{topic}`");
    let admin: AdminClient<Reports> = brokers.admin(&doing)?;
    let fail = |error: &KafkaError| client_failure(error, &doing, brokers, &admin.inner().context().last());

    let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas.map_or(-1, i32::from)));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let results = admin.create_topics([&new], &options).await.map_err(|error| fail(&error))?;
    match results.into_iter().next() {
        Some(Err((_, code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::TopicAlreadyExists)))) => {
            check_cleanup(&admin, topic, &doing).await?;
            // Who may not create topics may still use one that is there.
            check_partitions(brokers, admin, topic, code).await
        }
        Some(Err((_, code))) => Err(failure(code, &doing, brokers, &admin.inner().context().last())),
        Some(Ok(_)) | None => check_cleanup(&admin, topic, &doing).await,
    }
}

/// A broker that compacts a topic drops messages from its middle. Who may not ask for the
/// topic's settings goes on.
async fn check_cleanup(admin: &AdminClient<Reports>, topic: &str, doing: &str) -> Outcome<()> {
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let asked = Instant::now();
    let described = loop {
        let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
        match described.ok().and_then(|described| described.into_iter().next()) {
            Some(Ok(described)) => break described,
            // A topic that was just made is not known at once.
            Some(Err(Code::UnknownTopicOrPartition)) if asked.elapsed() < REQUEST_TIMEOUT => tokio::time::sleep(REQUEST_PAUSE).await,
            _ => return Ok(()),
        }
    };
    match described.get("cleanup.policy").and_then(|entry| entry.value.as_deref()) {
        Some(policy) if policy.split(',').any(|word| word.trim() == "compact") => Err(Failure::Refused(format!(
            "{doing} has cleanup.policy={policy}: the broker would drop messages from its middle, and takes none without a key, as these are; \
             set it to delete, as kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy=delete does"
        ))),
        _ => Ok(()),
    }
}

async fn check_partitions(brokers: &Brokers, admin: AdminClient<Reports>, topic: &str, creation: Code) -> Outcome<()> {
    let doing = format!("kafka topic `{topic}`");
    let name = topic.to_owned();
    let partitions = blocking(move || {
        let client = admin.inner();
        let metadata = client.fetch_metadata(Some(&name), REQUEST_TIMEOUT).map_err(|error| (error, client.context().last()))?;
        Ok(metadata.topics().iter().find(|found| found.name() == name).map_or(0, |found| found.partitions().len()))
    })
    .await?
    .map_err(|(error, last): (KafkaError, String)| client_failure(&error, &doing, brokers, &last))?;
    match partitions {
        1 => Ok(()),
        0 => Err(failure(creation, &doing, brokers, "")),
        many => Err(Failure::Refused(format!(
            "{doing} has {many} partitions, which keep no order among them: name another topic, or make it again with one"
        ))),
    }
}

impl Brokers {
    fn admin(&self, doing: &str) -> Outcome<AdminClient<Reports>> {
        self.configuration().create_with_context(Reports::default()).map_err(|error| client_failure(&error, doing, self, ""))
    }
}

/// What the producer's own thread tells the tasks that push and flush.
struct Deliveries {
    topic: String,
    brokers: Brokers,
    reports: Reports,
    /// Queued and neither acknowledged nor given up.
    open: AtomicUsize,
    /// What the open ones hold.
    bytes: AtomicUsize,
    failed: Mutex<Option<Failed>>,
    progress: Notify,
}

/// Why a message was given up.
struct Failed {
    failure: Failure,
    /// Its bytes, if there are too many of them. The broker refuses what was sent together,
    /// so the largest is the one to name.
    too_large: Option<usize>,
}

impl Deliveries {
    fn check(&self) -> Outcome<()> {
        locked(&self.failed).as_ref().map_or(Ok(()), |failed| Err(failed.failure.clone()))
    }

    /// The first failure counts; of messages that are too large, the largest.
    fn fail(&self, error: &KafkaError, message_bytes: usize) -> Failure {
        let is_large =
            matches!(error.rdkafka_error_code(), Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge));
        let failed = || Failed { failure: self.explain(error, message_bytes), too_large: is_large.then_some(message_bytes) };
        let mut first = locked(&self.failed);
        if is_large && first.as_ref().is_some_and(|first| first.too_large.is_some_and(|bytes| bytes < message_bytes)) {
            *first = None;
        }
        first.get_or_insert_with(failed).failure.clone()
    }

    /// Whether a message of so many bytes may be queued.
    fn has_room(&self, bytes: usize) -> bool {
        self.open.load(Ordering::Acquire) == 0 || self.bytes.load(Ordering::Acquire).saturating_add(bytes) <= PRODUCER_BYTES_MAX
    }

    fn enter(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// How many are still open.
    fn leave(&self, bytes: usize) -> usize {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.open.fetch_sub(1, Ordering::AcqRel).saturating_sub(1)
    }

    fn explain(&self, error: &KafkaError, message_bytes: usize) -> Failure {
        let doing = format!("kafka topic `{}`: a message of {message_bytes} byte(s)", self.topic);
        client_failure(error, &doing, &self.brokers, &self.reports.last())
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        self.reports.note(reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let message = match result {
            Ok(message) => message,
            Err((error, message)) => {
                self.fail(error, message.payload_len());
                message
            }
        };
        self.leave(message.payload_len());
        self.progress.notify_waiters();
    }
}

/// Appends messages to partition 0 of one topic, in order and without gaps.
pub struct Producer {
    inner: Arc<BaseProducer<Deliveries>>,
    shared: Arc<Deliveries>,
    /// Ends the thread that takes the broker's answers.
    over: Arc<AtomicBool>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}

impl Producer {
    /// Asks the broker for nothing yet: the first flush tells whether it answers.
    pub async fn open(brokers: &Brokers, topic: &str) -> Outcome<Self> {
        check_topic_name(topic)?;
        let context = Deliveries {
            topic: topic.to_owned(),
            brokers: brokers.clone(),
            reports: Reports::default(),
            open: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            failed: Mutex::new(None),
            progress: Notify::new(),
        };
        let inner: BaseProducer<Deliveries> = brokers
            .configuration()
            .create_with_context(context)
            .map_err(|error| client_failure(&error, &format!("kafka topic `{topic}`"), brokers, ""))?;
        let shared = Arc::clone(inner.client().context());
        let (inner, over) = (Arc::new(inner), Arc::<AtomicBool>::default());
        let (polled, ended) = (Arc::clone(&inner), Arc::clone(&over));
        let poll = move || {
            while !ended.load(Ordering::Acquire) {
                polled.poll(ANSWERS_POLL);
            }
        };
        std::thread::Builder::new()
            .name("kafka answers".to_owned())
            .spawn(poll)
            .map_err(|error| Failure::Unavailable(format!("kafka topic `{topic}`: cannot start a thread: {error}")))?;
        Ok(Self { inner, shared, over })
    }

    /// Queues the messages, waiting while the queue is full. After an error this
    /// producer sends nothing any more.
    pub async fn push<M: AsRef<[u8]>>(&mut self, messages: &[M]) -> Outcome<()> {
        for message in messages {
            if let Err(failure) = self.push_one(message.as_ref()).await {
                return Err(self.give_up(failure).await);
            }
        }
        Ok(())
    }

    /// What failed is known when all that was sent with it is accounted for.
    async fn give_up(&self, failure: Failure) -> Failure {
        self.inner.purge(PurgeConfig::default().queue().inflight());
        let _ = timeout(PURGE_TIMEOUT, self.drained()).await;
        self.shared.check().err().unwrap_or(failure)
    }

    async fn drained(&self) {
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if self.shared.open.load(Ordering::Acquire) == 0 {
                return;
            }
            progress.await;
        }
    }

    async fn push_one(&self, message: &[u8]) -> Outcome<()> {
        loop {
            self.shared.check()?;
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if self.shared.has_room(message.len()) {
                self.shared.enter(message.len());
                let record = BaseRecord::<(), [u8]>::to(&self.shared.topic).partition(PARTITION).payload(message);
                let Err((error, _)) = self.inner.send(record) else { return Ok(()) };
                let open = self.shared.leave(message.len());
                // A queue that is full of nothing is smaller than the message: the grant made it so.
                if open == 0 || error.rdkafka_error_code() != Some(Code::QueueFull) {
                    return Err(self.shared.fail(&error, message.len()));
                }
            }
            progress.await;
        }
    }

    /// Returns when all that was queued is acknowledged by all in-sync replicas,
    /// or one of them was given up.
    pub async fn flush(&mut self) -> Outcome<()> {
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if let Err(failure) = self.shared.check() {
                return Err(self.give_up(failure).await);
            }
            if self.shared.open.load(Ordering::Acquire) == 0 {
                return Ok(());
            }
            progress.await;
        }
    }
}

/// What is still under way is given up at once; the thread follows.
impl Drop for Producer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }
}

/// One message and its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub offset: u64,
    pub message: Vec<u8>,
}

/// Reads partition 0 of one topic, from an offset that the caller keeps.
pub struct Consumer {
    inner: Arc<StreamConsumer<Reports>>,
    brokers: Brokers,
    topic: String,
    /// Came after messages that were returned first.
    pending: Option<Failure>,
    positioned: bool,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Asks the broker for nothing yet.
    pub async fn open(brokers: &Brokers, topic: &str) -> Outcome<Self> {
        check_topic_name(topic)?;
        let inner = brokers
            .configuration()
            .create_with_context(Reports::default())
            .map_err(|error| client_failure(&error, &format!("kafka topic `{topic}`"), brokers, ""))?;
        Ok(Self { inner: Arc::new(inner), brokers: brokers.clone(), topic: topic.to_owned(), pending: None, positioned: false })
    }

    /// The next message returned is the one at `offset`, or the first after it
    /// where the broker keeps none there; with `None` the oldest retained.
    pub async fn seek(&mut self, offset: Option<u64>) -> Outcome<()> {
        self.pending = None;
        self.positioned = false;
        let (low, high) = self.watermarks().await?;
        let start = match offset {
            None => low,
            Some(offset) => i64::try_from(offset).ok().filter(|offset| (low..=high).contains(offset)).ok_or_else(|| {
                Failure::Refused(format!(
                    "{}: offset {offset} is not there, only {low} to {high}: messages were lost, or the topic was made anew; {LOST_REMEDY}",
                    self.doing()
                ))
            })?,
        };
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(start))
            .and_then(|()| self.inner.assign(&assignment))
            .map_err(|error| self.explain(&error))?;
        self.positioned = true;
        Ok(())
    }

    /// Up to `max_messages`, and about 1 MiB, waiting up to `max_wait` for the
    /// first of them.
    pub async fn next(&mut self, max_messages: u32, max_wait: Duration) -> Outcome<Vec<Entry>> {
        if !self.positioned {
            return Err(Failure::Misuse(format!("{}: `next` was called before `seek`", self.doing())));
        }
        if let Some(failure) = self.pending.take() {
            return Err(failure);
        }
        let (entries, stopped) = self.collect(max_messages, max_wait).await;
        match stopped {
            Some(failure) if entries.is_empty() => Err(failure),
            stopped => {
                self.pending = stopped;
                Ok(entries)
            }
        }
    }

    async fn collect(&self, max_messages: u32, max_wait: Duration) -> (Vec<Entry>, Option<Failure>) {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut stream = self.inner.stream();
        let mut received = timeout(max_wait, stream.next()).await.ok().flatten();
        while let Some(result) = received {
            match result {
                Ok(message) => {
                    let entry = entry(&message);
                    bytes += entry.message.len();
                    entries.push(entry);
                }
                // One of several brokers, or one that librdkafka dials again.
                Err(error) if is_connection_report(&error) => {}
                Err(error) => return (entries, Some(self.explain(&error))),
            }
            if entries.len() >= max_messages as usize || bytes >= NEXT_BYTES_MAX {
                break;
            }
            received = stream.next().now_or_never().flatten();
        }
        (entries, None)
    }

    async fn watermarks(&self) -> Outcome<(i64, i64)> {
        let (inner, topic) = (Arc::clone(&self.inner), self.topic.clone());
        blocking(move || inner.fetch_watermarks(&topic, PARTITION, REQUEST_TIMEOUT)).await?.map_err(|error| self.explain(&error))
    }

    fn doing(&self) -> String {
        format!("kafka topic `{}`", self.topic)
    }

    fn explain(&self, error: &KafkaError) -> Failure {
        client_failure(error, &self.doing(), &self.brokers, &self.inner.context().last())
    }
}

fn entry(message: &BorrowedMessage<'_>) -> Entry {
    // Offsets of fetched messages are never negative.
    Entry { offset: message.offset().unsigned_abs(), message: message.payload().unwrap_or_default().to_vec() }
}

fn is_connection_report(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumption(Code::BrokerTransportFailure | Code::Resolve | Code::GroupAuthorizationFailed))
}

#[cfg(test)]
mod tests {
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
        let explain = |code| failure(code, "topic `t`", &brokers, "connection refused");
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
        let mut producer = Producer::open(&brokers, "t").await.unwrap();
        producer.push(&[b"m"]).await.unwrap();
        let failed = producer.flush().await.unwrap_err();
        assert!(matches!(&failed, Failure::Unavailable(text) if text.contains("1 byte")), "{failed}");
        assert_eq!(producer.push(&[b"m"]).await.unwrap_err(), failed);
    }
}
