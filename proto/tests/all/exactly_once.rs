//! Whatever crashes, is resent, repeated or fenced: the rows of the source, once.
//!
//! A model of everything around the two halves. The source is PgQ's: transactions
//! write events, ticks take snapshots, a batch is what the second tick sees and the
//! first does not. Relays die after any message, or are replaced while they go on
//! as zombies; writes are repeated, late and in windows; the reader dies after any
//! message and resumes from what its target stored with the last commit.

use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use proto::batch::publisher::Publisher;
use proto::batch::step::{Action, Options, Reader, SUPERSEDED_MAX};
use proto::batch::{Batch, Id};
use proto::interfaces::common::{Snapshot, Tick};
use proto::interfaces::replication::{BootstrapState, State};
use proto::row::{Mutation, Relation};
use proto::timestamp::from_micros;
use proto::{codec, snapshot, stored};

use crate::samples::{NODE, insert, items, now, source};

/// A database with a queue, as it was in the end.
#[derive(Debug, Default)]
struct Source {
    /// Event and transaction, of committed transactions, in the events' order.
    events: Vec<(u64, u64)>,
    ticks: Vec<Tick>,
    /// What the bootstrap saw.
    loaded: Snapshot,
}

impl Source {
    /// A history that each byte moves on by one step: a transaction begins, writes,
    /// commits or aborts; a tick is made; the bootstrap reads.
    fn of(history: &[u8], bootstrap_at: usize) -> Self {
        let mut source = Self::default();
        let (mut next, mut running, mut written) = (10_u64, Vec::new(), Vec::new());
        let seen = |next: u64, running: &[u64]| {
            let mut active = running.to_vec();
            active.sort_unstable();
            Snapshot { min: active.first().copied().unwrap_or(next), max: next, active }
        };
        let tick = |id: usize, snapshot| Tick { id: id as u64 + 1, snapshot, timestamp: from_micros(id as i64) };
        source.ticks.push(tick(0, seen(next, &running)));
        source.loaded = seen(next, &running);
        let mut event = 0;
        for (index, step) in history.iter().enumerate() {
            let which = usize::from(step / 8) % running.len().max(1);
            match step % 8 {
                0 | 1 => {
                    running.push(next);
                    next += 1;
                }
                2..=4 if !running.is_empty() => {
                    event += 1;
                    written.push((event, running[which]));
                }
                5 if !running.is_empty() => drop(running.swap_remove(which)),
                6 if !running.is_empty() => {
                    let aborted = running.swap_remove(which);
                    written.retain(|(_, transaction)| *transaction != aborted);
                }
                _ => source.ticks.push(tick(source.ticks.len(), seen(next, &running))),
            }
            if index == bootstrap_at {
                source.loaded = seen(next, &running);
            }
        }
        source.ticks.push(tick(source.ticks.len(), seen(next, &[])));
        source.events = written;
        source
    }

    fn events_between(&self, start: usize, end: usize) -> Vec<(u64, u64)> {
        let (start, end) = (&self.ticks[start].snapshot, &self.ticks[end].snapshot);
        let between = |(_, transaction): &&(u64, u64)| snapshot::visible(end, *transaction) && !snapshot::visible(start, *transaction);
        self.events.iter().filter(between).copied().collect()
    }
}

struct Relay {
    publisher: Publisher,
    /// Rebuilt by each incarnation, as a process does.
    relation: Arc<Relation>,
    work: Option<Work>,
    /// All that it sent, for the network to repeat.
    sent: Vec<Vec<u8>>,
}

struct Work {
    end: usize,
    batch: Batch,
    events: std::vec::IntoIter<(u64, u64)>,
    committed: bool,
}

/// The queue, the stream and the relays.
struct Publishing<'a> {
    source: &'a Source,
    stream: Vec<Vec<u8>>,
    /// The tick that the consumer's next batch starts from, and where it ends once opened.
    start: usize,
    opened: Option<usize>,
    batches: u64,
    leader: Relay,
    /// Replaced, but they do not know it yet.
    zombies: Vec<Relay>,
    epoch: u64,
    publishers: u8,
    of_this_epoch: usize,
}

