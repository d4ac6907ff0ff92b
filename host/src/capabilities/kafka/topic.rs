//! The topic of a stream.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::brokers::Brokers;
use super::client::{Place, blocking, release};
use super::failure::{Failure, Outcome, client_failure, failure, no_thread};
use super::reports::Reports;

/// How long a broker may take to answer a question about a topic.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broker that is asked for the first time is waited for before it is seen what
/// is in the way.
const REACH_STEP: Duration = Duration::from_millis(250);
/// How long another broker may still answer after one refused us.
const DENIED_GRACE: Duration = Duration::from_secs(1);
/// How long to wait before the same is asked again.
const REQUEST_PAUSE: Duration = Duration::from_millis(50);

/// The rule of Kafka's own `Topic.validate`.
pub(super) fn check_topic_name(topic: &str) -> Outcome<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&topic.len()) && topic.chars().all(legal) && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(Failure::Misuse(format!("`{topic}` cannot name a kafka topic: use 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`")))
}

/// Creates the topic with one partition unless it exists. `settings` are the
/// topic's own (`retention.ms`, …) and count for a topic made here only.
pub async fn ensure_topic(
    brokers: &Brokers,
    topic: &str,
    replicas: Option<u16>,
    settings: &[(String, String)],
    place: Place,
) -> Outcome<()> {
    check_topic_name(topic)?;
    let doing = format!("kafka topic `{topic}`");
    reach(brokers, topic, &doing, Arc::clone(&place)).await?;
    let admin = Admin::open(brokers, &doing, place)?;
    let fail = |error: &KafkaError| client_failure(error, &doing, brokers, admin.reports());

    let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas.map_or(-1, i32::from)));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let results = admin.0.create_topics([&new], &options).await.map_err(|error| fail(&error))?;
    match results.into_iter().next() {
        Some(Err((_, code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::TopicAlreadyExists)))) => {
            check_cleanup(&admin, topic, &doing).await?;
            // Who may not create topics may still use one that is there.
            check_partitions(brokers, admin, topic, code).await
        }
        Some(Err((_, code))) => Err(failure(code, &doing, brokers, admin.reports())),
        Some(Ok(_)) | None => {
            check_cleanup(&admin, topic, &doing).await?;
            await_leader(brokers, &admin, topic, &doing).await
        }
    }
}

/// Asks for the topic until somebody answers. The client that makes topics hears nothing of
/// what is wrong with TLS and SASL; this one does, and at once.
async fn reach(brokers: &Brokers, topic: &str, doing: &str, place: Place) -> Outcome<()> {
    let client: BaseConsumer<Reports> = brokers.create(Reports::default(), doing)?;
    let (client, topic, doing, brokers) = (Arc::new(client), topic.to_owned(), doing.to_owned(), brokers.clone());
    blocking(move || {
        let asked = Instant::now();
        let mut denied = None;
        let answer = loop {
            let Err(error) = client.fetch_metadata(Some(&topic), REACH_STEP) else { break Ok(()) };
            // What it has to say meanwhile, and lines of its log between.
            let listening = Instant::now();
            while listening.elapsed() < REACH_STEP {
                client.poll(REACH_STEP / 10);
            }
            let reports = client.client().context();
            if reports.denied().is_some() {
                denied = denied.or(Some(Instant::now()));
            }
            // Of several brokers another one may answer.
            let refused = denied.is_some_and(|since: Instant| since.elapsed() > DENIED_GRACE);
            if refused || asked.elapsed() > REQUEST_TIMEOUT {
                break Err(client_failure(&error, &doing, &brokers, reports));
            }
        };
        release(client, place);
        answer
    })
    .await?
}

/// A broker that compacts a topic drops messages from its middle. Who may not ask for the
/// topic's settings goes on.
async fn check_cleanup(admin: &Admin, topic: &str, doing: &str) -> Outcome<()> {
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let asked = Instant::now();
    let described = loop {
        let described = admin.0.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
        match described.ok().and_then(|described| described.into_iter().next()) {
            Some(Ok(described)) if !described.entries.is_empty() => break described,
            // A topic that was just made is not known at once, or is described without any of its settings.
            Some(Ok(_) | Err(Code::UnknownTopicOrPartition)) if asked.elapsed() < REQUEST_TIMEOUT => {
                tokio::time::sleep(REQUEST_PAUSE).await;
            }
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

/// A topic that was just made can be used when its partition has a leader.
async fn await_leader(brokers: &Brokers, admin: &Admin, topic: &str, doing: &str) -> Outcome<()> {
    let asked = Instant::now();
    loop {
        let (client, name) = (Arc::clone(&admin.0), topic.to_owned());
        let led = blocking(move || {
            let metadata = client.inner().fetch_metadata(Some(&name), REQUEST_TIMEOUT)?;
            let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
            Ok::<_, KafkaError>(partitions.first().is_some_and(|partition| partition.error().is_none()))
        })
        .await?
        .map_err(|error| client_failure(&error, doing, brokers, admin.reports()))?;
        if led || asked.elapsed() > REQUEST_TIMEOUT {
            return Ok(());
        }
        tokio::time::sleep(REQUEST_PAUSE).await;
    }
}

async fn check_partitions(brokers: &Brokers, admin: Admin, topic: &str, creation: Code) -> Outcome<()> {
    let doing = format!("kafka topic `{topic}`");
    let (name, asked, named) = (topic.to_owned(), doing.clone(), brokers.clone());
    let partitions = blocking(move || {
        let found = admin.0.inner().fetch_metadata(Some(&name), REQUEST_TIMEOUT);
        let metadata = found.map_err(|error| client_failure(&error, &asked, &named, admin.reports()))?;
        Ok(metadata.topics().iter().find(|found| found.name() == name).map_or(0, |found| found.partitions().len()))
    })
    .await??;
    match partitions {
        1 => Ok(()),
        0 => Err(failure(creation, &doing, brokers, &Reports::default())),
        many => Err(Failure::Refused(format!(
            "{doing} has {many} partitions, which keep no order among them: name another topic, or make it again with one"
        ))),
    }
}

/// A client that asks about topics, and is let go of without anybody waiting.
struct Admin(Arc<AdminClient<Reports>>, Place);

impl Admin {
    fn open(brokers: &Brokers, doing: &str, place: Place) -> Outcome<Self> {
        // The client panics if it cannot start the thread that takes its answers, of which
        // there was one to spare a moment ago.
        let create = AssertUnwindSafe(|| brokers.create(Reports::default(), doing));
        let admin = catch_unwind(create).unwrap_or_else(|_| Err(no_thread(doing, "there are too many")))?;
        Ok(Self(Arc::new(admin), place))
    }

    fn reports(&self) -> &Reports {
        self.0.inner().context()
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        release(Arc::clone(&self.0), Arc::clone(&self.1));
    }
}
