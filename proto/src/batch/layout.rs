//! What is the same in every mutation of a relation, as the bytes it is sent as.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;

use super::refusal::Refusal;
use crate::interfaces::common;
use crate::row::{Class, Relation, Row, Value, oid};
use crate::wire::{delimited_len, put_delimited, put_delimiter, put_varint_field, varint_len};

/// The relations of the open batch.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    all: Vec<Layout>,
    /// Index into `all` by the address of its relation, which it keeps alive.
    by_address: HashMap<usize, usize>,
    /// The one of the last mutation: the next is usually of the same.
    last: usize,
}

impl Layouts {
    /// A table whose relation changed is to be described again; one that is only
    /// another copy of the same relation is not.
    pub(super) fn of(&mut self, relation: &Arc<Relation>) -> Result<&mut Layout, Refusal> {
        let is_last = self.all.get(self.last).is_some_and(|layout| Arc::ptr_eq(&layout.relation, relation));
        if !is_last {
            let address = Arc::as_ptr(relation) as usize;
            self.last = match self.by_address.get(&address) {
                Some(index) => *index,
                None => self.add(relation)?,
            };
        }
        // Nothing is ever removed, so an index that was found stays one.
        Ok(&mut self.all[self.last])
    }

    fn add(&mut self, relation: &Arc<Relation>) -> Result<usize, Refusal> {
        let same_table =
            |(_, layout): &(usize, &mut Layout)| layout.relation.table == relation.table && layout.relation.schema == relation.schema;
        let index = match self.all.iter_mut().enumerate().find(same_table) {
            None => {
                self.all.push(Layout::new(relation)?);
                self.all.len() - 1
            }
            Some((index, known)) => {
                let old_address = Arc::as_ptr(&known.relation) as usize;
                if known.relation == *relation {
                    known.relation = Arc::clone(relation);
                } else {
                    *known = Layout::new(relation)?;
                }
                self.by_address.remove(&old_address);
                index
            }
        };
        self.by_address.insert(Arc::as_ptr(relation) as usize, index);
        Ok(index)
    }
}

/// A relation of the open batch, ready to be written.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) relation: Arc<Relation>,
    /// Whether a message that was already sent described it.
    pub(super) described: bool,
    /// The fields `schema` and `table`, whose numbers are the same in both operations.
    pub(super) name: Vec<u8>,
    /// The field `identity_columns`.
    pub(super) identity: Vec<u8>,
    /// The content of the field `relation`.
    pub(super) descriptor: Vec<u8>,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    /// The field `name` of `common.Column`.
    name: Box<[u8]>,
    class: Class,
    /// float4 travels in four bytes.
    single: bool,
}

/// The sizes of one row's columns, kept between measuring and writing.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    columns: Vec<usize>,
}

impl Layout {
    pub(super) fn new(relation: &Arc<Relation>) -> Result<Self, Refusal> {
        let mut name = Vec::new();
        put_delimited(&mut name, 2, relation.schema.as_bytes());
        put_delimited(&mut name, 3, relation.table.as_bytes());
        let mut identity = Vec::new();
        for index in &relation.identity {
            let column = relation.columns.get(*index as usize).ok_or_else(|| Refusal::Identity { table: title(relation) })?;
            put_delimited(&mut identity, 5, column.name.as_bytes());
        }
        if relation.identity.is_empty() {
            return Err(Refusal::Identity { table: title(relation) });
        }
        let columns = relation.columns.iter().map(Column::new).collect();
        let descriptor = descriptor(relation).encode_to_vec();
        Ok(Self { relation: Arc::clone(relation), described: false, name, identity, descriptor, columns })
    }

    /// The size of the row's message; leaves in `sizes` what [`Self::put_row`] needs.
    pub(super) fn measure(&self, row: &Row, sizes: &mut Sizes) -> Result<usize, Refusal> {
        if row.len() != self.columns.len() {
            return Err(Refusal::Columns { table: title(&self.relation), expected: self.columns.len(), found: row.len() });
        }
        sizes.columns.clear();
        let mut total = 0;
        for (column, value) in self.columns.iter().zip(row) {
            let size = column.name.len() + column.value_len(value).ok_or_else(|| self.misfit(row))?;
            sizes.columns.push(size);
            total += delimited_len(size);
        }
        Ok(total)
    }

    pub(super) fn put_row(&self, row: &Row, sizes: &Sizes, out: &mut Vec<u8>) {
        for ((column, value), size) in self.columns.iter().zip(row).zip(&sizes.columns) {
            put_delimiter(out, 1, *size);
            out.extend_from_slice(&column.name);
            column.put_value(value, out);
        }
    }

    /// Names the column of `row` whose value is of another class than its type's.
    #[cold]
    fn misfit(&self, row: &Row) -> Refusal {
        let fits = |(column, value): &(&Column, &Value)| value.class().is_none_or(|found| found == column.class);
        let index = self.columns.iter().zip(row).take_while(fits).count();
        Refusal::Class {
            table: title(&self.relation),
            column: self.relation.columns.get(index).map(|column| column.name.clone()).unwrap_or_default(),
            expected: self.columns.get(index).map(|column| column.class),
            found: row.get(index).and_then(Value::class),
        }
    }
}

impl Column {
    fn new(column: &crate::row::Column) -> Self {
        let mut name = Vec::new();
        put_delimited(&mut name, 1, column.name.as_bytes());
        Self { name: name.into(), class: Class::of(column.type_oid), single: column.type_oid == oid::FLOAT4 }
    }

    /// The size of the value's field; `None` where the column's type has no such values.
    fn value_len(&self, value: &Value) -> Option<usize> {
        match (value, self.class) {
            (Value::Null, _) => Some(0),
            (Value::Boolean(_), Class::Boolean) => Some(2),
            (Value::Integer(integer), Class::Integer) => Some(1 + varint_len(*integer as u64)),
            (Value::Float(_), Class::Float) => Some(if self.single { 5 } else { 9 }),
            (Value::Text(text), Class::Text) => Some(delimited_len(text.len())),
            (Value::Bytes(bytes), Class::Bytes) => Some(delimited_len(bytes.len())),
            _ => None,
        }
    }

    fn put_value(&self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Null => {}
            Value::Boolean(boolean) => out.extend_from_slice(&[2 << 3, u8::from(*boolean)]),
            Value::Integer(integer) => put_varint_field(out, 3, *integer as u64),
            Value::Float(float) if self.single => {
                out.push(4 << 3 | 5);
                out.extend_from_slice(&(*float as f32).to_le_bytes());
            }
            Value::Float(float) => {
                out.push(6 << 3 | 1);
                out.extend_from_slice(&float.to_le_bytes());
            }
            Value::Text(text) => put_delimited(out, 5, text.as_bytes()),
            Value::Bytes(bytes) => put_delimited(out, 7, bytes),
        }
    }
}

/// The relation as it travels.
pub(super) fn descriptor(relation: &Relation) -> common::Relation {
    common::Relation {
        schema: relation.schema.clone(),
        table: relation.table.clone(),
        columns: relation
            .columns
            .iter()
            .map(|column| common::RelationColumn {
                name: column.name.clone(),
                type_name: column.type_name.clone(),
                type_oid: column.type_oid,
            })
            .collect(),
        identity: relation.identity.clone(),
        version: relation.version.clone(),
    }
}

/// How errors name a relation.
pub(super) fn title(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.table)
}
