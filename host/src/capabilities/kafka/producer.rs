//! A producer for one topic.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, PurgeConfig};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::brokers::Brokers;
use super::client::{PARTITION, Place};
use super::failure::{Failure, Outcome, client_failure, no_thread};
use super::reports::{Reports, locked};
use super::topic::check_topic_name;
use crate::ports::Messages;

/// What a producer holds back before `push` waits; a larger message goes alone.
const PRODUCER_BYTES_MAX: usize = 32 << 20;
/// How long a producer's thread waits for answers in one go. They are taken as they come;
/// but the client spins for the last millisecond of it.
const ANSWERS_POLL: Duration = Duration::from_secs(1);
/// How long messages that are given up may take to be accounted for.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

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
        client_failure(error, &doing, &self.brokers, &self.reports)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.note(&error, reason);
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
    /// Ends the thread that takes the broker's answers, and is the last to let the client
    /// go: behind `inner`, and so dropped after it.
    _over: Over,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}

impl Producer {
    /// Asks the broker for nothing yet: the first flush tells whether it answers.
    pub async fn open(brokers: &Brokers, topic: &str, place: Place) -> Outcome<Self> {
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
        let doing = format!("kafka topic `{topic}`");
        let inner: BaseProducer<Deliveries> = brokers.create(context, &doing)?;
        let shared = Arc::clone(inner.client().context());
        let (inner, over) = (Arc::new(inner), Arc::<AtomicBool>::default());
        let (polled, ended) = (Arc::clone(&inner), Arc::clone(&over));
        let poll = move || {
            while !ended.load(Ordering::Acquire) {
                polled.poll(ANSWERS_POLL);
            }
            drop(polled);
            drop(place);
        };
        std::thread::Builder::new().name("kafka answers".to_owned()).spawn(poll).map_err(|error| no_thread(&doing, error))?;
        Ok(Self { inner, shared, _over: Over(over) })
    }

    /// Queues the messages, waiting while the queue is full. After an error this
    /// producer sends nothing any more.
    pub async fn push(&mut self, messages: &Messages) -> Outcome<()> {
        for message in messages.iter() {
            if let Err(failure) = self.push_one(message).await {
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

/// Ends the thread of a producer when it is dropped.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What is still under way is given up at once; the thread follows.
impl Drop for Producer {
    fn drop(&mut self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }
}
