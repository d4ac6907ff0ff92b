//! What is on the wire: the same bytes as prost makes, the same values back.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use proto::batch::publisher::{Publisher, Refusal};
use proto::batch::step::{Action, Options, Reader};
use proto::codec;
use proto::interfaces::{common, streams};
use proto::row::{Change, Column, Mutation, Relation, Row, Value, oid};
use proto::timestamp::from_micros;

use crate::samples::{NODE, batch, insert, items, mutations, now};

const PUBLISHER: [u8; 16] = [0xbb; 16];

/// A message as the generated types have it.
fn message(sequence: u64, operation: streams::batch_operation::Operation) -> streams::Message {
    streams::Message {
        header: streams::Header { publisher: PUBLISHER.to_vec(), sequence, timestamp: now(), epoch: Some(7) },
        operation: Some(streams::message::Operation::BatchOperation(streams::BatchOperation {
            batch_identifier: common::BatchIdentifier { id: 3, node: NODE.to_vec() },
            operation: Some(operation),
        })),
    }
}

fn row(relation: &Relation, row: &Row) -> common::Row {
    use common::column::Value as Wire;
    let column = |(column, value): (&proto::row::Column, &Value)| common::Column {
        name: column.name.clone(),
        value: match value {
            Value::Null => None,
            Value::Boolean(boolean) => Some(Wire::Boolean(*boolean)),
            Value::Integer(integer) => Some(Wire::Integer64(*integer)),
            Value::Float(float) if column.type_oid == oid::FLOAT4 => Some(Wire::Float(*float as f32)),
            Value::Float(float) => Some(Wire::Float64(*float)),
            Value::Text(text) => Some(Wire::String(text.clone())),
            Value::Bytes(bytes) => Some(Wire::Bytes(bytes.clone())),
        },
    };
    common::Row { columns: relation.columns.iter().zip(row).map(column).collect() }
}

fn descriptor(relation: &Relation) -> common::Relation {
    let column = |column: &proto::row::Column| common::RelationColumn {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        type_oid: column.type_oid,
    };
    common::Relation {
        schema: relation.schema.clone(),
        table: relation.table.clone(),
        columns: relation.columns.iter().map(column).collect(),
        identity: relation.identity.clone(),
        version: relation.version.clone(),
    }
}

fn operation(mutation: &Mutation, described: bool) -> streams::batch_operation::Operation {
    use streams::mutation_operation::Operation;
    let relation = &*mutation.relation;
    let timestamp = from_micros(mutation.timestamp_us);
    let (kind, old, new) = match &mutation.change {
        Change::Insert(new) => (Operation::Insert, None, Some(new)),
        Change::Update { before, after } => (Operation::Update, Some(before), Some(after)),
        Change::Delete(old) => (Operation::Delete, Some(old), None),
        Change::Truncate => {
            return streams::batch_operation::Operation::TruncateOperation(streams::TruncateOperation {
                id: mutation.id,
                schema: relation.schema.clone(),
                table: relation.table.clone(),
                timestamp,
                transaction: mutation.transaction,
                relation: described.then(|| descriptor(relation)),
            });
        }
    };
    streams::batch_operation::Operation::MutationOperation(streams::MutationOperation {
        id: mutation.id,
        schema: relation.schema.clone(),
        table: relation.table.clone(),
        operation: kind.into(),
        identity_columns: relation.identity.iter().map(|index| relation.columns[*index as usize].name.clone()).collect(),
        old: old.map(|old| row(relation, old)),
        new: new.map(|new| row(relation, new)),
        timestamp,
        transaction: mutation.transaction,
        relation: described.then(|| descriptor(relation)),
    })
}

/// NaN is no equal of itself, so mutations are compared as they print.
fn same(a: &impl std::fmt::Debug, b: &impl std::fmt::Debug) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

