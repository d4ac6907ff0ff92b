//! The transition table of the grammar, row by row, as traces: each line is a
//! message (publisher and sequence number, operation) and what the reader says.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use prost::Message as _;
use proto::batch::step::{Action, Options, Reader};
use proto::batch::{Batch, Id, Uuid};
use proto::codec;
use proto::interfaces::common::{BatchIdentifier, Column, Row, Snapshot, Timestamp, column::Value as Wire};
use proto::interfaces::replication::{BootstrapState, State};
use proto::interfaces::{common, streams};
use proto::row::Change;

use crate::samples::{self, NODE, now, tick};

pub const OTHER_NODE: Id = [0xcc; 16];

/// A publisher that sends whatever it is told to.
pub struct Sender {
    name: char,
    epoch: Option<u64>,
    sequence: u64,
    node: Id,
    batch: u64,
    timestamp: Timestamp,
    source: Option<common::Source>,
}

#[derive(Clone)]
pub struct Sent {
    label: String,
    bytes: Vec<u8>,
}

use streams::batch_operation::Operation;

impl Sender {
    pub fn new(name: char, epoch: u64) -> Self {
        Self { name, epoch: Some(epoch), sequence: 0, node: NODE, batch: 0, timestamp: now(), source: None }
    }

    /// One of pgshovel 2015: without epoch and descriptions.
    fn original(name: char) -> Self {
        Self { epoch: None, ..Self::new(name, 0) }
    }

    fn on(self, node: Id) -> Self {
        Self { node, ..self }
    }

    pub fn at(mut self, sequence: u64) -> Self {
        self.sequence = sequence;
        self
    }

    /// One that says whose batches it sends: those of `set`, on a server and its timeline.
    fn of(self, set: &str, system_identifier: u64, timeline: u32) -> Self {
        Self { source: Some(common::Source { set: set.into(), system_identifier, timeline, ..samples::source() }), ..self }
    }

    /// A tick that another history of the database has made.
    fn begin_elsewhere(&mut self, start: (u64, i64), end: (u64, i64)) -> Sent {
        let made = |(id, seconds)| common::Tick { timestamp: Timestamp { seconds: now().seconds + seconds, ..now() }, ..tick(id) };
        self.batch = end.0;
        self.begin_at(made(start), made(end))
    }

    fn send(&mut self, label: String, operation: Operation) -> Sent {
        let message = streams::Message {
            header: streams::Header {
                publisher: [self.name as u8; 16].to_vec(),
                sequence: self.sequence,
                timestamp: self.timestamp,
                epoch: self.epoch,
            },
            operation: Some(streams::message::Operation::BatchOperation(streams::BatchOperation {
                batch_identifier: BatchIdentifier { id: self.batch, node: self.node.to_vec() },
                operation: Some(operation),
            })),
        };
        let label = format!("{}{} {label}", self.name, self.sequence);
        self.sequence += 1;
        Sent { label, bytes: message.encode_to_vec() }
    }

    /// The batch's id is its last tick.
    pub fn begin(&mut self, start: u64, end: u64) -> Sent {
        self.batch = end;
        self.begin_at(tick(start), tick(end))
    }

    fn begin_at(&mut self, start: common::Tick, end: common::Tick) -> Sent {
        let label = format!("begin {}-{}", start.id, end.id);
        self.send(label, Operation::BeginOperation(streams::BeginOperation { start, end, source: self.source.clone() }))
    }

    pub fn insert(&mut self, transaction: u64) -> Sent {
        let columns = vec![("id", Wire::Integer64(transaction as i64)), ("name", Wire::String("x".into()))];
        self.insert_row(transaction, columns, self.epoch.is_some())
    }

    fn insert_row(&mut self, transaction: u64, columns: Vec<(&str, Wire)>, described: bool) -> Sent {
        let columns = columns.into_iter().map(|(name, value)| Column { name: name.into(), value: Some(value) }).collect();
        let column =
            |name: &str, type_name: &str, type_oid| common::RelationColumn { name: name.into(), type_name: type_name.into(), type_oid };
        let relation = common::Relation {
            schema: "public".into(),
            table: "items".into(),
            columns: vec![column("id", "bigint", 20), column("name", "text", 25)],
            identity: vec![0],
            version: "v1".into(),
        };
        let operation = Operation::MutationOperation(streams::MutationOperation {
            id: transaction,
            schema: "public".into(),
            table: "items".into(),
            operation: streams::mutation_operation::Operation::Insert.into(),
            identity_columns: vec!["id".into()],
            old: None,
            new: Some(Row { columns }),
            timestamp: now(),
            transaction,
            relation: described.then_some(relation),
        });
        self.send(format!("insert {transaction}"), operation)
    }

    pub fn commit(&mut self) -> Sent {
        self.send("commit".into(), Operation::CommitOperation(streams::CommitOperation {}))
    }

    fn rollback(&mut self) -> Sent {
        self.send("rollback".into(), Operation::RollbackOperation(streams::RollbackOperation {}))
    }
}

fn reader() -> Reader {
    Reader::new(Options::default())
}

fn show(action: &Action) -> String {
    let ticks = |batch: &Batch| format!("{}-{}", batch.start.id, batch.end.id);
    match action {
        Action::Begin { batch, discard: false } => format!("begin {}", ticks(batch)),
        Action::Begin { batch, discard: true } => format!("discard, begin {}", ticks(batch)),
        Action::Apply(mutation) => format!("apply {}", mutation.id),
        Action::Commit => "commit".into(),
        Action::Rollback => "rollback".into(),
        Action::Skip(why) => format!("skip ({why:?})"),
    }
}

/// Steps through the messages up to the first violation, which must change nothing.
pub fn trace(reader: &mut Reader, messages: &[Sent], expected: Expect) {
    let mut out = String::new();
    for Sent { label, bytes } in messages {
        let before = format!("{reader:?}");
        let result = reader.step(codec::decode(bytes).unwrap());
        let text = result.as_ref().map_or_else(|violation| format!("violation: {violation}"), show);
        writeln!(out, "{label:<14} {text}").unwrap();
        if result.is_err() {
            assert_eq!(before, format!("{reader:?}"));
            break;
        }
    }
    expected.assert_eq(&out);
}

pub fn bootstrapped(snapshot: &str) -> Reader {
    let snapshot = proto::snapshot::parse(snapshot).unwrap();
    let state = State { bootstrap_state: Some(BootstrapState { node: NODE.to_vec(), snapshot }), ..State::default() };
    Reader::resume(state, Options::default()).unwrap()
}

