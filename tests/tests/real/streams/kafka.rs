//! `kafka.wasm` and a real Apache Kafka.

use pgshovel::error::Next;
use pgshovel::ports::Stream as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use tests::harness::World;

use super::{Setup, WAIT, contents, is_followed_while_it_grows, keeps_order_and_positions, numbered, send, taken};

/// The default topic contains the cluster's name, which each test has for itself.
async fn setup(world: &World, configuration: &str) -> Setup {
    let brokers = world.kafka().await;
    Setup::new(world, &format!("{{ path: kafka.wasm, configuration: {configuration}, grants: {{ kafka: \"{brokers}\" }} }}"))
}

#[tokio::test]
async fn messages_come_back_in_order() {
    let world = World::without_servers();
    keeps_order_and_positions(&setup(&world, "{}").await).await;
}

#[tokio::test]
async fn a_reader_follows_the_writer() {
    let world = World::without_servers();
    is_followed_while_it_grows(&setup(&world, "{}").await).await;
}

#[tokio::test]
async fn a_topic_that_is_there_is_used() {
    let world = World::without_servers();
    let topic = world.topic("mine").await;
    let setup = setup(&world, &format!("{{ topic: {topic} }}")).await;
    setup.send(&numbered(0..5)).await;
    assert_eq!(contents(&setup.receive(None, 5).await.unwrap()), numbered(0..5));
}

#[tokio::test]
async fn a_topic_without_an_order_is_refused() {
    let world = World::without_servers();
    let topic = world.topic("wide").await;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", world.kafka().await).create().unwrap();
    for result in admin.create_partitions([&NewPartitions::new(&topic, 3)], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    let refused = setup(&world, &format!("{{ topic: {topic} }}")).await.writer().await.unwrap_err();
    assert_eq!(refused.next, Next::Stop);
    assert!(refused.message.contains(&topic) && refused.message.contains("3 partitions"), "{refused}");
}

#[tokio::test]
async fn a_message_that_the_broker_refuses_is_named() {
    let world = World::without_servers();
    let setup = setup(&world, "{ settings: { max.message.bytes: \"1000\" } }").await;
    let mut writer = setup.writer().await.unwrap();
    // Not compressible.
    let message: Vec<u8> = (0..5000).map(|_| rand::random()).collect();
    let refused = send(&mut writer, &[message]).await.unwrap_err();
    assert_eq!(refused.next, Next::Stop);
    assert!(refused.message.contains("5000 byte") && refused.message.contains("max.message.bytes"), "{refused}");
}

/// The broker refuses all that was sent together.
#[tokio::test]
async fn of_several_messages_the_one_that_is_too_large_is_named() {
    let world = World::without_servers();
    let setup = setup(&world, "{ settings: { max.message.bytes: \"20000\" } }").await;
    let message = |bytes: usize| (0..bytes).map(|_| rand::random()).collect::<Vec<u8>>();
    for place in [0, 7, 15] {
        let mut writer = setup.writer().await.unwrap();
        let messages: Vec<_> = (0..16).map(|number| message(if number == place { 30_000 } else { 100 + number })).collect();
        let refused = send(&mut writer, &messages).await.unwrap_err();
        assert!(refused.next == Next::Stop && refused.message.contains("a message of 30000 byte(s)"), "{place}: {refused}");
    }
}

#[tokio::test]
async fn a_compacted_topic_is_named() {
    let world = World::without_servers();
    for policy in ["compact", "compact,delete"] {
        let topic = format!("{}-{}", world.cluster(), policy.replace(',', "-"));
        let refused = setup(&world, &format!("{{ topic: {topic}, settings: {{ cleanup.policy: \"{policy}\" }} }}")).await;
        // Made here, or there already.
        for _ in 0..2 {
            let refused = refused.writer().await.unwrap_err();
            let said = [&*topic, &format!("cleanup.policy={policy}:"), "--add-config cleanup.policy=delete"];
            assert!(refused.next == Next::Stop && said.iter().all(|said| refused.message.contains(said)), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_wide_row_passes() {
    let world = World::without_servers();
    let setup = setup(&world, "{}").await;
    let messages = vec![(0..20 << 20).map(|_| rand::random()).collect(), b"small".to_vec()];
    setup.send(&messages).await;
    assert!(contents(&setup.receive(None, 2).await.unwrap()) == messages);
}

#[tokio::test]
async fn an_offset_that_is_not_there_stops() {
    let world = World::without_servers();
    let setup = setup(&world, "{}").await;
    setup.send(&numbered(0..5)).await;
    let mut stream = setup.stream().await.unwrap();
    let refused = stream.seek(Some(&17u64.to_be_bytes())).await.unwrap_err();
    assert_eq!(refused.next, Next::Stop);
    assert!(refused.message.contains("offset 18 is not there") && refused.message.contains("once with --bootstrap"), "{refused}");
    // Its end is no error, although nothing is there yet.
    stream.seek(Some(&4u64.to_be_bytes())).await.unwrap();
    assert!(stream.next(1, std::time::Duration::from_millis(1)).await.unwrap().is_empty());
    stream.seek(Some(&3u64.to_be_bytes())).await.unwrap();
    assert_eq!(contents(&taken(&stream.next(9, WAIT).await.unwrap())), numbered(4..5));
}

#[tokio::test]
async fn absent_brokers_are_waited_for() {
    let world = World::without_servers();
    // Nothing listens where a port was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new(&world, &format!("{{ path: kafka.wasm, grants: {{ kafka: \"{address}\" }} }}"));
    let refused = setup.writer().await.unwrap_err();
    assert_eq!(refused.next, Next::Retry);
    assert!(refused.message.contains(&address.to_string()), "{refused}");
}

#[tokio::test]
#[ignore = "prints figures and proves nothing"]
async fn throughput() {
    let world = World::without_servers();
    super::throughput(&setup(&world, "{}").await).await;
}
