//! The streams that come with pgshovel, run by the plugin host as `relay` and
//! `replicate` run them.

mod file;
mod kafka;
mod lint;

use std::time::{Duration, Instant};

use pgshovel::config::{self, Section};
use pgshovel::error::Result;
use pgshovel::plugins::{Context, Engine, Options, stream, writer};
use pgshovel::ports::{Entries, Stream as _, Writer as _};
use tests::harness::World;
use tests::paths;

use super::batch;

const WAIT: Duration = Duration::from_secs(20);

/// One stream of one set, and how to open both of its ends.
pub struct Setup {
    engine: Engine,
    section: Section,
    context: Context,
}

impl Setup {
    /// `section` is the YAML of the section `stream`, in flow style.
    pub fn new(world: &World, section: &str) -> Self {
        let file = world.write("stream.yaml", &format!("stream: {section}\n"));
        let options = Options { search: vec![paths::plugins().unwrap()], cache: None };
        Self {
            engine: Engine::new(options).unwrap(),
            section: config::relay(&file).unwrap().stream,
            context: Context { cluster: world.cluster(), set: "s".into() },
        }
    }

    async fn writer(&self) -> Result<writer::Writer> {
        writer::open(&self.engine, &self.section, &self.context).await
    }

    async fn stream(&self) -> Result<stream::Stream> {
        stream::open(&self.engine, &self.section, &self.context).await
    }

    /// Writes the messages and returns when they are durable.
    pub async fn send(&self, messages: &[Vec<u8>]) {
        let mut writer = self.writer().await.unwrap();
        send(&mut writer, messages).await.unwrap();
    }

    /// As many messages as are expected, from the position on.
    pub async fn receive(&self, after: Option<&[u8]>, count: usize) -> Result<Vec<Entry>> {
        let mut stream = self.stream().await?;
        stream.seek(after).await?;
        let mut entries = Vec::new();
        while entries.len() < count {
            let more = stream.next(1000, WAIT).await?;
            assert!(!more.is_empty(), "{} of {count} messages came", entries.len());
            entries.extend(taken(&more));
        }
        assert_eq!(entries.len(), count);
        Ok(entries)
    }
}

async fn send(writer: &mut writer::Writer, messages: &[Vec<u8>]) -> Result<()> {
    let batch = batch(1);
    for chunk in messages.chunks(500) {
        writer.push(&batch, chunk.iter().collect()).await?;
    }
    writer.flush().await
}

pub fn numbered(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(|number| format!("message {number} {}", "x".repeat(number % 400)).into_bytes()).collect()
}

/// A message that was received, and the position to resume after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub position: Vec<u8>,
    pub message: Vec<u8>,
}

pub fn taken(entries: &Entries) -> Vec<Entry> {
    entries.iter().map(|entry| Entry { position: entry.position.to_vec(), message: entry.message.to_vec() }).collect()
}

pub fn contents(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.message.clone()).collect()
}

/// What every stream promises.
pub async fn keeps_order_and_positions(setup: &Setup) {
    let messages = numbered(0..3000);
    setup.send(&messages[..1500]).await;
    let first = setup.receive(None, 1500).await.unwrap();
    assert_eq!(contents(&first), messages[..1500]);

    // From another writer, to one that resumes in the middle and one at the end.
    setup.send(&messages[1500..]).await;
    let middle = setup.receive(Some(&first[999].position), 2000).await.unwrap();
    assert_eq!(contents(&middle), messages[1000..]);
    let end = setup.receive(Some(&first[1499].position), 1500).await.unwrap();
    assert_eq!(contents(&end), messages[1500..]);
}

/// A reader at the end waits, and then gets what comes.
async fn is_followed_while_it_grows(setup: &Setup) {
    let mut writer = setup.writer().await.unwrap();
    let mut stream = setup.stream().await.unwrap();
    stream.seek(None).await.unwrap();
    assert!(stream.next(10, Duration::from_millis(1)).await.unwrap().is_empty());
    for number in 0..20 {
        let message = numbered(number..number + 1);
        let (sent, received) = tokio::join!(send(&mut writer, &message), stream.next(10, WAIT));
        sent.unwrap();
        assert_eq!(contents(&taken(&received.unwrap())), message);
    }
}

/// Prints what passes in a second. `cargo test -p pgshovel-tests --test real
/// throughput -- --ignored --nocapture --test-threads 1`
async fn throughput(setup: &Setup) {
    const CHUNK: usize = 3000;
    const COUNT: usize = 200 * CHUNK;
    let messages: Vec<Vec<u8>> = (0..CHUNK).map(|number| vec![number as u8; 300]).collect();
    let mut writer = setup.writer().await.unwrap();
    let began = Instant::now();
    for _ in 0..COUNT / CHUNK {
        writer.push(&batch(1), messages.iter().collect()).await.unwrap();
    }
    writer.flush().await.unwrap();
    let written = began.elapsed();
    let began = Instant::now();
    setup.receive(None, COUNT).await.unwrap();
    let read = began.elapsed();
    let rate = |time: Duration| COUNT as f64 / time.as_secs_f64();
    println!("{COUNT} messages of 300 bytes: {:.0} written and {:.0} read a second", rate(written), rate(read));
}
