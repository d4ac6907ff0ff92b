//! What a call into a plugin costs in CPU time. Not a test: prints figures.
//!
//!     CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p pgshovel --lib crossing -- --ignored --nocapture

use std::time::Duration;

use serde_json::json;

use super::super::{stream, target, transform, writer};
use super::*;
use crate::ports::{Messages, Stream as _, Target as _, Transform as _, Writer as _};

const ROUNDS: u32 = 200;
const ITEMS: u32 = 1000;

/// What this thread has computed so far: unlike the clock on the wall, it does not
/// count what else the machine does.
fn computed() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn report(what: &str, spent: Duration) {
    println!("{what:<48} {:>8.1} ns", spent.as_secs_f64() * 1e9 / f64::from(ROUNDS * ITEMS));
}

#[tokio::test]
#[ignore = "prints figures"]
async fn crossing() {
    let (engine, context) = (engine(), context());
    let mut writer = writer::open(engine, &probe("stream", &json!({})), &context).await.unwrap();
    let mut stream = stream::open(engine, &probe("stream", &json!({})), &context).await.unwrap();
    let mut target = target::open(engine, &probe("target", &json!({})), &context).await.unwrap();
    let mut transform = transform::open(engine, &probe("transforms[0]", &json!({})), &context).await.unwrap();

    let start = computed();
    for _ in 0..ROUNDS * ITEMS {
        writer.flush().await.unwrap();
    }
    report("an empty call", computed() - start);

    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        let messages: Messages = (0..ITEMS).map(|_| [b'm'; 300]).collect();
        let start = computed();
        writer.push(&batch(), messages).await.unwrap();
        writer.flush().await.unwrap();
        spent += computed() - start;
    }
    report("a message of 300 bytes into a writer", spent);

    let start = computed();
    for _ in 0..ROUNDS {
        stream.next(ITEMS, Duration::ZERO).await.unwrap();
    }
    report("a message of 300 bytes out of a stream", computed() - start);

    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        let mutations = mutations(ITEMS);
        let start = computed();
        target.apply(mutations).await.unwrap();
        spent += computed() - start;
    }
    report("a mutation of 8 columns into a target", spent);

    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        let mutations = mutations(ITEMS);
        let start = computed();
        transform.transform(mutations).await.unwrap();
        spent += computed() - start;
    }
    report("a mutation of 8 columns through a transform", spent);
}