proptest! {
    /// The publisher's bytes are prost's, the relation described exactly on the
    /// first mutation and after each change of it; the reader gives back what
    /// went in.
    #[test]
    fn a_batch_travels_unchanged(mutations in mutations(), copies in any::<bool>()) {
        let mut publisher = Publisher::new(PUBLISHER, 7);
        let mut reader = Reader::new(Options::default());
        let mut described: HashMap<(String, String), Arc<Relation>> = HashMap::new();
        let begin = publisher.begin(&batch(2, 3), now()).unwrap();
        let (start, end) = (batch(2, 3).start, batch(2, 3).end);
        let source = batch(2, 3).source;
        let expected = message(0, streams::batch_operation::Operation::BeginOperation(streams::BeginOperation { start, end, source }));
        prop_assert_eq!(&begin, &expected.encode_to_vec());
        let action = reader.step(codec::decode(&begin).unwrap());
        prop_assert_eq!(action, Ok(Action::Begin { batch: batch(2, 3), discard: false }));

        for (index, mutation) in mutations.iter().enumerate() {
            let relation = &mutation.relation;
            let key = (relation.schema.clone(), relation.table.clone());
            let known = described.insert(key, Arc::clone(relation)).is_some_and(|known| known == *relation);
            // An equal relation behind another pointer is the same relation.
            let relation = if copies { Arc::new(Relation::clone(relation)) } else { Arc::clone(relation) };
            let sent = publisher.mutation(&Mutation { relation, ..mutation.clone() }, now()).unwrap();
            let expected = message(index as u64 + 1, operation(mutation, !known));
            prop_assert_eq!(&sent, &expected.encode_to_vec());
            prop_assert_eq!(sent.len(), expected.encoded_len());
            let action = reader.step(codec::decode(&sent).unwrap()).unwrap();
            // The versions go up from the time of the batch's last tick.
            let mutation = Mutation { version: 1_795_000_000_123_456 + index as u64, ..mutation.clone() };
            prop_assert!(same(&action, &Action::Apply(mutation.clone())), "{:?}\n{:?}", action, mutation);
        }

        let end = publisher.commit(now()).unwrap();
        let expected = message(mutations.len() as u64 + 1, streams::batch_operation::Operation::CommitOperation(streams::CommitOperation {}));
        prop_assert_eq!(&end, &expected.encode_to_vec());
        prop_assert_eq!(reader.step(codec::decode(&end).unwrap()), Ok(Action::Commit));
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over(mutations in mutations(), unknown in unknown_fields()) {
        let mut publisher = Publisher::new(PUBLISHER, 7);
        publisher.begin(&batch(2, 3), now()).unwrap();
        for mutation in &mutations {
            let mut sent = publisher.mutation(mutation, now()).unwrap().to_vec();
            let digest = codec::decode(&sent).unwrap().digest;
            let before = codec::Message { digest: 0, ..codec::decode(&sent).unwrap() };
            let before = format!("{before:?}");
            sent.extend_from_slice(&unknown);
            let after = codec::decode(&sent).unwrap();
            prop_assert!(unknown.is_empty() || after.digest != digest);
            prop_assert_eq!(before, format!("{:?}", codec::Message { digest: 0, ..after }));
        }
    }

    /// What prost decodes, and what a mutated message decodes to, is never a panic.
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in any::<Vec<u8>>()) {
        let _ = codec::decode(&bytes);
    }

    #[test]
    fn no_damage_makes_decoder_or_reader_panic(
        mutations in mutations(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
    ) {
        let mut messages = stream(&mutations);
        for (which, at, byte, kind) in damage {
            let message = &mut messages[which.index(mutations.len() + 2)];
            let at = at.index(message.len() + 1);
            match kind {
                0 => message.truncate(at),
                1 => message.insert(at, byte),
                _ => if let Some(old) = message.get_mut(at) { *old ^= byte },
            }
        }
        let mut reader = Reader::new(Options { priming_messages_max: 3, ..Options::default() });
        for message in &messages {
            if let Ok(message) = codec::decode(message) {
                let before = format!("{reader:?}");
                if reader.step(message).is_err() {
                    prop_assert_eq!(before, format!("{reader:?}"), "a violation changed the reader");
                }
            } else {
                // What prost takes for a whole message may lack what is required; the other way around, never.
                continue;
            }
            prop_assert!(streams::Message::decode(message.as_slice()).is_ok());
        }
    }
}

fn stream(mutations: &[Mutation]) -> Vec<Vec<u8>> {
    let mut publisher = Publisher::new(PUBLISHER, 7);
    let mut messages = vec![publisher.begin(&batch(2, 3), now()).unwrap().to_vec()];
    messages.extend(mutations.iter().map(|mutation| publisher.mutation(mutation, now()).unwrap().to_vec()));
    messages.push(publisher.commit(now()).unwrap().to_vec());
    messages
}

/// Fields 100 and up of every wire type, groups inside groups among them.
fn unknown_fields() -> impl Strategy<Value = Vec<u8>> {
    let tag = |number: u64, wire_type: u64| varint(number << 3 | wire_type);
    let plain = (100..1000_u64, any::<u64>(), any::<Vec<u8>>(), 0..4).prop_map(move |(number, value, bytes, kind)| match kind {
        0 => [tag(number, 0), varint(value)].concat(),
        1 => [tag(number, 1), value.to_le_bytes().to_vec()].concat(),
        2 => [tag(number, 2), varint(bytes.len() as u64), bytes].concat(),
        _ => [tag(number, 5), value.to_le_bytes()[..4].to_vec()].concat(),
    });
    let field = plain.prop_recursive(3, 8, 3, move |inner| {
        (100..1000_u64, prop::collection::vec(inner, 0..3))
            .prop_map(move |(number, inner)| [tag(number, 3), inner.concat(), tag(number, 4)].concat())
    });
    prop::collection::vec(field, 0..3).prop_map(|fields| fields.concat())
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[test]
fn calls_out_of_grammar_are_refused_and_change_nothing() {
    let relation = items();
    let mut publisher = Publisher::new(PUBLISHER, 7);
    let refused = |refusal: Refusal, text: &str| assert_eq!(refusal.to_string(), text);
    refused(publisher.commit(now()).unwrap_err(), "no batch is open: begin one before a commit");
    refused(publisher.rollback(now()).unwrap_err(), "no batch is open: begin one before a rollback");
    refused(publisher.mutation(&insert(&relation, 1, 1), now()).unwrap_err(), "no batch is open: begin one before a mutation");
    refused(
        publisher.begin(&batch(3, 3), now()).unwrap_err(),
        "batch 3 ends with tick 3, which does not follow the tick it starts from, 3",
    );
    publisher.begin(&batch(2, 3), now()).unwrap();
    refused(publisher.begin(&batch(3, 4), now()).unwrap_err(), "batch 4 cannot begin: batch 3 is still open; commit it or roll it back");
    publisher.mutation(&insert(&relation, 5, 1), now()).unwrap();
    refused(publisher.mutation(&insert(&relation, 5, 1), now()).unwrap_err(), "event 5 follows event 5: the events of a batch must ascend");

    let with = |change| Mutation { change, ..insert(&relation, 6, 1) };
    refused(
        publisher.mutation(&with(Change::Insert(vec![Value::Integer(1)])), now()).unwrap_err(),
        "a row of public.items has 1 values for 2 columns",
    );
    refused(
        publisher.mutation(&with(Change::Insert(vec![Value::Integer(1), Value::Boolean(true)])), now()).unwrap_err(),
        "column name of public.items holds boolean, and its type calls for text",
    );
    for identity in [vec![], vec![2]] {
        let relation = Arc::new(Relation { identity, table: "keyless".into(), ..Relation::clone(&relation) });
        refused(
            publisher.mutation(&insert(&relation, 6, 1), now()).unwrap_err(),
            "relation public.keyless has no identity, or one that names a column it does not have",
        );
    }
    assert_eq!(publisher.sequence(), 2);
    assert!(publisher.is_open());

    let mut untouched = Publisher::new(PUBLISHER, 7);
    untouched.begin(&batch(2, 3), now()).unwrap();
    untouched.mutation(&insert(&relation, 5, 1), now()).unwrap();
    assert_eq!(publisher.mutation(&insert(&relation, 6, 1), now()), untouched.mutation(&insert(&relation, 6, 1), now()));
    assert_eq!(publisher.rollback(now()), untouched.rollback(now()));
}

#[test]
fn a_message_that_no_stream_takes_is_refused() {
    let mut publisher = Publisher::new(PUBLISHER, 7);
    publisher.begin(&batch(2, 3), now()).unwrap();
    let columns = vec![Column { name: "b".into(), type_name: "bytea".into(), type_oid: oid::BYTEA }];
    let relation = Arc::new(Relation { columns, ..Relation::clone(&items()) });
    // Never touched, so it costs no memory.
    let change = Change::Insert(vec![Value::Bytes(vec![0; 1 << 30])]);
    let refusal = publisher.mutation(&Mutation { change, ..insert(&relation, 1, 1) }, now()).unwrap_err();
    assert_eq!(refusal.to_string(), "event 1 makes a message of 1073741916 bytes, and a stream takes 1073741824 at most");
}
