//! Clients of librdkafka: how they are made, and how they end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;

use super::brokers::Brokers;
use super::failure::{Failure, Outcome, client_failure, no_thread};
use super::reports::{Reports, locked};

/// Threads of a client beside those for brokers, and of ours that it is used from, with some to spare.
const CLIENT_THREADS: usize = 6;
/// How long before it is seen again whether a client is still held.
const RELEASE_PAUSE: Duration = Duration::from_millis(5);
pub(super) const PARTITION: i32 = 0;

impl Brokers {
    /// A client of librdkafka's. `doing` is what for.
    pub(super) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(&self, context: C, doing: &str) -> Outcome<T> {
        self.check_room().map_err(|error| no_thread(doing, error))?;
        self.configuration().create_with_context(context).map_err(|error| client_failure(&error, doing, self, &Reports::default()))
    }

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

/// A place among the clients that a plugin may have. It is given back when the client is gone,
/// threads and all, and not before.
pub type Place = Arc<dyn Send + Sync>;

/// Lets a client go, once nobody else holds it: that waits for threads of the client's own,
/// and no task is to wait with it.
pub(super) fn release<T: Send + Sync + 'static>(client: Arc<T>, place: Place) {
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

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::Unavailable("the process is shutting down".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

    use super::*;
    use crate::capabilities::kafka::Producer;
    use crate::capabilities::kafka::failure::failure;
    use crate::capabilities::kafka::topic::check_topic_name;

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
        producer.push(&[b"m"].iter().collect()).await.unwrap();
        let failed = producer.flush().await.unwrap_err();
        assert!(matches!(&failed, Failure::Unavailable(text) if text.contains("1 byte")), "{failed}");
        assert_eq!(producer.push(&[b"m"].iter().collect()).await.unwrap_err(), failed);
    }
}
