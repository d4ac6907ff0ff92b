//! Nanoseconds per mutation of each half, and of prost beside them.
//!
//! `cargo bench -p pgshovel-proto`: the best of many short rounds over batches of
//! inserts and updates of eight columns.

#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use proto::batch::publisher::Publisher;
use proto::batch::step::{Options, Reader};
use proto::batch::{Batch, Id};
use proto::codec;
use proto::interfaces::common::{Snapshot, Tick, Timestamp};
use proto::interfaces::streams;
use proto::row::{Change, Column, Mutation, Relation, Row, Value, oid};

/// A round is shorter than a time slice, so that the best one ran alone.
const MUTATIONS: u64 = 1000;
const ROUNDS: u32 = 500;
const NOW: Timestamp = Timestamp { seconds: 1_795_000_000, nanos: 123_456_000 };
const PUBLISHER: Id = [7; 16];

fn relation() -> Arc<Relation> {
    let columns = [
        ("id", "bigint", oid::INT8),
        ("quantity", "integer", oid::INT4),
        ("customer", "bigint", oid::INT8),
        ("title", "text", oid::TEXT),
        ("price", "numeric(20,6)", 1700),
        ("ordered_at", "timestamp with time zone", 1184),
        ("paid", "boolean", oid::BOOL),
        ("details", "jsonb", 3802),
    ];
    let column = |(name, type_name, type_oid): (&str, &str, u32)| Column { name: name.into(), type_name: type_name.into(), type_oid };
    Arc::new(Relation {
        schema: "public".into(),
        table: "orders".into(),
        columns: columns.map(column).into(),
        identity: vec![0],
        version: "0123456789abcdef".into(),
    })
}

fn row(id: u64) -> Row {
    vec![
        Value::Integer(id as i64),
        Value::Integer((id % 100) as i64),
        Value::Integer((id * 7919 % 1_000_000) as i64),
        Value::Text(format!("order number {id}")),
        Value::Text(format!("{}.{:06}", id % 10_000, id % 1_000_000)),
        Value::Text("2026-11-22 19:05:00.123456+00".into()),
        Value::Boolean(id.is_multiple_of(2)),
        Value::Text(r#"{"colour": "green", "size": 42}"#.into()),
    ]
}

fn mutations(change: impl Fn(u64) -> Change) -> Vec<Mutation> {
    let relation = relation();
    let mutation = |id| Mutation {
        id,
        relation: Arc::clone(&relation),
        change: change(id),
        transaction: 1_000_000 + id / 10,
        timestamp_us: 1_795_000_000_000_000,
        version: 0,
    };
    (1..=MUTATIONS).map(mutation).collect()
}

fn batch() -> Batch {
    let tick = |id| Tick { id, snapshot: Snapshot { min: 5, max: 5, active: vec![] }, timestamp: NOW };
    Batch { id: 1, node: [9; 16], start: tick(1), end: tick(2), source: None }
}

/// The best round, in nanoseconds per mutation.
fn measure(name: &str, mut round: impl FnMut()) {
    let time = |_| {
        let start = Instant::now();
        round();
        start.elapsed().as_nanos() as f64 / MUTATIONS as f64
    };
    let best = (0..ROUNDS).map(time).fold(f64::INFINITY, f64::min);
    println!("{name:<34} {best:>7.0} ns");
}

fn encode(mutations: &[Mutation], mut each: impl FnMut(bytes::Bytes)) {
    let mut publisher = Publisher::new(PUBLISHER, 1);
    each(publisher.begin(&batch(), NOW).expect("no batch is open"));
    for mutation in mutations {
        each(publisher.mutation(mutation, NOW).expect("the mutations are in order"));
    }
}

fn main() {
    for (name, mutations) in [
        ("insert", mutations(|id| Change::Insert(row(id)))),
        ("update", mutations(|id| Change::Update { before: row(id), after: row(id + 1) })),
    ] {
        let mut messages = Vec::new();
        encode(&mutations, |message| messages.push(message));
        let bytes: usize = messages.iter().map(bytes::Bytes::len).sum();
        println!("{name}: {} bytes a message", bytes / messages.len());
        measure("  publish", || encode(&mutations, |message| drop(black_box(message))));
        measure("  decode", || {
            for message in &messages {
                let _ = black_box(codec::decode(message).expect("the publisher wrote it"));
            }
        });
        measure("  decode and step", || {
            let mut reader = Reader::new(Options::default());
            for message in &messages {
                let message = codec::decode(message).expect("the publisher wrote it");
                let _ = black_box(reader.step(message).expect("the publisher keeps to the grammar"));
            }
        });
        let decoded: Vec<_> =
            messages.iter().map(|message| streams::Message::decode(&**message).expect("the publisher wrote it")).collect();
        measure("  prost, encode of what exists", || decoded.iter().for_each(|message| drop(black_box(message.encode_to_vec()))));
        measure("  prost, decode", || {
            for message in &messages {
                let _ = black_box(streams::Message::decode(&**message).expect("the publisher wrote it"));
            }
        });
    }
}
