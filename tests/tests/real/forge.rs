//! Messages as they should not be, for any stream.

use std::sync::Arc;

use bytes::Bytes;
use pgshovel::config::Section;
use pgshovel::plugins::{Context, Engine, Options, writer};
use pgshovel::ports::Writer as _;
use prost::Message as _;
use proto::batch::Batch;
use proto::batch::publisher::Publisher;
use proto::interfaces::common::{BatchIdentifier, Snapshot, Source, Tick, Timestamp};
use proto::interfaces::replication::State;
use proto::interfaces::streams;
use proto::row::{Change, Column, Mutation, Relation, Row, Value, oid};
use tests::paths;

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 0 };

/// What may be in a stream by mistake.
#[derive(Clone, Copy, Debug)]
pub enum Foreign {
    Garbage,
    Truncated,
    OtherProtobuf,
    OtherSet,
    /// One of pgshovel 2015.
    Original,
}

impl Foreign {
    pub const ALL: [Self; 5] = [Self::Garbage, Self::Truncated, Self::OtherProtobuf, Self::OtherSet, Self::Original];

    /// Such messages; `source` is whose stream it is.
    pub fn messages(self, source: &Source) -> Vec<Bytes> {
        match self {
            Self::Garbage => vec![Bytes::from_static(b"{\"op\": \"INSERT\", \"secret\": 1}")],
            Self::Truncated => {
                let message = &messages(source, 90, 91)[1];
                vec![message.slice(..message.len() - 3)]
            }
            Self::OtherProtobuf => vec![State { source: Some(source.clone()), ..State::default() }.encode_to_vec().into()],
            // Of the same database, so of the same node.
            Self::OtherSet => messages(&Source { set: "other".into(), ..source.clone() }, 90, 91),
            Self::Original => vec![original(source)],
        }
    }

    /// What a reader says of the first of them; `None`: it passes over them.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Garbage | Self::Truncated | Self::OtherProtobuf => Some("is none of pgshovel"),
            Self::OtherSet => Some("is of the set \"other\" of the cluster"),
            Self::Original => None,
        }
    }
}

pub fn source(cluster: &str, set: &str) -> Source {
    Source { cluster: cluster.into(), set: set.into(), node: vec![7; 16], system_identifier: 1, timeline: 1, database_oid: 1 }
}

/// A whole batch of a publisher of its own: a row of `public.items` is inserted.
pub fn messages(source: &Source, start: u64, end: u64) -> Vec<Bytes> {
    batch(source, start, end, vec![Change::Insert(item(end.cast_signed(), "secret"))], true)
}

/// A row of `public.items`.
pub fn item(id: i64, name: &str) -> Row {
    vec![Value::Integer(id), Value::Text(name.into())]
}

/// A batch of a publisher of its own, of changes of `public.items`; its events have the ids from
/// `100 * end` on.
pub fn batch(source: &Source, start: u64, end: u64, changes: Vec<Change>, commits: bool) -> Vec<Bytes> {
    let tick = |id| Tick { id, snapshot: Snapshot { min: 10 * id, max: 10 * id, active: Vec::new() }, timestamp: NOW };
    let node = source.node.as_slice().try_into().unwrap();
    let batch = Batch { id: end, node, start: tick(start), end: tick(end), source: Some(source.clone()) };
    let column = |name: &str, type_name: &str, type_oid| Column { name: name.into(), type_name: type_name.into(), type_oid };
    let relation = Arc::new(Relation {
        schema: "public".into(),
        table: "items".into(),
        columns: vec![column("id", "bigint", oid::INT8), column("name", "text", oid::TEXT)],
        identity: vec![0],
        version: "v".into(),
    });
    let mut publisher = Publisher::new(uuid::Uuid::new_v4().into_bytes(), end);
    let mut messages = vec![publisher.begin(&batch, NOW).unwrap()];
    for (id, change) in (100 * end..).zip(changes) {
        let mutation = Mutation { id, relation: Arc::clone(&relation), change, transaction: 10 * start, timestamp_us: 0, version: 0 };
        messages.push(publisher.mutation(&mutation, NOW).unwrap());
    }
    messages.push(if commits { publisher.commit(NOW) } else { publisher.rollback(NOW) }.unwrap());
    messages
}

/// A batch that was committed before, as if of a relay of this epoch.
pub fn of_epoch(source: &Source, epoch: u64) -> Vec<Bytes> {
    let tick = |id| Tick { id, snapshot: Snapshot { min: id, max: id, active: Vec::new() }, timestamp: NOW };
    let node = source.node.as_slice().try_into().unwrap();
    let batch = Batch { id: 1, node, start: tick(0), end: tick(1), source: Some(source.clone()) };
    let mut publisher = Publisher::new(uuid::Uuid::new_v4().into_bytes(), epoch);
    vec![publisher.begin(&batch, NOW).unwrap(), publisher.commit(NOW).unwrap()]
}

/// A begin without epoch, as the original's relay sends it.
fn original(source: &Source) -> Bytes {
    use streams::{BatchOperation, BeginOperation, Header, batch_operation, message};
    let tick = |id| Tick { id, snapshot: Snapshot::default(), timestamp: NOW };
    let begin = BeginOperation { start: tick(90), end: tick(91), source: None };
    let batch = BatchOperation {
        batch_identifier: BatchIdentifier { id: 91, node: source.node.clone() },
        operation: Some(batch_operation::Operation::BeginOperation(begin)),
    };
    let header = Header { publisher: vec![15; 16], sequence: 0, timestamp: NOW, epoch: None };
    streams::Message { header, operation: Some(message::Operation::BatchOperation(batch)) }.encode_to_vec().into()
}

/// Puts messages into a stream, as a program does that has no business there.
pub async fn write(section: &Section, cluster: &str, set: &str, messages: Vec<Bytes>) {
    let engine = Engine::new(Options { search: vec![paths::plugins().unwrap()], cache: None }).unwrap();
    let context = Context { cluster: cluster.to_owned(), set: set.to_owned() };
    let mut writer = writer::open(&engine, section, &context).await.unwrap();
    writer.push(&crate::batch(1), messages.into_iter().collect()).await.unwrap();
    writer.flush().await.unwrap();
}