impl<'a> Publishing<'a> {
    fn new(source: &'a Source) -> Self {
        let leader = relay(0, 1);
        Self {
            source,
            stream: Vec::new(),
            start: 0,
            opened: None,
            batches: 0,
            leader,
            zombies: Vec::new(),
            epoch: 1,
            publishers: 0,
            of_this_epoch: 1,
        }
    }

    fn is_done(&self) -> bool {
        self.start + 1 == self.source.ticks.len() && self.leader.work.is_none()
    }

    /// The leader's next message, or the end of its batch. `reach` says how many
    /// ticks a new batch spans.
    fn lead(&mut self, reach: usize) {
        match &self.leader.work {
            Some(work) if work.committed => {
                self.start = work.end;
                self.opened = None;
                self.leader.work = None;
            }
            Some(_) => self.stream.push(self.leader.send()),
            None if self.is_done() => {}
            None => {
                let end = *self.opened.get_or_insert((self.start + 1 + reach % 2).min(self.source.ticks.len() - 1));
                self.batches += 1;
                let [start, last] = [self.start, end].map(|index| self.source.ticks[index].clone());
                let batch = Batch { id: self.batches, node: NODE, start, end: last, source: Some(source()) };
                let begin = self.leader.publisher.begin(&batch, now()).unwrap();
                let events = self.source.events_between(self.start, end).into_iter();
                self.leader.work = Some(Work { end, batch, events, committed: false });
                self.stream.push(self.leader.keep(begin.to_vec()));
            }
        }
    }

    fn give_up(&mut self) {
        if self.leader.work.as_ref().is_some_and(|work| !work.committed) {
            let rollback = self.leader.publisher.rollback(now()).unwrap();
            self.leader.work = None;
            self.stream.push(self.leader.keep(rollback.to_vec()));
        }
    }

    /// Another relay takes over, or the same process starts again under its epoch.
    fn replace(&mut self, elected: bool) {
        if elected || self.of_this_epoch >= SUPERSEDED_MAX {
            self.epoch += 1;
            self.of_this_epoch = 0;
        }
        self.of_this_epoch += 1;
        self.publishers += 1;
        let old = std::mem::replace(&mut self.leader, relay(self.publishers, self.epoch));
        self.zombies.push(old);
    }

    /// The leader dies with all it had in flight, and a tick is made before the batch is opened again.
    fn replace_and_reach_further(&mut self) {
        let committed = |relay: &Relay| relay.work.as_ref().is_some_and(|work| work.committed);
        if committed(&self.leader) || self.zombies.iter().any(committed) {
            return self.replace(true);
        }
        self.replace(true);
        for zombie in &mut self.zombies {
            zombie.work = None;
        }
        self.opened = self.opened.map(|end| (end + 1).min(self.source.ticks.len() - 1));
    }

    /// A zombie's next message. It cannot end its batch in the queue.
    fn haunt(&mut self, which: usize) {
        let count = self.zombies.len().max(1);
        let Some(zombie) = self.zombies.get_mut(which % count) else { return };
        if zombie.work.as_ref().is_some_and(|work| !work.committed) {
            self.stream.push(zombie.send());
        }
    }

    /// The network repeats some messages in order.
    fn repeat(&mut self, which: usize, from: usize) {
        let relay = if self.zombies.is_empty() {
            &self.leader
        } else {
            let index = which % (self.zombies.len() + 1);
            self.zombies.get(index).unwrap_or(&self.leader)
        };
        let from = from % relay.sent.len().max(1);
        self.stream.extend(relay.sent.iter().skip(from).take(1 + which % 5).cloned());
    }
}

fn relay(number: u8, epoch: u64) -> Relay {
    let id: Id = [number; 16];
    Relay { publisher: Publisher::new(id, epoch), relation: items(), work: None, sent: Vec::new() }
}

impl Relay {
    fn keep(&mut self, message: Vec<u8>) -> Vec<u8> {
        self.sent.push(message.clone());
        message
    }

    /// The next mutation of its batch, or its commit.
    fn send(&mut self) -> Vec<u8> {
        let work = self.work.as_mut().expect("called while at work");
        let message = match work.events.next() {
            Some((event, transaction)) => self.publisher.mutation(&insert(&self.relation, event, transaction), now()),
            None => {
                work.committed = true;
                self.publisher.commit(now())
            }
        };
        let message = message.unwrap_or_else(|refusal| panic!("{refusal} in {:?}", work.batch));
        self.keep(message.to_vec())
    }
}

