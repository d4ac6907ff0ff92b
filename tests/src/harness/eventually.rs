//! Waiting for what will be.

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks again and again until the answer is `Ok`, and returns what it holds.
/// Panics with the last `Err` after `at_most`, which should be far longer than
/// it can take on a busy machine: it is there to end a test that has failed.
pub async fn eventually<T, F>(what: &str, at_most: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(state) if started.elapsed() > at_most => panic!("{what}: not within {} s; at last: {state}", at_most.as_secs()),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
