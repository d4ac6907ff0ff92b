//! The relations of the open batch, and the rows that meet them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Violation;
use super::layout::title;
use crate::codec;
use crate::row::{Change, Class, Column, Mutation, Relation, Row, Value, oid};

/// What was described since the batch began, by schema and table.
#[derive(Clone, Debug, Default)]
pub(super) struct Relations {
    by_name: HashMap<String, HashMap<String, Arc<Relation>>>,
    /// Of the last mutation: the next is usually of the same table.
    last: Option<Arc<Relation>>,
}

impl Relations {
    /// The mutation with its relation. `described` says that the publisher
    /// describes relations; one of 2015 does not, and types are inferred from
    /// the values then. After a violation the relations are as they were, and no
    /// `version` was taken.
    pub(super) fn resolve(
        &mut self,
        mut mutation: codec::Mutation<'_>,
        described: bool,
        version: impl FnOnce() -> u64,
    ) -> Result<Mutation, Violation> {
        let description = mutation.relation.take();
        let (relation, new) = self.relation(&mutation, description, described)?;
        let event = mutation.id;
        let fit = |columns| fit(&relation, columns, event);
        let change = match mutation.change {
            codec::Change::Insert(row) => Change::Insert(fit(row)?),
            codec::Change::Update { before, after } => Change::Update { before: fit(before)?, after: fit(after)? },
            codec::Change::Delete(row) => Change::Delete(fit(row)?),
            codec::Change::Truncate => Change::Truncate,
        };
        if new {
            self.insert(&relation);
        }
        self.last = Some(Arc::clone(&relation));
        Ok(Mutation {
            id: event,
            relation,
            change,
            transaction: mutation.transaction,
            timestamp_us: mutation.timestamp_us,
            version: version(),
        })
    }

    /// The mutation's relation, and whether it is not the known one.
    fn relation(
        &self,
        mutation: &codec::Mutation<'_>,
        description: Option<Relation>,
        described: bool,
    ) -> Result<(Arc<Relation>, bool), Violation> {
        let known = self.known(mutation.schema, mutation.table);
        let relation = match (description, known) {
            (None, Some(known)) if described || mutation.change == codec::Change::Truncate => return Ok((Arc::clone(known), false)),
            (None, known) if !described => infer(mutation, known.map(Arc::as_ref))?,
            (description, _) => description,
        };
        let table = || format!("{}.{}", mutation.schema, mutation.table);
        let relation = relation.ok_or_else(|| Violation::Undescribed { event: mutation.id, table: table() })?;
        Ok(match known {
            Some(known) if **known == relation => (Arc::clone(known), false),
            _ => (Arc::new(relation), true),
        })
    }

    fn known(&self, schema: &str, table: &str) -> Option<&Arc<Relation>> {
        self.last.as_ref().filter(|last| last.table == table && last.schema == schema).or_else(|| self.by_name.get(schema)?.get(table))
    }

    fn insert(&mut self, relation: &Arc<Relation>) {
        let tables = self.by_name.entry(relation.schema.clone()).or_default();
        tables.insert(relation.table.clone(), Arc::clone(relation));
    }
}

/// The row's values in the order of the relation's columns.
fn fit(relation: &Relation, columns: codec::Columns<'_>, event: u64) -> Result<Row, Violation> {
    let in_order = columns.names.len() == relation.columns.len()
        && columns.names.iter().zip(&relation.columns).all(|(name, column)| *name == column.name);
    let row = if in_order { columns.values } else { reorder(relation, columns, event)? };
    match relation.columns.iter().zip(&row).find_map(|(column, value)| misfit(column, value).map(|found| (column, found))) {
        None => Ok(row),
        Some((column, found)) => Err(Violation::Class {
            event,
            table: title(relation),
            column: column.name.clone(),
            expected: Class::of(column.type_oid),
            found,
        }),
    }
}

/// The value's class, where it is not that of the column's type.
fn misfit(column: &Column, value: &Value) -> Option<Class> {
    value.class().filter(|found| *found != Class::of(column.type_oid))
}

fn reorder(relation: &Relation, columns: codec::Columns<'_>, event: u64) -> Result<Row, Violation> {
    let codec::Columns { names, values } = columns;
    let positions: HashMap<&str, usize> =
        relation.columns.iter().enumerate().map(|(position, column)| (column.name.as_str(), position)).collect();
    let mut row: Vec<Option<Value>> = vec![None; relation.columns.len()];
    let mut extra = Vec::new();
    for (name, value) in names.into_iter().zip(values) {
        match positions.get(name).and_then(|position| row.get_mut(*position)) {
            Some(slot @ None) => *slot = Some(value),
            _ => extra.push(name.to_owned()),
        }
    }
    let absent = |(column, value): (&Column, &Option<Value>)| value.is_none().then(|| column.name.clone());
    let missing: Vec<String> = relation.columns.iter().zip(&row).filter_map(absent).collect();
    if missing.is_empty() && extra.is_empty() {
        return Ok(row.into_iter().flatten().collect());
    }
    Err(Violation::Columns { event, table: title(relation), missing, extra })
}

/// What a mutation without a description says of its relation. A column that is
/// NULL here has the type it was last seen with, or else text.
fn infer(mutation: &codec::Mutation<'_>, known: Option<&Relation>) -> Result<Option<Relation>, Violation> {
    let (row, other) = match &mutation.change {
        codec::Change::Insert(row) | codec::Change::Delete(row) => (row, None),
        codec::Change::Update { before, after } => (after, Some(before)),
        codec::Change::Truncate => return Ok(None),
    };
    let class_in = |columns: &codec::Columns<'_>, name: &str| {
        let index = columns.names.iter().position(|known| *known == name)?;
        columns.values.get(index)?.class()
    };
    let known_class = |name: &str| known?.columns.iter().find(|column| column.name == name).map(|column| Class::of(column.type_oid));
    let mut sorted = row.names.clone();
    sorted.sort_unstable();
    let twice: Vec<String> = sorted.array_windows().filter(|[a, b]| a == b).map(|[name, _]| (*name).to_owned()).collect();
    let table = || format!("{}.{}", mutation.schema, mutation.table);
    if !twice.is_empty() {
        return Err(Violation::Columns { event: mutation.id, table: table(), missing: Vec::new(), extra: twice });
    }
    let column = |(name, value): (&&str, &Value)| {
        let class = value.class().or_else(|| class_in(other?, name)).or_else(|| known_class(name));
        let (type_name, type_oid) = widest(class.unwrap_or(Class::Text));
        Column { name: (*name).to_owned(), type_name: type_name.to_owned(), type_oid }
    };
    let index_of = |name: &&str| row.names.iter().position(|known| known == name).and_then(|index| u32::try_from(index).ok());
    let identity: Option<Vec<u32>> = mutation.identity_columns.iter().map(index_of).collect();
    let identity =
        identity.filter(|identity| !identity.is_empty()).ok_or_else(|| Violation::NoIdentity { event: mutation.id, table: table() })?;
    Ok(Some(Relation {
        schema: mutation.schema.to_owned(),
        table: mutation.table.to_owned(),
        columns: row.names.iter().zip(&row.values).map(column).collect(),
        identity,
        version: String::new(),
    }))
}

/// The type that holds every value of the class.
fn widest(class: Class) -> (&'static str, u32) {
    match class {
        Class::Boolean => ("boolean", oid::BOOL),
        Class::Integer => ("bigint", oid::INT8),
        Class::Float => ("double precision", oid::FLOAT8),
        Class::Bytes => ("bytea", oid::BYTEA),
        Class::Text => ("text", oid::TEXT),
    }
}
