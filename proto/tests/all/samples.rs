//! Batches, relations and mutations to test with.

use std::sync::Arc;

use proptest::prelude::*;
use proto::batch::{Batch, Id};
use proto::interfaces::common::{Snapshot, Source, Tick, Timestamp};
use proto::row::{Change, Class, Column, Mutation, Relation, Row, Value, oid};

pub const NODE: Id = [0xaa; 16];

pub fn now() -> Timestamp {
    proto::timestamp::from_micros(1_795_000_000_123_456)
}

/// A tick before which the transactions below `10 * id` were finished.
pub fn tick(id: u64) -> Tick {
    Tick { id, snapshot: Snapshot { min: 10 * id, max: 10 * id, active: vec![] }, timestamp: now() }
}

pub fn batch(start: u64, end: u64) -> Batch {
    Batch { id: end, node: NODE, start: tick(start), end: tick(end), source: Some(source()) }
}

pub fn source() -> Source {
    Source { cluster: "cluster".into(), set: "set".into(), node: NODE.to_vec(), system_identifier: 7, timeline: 1, database_oid: 5 }
}

/// `public.items (id bigint PRIMARY KEY, name text)`
pub fn items() -> Arc<Relation> {
    let column = |name: &str, type_name: &str, type_oid| Column { name: name.into(), type_name: type_name.into(), type_oid };
    Arc::new(Relation {
        schema: "public".into(),
        table: "items".into(),
        columns: vec![column("id", "bigint", oid::INT8), column("name", "text", oid::TEXT)],
        identity: vec![0],
        version: "v1".into(),
    })
}

pub fn insert(relation: &Arc<Relation>, id: u64, transaction: u64) -> Mutation {
    let row = vec![Value::Integer(id as i64), Value::Text(format!("item {id}"))];
    Mutation {
        id,
        relation: Arc::clone(relation),
        change: Change::Insert(row),
        transaction,
        timestamp_us: 1_795_000_000_000_000,
        version: 0,
    }
}

/// Relations with different columns, two of them of one table.
pub fn relations() -> impl Strategy<Value = Vec<Arc<Relation>>> {
    let type_oid =
        prop::sample::select(vec![oid::BOOL, oid::INT2, oid::INT8, oid::FLOAT4, oid::FLOAT8, oid::BYTEA, oid::TEXT, 1700, 99_999]);
    let columns = prop::collection::vec((any::<String>(), type_oid), 1..6);
    let relation = (any::<String>(), prop::sample::select(vec!["a", "b"]), columns, any::<prop::sample::Index>(), any::<String>());
    prop::collection::vec(relation, 1..4).prop_map(|relations| {
        relations
            .into_iter()
            .map(|(schema, table, columns, identity, version)| {
                let column = |(index, (name, type_oid)): (usize, (String, u32))| Column {
                    // Distinct, whatever was drawn.
                    name: format!("{name}{index}"),
                    type_name: format!("type {type_oid}"),
                    type_oid,
                };
                let identity = vec![identity.index(columns.len()) as u32];
                let columns = columns.into_iter().enumerate().map(column).collect();
                Arc::new(Relation { schema, table: table.into(), columns, identity, version })
            })
            .collect()
    })
}

fn value(type_oid: u32) -> BoxedStrategy<Value> {
    let some = match Class::of(type_oid) {
        Class::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Class::Integer => any::<i64>().prop_map(Value::Integer).boxed(),
        Class::Float if type_oid == oid::FLOAT4 => any::<f32>().prop_map(|float| Value::Float(float.into())).boxed(),
        Class::Float => any::<f64>().prop_map(Value::Float).boxed(),
        Class::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        Class::Text => any::<String>().prop_map(Value::Text).boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 4 => some].boxed()
}

fn row(relation: &Relation) -> impl Strategy<Value = Row> + use<> {
    relation.columns.iter().map(|column| value(column.type_oid)).collect::<Vec<_>>()
}

fn mutation(relation: &Arc<Relation>) -> impl Strategy<Value = Mutation> + use<> {
    let relation = Arc::clone(relation);
    let change = prop_oneof![
        row(&relation).prop_map(Change::Insert),
        (row(&relation), row(&relation)).prop_map(|(before, after)| Change::Update { before, after }),
        row(&relation).prop_map(Change::Delete),
        Just(Change::Truncate),
    ];
    // Within what PostgreSQL's timestamps and protobuf's seconds both hold.
    let timestamp = -200_000_000_000_000_000..9_000_000_000_000_000_000_i64;
    (any::<u32>(), change, any::<u64>(), timestamp).prop_map(move |(id, change, transaction, timestamp_us)| Mutation {
        id: id.into(),
        relation: Arc::clone(&relation),
        change,
        transaction,
        timestamp_us,
        version: 0,
    })
}

/// Mutations of several relations, their ids ascending.
pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let mutations = |relations: Vec<Arc<Relation>>| {
        let any_of = relations.iter().map(|relation| mutation(relation).boxed()).collect::<Vec<_>>();
        prop::collection::vec(prop::strategy::Union::new(any_of), 0..8)
    };
    relations().prop_flat_map(mutations).prop_map(|mut mutations| {
        let mut id = 0;
        for mutation in &mut mutations {
            id += 1 + mutation.id % 1_000_000;
            mutation.id = id;
        }
        mutations
    })
}
