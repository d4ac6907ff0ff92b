//! How many clients of brokers a plugin has, and that nobody waits for the end of one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::budget::Budget;
use crate::capabilities::capability::{Capability, Setup};
use crate::capabilities::grants::Resources;
use crate::capabilities::kafka::Properties;
use crate::capabilities::output::Log;
use crate::capabilities::shared::Shared;

/// Nobody listens there: a client does not mind before it is used.
fn state() -> (Clients, Shared) {
    let brokers = BTreeMap::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]);
    let log = Log::new("kafka.wasm", "stream", Arc::default());
    let shared = Shared::new(Budget::new(1 << 20, 8, "test".into()), log, "test".into(), Duration::from_secs(60), "test".into());
    let setup = Setup { section: "stream", file: Path::new("app.yaml"), configuration: &serde_json::Value::Null, compiled: None };
    (Kafka::state(&Resources::One(Properties(brokers)), &setup, &shared).unwrap(), shared)
}

/// A producer was let go of by the thread that runs the plugin, which waited up to half a
/// second for each; and a plugin could have 1024 of them, with five threads each.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_has_few_clients_and_lets_go_of_them_at_once() {
    let (mut state, mut shared) = state();
    let mut state = View::<Kafka> { state: &mut state, shared: &mut shared };
    let mut producers = Vec::new();
    for _ in 1..CLIENTS_MAX {
        producers.push(HostProducer::open(&mut state, None, "t".into()).await.unwrap().unwrap());
    }
    let consumer = HostConsumer::open(&mut state, None, "t".into()).await.unwrap().unwrap();
    let refused = HostProducer::open(&mut state, None, "t".into()).await.unwrap().unwrap_err();
    assert!(matches!(&refused, Failure::Misuse(text) if text.contains("which is the most it may")), "{refused:?}");
    let started = Instant::now();
    HostProducer::push(&mut state, Resource::new_borrow(producers[0].rep()), b"never sent".to_vec(), vec![10]).await.unwrap().unwrap();
    for producer in producers {
        HostProducer::drop(&mut state, producer).await.unwrap();
    }
    HostConsumer::drop(&mut state, consumer).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(300), "it took {:?}", started.elapsed());
    // Their places come back when they are really gone.
    let opened = tokio::time::timeout(Duration::from_secs(60), async {
        let mut producers = Vec::new();
        while producers.len() < CLIENTS_MAX {
            match HostProducer::open(&mut state, None, "t".into()).await.unwrap() {
                Ok(producer) => producers.push(producer),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    opened.await.unwrap();
}
