//! The short form of `make chaos`.

use std::sync::Arc;
use std::time::Duration;

use tests::chaos::{self, Length, Options};
use tests::screen::Screen;
use tests::servers::Fleet;
use tests::stage::Stream;

/// Faults of a few rounds, as they come.
async fn short(stream: Stream, seed: u64) {
    let options = Options { stream, seed, length: Length::Rounds(5), longest: Duration::from_secs(5) };
    let fleet = Arc::new(Fleet::new().unwrap());
    let result = chaos::run(&mut Screen::new(), &fleet, options).await;
    if result.is_err() {
        fleet.keep().unwrap();
    }
    let tally = result.map_err(|error| error.message).unwrap();
    assert!(tally.rounds == 5 && tally.rows > 100_000, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_around_a_folder_are_recovered_from() {
    short(Stream::File, rand::random_range(0..1_000_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_around_kafka_are_recovered_from() {
    short(Stream::Kafka, rand::random_range(0..1_000_000)).await;
}
