//! The short form of `make chaos`.

use std::sync::Arc;
use std::time::Duration;

use tests::chaos::{self, Length, Options};
use tests::screen::Screen;
use tests::servers::Fleet;
use tests::stage::Stream;

const ROUNDS: usize = 3;
const LONGEST: Duration = Duration::from_secs(5);

/// A few faults, others each time. `make chaos` with the seed has the same ones in
/// the same order, and longer.
async fn short(stream: Stream) {
    let seed = rand::random_range(0..1_000_000);
    println!("STREAM={stream:?} SEED={seed}");
    let options = Options { stream, seed, length: Length::Rounds(ROUNDS), longest: LONGEST };
    let fleet = Arc::new(Fleet::new().unwrap());
    let result = chaos::run(&mut Screen::new(), &fleet, options).await;
    if result.is_err() {
        fleet.keep().unwrap();
    }
    let tally = result.unwrap_or_else(|error| panic!("{stream:?}, SEED={seed}: {error}; see {}", fleet.folder().display()));
    assert_eq!(tally.rounds, ROUNDS);
    assert!(tally.rows > 100_000 && tally.transactions > 0, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_around_a_folder_are_recovered_from() {
    short(Stream::File).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_around_kafka_are_recovered_from() {
    short(Stream::Kafka).await;
}
