//! The operations of a batch.

use super::error::{Fault, Problem, Within as _, fault, fault_at};
use super::message::{BatchIdentifier, Change, Columns, Mutation, Operation};
use super::scalar::{bytes, id, micros, need, numbers, once, source, string, tick, uint32, uint64};
use crate::batch::Batch;
use crate::interfaces::common::{Source, Tick};
use crate::row::{Column, Relation, Value};
use crate::wire::{Field, Fields};

/// An operation that has yet to learn which batch it is of.
enum Body<'a> {
    Begin(Tick, Tick, Option<Source>),
    Whole(Operation<'a>),
}

pub(super) fn batch_operation(content: &[u8]) -> Result<(BatchIdentifier, Operation<'_>), Fault> {
    let (mut identifier, mut operation) = (None, None);
    let mut fields = Fields::new(content);
    while let Some((number, field)) = fields.next()? {
        let (name, body) = match number {
            1 => {
                once(&mut identifier, batch_identifier(field)).within("batch_identifier")?;
                continue;
            }
            2 => ("begin_operation", begin(field)),
            3 => ("mutation_operation", mutation(field)),
            4 => ("commit_operation", empty(field).map(|()| Operation::Commit).map(Body::Whole)),
            5 => ("rollback_operation", empty(field).map(|()| Operation::Rollback).map(Body::Whole)),
            6 => ("truncate_operation", truncate(field)),
            _ => continue,
        };
        once(&mut operation, body).within(name)?;
    }
    let identifier: BatchIdentifier = need(identifier, "batch_identifier")?;
    let operation = match operation.ok_or_else(|| fault_at("operation", Problem::NoOperation))? {
        Body::Whole(operation) => operation,
        Body::Begin(start, end, source) => {
            if source.as_ref().is_some_and(|source| source.node != identifier.node) {
                return Err(fault_at("begin_operation.source.node", Problem::OtherNode));
            }
            Operation::Begin(Box::new(Batch { id: identifier.id, node: identifier.node, start, end, source }))
        }
    };
    Ok((identifier, operation))
}

fn batch_identifier(field: Field<'_>) -> Result<BatchIdentifier, Fault> {
    let (mut batch, mut node) = (None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut batch, uint64(field)).within("id")?,
            2 => once(&mut node, id(field)).within("node")?,
            _ => {}
        }
    }
    Ok(BatchIdentifier { id: need(batch, "id")?, node: need(node, "node")? })
}

fn begin(field: Field<'_>) -> Result<Body<'_>, Fault> {
    let (mut start, mut end, mut whose) = (None, None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut start, tick(field)).within("start")?,
            2 => once(&mut end, tick(field)).within("end")?,
            3 => once(&mut whose, source(field)).within("source")?,
            _ => {}
        }
    }
    let (start, end): (Tick, Tick) = (need(start, "start")?, need(end, "end")?);
    if start.id >= end.id {
        return Err(fault_at("end.id", Problem::Ticks { start: start.id, end: end.id }));
    }
    Ok(Body::Begin(start, end, whose))
}

/// A message without fields of its own, read for what a later version may add.
fn empty(field: Field<'_>) -> Result<(), Fault> {
    let mut fields = Fields::new(bytes(field)?);
    while fields.next()?.is_some() {}
    Ok(())
}

fn mutation(field: Field<'_>) -> Result<Body<'_>, Fault> {
    let (mut event, mut schema, mut table, mut operation, mut old, mut new) = (None, None, None, None, None, None);
    let (mut made, mut transaction, mut described, mut identity_columns) = (None, None, None, Vec::new());
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut event, uint64(field)).within("id")?,
            2 => once(&mut schema, string(field)).within("schema")?,
            3 => once(&mut table, string(field)).within("table")?,
            4 => once(&mut operation, uint64(field)).within("operation")?,
            5 => identity_columns.push(string(field).within_item("identity_columns", identity_columns.len())?),
            6 => once(&mut old, row(field)).within("old")?,
            7 => once(&mut new, row(field)).within("new")?,
            8 => once(&mut made, micros(field)).within("timestamp")?,
            9 => once(&mut transaction, uint64(field)).within("transaction")?,
            10 => once(&mut described, relation(field)).within("relation")?,
            _ => {}
        }
    }
    let change = change(need(operation, "operation")?, old, new)?;
    let mutation = Mutation {
        id: need(event, "id")?,
        schema: need(schema, "schema")?,
        table: need(table, "table")?,
        change,
        identity_columns,
        timestamp_us: need(made, "timestamp")?,
        transaction: need(transaction, "transaction")?,
        relation: described,
    };
    finish(mutation)
}

fn truncate(field: Field<'_>) -> Result<Body<'_>, Fault> {
    let (mut event, mut schema, mut table, mut made, mut transaction, mut described) = (None, None, None, None, None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut event, uint64(field)).within("id")?,
            2 => once(&mut schema, string(field)).within("schema")?,
            3 => once(&mut table, string(field)).within("table")?,
            4 => once(&mut made, micros(field)).within("timestamp")?,
            5 => once(&mut transaction, uint64(field)).within("transaction")?,
            6 => once(&mut described, relation(field)).within("relation")?,
            _ => {}
        }
    }
    finish(Mutation {
        id: need(event, "id")?,
        schema: need(schema, "schema")?,
        table: need(table, "table")?,
        change: Change::Truncate,
        identity_columns: Vec::new(),
        timestamp_us: need(made, "timestamp")?,
        transaction: need(transaction, "transaction")?,
        relation: described,
    })
}

