//! How many clients of brokers a plugin has, and that nobody waits for the end of one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::bindings::pgshovel::plugin::kafka::{Failure, HostConsumer, HostProducer};
use super::super::state::{CLIENTS_MAX, State};
use super::*;
use crate::capabilities::grants::Properties;
use wasmtime::component::Resource;

/// Nobody listens there: a client does not mind before it is used.
fn state() -> State {
    let brokers = BTreeMap::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]);
    let grants = Grants { kafka: Resources::One(Properties(brokers)), ..Grants::default() };
    let section = Section { grants, ..section("stream", "kafka.wasm", Path::new("conf")) };
    State::new(engine(), &section, "kafka.wasm", "test".into(), 1, None).unwrap()
}

/// A producer was let go of by the thread that runs the plugin, which waited up to half a
/// second for each; and a plugin could have 1024 of them, with five threads each.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_has_few_clients_and_lets_go_of_them_at_once() {
    let mut state = state();
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
