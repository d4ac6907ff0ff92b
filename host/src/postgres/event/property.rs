//! What must hold of any row of a batch's COPY: for the tests, and for the fuzz
//! target `event` (`tests/fuzz`).

use std::sync::Arc;

use proto::batch::Batch;
use proto::batch::publisher::Publisher;
use proto::batch::step::{Action, Options, Reader};
use proto::codec;
use proto::interfaces::common::{Snapshot, Tick, Timestamp};
use proto::row::Mutation;

use crate::postgres::event::relation::{Described, Descriptor};
use crate::postgres::event::value::Encoding;
use crate::postgres::event::{Decoded, Decoder, Event};

const NOW: Timestamp = Timestamp { seconds: 1, nanos: 0 };

/// An error, or an event; and of that an error, something to learn, or a mutation that
/// arrives as it is.
pub fn decode(row: &[u8]) {
    let Ok(Some(event)) = Event::parse(row) else { return };
    let mut decoder = Decoder::default();
    decoder.learn(event.version, event.table, Arc::new(descriptor(event.version)));
    if let Ok(Decoded::Mutation(mutation)) = decoder.decode(&event) {
        travel(&mutation);
    }
}

fn descriptor(version: &str) -> Descriptor {
    let columns = [
        ("id", 20, Encoding::Json),
        ("ok", 16, Encoding::Json),
        ("single", 700, Encoding::Json),
        ("double", 701, Encoding::Json),
        ("bytes", 17, Encoding::Json),
        ("at", 1114, Encoding::Json),
        ("attz", 1184, Encoding::Json),
        ("json", 3802, Encoding::Json),
        ("text", 25, Encoding::Json),
        ("other", 1700, Encoding::Text),
    ];
    let described =
        |(name, oid, encoding): (&str, u32, Encoding)| Described { name: name.to_owned(), type_name: format!("type {oid}"), oid, encoding };
    Descriptor::new("public", "items", version, columns.map(described).into(), &["id".to_owned()]).expect("the identity is a column")
}

fn travel(mutation: &Mutation) {
    let tick = |id| Tick { id, snapshot: Snapshot { min: 1, max: 1, active: Vec::new() }, timestamp: NOW };
    let batch = Batch { id: 1, node: [1; 16], start: tick(1), end: tick(2), source: None };
    let mut publisher = Publisher::new([2; 16], 1);
    let mut reader = Reader::new(Options::default());
    let begin = publisher.begin(&batch, NOW).expect("the batch is one");
    reader.step(codec::decode(&begin).expect("a begin")).expect("the first message begins a batch");
    let message = publisher.mutation(mutation, NOW).expect("what was decoded fits its relation");
    let action = reader.step(codec::decode(&message).expect("a mutation")).expect("the batch is open");
    let Action::Apply(mut arrived) = action else { panic!("{action:?}") };
    // The reader gives it.
    arrived.version = 0;
    // Not by ==, which NaN is not to itself.
    assert_eq!(format!("{arrived:?}"), format!("{mutation:?}"));
}