fn finish(mutation: Mutation<'_>) -> Result<Body<'_>, Fault> {
    if mutation.relation.as_ref().is_some_and(|relation| relation.schema != mutation.schema || relation.table != mutation.table) {
        return Err(fault_at("relation", Problem::OtherTable));
    }
    Ok(Body::Whole(Operation::Mutation(Box::new(mutation))))
}

fn change<'a>(operation: u64, old: Option<Columns<'a>>, new: Option<Columns<'a>>) -> Result<Change<'a>, Fault> {
    let unexpected = |field| fault_at(field, Problem::Unexpected);
    match operation {
        1 if old.is_some() => Err(unexpected("old")),
        1 => Ok(Change::Insert(need(new, "new")?)),
        2 => Ok(Change::Update { before: need(old, "old")?, after: need(new, "new")? }),
        3 if new.is_some() => Err(unexpected("new")),
        3 => Ok(Change::Delete(need(old, "old")?)),
        other => Err(fault_at("operation", Problem::Operation(other))),
    }
}

fn row(field: Field<'_>) -> Result<Columns<'_>, Fault> {
    let content = bytes(field)?;
    // A guess that spares most rows a second allocation, and none much memory.
    let guess = (content.len() / 16).clamp(1, 32);
    let mut columns = Columns { names: Vec::with_capacity(guess), values: Vec::with_capacity(guess) };
    let mut fields = Fields::new(content);
    while let Some((number, field)) = fields.next()? {
        if number == 1 {
            let (name, value) = column(field).within_item("columns", columns.names.len())?;
            columns.names.push(name);
            columns.values.push(value);
        }
    }
    Ok(columns)
}

fn column(field: Field<'_>) -> Result<(&str, Value), Fault> {
    let (mut name, mut value) = (None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut name, string(field)).within("name")?,
            2..=7 => once(&mut value, self::value(number, field)).within("value")?,
            _ => {}
        }
    }
    Ok((need(name, "name")?, value.unwrap_or(Value::Null)))
}

/// The member `number` of the oneof `value` of `common.Column`.
fn value(number: u32, field: Field<'_>) -> Result<Value, Fault> {
    Ok(match (number, field) {
        (2, Field::Varint(boolean)) => Value::Boolean(boolean != 0),
        (3, Field::Varint(integer)) => Value::Integer(integer as i64),
        (4, Field::Fixed32(bits)) => Value::Float(f64::from(f32::from_bits(bits))),
        (5, text) => Value::Text(string(text)?.to_owned()),
        (6, Field::Fixed64(bits)) => Value::Float(f64::from_bits(bits)),
        (7, Field::Delimited(bytes)) => Value::Bytes(bytes.to_owned()),
        _ => return Err(fault(Problem::Type)),
    })
}

fn relation(field: Field<'_>) -> Result<Relation, Fault> {
    let (mut schema, mut table, mut version, mut columns, mut identity) = (None, None, None, Vec::new(), Vec::new());
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut schema, string(field)).within("schema")?,
            2 => once(&mut table, string(field)).within("table")?,
            3 => columns.push(relation_column(field).within_item("columns", columns.len())?),
            4 => numbers(&mut identity, field).within("identity")?,
            5 => once(&mut version, string(field)).within("version")?,
            _ => {}
        }
    }
    let relation = Relation {
        schema: need(schema, "schema")?.to_owned(),
        table: need(table, "table")?.to_owned(),
        identity: indexes(&identity, columns.len())?,
        columns,
        version: need(version, "version")?.to_owned(),
    };
    distinct(&relation.columns)?;
    Ok(relation)
}

fn relation_column(field: Field<'_>) -> Result<Column, Fault> {
    let (mut name, mut type_name, mut type_oid) = (None, None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut name, string(field)).within("name")?,
            2 => once(&mut type_name, string(field)).within("type_name")?,
            3 => once(&mut type_oid, uint32(field)).within("type_oid")?,
            _ => {}
        }
    }
    Ok(Column {
        name: need(name, "name")?.to_owned(),
        type_name: need(type_name, "type_name")?.to_owned(),
        type_oid: need(type_oid, "type_oid")?,
    })
}

fn indexes(identity: &[u64], columns: usize) -> Result<Vec<u32>, Fault> {
    if identity.is_empty() {
        return Err(fault_at("identity", Problem::NoIdentity));
    }
    let index = |number: &u64| {
        let index = u32::try_from(*number).map_err(|_| fault_at("identity", Problem::Range))?;
        let known = (index as usize) < columns;
        if known { Ok(index) } else { Err(fault_at("identity", Problem::Index { index, columns })) }
    };
    identity.iter().map(index).collect()
}

fn distinct(columns: &[Column]) -> Result<(), Fault> {
    let mut names: Vec<(&str, usize)> = columns.iter().enumerate().map(|(index, column)| (column.name.as_str(), index)).collect();
    names.sort_unstable();
    match names.array_windows().find(|[a, b]| a.0 == b.0) {
        None => Ok(()),
        Some([_, (_, index)]) => Err(fault(Problem::SameName)).within_item("columns", *index),
    }
}
