//! A consumer of one topic.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::timeout;

use super::brokers::Brokers;
use super::client::{PARTITION, Place, blocking, release};
use super::failure::{Failure, LOST_REMEDY, Outcome, client_failure};
use super::reports::Reports;
use super::topic::{REQUEST_TIMEOUT, check_topic_name};
use crate::ports::Messages;

/// One call of `next` stops collecting here.
const NEXT_BYTES_MAX: usize = 1 << 20;

/// Messages and their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub messages: Messages,
    /// As many as messages.
    pub offsets: Vec<u64>,
}

/// Reads partition 0 of one topic, from an offset that the caller keeps.
pub struct Consumer {
    inner: Arc<StreamConsumer<Reports>>,
    brokers: Brokers,
    topic: String,
    place: Place,
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
    pub async fn open(brokers: &Brokers, topic: &str, place: Place) -> Outcome<Self> {
        check_topic_name(topic)?;
        let inner = brokers.create(Reports::default(), &format!("kafka topic `{topic}`"))?;
        Ok(Self { inner: Arc::new(inner), brokers: brokers.clone(), topic: topic.to_owned(), place, pending: None, positioned: false })
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
    pub async fn next(&mut self, max_messages: u32, max_wait: Duration) -> Outcome<Entries> {
        if !self.positioned {
            return Err(Failure::Misuse(format!("{}: `next` was called before `seek`", self.doing())));
        }
        if let Some(failure) = self.pending.take() {
            return Err(failure);
        }
        let (entries, stopped) = self.collect(max_messages, max_wait).await;
        match stopped {
            Some(failure) if entries.offsets.is_empty() => Err(failure),
            stopped => {
                self.pending = stopped;
                Ok(entries)
            }
        }
    }

    async fn collect(&self, max_messages: u32, max_wait: Duration) -> (Entries, Option<Failure>) {
        let mut entries = Entries::default();
        let mut stream = self.inner.stream();
        let mut received = timeout(max_wait, stream.next()).await.ok().flatten();
        while let Some(result) = received {
            match result {
                Ok(message) => {
                    entries.messages.add(message.payload().unwrap_or_default());
                    // Offsets of fetched messages are never negative.
                    entries.offsets.push(message.offset().unsigned_abs());
                }
                // One of several brokers, or one that librdkafka dials again.
                Err(error) if is_connection_report(&error) => {}
                Err(error) => return (entries, Some(self.explain(&error))),
            }
            if entries.offsets.len() >= max_messages as usize || entries.messages.bytes().len() >= NEXT_BYTES_MAX {
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
        client_failure(error, &self.doing(), &self.brokers, self.inner.context())
    }
}

/// To leave takes it a while.
impl Drop for Consumer {
    fn drop(&mut self) {
        release(Arc::clone(&self.inner), Arc::clone(&self.place));
    }
}

fn is_connection_report(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(Code::BrokerTransportFailure | Code::Resolve | Code::SSL | Code::GroupAuthorizationFailed)
    )
}
