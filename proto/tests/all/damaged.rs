//! Messages that lack something, hold it twice, or hold something else.

use std::fmt::Write as _;

use expect_test::expect;
use proto::batch::publisher::Publisher;
use proto::codec;
use proto::row::{Change, Mutation, Value};
use proto::stored;

use crate::samples::{batch, insert, items, now};

/// What happens to one field.
enum Damage<'a> {
    Remove,
    Repeat,
    /// Its content, tag and all.
    Replace(&'a [u8]),
    /// Another field in front of it.
    Insert(&'a [u8]),
}

fn varint(bytes: &[u8]) -> (u64, usize) {
    let length = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    (bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)), length)
}

/// The message with the field at `path` (numbers, outermost first) damaged.
fn damaged(message: &[u8], path: &[u64], damage: &Damage<'_>) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), message);
    while !rest.is_empty() {
        let (tag, tag_length) = varint(rest);
        let (value, value_length) = varint(&rest[tag_length..]);
        let head = tag_length + value_length;
        let length = match tag & 7 {
            0 => head,
            1 => tag_length + 8,
            2 => head + value as usize,
            _ => tag_length + 4,
        };
        let (field, after) = rest.split_at(length);
        match damage {
            _ if tag >> 3 != path[0] => out.extend_from_slice(field),
            _ if path.len() > 1 => {
                let inner = damaged(&field[head..], &path[1..], damage);
                out.extend_from_slice(&field[..tag_length]);
                put_varint(&mut out, inner.len() as u64);
                out.extend_from_slice(&inner);
            }
            Damage::Remove => {}
            Damage::Repeat => out.extend_from_slice(&[field, field].concat()),
            Damage::Replace(other) => out.extend_from_slice(other),
            Damage::Insert(other) => out.extend_from_slice(&[other, field].concat()),
        }
        rest = after;
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Good {
    begin: Vec<u8>,
    insert: Vec<u8>,
    update: Vec<u8>,
    delete: Vec<u8>,
    truncate: Vec<u8>,
}

fn good() -> Good {
    let relation = items();
    let row = || vec![Value::Integer(1), Value::Text("x".into())];
    let mut publisher = Publisher::new([1; 16], 1);
    let begin = publisher.begin(&batch(1, 2), now()).unwrap().to_vec();
    let mut send = |id, change| publisher.mutation(&Mutation { change, ..insert(&relation, id, 3) }, now()).unwrap().to_vec();
    Good {
        begin,
        insert: send(1, Change::Insert(row())),
        update: send(2, Change::Update { before: row(), after: row() }),
        delete: send(3, Change::Delete(row())),
        truncate: send(4, Change::Truncate),
    }
}

fn error(message: &[u8]) -> String {
    codec::decode(message).map_or_else(|error| error.to_string(), |message| format!("accepted: {message:?}"))
}

#[test]
fn each_required_field_is_missed_by_its_path() {
    let good = good();
    let mut out = String::new();
    let mut without = |message: &[u8], paths: &[&[u64]]| {
        for path in paths {
            writeln!(out, "{}", error(&damaged(message, path, &Damage::Remove))).unwrap();
        }
    };
    without(&good.begin, &[&[1], &[1, 1], &[1, 2], &[1, 3], &[1, 3, 1], &[1, 3, 2], &[2], &[2, 1], &[2, 1, 1], &[2, 1, 2], &[2, 2]]);
    let tick = [&[2, 2, 1], &[2, 2, 2]] as [&[u64]; 2];
    without(&good.begin, &tick);
    without(&good.begin, &[&[2, 2, 1, 1], &[2, 2, 2, 2], &[2, 2, 1, 2, 1], &[2, 2, 2, 2, 2], &[2, 2, 1, 3], &[2, 2, 1, 3, 2]]);
    without(&good.begin, &[&[2, 2, 3, 1], &[2, 2, 3, 2], &[2, 2, 3, 3], &[2, 2, 3, 4], &[2, 2, 3, 5], &[2, 2, 3, 6]]);
    without(&good.insert, &[&[2, 3, 1], &[2, 3, 2], &[2, 3, 3], &[2, 3, 4], &[2, 3, 7], &[2, 3, 7, 1, 1], &[2, 3, 8], &[2, 3, 9]]);
    without(
        &good.insert,
        &[&[2, 3, 10, 1], &[2, 3, 10, 2], &[2, 3, 10, 3, 1], &[2, 3, 10, 3, 2], &[2, 3, 10, 3, 3], &[2, 3, 10, 4], &[2, 3, 10, 5]],
    );
    without(&good.update, &[&[2, 3, 6], &[2, 3, 7]]);
    without(&good.delete, &[&[2, 3, 6]]);
    without(&good.truncate, &[&[2, 6, 1], &[2, 6, 2], &[2, 6, 3], &[2, 6, 4], &[2, 6, 5]]);
    expect![[r#"
        `header` is missing, in a message of 112 bytes
        `header.publisher` is missing, in a message of 131 bytes
        `header.sequence` is missing, in a message of 147 bytes
        `header.timestamp` is missing, in a message of 136 bytes
        `header.timestamp.seconds` is missing, in a message of 143 bytes
        `header.timestamp.nanos` is missing, in a message of 144 bytes
        `operation` is missing, or one that only a later version knows, in a message of 37 bytes
        `batch_operation.batch_identifier` is missing, in a message of 127 bytes
        `batch_operation.batch_identifier.id` is missing, in a message of 147 bytes
        `batch_operation.batch_identifier.node` is missing, in a message of 131 bytes
        `batch_operation.operation` is missing, or one that only a later version knows, in a message of 61 bytes
        `batch_operation.begin_operation.start` is missing, in a message of 126 bytes
        `batch_operation.begin_operation.end` is missing, in a message of 126 bytes
        `batch_operation.begin_operation.start.id` is missing, in a message of 147 bytes
        `batch_operation.begin_operation.end.snapshot` is missing, in a message of 143 bytes
        `batch_operation.begin_operation.start.snapshot.min` is missing, in a message of 147 bytes
        `batch_operation.begin_operation.end.snapshot.max` is missing, in a message of 147 bytes
        `batch_operation.begin_operation.start.timestamp` is missing, in a message of 136 bytes
        `batch_operation.begin_operation.start.timestamp.nanos` is missing, in a message of 144 bytes
        `batch_operation.begin_operation.source.cluster` is missing, in a message of 140 bytes
        `batch_operation.begin_operation.source.set` is missing, in a message of 144 bytes
        `batch_operation.begin_operation.source.node` is missing, in a message of 131 bytes
        `batch_operation.begin_operation.source.system_identifier` is missing, in a message of 147 bytes
        `batch_operation.begin_operation.source.timeline` is missing, in a message of 147 bytes
        `batch_operation.begin_operation.source.database_oid` is missing, in a message of 147 bytes
        `batch_operation.mutation_operation.id` is missing, in a message of 173 bytes
        `batch_operation.mutation_operation.schema` is missing, in a message of 166 bytes
        `batch_operation.mutation_operation.table` is missing, in a message of 168 bytes
        `batch_operation.mutation_operation.operation` is missing, in a message of 173 bytes
        `batch_operation.mutation_operation.new` is missing, in a message of 153 bytes
        `batch_operation.mutation_operation.new.columns[0].name` is missing, in a message of 164 bytes
        `batch_operation.mutation_operation.timestamp` is missing, in a message of 164 bytes
        `batch_operation.mutation_operation.transaction` is missing, in a message of 173 bytes
        `batch_operation.mutation_operation.relation.schema` is missing, in a message of 166 bytes
        `batch_operation.mutation_operation.relation.table` is missing, in a message of 168 bytes
        `batch_operation.mutation_operation.relation.columns[0].name` is missing, in a message of 164 bytes
        `batch_operation.mutation_operation.relation.columns[0].type_name` is missing, in a message of 160 bytes
        `batch_operation.mutation_operation.relation.columns[0].type_oid` is missing, in a message of 171 bytes
        `batch_operation.mutation_operation.relation.identity` is empty: at least one column must identify a row, in a message of 173 bytes
        `batch_operation.mutation_operation.relation.version` is missing, in a message of 171 bytes
        `batch_operation.mutation_operation.old` is missing, in a message of 119 bytes
        `batch_operation.mutation_operation.new` is missing, in a message of 119 bytes
        `batch_operation.mutation_operation.old` is missing, in a message of 98 bytes
        `batch_operation.truncate_operation.id` is missing, in a message of 90 bytes
        `batch_operation.truncate_operation.schema` is missing, in a message of 84 bytes
        `batch_operation.truncate_operation.table` is missing, in a message of 85 bytes
        `batch_operation.truncate_operation.timestamp` is missing, in a message of 82 bytes
        `batch_operation.truncate_operation.transaction` is missing, in a message of 90 bytes
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_field_that_is_there_twice_is_no_field() {
    let good = good();
    let mut out = String::new();
    for path in [&[1_u64] as &[u64], &[1, 2], &[2], &[2, 1], &[2, 3], &[2, 3, 7], &[2, 3, 7, 1, 1], &[2, 3, 7, 1, 3], &[2, 3, 10]] {
        writeln!(out, "{}", error(&damaged(&good.insert, path, &Damage::Repeat))).unwrap();
    }
    // Two members of one oneof.
    writeln!(out, "{}", error(&damaged(&good.insert, &[2, 3], &Damage::Insert(&[4 << 3 | 2, 0])))).unwrap();
    expect![[r#"
        `header` is there twice, in a message of 212 bytes
        `header.sequence` is there twice, in a message of 177 bytes
        `batch_operation` is there twice, in a message of 313 bytes
        `batch_operation.batch_identifier` is there twice, in a message of 197 bytes
        `batch_operation.mutation_operation` is there twice, in a message of 288 bytes
        `batch_operation.mutation_operation.new` is there twice, in a message of 197 bytes
        `batch_operation.mutation_operation.new.columns[0].name` is there twice, in a message of 185 bytes
        `batch_operation.mutation_operation.new.columns[0].value` is there twice, in a message of 177 bytes
        `batch_operation.mutation_operation.relation` is there twice, in a message of 231 bytes
        `batch_operation.mutation_operation` is there twice, in a message of 177 bytes
    "#]]
    .assert_eq(&out);
}

#[test]
fn values_out_of_range_or_of_another_type() {
    let good = good();
    let mut out = String::new();
    let mut with = |message: &[u8], path: &[u64], field: &[u8]| {
        writeln!(out, "{}", error(&damaged(message, path, &Damage::Replace(field)))).unwrap();
    };
    with(&good.begin, &[1, 1], &[1 << 3 | 2, 3, 1, 2, 3]);
    with(&good.begin, &[1, 1], &[1 << 3, 3]);
    with(&good.begin, &[1, 2], &[2 << 3 | 5, 1, 2, 3, 4]);
    with(&good.begin, &[1, 3, 2], &[2 << 3, 0x80, 0x94, 0xeb, 0xdc, 3]);
    with(&good.begin, &[2, 1, 2], &[2 << 3 | 2, 1, 1]);
    with(&good.begin, &[2, 2, 2, 1], &[1 << 3, 1]);
    with(&good.begin, &[2, 2, 1, 2, 1], &[1 << 3, 11]);
    with(&good.begin, &[2, 2, 1, 2, 2], &[2 << 3, 12, 3 << 3 | 2, 2, 11, 11]);
    with(&good.begin, &[2, 2, 1, 2, 2], &[2 << 3, 12, 3 << 3, 9]);
    with(&good.begin, &[2, 2, 1, 2, 2], &[2 << 3, 12, 3 << 3, 12]);
    with(&good.begin, &[2, 2, 3, 3], &[[3 << 3 | 2, 16].as_slice(), &[0xbb; 16]].concat());
    with(&good.begin, &[2, 2, 3, 5], &[5 << 3, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    with(&good.insert, &[2, 3, 2], &[2 << 3 | 2, 2, 0xc3, 0x28]);
    with(&good.insert, &[2, 3, 4], &[4 << 3, 4]);
    with(&good.insert, &[2, 3, 4], &[4 << 3, 2]);
    with(&good.insert, &[2, 3, 4], &[4 << 3, 3]);
    with(&good.update, &[2, 3, 4], &[4 << 3, 1]);
    with(&good.insert, &[2, 3, 7, 1, 3], &[3 << 3 | 2, 0]);
    with(&good.insert, &[2, 3, 7, 1, 5], &[5 << 3 | 2, 1, 0xff]);
    with(&good.insert, &[2, 3, 8, 1], &[1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    with(&good.insert, &[2, 3, 10, 2], &[2 << 3 | 2, 1, b'x']);
    with(&good.insert, &[2, 3, 10, 3, 1], &[1 << 3 | 2, 1, b'x']);
    with(&good.insert, &[2, 3, 10, 4], &[4 << 3, 2]);
    with(&good.insert, &[2, 3, 10, 4], &[4 << 3, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    with(&good.insert, &[2, 3, 10, 3, 3], &[3 << 3, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    expect![[r#"
        `header.publisher` is 3 bytes long, and an id is 16, in a message of 136 bytes
        `header.publisher` is of another type on the wire, in a message of 133 bytes
        `header.sequence` is of another type on the wire, in a message of 152 bytes
        `header.timestamp.nanos` is not between 0 and 999999999, in a message of 150 bytes
        `batch_operation.batch_identifier.node` is 1 bytes long, and an id is 16, in a message of 134 bytes
        `batch_operation.begin_operation.end.id` 1 does not follow the start of the batch, 1, in a message of 149 bytes
        `batch_operation.begin_operation.start.snapshot` is no snapshot: xmin is after xmax, in a message of 149 bytes
        `batch_operation.begin_operation.start.snapshot` is no snapshot: the transactions in progress are not ascending, in a message of 153 bytes
        `batch_operation.begin_operation.start.snapshot` is no snapshot: a transaction in progress is before xmin, in a message of 151 bytes
        `batch_operation.begin_operation.start.snapshot` is no snapshot: a transaction in progress is not before xmax, in a message of 151 bytes
        `batch_operation.begin_operation.source.node` is another node than that of the batch, in a message of 149 bytes
        `batch_operation.begin_operation.source.timeline` is out of range, in a message of 153 bytes
        `batch_operation.mutation_operation.schema` is not UTF-8, in a message of 171 bytes
        `batch_operation.mutation_operation.operation` 4 is none of 1, 2 and 3 (insert, update, delete), in a message of 175 bytes
        `batch_operation.mutation_operation.old` is missing, in a message of 175 bytes
        `batch_operation.mutation_operation.new` is there although the operation calls for none, in a message of 175 bytes
        `batch_operation.mutation_operation.old` is there although the operation calls for none, in a message of 140 bytes
        `batch_operation.mutation_operation.new.columns[0].value` is of another type on the wire, in a message of 175 bytes
        `batch_operation.mutation_operation.new.columns[1].value` is not UTF-8, in a message of 175 bytes
        `batch_operation.mutation_operation.timestamp.seconds` is out of range, in a message of 179 bytes
        `batch_operation.mutation_operation.relation` is of another table than the operation, in a message of 171 bytes
        `batch_operation.mutation_operation.relation.columns[1]` has the name of another column, in a message of 171 bytes
        `batch_operation.mutation_operation.relation.identity` 2 is none of 2 columns, in a message of 175 bytes
        `batch_operation.mutation_operation.relation.identity` is out of range, in a message of 179 bytes
        `batch_operation.mutation_operation.relation.columns[0].type_oid` is out of range, in a message of 183 bytes
    "#]].assert_eq(&out);
}

#[test]
fn bytes_that_are_no_protobuf() {
    let good = good();
    let errors = [
        &[] as &[u8],
        b"{\"op\": \"INSERT\"}",
        &good.insert[..good.insert.len() - 1],
        &[0],
        &[7],
        &[1 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        &[1 << 3, 0xff],
        &[1 << 3 | 4],
        &[9 << 3 | 3, 8 << 3 | 4],
        &[9 << 3 | 3; 200],
        &[9 << 3 | 1, 0, 0, 0],
    ]
    .map(error);
    expect![[r#"
        `header` is missing, in a message of 0 bytes
        a message of 16 bytes ends in the middle of a field
        a message of 174 bytes ends in the middle of a field
        a message of 1 bytes holds what is no field of protobuf
        a message of 1 bytes holds what is no field of protobuf
        a message of 11 bytes ends in the middle of a field
        a message of 11 bytes holds a number of more than 64 bits
        a message of 2 bytes ends in the middle of a field
        a message of 1 bytes holds a group that is not closed, or never began
        a message of 2 bytes holds a group that is not closed, or never began
        a message of 200 bytes holds a group that is not closed, or never began
        a message of 4 bytes ends in the middle of a field"#]]
    .assert_eq(&errors.join("\n"));
}

#[test]
fn what_is_stored_is_checked_too() {
    use proto::interfaces::configurations::ReplicationSetConfiguration;
    use proto::interfaces::replication::State;
    let state = |bytes: &[u8]| stored::decode::<State>(bytes).unwrap_err().to_string();
    let errors = [
        state(&[1]),
        state(&[1 << 3 | 2, 0]),
        state(&[2 << 3 | 2, 2, 1 << 3 | 2, 0]),
        stored::decode::<ReplicationSetConfiguration>(&[1 << 3 | 2, 2, 1 << 3 | 2, 0, 2 << 3 | 2, 0]).unwrap_err().to_string(),
    ];
    expect![[r#"
        1 bytes are no State: failed to decode Protobuf message: invalid tag value: 0
        `bootstrap_state.node` is missing in a State of 2 bytes
        `stream_state.consumer_state.offset` is missing in a State of 4 bytes
        `tables[0].name` is missing in a ReplicationSetConfiguration of 6 bytes"#]]
    .assert_eq(&errors.join("\n"));
}
