//! The wire format against an implementation that is not ours: Python's, with
//! the definitions of pgshovel 2015 (`independent.py`).
//!
//! `PGSHOVEL_TEST_PYTHON` is a Python that has `protobuf` (`tests/requirements.txt`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use expect_test::{Expect, expect};
use prost::Message as _;
use proto::batch::publisher::Publisher;
use proto::batch::step::{Action, Options, Reader};
use proto::interfaces::configurations::ReplicationSetConfiguration;
use proto::row::{Change, Column, Mutation, Relation, Value, oid};
use proto::{codec, stored, text};

use crate::samples::{batch, now};

struct Python {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    fn start() -> Self {
        let python = std::env::var("PGSHOVEL_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = crate::package().join("tests/all/independent.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} (PGSHOVEL_TEST_PYTHON) does not start: {error}"));
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, requests, answers }
    }

    fn ask(&mut self, request: &str) -> String {
        let mut answer = String::new();
        let asked = writeln!(self.requests, "{request}").and_then(|()| self.answers.read_line(&mut answer));
        assert!(
            asked.is_ok_and(|size| size > 0),
            "no answer from Python to `{request:.60}`; it needs protobuf: pip install -r tests/requirements.txt"
        );
        answer.trim_end().to_owned()
    }

    fn decode(&mut self, message: &str, bytes: &[u8]) -> String {
        self.ask(&format!("decode {message} {}", hex(bytes)))
    }

    fn bytes(&mut self, request: &str) -> Vec<u8> {
        let answer = self.ask(request);
        let digit = |at: usize| u8::from_str_radix(&answer[at..at + 2], 16).unwrap();
        (0..answer.len()).step_by(2).map(digit).collect()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn relation() -> Arc<Relation> {
    let columns = [
        ("id", "bigint", oid::INT8),
        ("ok", "boolean", oid::BOOL),
        ("single", "real", oid::FLOAT4),
        ("double", "double precision", oid::FLOAT8),
        ("bytes", "bytea", oid::BYTEA),
        ("amount", "numeric", 1700),
    ];
    let column = |(name, type_name, type_oid): (&str, &str, u32)| Column { name: name.into(), type_name: type_name.into(), type_oid };
    Arc::new(Relation {
        schema: "public".into(),
        table: "Grüße".into(),
        columns: columns.map(column).into(),
        identity: vec![0],
        version: "v1".into(),
    })
}

#[test]
fn a_decoder_of_2015_reads_our_messages() {
    let mut python = Python::start();
    let mut read = |message: bytes::Bytes, expected: Expect| expected.assert_eq(&python.decode("streams.Message", &message));
    let relation = relation();
    let row = |id| {
        let amount = Value::Text("12345678901234567890.123".into());
        vec![Value::Integer(id), Value::Boolean(true), Value::Float(0.5), Value::Float(0.1), Value::Bytes(vec![0, 255]), amount]
    };
    let nulls = vec![Value::Integer(1), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null];
    let mutation =
        |id, change| Mutation { id, relation: Arc::clone(&relation), change, transaction: u64::MAX, timestamp_us: -1, version: 0 };
    let mut publisher = Publisher::new([b'P'; 16], u64::MAX);
    read(
        publisher.begin(&batch(1, 2), now()).unwrap(),
        expect![[
            r#"header { publisher: "PPPPPPPPPPPPPPPP" sequence: 0 timestamp { seconds: 1795000000 nanos: 123456000 } } batch_operation { batch_identifier { id: 2 node: "\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252" } begin_operation { start { id: 1 snapshot { min: 10 max: 10 } timestamp { seconds: 1795000000 nanos: 123456000 } } end { id: 2 snapshot { min: 20 max: 20 } timestamp { seconds: 1795000000 nanos: 123456000 } } } }"#
        ]],
    );
    read(
        publisher.mutation(&mutation(1, Change::Insert(row(-1))), now()).unwrap(),
        expect![[
            r#"header { publisher: "PPPPPPPPPPPPPPPP" sequence: 1 timestamp { seconds: 1795000000 nanos: 123456000 } } batch_operation { batch_identifier { id: 2 node: "\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252" } mutation_operation { id: 1 schema: "public" table: "Grüße" operation: INSERT identity_columns: "id" new { columns { name: "id" integer64: -1 } columns { name: "ok" boolean: true } columns { name: "single" float: 0.5 } columns { name: "double" } columns { name: "bytes" } columns { name: "amount" string: "12345678901234567890.123" } } timestamp { seconds: -1 nanos: 999999000 } transaction: 18446744073709551615 } }"#
        ]],
    );
    let update = Change::Update { before: nulls.clone(), after: row(1) };
    read(
        publisher.mutation(&mutation(2, update), now()).unwrap(),
        expect![[
            r#"header { publisher: "PPPPPPPPPPPPPPPP" sequence: 2 timestamp { seconds: 1795000000 nanos: 123456000 } } batch_operation { batch_identifier { id: 2 node: "\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252" } mutation_operation { id: 2 schema: "public" table: "Grüße" operation: UPDATE identity_columns: "id" old { columns { name: "id" integer64: 1 } columns { name: "ok" } columns { name: "single" } columns { name: "double" } columns { name: "bytes" } columns { name: "amount" } } new { columns { name: "id" integer64: 1 } columns { name: "ok" boolean: true } columns { name: "single" float: 0.5 } columns { name: "double" } columns { name: "bytes" } columns { name: "amount" string: "12345678901234567890.123" } } timestamp { seconds: -1 nanos: 999999000 } transaction: 18446744073709551615 } }"#
        ]],
    );
    read(
        publisher.mutation(&mutation(3, Change::Delete(nulls)), now()).unwrap(),
        expect![[
            r#"header { publisher: "PPPPPPPPPPPPPPPP" sequence: 3 timestamp { seconds: 1795000000 nanos: 123456000 } } batch_operation { batch_identifier { id: 2 node: "\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252" } mutation_operation { id: 3 schema: "public" table: "Grüße" operation: DELETE identity_columns: "id" old { columns { name: "id" integer64: 1 } columns { name: "ok" } columns { name: "single" } columns { name: "double" } columns { name: "bytes" } columns { name: "amount" } } timestamp { seconds: -1 nanos: 999999000 } transaction: 18446744073709551615 } }"#
        ]],
    );
    // It knows no such operation, and reads the message all the same.
    read(
        publisher.mutation(&mutation(4, Change::Truncate), now()).unwrap(),
        expect![[
            r#"header { publisher: "PPPPPPPPPPPPPPPP" sequence: 4 timestamp { seconds: 1795000000 nanos: 123456000 } } batch_operation { batch_identifier { id: 2 node: "\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252" } }"#
        ]],
    );
    read(
        publisher.commit(now()).unwrap(),
        expect![[
            r#"header { publisher: "PPPPPPPPPPPPPPPP" sequence: 5 timestamp { seconds: 1795000000 nanos: 123456000 } } batch_operation { batch_identifier { id: 2 node: "\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252" } commit_operation { } }"#
        ]],
    );
    publisher.begin(&batch(2, 3), now()).unwrap();
    read(
        publisher.rollback(now()).unwrap(),
        expect![[
            r#"header { publisher: "PPPPPPPPPPPPPPPP" sequence: 7 timestamp { seconds: 1795000000 nanos: 123456000 } } batch_operation { batch_identifier { id: 3 node: "\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252\252" } rollback_operation { } }"#
        ]],
    );
}

#[test]
fn we_read_the_messages_of_2015() {
    let mut python = Python::start();
    let mut trace = String::new();
    let mut step = |reader: &mut Reader, name: &str| {
        let bytes = python.bytes(&format!("encode {name}"));
        let line = match reader.step(codec::decode(&bytes).unwrap()).unwrap() {
            Action::Apply(mutation) => {
                let columns: Vec<_> = mutation.relation.columns.iter().map(|column| column.type_name.as_str()).collect();
                format!("{:?} {} {} {columns:?}", mutation.change, mutation.transaction, mutation.timestamp_us)
            }
            other => format!("{other:?}"),
        };
        trace += &format!("{name}: {line}\n");
    };
    let mut reader = Reader::new(Options::default());
    for name in ["begin", "insert", "update", "delete"] {
        step(&mut reader, name);
    }
    step(&mut reader.clone(), "rollback");
    step(&mut reader, "commit");
    expect![[r#"
        begin: Begin { batch: Batch { id: 7, node: [78, 78, 78, 78, 78, 78, 78, 78, 78, 78, 78, 78, 78, 78, 78, 78], start: Tick { id: 3, snapshot: Snapshot { min: 300, max: 305, active: [300, 303] }, timestamp: Timestamp { seconds: -1, nanos: 0 } }, end: Tick { id: 4, snapshot: Snapshot { min: 400, max: 405, active: [400, 403] }, timestamp: Timestamp { seconds: -1, nanos: 0 } }, source: None }, discard: false }
        insert: Insert([Integer(-1), Boolean(true), Float(0.5), Text("ü\u{1}"), Null]) 9223372036854775809 1450000000000005 ["bigint", "boolean", "double precision", "text", "text"]
        update: Update { before: [Integer(-1), Boolean(true), Float(0.5), Text("ü\u{1}"), Null], after: [Integer(-1), Boolean(true), Float(0.5), Text("ü\u{1}"), Text("something")] } 9223372036854775809 1450000000000005 ["bigint", "boolean", "double precision", "text", "text"]
        delete: Delete([Integer(9223372036854775807), Null, Null, Null, Null]) 9223372036854775809 1450000000000005 ["bigint", "boolean", "double precision", "text", "text"]
        rollback: Rollback
        commit: Commit
    "#]].assert_eq(&trace);
}

#[test]
fn states_are_exchanged() {
    let mut python = Python::start();
    let state = stored::decode(&python.bytes("encode committed")).unwrap();
    let reader = Reader::resume(state, Options::default()).unwrap();
    let ours = reader.state(b"17").unwrap().encode_to_vec();
    expect![[r#"stream_state { consumer_state { offset: 12 header { publisher: "PPPPPPPPPPPPPPPP" sequence: 5 timestamp { seconds: 1 nanos: 2 } } dead_publishers: "DDDDDDDDDDDDDDDD" } transaction_state { committed { publisher: "PPPPPPPPPPPPPPPP" batch_identifier { id: 7 node: "NNNNNNNNNNNNNNNN" } } } }"#]].assert_eq(&python.decode("replication.State", &ours));
}

#[test]
fn configurations_are_exchanged() {
    let mut python = Python::start();
    let written = r#"
        tables { name: "gr\303\266\xc3\x9fe\001\n" "\u00e9" primary_keys: ['a', "b"] schema: 'x' },
        tables: < name: '"' > # a comment
        database: { dsn: "host=db" };
    "#;
    let ours: ReplicationSetConfiguration = text::parse(written).unwrap();
    assert_eq!(python.bytes(&format!("parse {}", hex(written.as_bytes()))), ours.encode_to_vec());
    // Each reads what the other prints.
    let printed = text::print(&ours);
    assert_eq!(python.bytes(&format!("parse {}", hex(printed.as_bytes()))), ours.encode_to_vec());
    let theirs = String::from_utf8(python.bytes(&format!("print {}", hex(written.as_bytes())))).unwrap();
    assert_eq!(text::parse(&theirs), Ok(ours));
}