/// A worker and its target.
struct Working {
    reader: Reader,
    /// Index into the stream.
    next: usize,
    /// Rows and state that are committed, and rows that are not yet.
    rows: Vec<u64>,
    state: Vec<u8>,
    pending: Option<Vec<u64>>,
}

impl Working {
    fn new(state: &State) -> Self {
        let state = state.encode_to_vec();
        let reader = Self::resume(&state);
        Self { reader, next: 0, rows: Vec::new(), state, pending: None }
    }

    fn resume(state: &[u8]) -> Reader {
        if state.is_empty() {
            return Reader::new(Options::default());
        }
        Reader::resume(stored::decode(state).unwrap(), Options::default()).unwrap()
    }

    fn die(&mut self) {
        self.reader = Self::resume(&self.state);
        let position = self.reader.state(b"").and_then(|_| stored::decode::<State>(&self.state).unwrap().stream_state);
        let position = position.and_then(|stream| stream.consumer_state.position);
        self.next = position.map_or(0, |position| usize::from_le_bytes(position.try_into().unwrap()));
        self.pending = None;
    }

    fn step(&mut self, stream: &[Vec<u8>]) {
        let Some(message) = stream.get(self.next) else { return };
        let message = codec::decode(message).unwrap();
        self.next += 1;
        match self.reader.step(message).unwrap_or_else(|violation| panic!("{violation}")) {
            Action::Begin { discard, .. } => {
                assert_eq!(discard, self.pending.is_some(), "a half batch is discarded, and nothing else is");
                self.pending = Some(Vec::new());
            }
            Action::Apply(mutation) => self.apply(&mutation),
            Action::Commit => {
                self.rows.append(&mut self.pending.take().expect("only an open batch is committed"));
                self.state = self.reader.state(&self.next.to_le_bytes()).expect("no batch is open").encode_to_vec();
            }
            Action::Rollback => drop(self.pending.take().expect("only an open batch is rolled back")),
            Action::Skip(_) => {}
        }
    }

    fn apply(&mut self, mutation: &Mutation) {
        self.pending.as_mut().expect("rows are applied inside a batch").push(mutation.id);
    }
}

fn run(source: &Source, state: &State, schedule: &[(u8, u8)]) -> Vec<u64> {
    let mut publishing = Publishing::new(source);
    let mut working = Working::new(state);
    for (what, how) in schedule {
        let how = usize::from(*how);
        match what % 16 {
            0..=5 => publishing.lead(how),
            6 => publishing.replace(true),
            7 => publishing.replace(false),
            8 => publishing.replace_and_reach_further(),
            9 => publishing.haunt(how),
            10 => publishing.repeat(how, how / 8),
            11 => publishing.give_up(),
            12 => working.die(),
            _ => (0..=how % 4).for_each(|_| working.step(&publishing.stream)),
        }
    }
    while !publishing.is_done() {
        publishing.lead(0);
    }
    while working.next < publishing.stream.len() {
        working.step(&publishing.stream);
    }
    assert_eq!(working.pending, None);
    working.rows
}

fn history() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..60)
}

fn schedule() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec(any::<(u8, u8)>(), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_stream_from_its_beginning(history in history(), schedule in schedule()) {
        let source = Source::of(&history, usize::MAX);
        let mut rows = run(&source, &State::default(), &schedule);
        rows.sort_unstable();
        let expected: Vec<u64> = source.events.iter().map(|(event, _)| *event).collect();
        prop_assert_eq!(rows, expected);
    }

    #[test]
    fn a_bootstrap_and_then_the_stream(history in history(), at in 0..60_usize, schedule in schedule()) {
        let source = Source::of(&history, at);
        let bootstrap = BootstrapState { node: NODE.to_vec(), snapshot: source.loaded.clone() };
        let applied = run(&source, &State { bootstrap_state: Some(bootstrap), ..State::default() }, &schedule);
        let loaded = source.events.iter().filter(|(_, transaction)| snapshot::visible(&source.loaded, *transaction));
        let mut rows: Vec<u64> = loaded.map(|(event, _)| *event).chain(applied).collect();
        rows.sort_unstable();
        let expected: Vec<u64> = source.events.iter().map(|(event, _)| *event).collect();
        prop_assert_eq!(rows, expected);
    }
}
