//! Rows, mutations and relations between the host and a plugin. Values move; a
//! relation is written once per call.
//!
//! What comes from a plugin is checked against `types.wit`: nothing behind this
//! module meets a row that is shorter than its relation, or without its identity.

use std::fmt;
use std::sync::Arc;

use proto::row::{Change, Column, Mutation, Relation, Row, Value};

use crate::capabilities::types;

fn to_value(value: Value) -> types::Value {
    match value {
        Value::Null => types::Value::Null,
        Value::Boolean(value) => types::Value::Boolean(value),
        Value::Integer(value) => types::Value::Integer(value),
        Value::Float(value) => types::Value::Float(value),
        Value::Text(value) => types::Value::Text(value),
        Value::Bytes(value) => types::Value::Bytes(value),
    }
}

fn from_value(value: types::Value) -> Value {
    match value {
        types::Value::Null => Value::Null,
        types::Value::Boolean(value) => Value::Boolean(value),
        types::Value::Integer(value) => Value::Integer(value),
        types::Value::Float(value) => Value::Float(value),
        types::Value::Text(value) => Value::Text(value),
        types::Value::Bytes(value) => Value::Bytes(value),
    }
}

pub(crate) fn to_row(row: Row) -> types::Row {
    row.into_iter().map(to_value).collect()
}

pub(crate) fn from_row(row: types::Row) -> Row {
    row.into_iter().map(from_value).collect()
}

pub(crate) fn to_rows(rows: Vec<Row>) -> Vec<types::Row> {
    rows.into_iter().map(to_row).collect()
}

/// `id` is how rows of the same call refer to the relation.
pub(crate) fn to_relation(id: u32, relation: &Relation) -> types::Relation {
    let Relation { schema, table, columns, identity, version } = relation;
    let column = |Column { name, type_name, type_oid }: &Column| types::Column {
        name: name.clone(),
        type_name: type_name.clone(),
        type_oid: *type_oid,
    };
    types::Relation {
        id,
        schema: schema.clone(),
        table: table.clone(),
        columns: columns.iter().map(column).collect(),
        identity: identity.clone(),
        version: version.clone(),
    }
}

/// The relations of one call, in the order in which its mutations first refer to them.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    known: Vec<Arc<Relation>>,
    last: usize,
}

impl Relations {
    fn id(&mut self, relation: &Arc<Relation>) -> u32 {
        // Neighbours mostly belong to the same table, and a set has few tables.
        if !self.known.get(self.last).is_some_and(|known| Arc::ptr_eq(known, relation)) {
            self.last = self.known.iter().position(|known| Arc::ptr_eq(known, relation)).unwrap_or_else(|| {
                self.known.push(Arc::clone(relation));
                self.known.len() - 1
            });
        }
        // A call has far fewer mutations than u32 counts.
        u32::try_from(self.last).unwrap_or(u32::MAX)
    }

    fn written(&self) -> Vec<types::Relation> {
        self.known.iter().zip(0..).map(|(relation, id)| to_relation(id, relation)).collect()
    }

    /// The relation as the host has it already, or a new one.
    fn adopt(&self, relation: Relation) -> Arc<Relation> {
        self.known.iter().find(|known| ***known == relation).map_or_else(|| Arc::new(relation), Arc::clone)
    }
}

/// The arguments of a call, and the relations in their host form.
pub(crate) fn to_mutations(mutations: Vec<Mutation>) -> (Relations, Vec<types::Relation>, Vec<types::Mutation>) {
    let mut relations = Relations::default();
    let mutations: Vec<types::Mutation> = mutations
        .into_iter()
        .map(|Mutation { id, relation, change, transaction, timestamp_us, version }| types::Mutation {
            id,
            relation: relations.id(&relation),
            change: match change {
                Change::Insert(row) => types::Change::Insert(to_row(row)),
                Change::Update { before, after } => {
                    types::Change::Update(types::Replacement { before: to_row(before), after: to_row(after) })
                }
                Change::Delete(row) => types::Change::Delete(to_row(row)),
                Change::Truncate => types::Change::Truncate,
            },
            transaction,
            timestamp_us,
            version,
        })
        .collect();
    let written = relations.written();
    (relations, written, mutations)
}

/// What a plugin returned breaks its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Result<T> = std::result::Result<T, Invalid>;