/// Stores the state and reads it back, as a worker does that dies here.
fn restarted(reader: &Reader) -> Reader {
    let stored = reader.state(b"here").unwrap().encode_to_vec();
    Reader::resume(proto::stored::decode(&stored).unwrap(), Options::default()).unwrap()
}

#[test]
fn none_begin_begins() {
    let mut a = Sender::new('A', 1).at(70);
    trace(
        &mut reader(),
        &[a.begin(1, 2), a.insert(11), a.commit()],
        expect![[r#"
        A70 begin 1-2  begin 1-2
        A71 insert 11  apply 11
        A72 commit     commit
    "#]],
    );
}

#[test]
fn none_anything_else_is_skipped_until_the_first_begin() {
    let mut a = Sender::new('A', 1).at(70);
    let mut fenced = Sender::new('Z', 0).at(5);
    let messages = [a.insert(11), a.insert(12), fenced.begin(0, 1), a.commit(), a.begin(2, 3), a.rollback()];
    trace(
        &mut reader(),
        &messages,
        expect![[r#"
        A70 insert 11  skip (Priming)
        A71 insert 12  skip (Priming)
        Z5 begin 0-1   skip (Fenced)
        A72 commit     skip (Priming)
        A73 begin 2-3  begin 2-3
        A74 rollback   rollback
    "#]],
    );
}

#[test]
fn none_priming_has_a_bound() {
    let mut a = Sender::new('A', 1).at(70);
    let mut reader = Reader::new(Options { priming_messages_max: 2, ..Options::default() });
    trace(
        &mut reader,
        &[a.insert(11), a.insert(12), a.insert(13)],
        expect![[r#"
        A70 insert 11  skip (Priming)
        A71 insert 12  skip (Priming)
        A72 insert 13  violation: 2 messages passed and none of them begins a batch, and 2 may; raise the bound, or check that this stream is of pgshovel
    "#]],
    );
}

#[test]
fn any_a_retried_write_is_skipped() {
    let mut a = Sender::new('A', 1);
    let messages = || {
        let mut a = Sender::new('A', 1);
        [a.begin(1, 2), a.insert(11), a.insert(12), a.commit()]
    };
    let [begin, first, second, commit] = messages();
    let [begin2, first2, second2, commit2] = messages();
    let mut reader = reader();
    trace(
        &mut reader,
        &[begin, begin2, first, second, first2, second2, commit, commit2],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A0 begin 1-2   skip (Seen)
        A1 insert 11   apply 11
        A2 insert 12   apply 12
        A1 insert 11   skip (Seen)
        A2 insert 12   skip (Seen)
        A3 commit      commit
        A3 commit      skip (Seen)
    "#]],
    );
    // Also by a reader who was not there when they came first.
    let [begin, first, second, commit] = messages();
    for _ in 0..4 {
        a.commit();
    }
    trace(
        &mut restarted(&reader),
        &[begin, first, second, commit, a.begin(2, 3)],
        expect![[r#"
        A0 begin 1-2   skip (Seen)
        A1 insert 11   skip (Seen)
        A2 insert 12   skip (Seen)
        A3 commit      skip (Seen)
        A4 begin 2-3   begin 2-3
    "#]],
    );
}

#[test]
fn any_a_seen_sequence_with_other_content_is_a_violation() {
    let mut a = Sender::new('A', 1);
    let mut twin = Sender::new('A', 1).at(1);
    trace(
        &mut reader(),
        &[a.begin(1, 2), a.insert(11), twin.insert(12)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        A1 insert 12   violation: publisher 41414141-4141-4141-4141-414141414141: message 1 came before with other content: two processes share one publisher id; stop all relays of the set, start one, and bootstrap again
    "#]],
    );
}

#[test]
fn any_a_sequence_gap_is_a_violation() {
    let mut a = Sender::new('A', 1);
    let (begin, _, _) = (a.begin(1, 2), a.insert(11), a.insert(12));
    trace(
        &mut reader(),
        &[begin, a.insert(13)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A3 insert 13   violation: publisher 41414141-4141-4141-4141-414141414141: message 3 follows message 0, so 1 to 2 are missing from the stream; bootstrap again
    "#]],
    );
}

#[test]
fn any_a_publisher_keeps_its_epoch() {
    let mut a = Sender::new('A', 1);
    let mut later = Sender::new('A', 2).at(1);
    trace(
        &mut reader(),
        &[a.begin(1, 2), later.insert(11)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   violation: publisher 41414141-4141-4141-4141-414141414141 changed its epoch from 1 to 2 at message 1; stop the relay and start it again
    "#]],
    );
}

#[test]
fn in_batch_the_same_publisher_and_batch_apply_commit_roll_back() {
    let mut a = Sender::new('A', 1);
    let messages = [a.begin(1, 2), a.insert(11), a.rollback(), a.begin(1, 3), a.insert(11), a.insert(12), a.commit()];
    trace(
        &mut reader(),
        &messages,
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        A2 rollback    rollback
        A3 begin 1-3   begin 1-3
        A4 insert 11   apply 11
        A5 insert 12   apply 12
        A6 commit      commit
    "#]],
    );
}

#[test]
fn in_batch_another_batch_of_the_same_publisher_is_a_violation() {
    let mut a = Sender::new('A', 1);
    let begin = a.begin(1, 2);
    a.batch = 7;
    trace(
        &mut reader(),
        &[begin, a.commit()],
        expect![[r#"
            A0 begin 1-2   begin 1-2
            A1 commit      violation: publisher 41414141-4141-4141-4141-414141414141: a commit of batch 7 came while batch 2 is open; stop the relay and bootstrap again
        "#]],
    );
    let mut a = Sender::new('A', 1);
    trace(
        &mut reader(),
        &[a.begin(1, 2), a.insert(11), a.begin(1, 2)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        A2 begin 1-2   violation: the batch from tick 1 begins while the one from tick 1 to tick 2 is open and never ended; bootstrap again
    "#]],
    );
}

#[test]
fn in_batch_a_newer_publisher_begins_again() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2));
    let messages = [a.begin(1, 2), a.insert(11), b.begin(1, 3), a.insert(12), b.insert(11), a.commit(), b.insert(12), b.commit()];
    trace(
        &mut reader(),
        &messages,
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        B0 begin 1-3   discard, begin 1-3
        A2 insert 12   skip (Fenced)
        B1 insert 11   apply 11
        A3 commit      skip (Fenced)
        B2 insert 12   apply 12
        B3 commit      commit
    "#]],
    );
}

#[test]
fn in_batch_a_newer_publisher_with_a_later_tick_is_a_violation() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2));
    trace(
        &mut reader(),
        &[a.begin(1, 2), a.insert(11), b.begin(2, 3)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        B0 begin 2-3   violation: the batch from tick 2 begins while the one from tick 1 to tick 2 is open and never ended; bootstrap again
    "#]],
    );
}

#[test]
fn in_batch_a_newer_publisher_may_first_repeat_a_committed_batch() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2));
    let messages = [
        a.begin(1, 2),
        a.insert(11),
        a.commit(),
        a.begin(2, 3),
        a.insert(21), // half of it
        b.begin(1, 2),
        b.insert(11),
        b.commit(),
        b.begin(2, 3),
        b.insert(21),
        b.commit(),
    ];
    trace(
        &mut reader(),
        &messages,
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        A2 commit      commit
        A3 begin 2-3   begin 2-3
        A4 insert 21   apply 21
        B0 begin 1-2   skip (Committed)
        B1 insert 11   skip (Committed)
        B2 commit      skip (Committed)
        B3 begin 2-3   discard, begin 2-3
        B4 insert 21   apply 21
        B5 commit      commit
    "#]],
    );
}

#[test]
fn committed_the_next_batch_begins() {
    let mut a = Sender::new('A', 1);
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2), a.commit()],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 commit      commit
    "#]],
    );
    trace(
        &mut restarted(&reader),
        &[a.begin(2, 5), a.insert(21), a.commit()],
        expect![[r#"
        A2 begin 2-5   begin 2-5
        A3 insert 21   apply 21
        A4 commit      commit
    "#]],
    );
}

#[test]
fn committed_a_committed_batch_is_skipped_whole() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2));
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2), a.insert(11), a.commit()],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        A2 commit      commit
    "#]],
    );
    let messages = [b.begin(1, 2), b.insert(11), b.commit(), b.begin(2, 3), b.insert(21), b.commit()];
    trace(
        &mut restarted(&reader),
        &messages,
        expect![[r#"
        B0 begin 1-2   skip (Committed)
        B1 insert 11   skip (Committed)
        B2 commit      skip (Committed)
        B3 begin 2-3   begin 2-3
        B4 insert 21   apply 21
        B5 commit      commit
    "#]],
    );
    // Half of it, again, and its rollback.
    let (mut c, mut d) = (Sender::new('C', 3), Sender::new('D', 4));
    let messages = [c.begin(1, 2), c.insert(11), d.begin(1, 2), d.rollback(), d.begin(1, 2), d.begin(2, 3)];
    trace(
        &mut reader,
        &messages,
        expect![[r#"
        C0 begin 1-2   skip (Committed)
        C1 insert 11   skip (Committed)
        D0 begin 1-2   skip (Committed)
        D1 rollback    skip (Committed)
        D2 begin 1-2   skip (Committed)
        D3 begin 2-3   violation: the batch from tick 2 begins while the one from tick 1 to tick 2 is open and never ended; bootstrap again
    "#]],
    );
    let mut e = Sender::new('E', 5);
    let begin = e.begin(1, 2);
    e.batch = 9;
    trace(
        &mut reader,
        &[begin, e.insert(91)],
        expect![[r#"
        E0 begin 1-2   skip (Committed)
        E1 insert 91   violation: publisher 45454545-4545-4545-4545-454545454545: a mutation of batch 9 came while batch 2 is open; stop the relay and bootstrap again
    "#]],
    );
}

#[test]
fn committed_a_later_tick_is_a_gap() {
    let mut a = Sender::new('A', 1);
    trace(
        &mut reader(),
        &[a.begin(1, 2), a.commit(), a.begin(3, 4)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 commit      commit
        A2 begin 3-4   violation: the batch from tick 3 does not follow the last one, which ended with tick 2: the batches between are missing from the stream; bootstrap again
    "#]],
    );
}

#[test]
fn committed_ticks_made_anew_are_a_violation() {
    let mut a = Sender::new('A', 1);
    trace(
        &mut reader(),
        &[a.begin(1, 3), a.commit(), a.begin(2, 4)],
        expect![[r#"
        A0 begin 1-3   begin 1-3
        A1 commit      commit
        A2 begin 2-4   violation: the batch from tick 2 to tick 4 overlaps what is committed, up to tick 3: the ticks of the queue were made anew, as after a failover to a replica that was behind; bootstrap again, from a new stream if that ends so too
    "#]],
    );
}

#[test]
fn committed_only_a_begin_may_follow() {
    let mut a = Sender::new('A', 1);
    trace(
        &mut reader(),
        &[a.begin(1, 2), a.commit(), a.insert(12)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 commit      commit
        A2 insert 12   violation: publisher 41414141-4141-4141-4141-414141414141: a mutation of batch 2 came while no batch is open; stop the relay and bootstrap again
    "#]],
    );
}

#[test]
fn rolled_back_the_same_batch_begins_again() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2));
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2), a.insert(11), a.rollback()],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        A2 rollback    rollback
    "#]],
    );
    trace(
        &mut restarted(&reader),
        &[b.begin(1, 2), b.insert(11), b.commit()],
        expect![[r#"
        B0 begin 1-2   begin 1-2
        B1 insert 11   apply 11
        B2 commit      commit
    "#]],
    );
    trace(
        &mut restarted(&reader),
        &[a.begin(2, 3)],
        expect![[r#"
        A3 begin 2-3   violation: the batch from tick 2 does not follow the last one, which ended with tick 1: the batches between are missing from the stream; bootstrap again
    "#]],
    );
}

#[test]
fn any_an_older_epoch_is_fenced() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2));
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2), b.begin(1, 2), a.insert(11), b.insert(11), b.commit()],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        B0 begin 1-2   discard, begin 1-2
        A1 insert 11   skip (Fenced)
        B1 insert 11   apply 11
        B2 commit      commit
    "#]],
    );
    let messages = [a.insert(12), a.commit(), a.begin(2, 3), b.begin(2, 3), a.begin(3, 4), b.commit()];
    trace(
        &mut restarted(&reader),
        &messages,
        expect![[r#"
        A2 insert 12   skip (Fenced)
        A3 commit      skip (Fenced)
        A4 begin 2-3   skip (Fenced)
        B3 begin 2-3   begin 2-3
        A5 begin 3-4   skip (Fenced)
        B4 commit      commit
    "#]],
    );
}

#[test]
fn any_a_dead_publisher_of_the_same_epoch_is_fenced() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 1));
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2), a.insert(11), b.begin(1, 2), a.insert(12), b.commit()],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        B0 begin 1-2   discard, begin 1-2
        A2 insert 12   skip (Fenced)
        B1 commit      commit
    "#]],
    );
    trace(
        &mut restarted(&reader),
        &[a.commit(), a.begin(2, 3), b.begin(2, 3)],
        expect![[r#"
        A3 commit      skip (Fenced)
        A4 begin 2-3   skip (Fenced)
        B2 begin 2-3   begin 2-3
    "#]],
    );
    let (mut c, mut d) = (Sender::new('C', 2).at(4), Sender::new('D', 2));
    trace(
        &mut reader,
        &[c.begin(2, 3)],
        expect![[r#"
            C4 begin 2-3   violation: publisher 43434343-4343-4343-4343-434343434343 appears with message 4, a begin, where the first is message 0 and begins a batch: what came before is missing from the stream; bootstrap again
        "#]],
    );
    trace(
        &mut reader,
        &[d.insert(21)],
        expect![[r#"
            D0 insert 21   violation: publisher 44444444-4444-4444-4444-444444444444 appears with message 0, a mutation, where the first is message 0 and begins a batch: what came before is missing from the stream; bootstrap again
        "#]],
    );
}

#[test]
fn any_the_originals_messages_and_its_list_of_the_dead() {
    let (mut a, mut b, mut c) = (Sender::original('A'), Sender::original('B'), Sender::new('C', 1));
    let mut reader = reader();
    let messages = [a.begin(1, 2), a.insert(11), b.begin(1, 2), a.insert(12), b.insert(11), b.commit()];
    trace(
        &mut reader,
        &messages,
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        B0 begin 1-2   discard, begin 1-2
        A2 insert 12   skip (Fenced)
        B1 insert 11   apply 11
        B2 commit      commit
    "#]],
    );
    let mut reader = restarted(&reader);
    trace(
        &mut reader,
        &[a.commit(), b.begin(2, 3), c.begin(2, 3), b.insert(21), c.insert(21), c.commit()],
        expect![[r#"
        A3 commit      skip (Fenced)
        B3 begin 2-3   begin 2-3
        C0 begin 2-3   discard, begin 2-3
        B4 insert 21   skip (Fenced)
        C1 insert 21   apply 21
        C2 commit      commit
    "#]],
    );
    // Known dead by the epoch alone from here on.
    let consumer = reader.state(b"").unwrap().stream_state.unwrap().consumer_state;
    assert_eq!((consumer.dead_publishers, consumer.header.epoch), (vec![], Some(1)));
    trace(
        &mut restarted(&reader),
        &[a.insert(31), b.begin(3, 4)],
        expect![[r#"
        A4 insert 31   skip (Fenced)
        B5 begin 3-4   skip (Fenced)
    "#]],
    );
}

#[test]
fn any_the_originals_state_has_no_ticks() {
    let mut a = Sender::original('A');
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2), a.commit()],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 commit      commit
    "#]],
    );
    let mut state = reader.state(b"").unwrap();
    let transaction = state.stream_state.as_mut().unwrap().transaction_state.state.as_mut().unwrap();
    let proto::interfaces::replication::transaction_state::State::Committed(committed) = transaction else { panic!() };
    (committed.start_tick, committed.end_tick) = (None, None);
    let resumed = || Reader::resume(state.clone(), Options::default()).unwrap();
    trace(
        &mut resumed(),
        &[a.begin(2, 3)],
        expect![[r#"
        A2 begin 2-3   begin 2-3
    "#]],
    );
    // The batch that its state names is known as done.
    let mut b = Sender::new('B', 1);
    trace(
        &mut resumed(),
        &[b.begin(1, 2), b.insert(11), b.commit(), b.begin(2, 3)],
        expect![[r#"
        B0 begin 1-2   skip (Committed)
        B1 insert 11   skip (Committed)
        B2 commit      skip (Committed)
        B3 begin 2-3   begin 2-3
    "#]],
    );
}

#[test]
fn any_another_node_is_a_violation() {
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2).on(OTHER_NODE));
    trace(
        &mut reader(),
        &[a.begin(1, 2), a.commit(), b.begin(2, 3)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 commit      commit
        B0 begin 2-3   violation: the stream changes from node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa to node cccccccc-cccc-cccc-cccc-cccccccccccc; if that database replaces the first as a logical copy of it, allow this change once, otherwise bootstrap again
    "#]],
    );
}

#[test]
fn any_another_node_is_allowed_once_by_the_operator() {
    let (mut a, mut b, mut c) = (Sender::new('A', 1), Sender::new('B', 2).on(OTHER_NODE), Sender::new('C', 3));
    let mut reader = Reader::new(Options { node_change: Some(OTHER_NODE), ..Options::default() });
    let messages = [a.begin(1, 2), a.insert(11), b.begin(70, 71), b.commit(), b.begin(71, 72), b.commit(), c.begin(1, 2)];
    trace(
        &mut reader,
        &messages,
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        B0 begin 70-71 discard, begin 70-71
        B1 commit      commit
        B2 begin 71-72 begin 71-72
        B3 commit      commit
        C0 begin 1-2   violation: the stream changes from node cccccccc-cccc-cccc-cccc-cccccccccccc to node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa; if that database replaces the first as a logical copy of it, allow this change once, otherwise bootstrap again
    "#]],
    );
    // Not to any node, and not back and forth.
    let (mut a, mut b) = (Sender::new('A', 1), Sender::new('B', 2).on(OTHER_NODE));
    let mut reader = Reader::new(Options { node_change: Some([1; 16]), ..Options::default() });
    trace(
        &mut reader,
        &[a.begin(1, 2), b.begin(2, 3)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        B0 begin 2-3   violation: the stream changes from node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa to node cccccccc-cccc-cccc-cccc-cccccccccccc; if that database replaces the first as a logical copy of it, allow this change once, otherwise bootstrap again
    "#]],
    );
}

fn owned() -> Options {
    Options { owner: Some(("cluster".into(), "set".into())), ..Options::default() }
}

#[test]
fn any_a_batch_of_another_set_is_a_violation() {
    // Of the same database, and so of the same node.
    let (mut a, mut b) = (Sender::new('A', 2).of("set", 7, 1), Sender::new('B', 3).of("other", 7, 1));
    trace(
        &mut Reader::new(owned()),
        &[a.begin(1, 2), a.commit(), b.begin(2, 3)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 commit      commit
        B0 begin 2-3   violation: the batch from tick 2 is of the set "other" of the cluster "cluster", and this stream is that of the set "set" of the cluster "cluster"; configure a stream of its own for each, and bootstrap again from one that holds nothing else
    "#]],
    );
    // Where its messages would be skipped, too: before the first batch, and as those of a fenced publisher.
    let mut fenced = Sender::new('C', 1).of("other", 7, 1).at(4);
    trace(
        &mut Reader::new(owned()),
        &[fenced.begin(2, 3)],
        expect![[r#"
        C4 begin 2-3   violation: the batch from tick 2 is of the set "other" of the cluster "cluster", and this stream is that of the set "set" of the cluster "cluster"; configure a stream of its own for each, and bootstrap again from one that holds nothing else
    "#]],
    );
    let mut a = Sender::new('A', 2).of("set", 7, 1);
    trace(
        &mut Reader::new(owned()),
        &[a.begin(1, 2), fenced.begin(2, 3)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        C5 begin 2-3   violation: the batch from tick 2 is of the set "other" of the cluster "cluster", and this stream is that of the set "set" of the cluster "cluster"; configure a stream of its own for each, and bootstrap again from one that holds nothing else
    "#]],
    );
    // Not where it came before the rows that were loaded since.
    let state = bootstrapped("21:26:").state(b"").unwrap();
    let (mut a, mut b) = (Sender::new('A', 2).of("set", 7, 1), Sender::new('B', 3).of("other", 7, 1));
    let messages = [b.begin(1, 2), b.insert(11), b.commit(), a.begin(2, 3), a.commit(), b.begin(3, 4)];
    trace(
        &mut Reader::resume(state, owned()).unwrap(),
        &messages,
        expect![[r#"
            B0 begin 1-2   skip (Loaded)
            B1 insert 11   skip (Loaded)
            B2 commit      skip (Loaded)
            A0 begin 2-3   begin 2-3
            A1 commit      commit
            B3 begin 3-4   violation: the batch from tick 3 is of the set "other" of the cluster "cluster", and this stream is that of the set "set" of the cluster "cluster"; configure a stream of its own for each, and bootstrap again from one that holds nothing else
        "#]],
    );
}

#[test]
fn any_another_copy_of_the_database_is_a_violation() {
    let mut a = Sender::new('A', 1).of("set", 7, 1);
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2), a.commit()],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 commit      commit
    "#]],
    );
    // A replica that was promoted goes on.
    let mut b = Sender::new('B', 2).of("set", 7, 2);
    trace(
        &mut reader,
        &[b.begin(2, 3), b.commit()],
        expect![[r#"
        B0 begin 2-3   begin 2-3
        B1 commit      commit
    "#]],
    );
    // The old primary does not, nor does a restored copy.
    let mut c = Sender::new('C', 3).of("set", 7, 1);
    trace(
        &mut restarted(&reader),
        &[c.begin(3, 4)],
        expect![[r#"
        C0 begin 3-4   violation: the stream's batches now come from another copy of node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa (system identifier 7, timeline 1, database OID 5) than those before (system identifier 7, timeline 2, database OID 5); if that database replaces the first, as after pg_upgrade, allow this change once, otherwise bootstrap again
    "#]],
    );
    let mut d = Sender::new('D', 4).of("set", 8, 1);
    trace(
        &mut restarted(&reader),
        &[d.begin(3, 4)],
        expect![[r#"
        D0 begin 3-4   violation: the stream's batches now come from another copy of node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa (system identifier 8, timeline 1, database OID 5) than those before (system identifier 7, timeline 2, database OID 5); if that database replaces the first, as after pg_upgrade, allow this change once, otherwise bootstrap again
    "#]],
    );
    // Unless the operator says so, once; the batches must follow all the same.
    let allowed = Options { node_change: Some(NODE), ..Options::default() };
    let resumed = || Reader::resume(reader.state(b"").unwrap(), allowed.clone()).unwrap();
    let mut d = Sender::new('D', 4).of("set", 8, 1);
    trace(
        &mut resumed(),
        &[d.begin(4, 5)],
        expect![[r#"
        D0 begin 4-5   violation: the batch from tick 4 does not follow the last one, which ended with tick 3: the batches between are missing from the stream; bootstrap again
    "#]],
    );
    let (mut d, mut e) = (Sender::new('D', 4).of("set", 8, 1), Sender::new('E', 5).of("set", 7, 2));
    trace(
        &mut resumed(),
        &[d.begin(3, 4), d.commit(), d.begin(4, 5), d.commit(), e.begin(5, 6)],
        expect![[r#"
        D0 begin 3-4   begin 3-4
        D1 commit      commit
        D2 begin 4-5   begin 4-5
        D3 commit      commit
        E0 begin 5-6   violation: the stream's batches now come from another copy of node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa (system identifier 7, timeline 2, database OID 5) than those before (system identifier 8, timeline 1, database OID 5); if that database replaces the first, as after pg_upgrade, allow this change once, otherwise bootstrap again
    "#]],
    );
}

#[test]
fn committed_ticks_of_another_history_are_a_violation() {
    let mut a = Sender::new('A', 1);
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin_elsewhere((1, 10), (5, 50)), a.commit()],
        expect![[r#"
        A0 begin 1-5   begin 1-5
        A1 commit      commit
    "#]],
    );
    // What follows starts from the tick that was made at that time, whoever sends it.
    let mut b = Sender::new('B', 2);
    trace(
        &mut restarted(&reader),
        &[b.begin_elsewhere((5, 51), (6, 60))],
        expect![[r#"
        B0 begin 5-6   violation: the batch from tick 5 to tick 6 is of another history than what is committed, up to tick 5, whose ticks were made at other times: the database was restored, or failed over to a replica that was behind; bootstrap again, from a new stream if that ends so too
    "#]],
    );
    // What was committed before ends with it, or before it was made.
    let mut b = Sender::new('B', 2);
    trace(
        &mut restarted(&reader),
        &[b.begin_elsewhere((4, 40), (5, 51))],
        expect![[r#"
        B0 begin 4-5   violation: the batch from tick 4 to tick 5 is of another history than what is committed, up to tick 5, whose ticks were made at other times: the database was restored, or failed over to a replica that was behind; bootstrap again, from a new stream if that ends so too
    "#]],
    );
    let mut b = Sender::new('B', 2);
    trace(
        &mut restarted(&reader),
        &[b.begin_elsewhere((1, 10), (2, 60))],
        expect![[r#"
        B0 begin 1-2   violation: the batch from tick 1 to tick 2 is of another history than what is committed, up to tick 5, whose ticks were made at other times: the database was restored, or failed over to a replica that was behind; bootstrap again, from a new stream if that ends so too
    "#]],
    );
    let mut b = Sender::new('B', 2);
    let messages = [
        b.begin_elsewhere((1, 10), (2, 20)),
        b.commit(),
        b.begin_elsewhere((2, 20), (5, 50)),
        b.commit(),
        b.begin_elsewhere((5, 50), (6, 60)),
        b.rollback(),
    ];
    trace(
        &mut reader,
        &messages,
        expect![[r#"
        B0 begin 1-2   skip (Committed)
        B1 commit      skip (Committed)
        B2 begin 2-5   skip (Committed)
        B3 commit      skip (Committed)
        B4 begin 5-6   begin 5-6
        B5 rollback    rollback
    "#]],
    );
    // So does what is begun again.
    let mut c = Sender::new('C', 3);
    trace(
        &mut restarted(&reader),
        &[c.begin_elsewhere((5, 51), (6, 60))],
        expect![[r#"
        C0 begin 5-6   violation: the batch from tick 5 to tick 6 is of another history than what is committed, up to tick 5, whose ticks were made at other times: the database was restored, or failed over to a replica that was behind; bootstrap again, from a new stream if that ends so too
    "#]],
    );
    trace(
        &mut restarted(&reader),
        &[Sender::new('C', 3).begin_elsewhere((5, 50), (7, 70))],
        expect![[r#"
        C0 begin 5-7   begin 5-7
    "#]],
    );
}

#[test]
fn bootstrap_what_a_failover_lost_is_passed_over() {
    let loaded = bootstrapped("21:26:").state(b"").unwrap();
    let source = Some(common::Source { timeline: 2, ..samples::source() });
    let mut reader = Reader::resume(State { source, ..loaded }, Options::default()).unwrap();
    // The old primary relayed transactions that the new one never had, and the loaded rows do not.
    let (mut a, mut b) = (Sender::new('A', 1).of("set", 7, 1), Sender::new('B', 2).of("set", 7, 2));
    let messages = [a.begin(2, 4), a.insert(31), a.commit(), b.begin(2, 3), b.insert(21), b.insert(27), b.commit()];
    trace(
        &mut reader,
        &messages,
        expect![[r#"
        A0 begin 2-4   skip (Loaded)
        A1 insert 31   skip (Loaded)
        A2 commit      skip (Loaded)
        B0 begin 2-3   begin 2-3
        B1 insert 21   skip (Loaded)
        B2 insert 27   apply 27
        B3 commit      commit
    "#]],
    );
}

#[test]
fn bootstrap_a_replica_that_took_over_may_lack_what_was_loaded() {
    let loaded = bootstrapped("21:26:").state(b"").unwrap();
    let source = Some(common::Source { timeline: 1, ..samples::source() });
    let resumed = || Reader::resume(State { source: source.clone(), ..loaded.clone() }, Options::default()).unwrap();
    // It was behind, and has given the transactions 21 to 25 to others.
    let mut b = Sender::new('B', 2).of("set", 7, 2);
    trace(
        &mut resumed(),
        &[b.begin(2, 3)],
        expect![[r#"
            B0 begin 2-3   violation: the source aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa failed over before the loaded rows had caught up with the stream: the server that took over may lack transactions that they contain, and no tick from before shows that it has them (the batch begins at tick 2); bootstrap again
        "#]],
    );
    // Not even a batch that the loaded rows seem to contain is passed over.
    let mut b = Sender::new('B', 2).of("set", 7, 2);
    trace(
        &mut resumed(),
        &[b.begin(1, 2)],
        expect![[r#"
            B0 begin 1-2   violation: the source aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa failed over before the loaded rows had caught up with the stream: the server that took over may lack transactions that they contain, and no tick from before shows that it has them (the batch begins at tick 1); bootstrap again
        "#]],
    );
    // Nor one from after them, where none before it was seen.
    let mut b = Sender::new('B', 2).of("set", 7, 2);
    trace(
        &mut resumed(),
        &[b.begin(3, 4)],
        expect![[r#"
            B0 begin 3-4   violation: the source aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa failed over before the loaded rows had caught up with the stream: the server that took over may lack transactions that they contain, and no tick from before shows that it has them (the batch begins at tick 3); bootstrap again
        "#]],
    );
    // A transaction of before the snapshot may still be open: a tick that sees all the others
    // will do.
    let loaded = bootstrapped("20:26:20").state(b"").unwrap();
    let mut reader = Reader::resume(State { source: source.clone(), ..loaded }, Options::default()).unwrap();
    let at = |id: u64, snapshot: &str| common::Tick { id, snapshot: proto::snapshot::parse(snapshot).unwrap(), timestamp: now() };
    let (mut a, mut b) = (Sender::new('A', 1).of("set", 7, 1), Sender::new('B', 2).of("set", 7, 2));
    let messages = [
        a.begin_at(at(2, "20:22:20"), at(3, "20:31:20")),
        a.commit(),
        b.begin_at(at(3, "20:31:20"), at(4, "41:41:")),
        b.insert(20),
        b.commit(),
    ];
    trace(
        &mut reader,
        &messages,
        expect![[r#"
        A0 begin 2-3   begin 2-3
        A1 commit      commit
        B0 begin 3-4   begin 3-4
        B1 insert 20   apply 20
        B2 commit      commit
    "#]],
    );
    // The tick 3 is from before the promotion, and after the loaded rows: it has all of them.
    let (mut a, mut b) = (Sender::new('A', 1).of("set", 7, 1), Sender::new('B', 2).of("set", 7, 2));
    trace(
        &mut resumed(),
        &[a.begin(2, 3), a.insert(21), a.commit(), b.begin(3, 4), b.insert(30), b.commit()],
        expect![[r#"
        A0 begin 2-3   begin 2-3
        A1 insert 21   skip (Loaded)
        A2 commit      commit
        B0 begin 3-4   begin 3-4
        B1 insert 30   apply 30
        B2 commit      commit
    "#]],
    );
}

#[test]
fn bootstrap_what_the_loaded_rows_contain_is_skipped_until_they_are_caught_up_with() {
    let mut a = Sender::new('A', 1);
    // 21 and 24 were in progress when the rows were read; 26 had not begun.
    let mut reader = bootstrapped("21:26:21,24");
    let messages = [
        a.begin(1, 2),
        a.insert(11),
        a.commit(),
        a.begin(2, 3),
        a.insert(20),
        a.insert(21),
        a.insert(22),
        a.insert(24),
        a.insert(26),
        a.commit(),
    ];
    trace(
        &mut reader,
        &messages,
        expect![[r#"
        A0 begin 1-2   skip (Loaded)
        A1 insert 11   skip (Loaded)
        A2 commit      skip (Loaded)
        A3 begin 2-3   begin 2-3
        A4 insert 20   skip (Loaded)
        A5 insert 21   apply 21
        A6 insert 22   skip (Loaded)
        A7 insert 24   apply 24
        A8 insert 26   apply 26
        A9 commit      commit
    "#]],
    );
    assert!(reader.is_catching_up());
    let mut reader = restarted(&reader);
    trace(
        &mut reader,
        &[a.begin(3, 4), a.insert(22), a.commit()],
        expect![[r#"
        A10 begin 3-4  begin 3-4
        A11 insert 22  apply 22
        A12 commit     commit
    "#]],
    );
    assert!(!reader.is_catching_up());
    assert_eq!(reader.state(b"").unwrap().bootstrap_state, None);
}

#[test]
fn bootstrap_the_first_batch_must_begin_inside_the_snapshot() {
    let begin = |start: Snapshot| Sender::new('A', 1).begin_at(common::Tick { id: 7, snapshot: start, timestamp: now() }, tick(8));
    let snapshot = |text| proto::snapshot::parse(text).unwrap();
    // Exactly the snapshot, one in progress among what was in progress, and all that was not begun.
    for inside in ["21:26:21,24", "20:26:20,21,22,24", "21:28:21,24,26,27", "21:21:", "5:5:"] {
        trace(&mut bootstrapped("21:26:21,24"), &[begin(snapshot(inside))], expect!["A0 begin 7-8   begin 7-8\n"]);
    }
    // Transaction 24 finished between; 26 did.
    trace(
        &mut bootstrapped("21:26:21,24"),
        &[begin(snapshot("21:26:21"))],
        expect![[r#"
        A0 begin 7-8   violation: the stream of node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa begins at tick 7 (snapshot 21:26:21), after the snapshot of the loaded rows (21:26:21,24): the messages between are no longer retained; bootstrap again
    "#]],
    );
    trace(
        &mut bootstrapped("21:26:21,24"),
        &[begin(snapshot("21:28:21,24,27"))],
        expect![[r#"
        A0 begin 7-8   violation: the stream of node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa begins at tick 7 (snapshot 21:28:21,24,27), after the snapshot of the loaded rows (21:26:21,24): the messages between are no longer retained; bootstrap again
    "#]],
    );
    trace(
        &mut bootstrapped("21:26:21,24"),
        &[begin(snapshot("80:80:"))],
        expect![[r#"
        A0 begin 7-8   violation: the stream of node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa begins at tick 7 (snapshot 80:80:), after the snapshot of the loaded rows (21:26:21,24): the messages between are no longer retained; bootstrap again
    "#]],
    );
}

#[test]
fn bootstrap_heals_what_was_wrong_with_the_stream_before_it() {
    let mut a = Sender::new('A', 1);
    let mut b = Sender::new('B', 2);
    let messages = [
        a.begin(0, 1),
        a.insert(3),
        // Messages, a commit and whole batches are missing; a dead publisher writes on.
        b.begin(1, 2),
        a.insert(4),
        b.commit(),
        a.commit(),
        b.begin(3, 4),
        b.insert(33),
        b.commit(),
    ];
    trace(
        &mut bootstrapped("31:36:31"),
        &messages,
        expect![[r#"
        A0 begin 0-1   skip (Loaded)
        A1 insert 3    skip (Loaded)
        B0 begin 1-2   skip (Loaded)
        A2 insert 4    skip (Loaded)
        B1 commit      skip (Loaded)
        A3 commit      skip (Loaded)
        B2 begin 3-4   begin 3-4
        B3 insert 33   skip (Loaded)
        B4 commit      commit
    "#]],
    );
}

#[test]
fn bootstrap_joins_a_stream_in_the_middle() {
    let mut a = Sender::new('A', 1).at(9);
    let messages = [a.insert(11), a.commit(), a.begin(2, 3), a.insert(24), a.commit()];
    trace(
        &mut bootstrapped("21:26:21,24"),
        &messages,
        expect![[r#"
        A9 insert 11   skip (Priming)
        A10 commit     skip (Priming)
        A11 begin 2-3  begin 2-3
        A12 insert 24  apply 24
        A13 commit     commit
    "#]],
    );
}

#[test]
fn bootstrap_another_node_is_a_violation_whatever_the_operator_allows() {
    let state = bootstrapped("21:26:").state(b"").unwrap();
    let mut reader = Reader::resume(state, Options { node_change: Some(OTHER_NODE), ..Options::default() }).unwrap();
    trace(
        &mut reader,
        &[Sender::new('B', 2).on(OTHER_NODE).begin(2, 3)],
        expect![[r#"
        B0 begin 2-3   violation: the stream changes from node aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa to node cccccccc-cccc-cccc-cccc-cccccccccccc before the rows loaded from the first have caught up; bootstrap again, from a new stream if that ends so too
    "#]],
    );
}

#[test]
fn relations_are_described_per_batch() {
    let mut a = Sender::new('A', 1);
    let row = || vec![("id", Wire::Integer64(1)), ("name", Wire::String("x".into()))];
    let messages = [
        a.begin(1, 2),
        a.insert_row(11, row(), true),
        a.insert_row(12, row(), false),
        a.commit(),
        a.begin(2, 3),
        a.insert_row(21, row(), false),
    ];
    trace(
        &mut reader(),
        &messages,
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
        A2 insert 12   apply 12
        A3 commit      commit
        A4 begin 2-3   begin 2-3
        A5 insert 21   violation: event 21: the stream never described table public.items in this batch; stop the relay and bootstrap again
    "#]],
    );
}

#[test]
fn rows_must_have_the_columns_that_were_described() {
    let misfit = |row: Vec<(&str, Wire)>, expected| {
        let mut a = Sender::new('A', 1);
        trace(&mut reader(), &[a.begin(1, 2), a.insert_row(11, row, true)], expected);
    };
    let text = |text: &str| Wire::String(text.into());
    misfit(
        vec![("name", text("x")), ("id", Wire::Integer64(1))],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   apply 11
    "#]],
    );
    misfit(
        vec![("id", Wire::Integer64(1))],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   violation: event 11: a row of table public.items does not have the columns that were described (missing: name; not described or twice: none); stop the relay and bootstrap again
    "#]],
    );
    misfit(
        vec![("id", Wire::Integer64(1)), ("nom", text("x")), ("id", Wire::Integer64(1))],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   violation: event 11: a row of table public.items does not have the columns that were described (missing: name; not described or twice: nom, id); stop the relay and bootstrap again
    "#]],
    );
    misfit(
        vec![("id", text("1")), ("name", text("x"))],
        expect![[r#"
        A0 begin 1-2   begin 1-2
        A1 insert 11   violation: event 11: column id of table public.items holds text, and its type calls for integer; stop the relay and bootstrap again
    "#]],
    );
}

#[test]
fn the_originals_rows_get_their_types_from_their_values() {
    let mut a = Sender::original('A');
    let mut reader = reader();
    let mut types = |sent: Sent| match reader.step(codec::decode(&sent.bytes).unwrap()) {
        Ok(Action::Apply(mutation)) => {
            let Change::Insert(row) = &mutation.change else { panic!("{mutation:?}") };
            let column = |(column, value): (&proto::row::Column, _)| format!("{} {} {value:?}", column.name, column.type_name);
            mutation.relation.columns.iter().zip(row).map(column).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    };
    types(a.begin(1, 2));
    let mut out = String::new();
    for row in [
        vec![("id", Wire::Integer64(1)), ("x", Wire::Float(0.5)), ("ok", Wire::Boolean(true))],
        vec![("id", Wire::Integer64(1)), ("x", Wire::String("NaN".into())), ("ok", Wire::Boolean(true))],
        vec![("ok", Wire::Boolean(true)), ("id", Wire::Integer64(1))],
    ] {
        writeln!(out, "{}", types(a.insert_row(11, row, false))).unwrap();
    }
    expect![[r#"
        id bigint Integer(1), x double precision Float(0.5), ok boolean Boolean(true)
        id bigint Integer(1), x text Text("NaN"), ok boolean Boolean(true)
        ok boolean Boolean(true), id bigint Integer(1)
    "#]]
    .assert_eq(&out);
    let twice = types(a.insert_row(11, vec![("id", Wire::Integer64(1)), ("id", Wire::Integer64(2))], false));
    expect![[r#"Err(Columns { event: 11, table: "public.items", missing: [], extra: ["id"] })"#]].assert_eq(&twice);
    let keyless = types(a.at(4).insert_row(11, vec![("x", Wire::Integer64(1))], false));
    expect![[r#"Err(NoIdentity { event: 11, table: "public.items" })"#]].assert_eq(&keyless);
}

#[test]
fn states_that_nothing_resumes_from() {
    let mut a = Sender::new('A', 1);
    let mut reader = reader();
    trace(
        &mut reader,
        &[a.begin(1, 2)],
        expect![[r#"
        A0 begin 1-2   begin 1-2
    "#]],
    );
    assert_eq!(reader.state(b""), None, "half a batch is no state");
    trace(
        &mut reader,
        &[a.commit()],
        expect![[r#"
        A1 commit      commit
    "#]],
    );
    let good = reader.state(b"").unwrap();
    let refused = |change: &dyn Fn(&mut proto::interfaces::replication::StreamState)| {
        let mut state = good.clone();
        change(state.stream_state.as_mut().unwrap());
        Reader::resume(state, Options::default()).unwrap_err().to_string()
    };
    use proto::interfaces::replication::{InTransaction, transaction_state};
    let in_transaction = transaction_state::State::InTransaction(InTransaction {
        publisher: vec![b'A'; 16],
        batch_identifier: BatchIdentifier { id: 5, node: NODE.to_vec() },
        start_tick: None,
        end_tick: None,
    });
    expect![[r#"
        the stored state is empty: it has neither a bootstrap nor a place in a stream; bootstrap again
        the stored state does not say how the last batch ended; bootstrap again
        the stored state was taken inside batch 5, a part of which is applied; let the version that stored it finish the batch, or bootstrap again
        the stored state has a `header.publisher` of 2 bytes, and an id is 16; bootstrap again
        the stored state has a `dead_publishers` of 0 bytes, and an id is 16; bootstrap again"#]].assert_eq(
        &[
            Reader::resume(State::default(), Options::default()).unwrap_err().to_string(),
            refused(&|stream| stream.transaction_state.state = None),
            refused(&|stream| stream.transaction_state.state = Some(in_transaction.clone())),
            refused(&|stream| stream.consumer_state.header.publisher = vec![1, 2]),
            refused(&|stream| stream.consumer_state.dead_publishers = vec![vec![]]),
        ]
        .join("\n"),
    );
}

#[test]
fn a_state_says_all_that_the_next_worker_needs() {
    let (mut a, mut b) = (Sender::new('A', 3), Sender::new('B', 3));
    let mut reader = bootstrapped("21:26:21,24");
    trace(
        &mut reader,
        &[a.begin(2, 3), b.begin(2, 3), a.insert(21), b.commit()],
        expect![[r#"
        A0 begin 2-3   begin 2-3
        B0 begin 2-3   discard, begin 2-3
        A1 insert 21   skip (Fenced)
        B1 commit      commit
    "#]],
    );
    let state = reader.state(b"position").unwrap();
    let consumer = &state.stream_state.as_ref().unwrap().consumer_state;
    assert_eq!(consumer.offset, 4);
    assert_eq!(consumer.position.as_deref(), Some(b"position".as_slice()));
    assert_eq!((consumer.header.sequence, consumer.header.epoch), (1, Some(3)));
    assert_eq!(consumer.dead_publishers, [[b'A'; 16].to_vec()]);
    assert_eq!(restarted(&reader).state(b"position"), Some(state));
    assert_eq!(Uuid(NODE).to_string(), "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa");
}

#[test]
fn the_dead_of_one_epoch_are_bounded() {
    use proto::batch::step::SUPERSEDED_MAX;
    let mut reader = reader();
    for name in (b'A'..).take(SUPERSEDED_MAX + 5) {
        let begin = Sender::new(name.into(), 1).begin(1, 2);
        reader.step(codec::decode(&begin.bytes).unwrap()).unwrap();
    }
    let mut last = Sender::new((b'A' + SUPERSEDED_MAX as u8 + 4).into(), 1).at(1);
    last.batch = 2;
    reader.step(codec::decode(&last.commit().bytes).unwrap()).unwrap();
    let dead = reader.state(b"").unwrap().stream_state.unwrap().consumer_state.dead_publishers;
    let expected: Vec<_> = (b'E'..).take(SUPERSEDED_MAX).map(|name| vec![name; 16]).collect();
    assert_eq!(dead, expected);
}