/// Takes a relation from a plugin.
pub(crate) fn from_relation(relation: types::Relation) -> Result<Relation> {
    let types::Relation { id: _, schema, table, columns, identity, version } = relation;
    let column = |types::Column { name, type_name, type_oid }| Column { name, type_name, type_oid };
    let relation = Relation { schema, table, columns: columns.into_iter().map(column).collect(), identity, version };
    let invalid = |what: &str| Invalid(format!("the relation {}.{} {what}", relation.schema, relation.table));
    if relation.table.is_empty() {
        return Err(invalid("without a name"));
    }
    if relation.identity.is_empty() {
        return Err(invalid("without an identity"));
    }
    for (at, index) in relation.identity.iter().enumerate() {
        if *index as usize >= relation.columns.len() {
            return Err(invalid("whose identity has an index past its columns"));
        }
        if relation.identity[..at].contains(index) {
            return Err(invalid("whose identity names a column twice"));
        }
    }
    let mut names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("with two columns of one name"));
    }
    Ok(relation)
}

/// Takes a row of `relation` from a plugin.
fn checked(row: types::Row, relation: &Relation, id: Option<u64>) -> Result<Row> {
    let of = || match id {
        Some(id) => format!("of the mutation {id} ({}.{})", relation.schema, relation.table),
        None => format!("of {}.{}", relation.schema, relation.table),
    };
    if row.len() != relation.columns.len() {
        return Err(Invalid(format!("a row {} with {} values for {} columns", of(), row.len(), relation.columns.len())));
    }
    for index in &relation.identity {
        let index = *index as usize;
        if matches!(row.get(index), Some(types::Value::Null)) {
            let column = relation.columns.get(index).map_or("?", |column| column.name.as_str());
            return Err(Invalid(format!("a row {} whose identity column {column} is null", of())));
        }
    }
    Ok(from_row(row))
}

/// Takes rows of one relation from a plugin.
pub(crate) fn from_rows(rows: Vec<types::Row>, relation: &Relation) -> Result<Vec<Row>> {
    rows.into_iter().map(|row| checked(row, relation, None)).collect()
}

/// Takes the output of a transform. `passed` and `input` are the relations and mutations
/// that went in.
pub(crate) fn from_mutations(
    relations: Vec<types::Relation>,
    mutations: Vec<types::Mutation>,
    passed: &Relations,
    input: &[types::Mutation],
) -> Result<Vec<Mutation>> {
    let mut known: Vec<(u32, Arc<Relation>)> = Vec::with_capacity(relations.len());
    for relation in relations {
        let id = relation.id;
        if known.iter().any(|(other, _)| *other == id) {
            return Err(Invalid(format!("two relations with the id {id}")));
        }
        known.push((id, passed.adopt(from_relation(relation)?)));
    }
    let (mut at, mut last) = (0, 0);
    let mut taken = Vec::with_capacity(mutations.len());
    for types::Mutation { id, relation, change, transaction, timestamp_us, version } in mutations {
        // Those that come out of one mutation stand together, in the order that went in.
        let is_one = |from: &types::Mutation| from.id == id && from.version == version;
        at = match input.iter().skip(at).position(is_one) {
            Some(behind) => at + behind,
            None if input.iter().any(|from| from.id == id) && !input.iter().any(is_one) => {
                return Err(Invalid(format!("the mutation {id} with another version than it had")));
            }
            None => return Err(Invalid(format!("the mutation {id} out of its order, or without having got it"))),
        };
        if known.get(last).is_none_or(|(known, _)| *known != relation) {
            let found = known.iter().position(|(known, _)| *known == relation);
            last = found
                .ok_or_else(|| Invalid(format!("the mutation {id} of the relation {relation}, which is not among those it returned")))?;
        }
        let relation = &known[last].1;
        let row = |row| checked(row, relation, Some(id));
        let change = match change {
            types::Change::Insert(after) => Change::Insert(row(after)?),
            types::Change::Update(types::Replacement { before, after }) => Change::Update { before: row(before)?, after: row(after)? },
            types::Change::Delete(before) => Change::Delete(row(before)?),
            types::Change::Truncate => Change::Truncate,
        };
        taken.push(Mutation { id, relation: Arc::clone(relation), change, transaction, timestamp_us, version });
    }
    Ok(taken)
}

#[cfg(test)]
mod tests;
