//! What the rows of one table, captured under one version of the set's
//! configuration, look like.

use std::collections::HashMap;
use std::sync::Arc;

use proto::row::{Column, Relation};
use serde::{Deserialize, Serialize};

use super::json;
use super::value::{Encoding, Kind};

/// One element of `pgshovel_CLUSTER.relations.columns`.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub oid: u32,
    pub encoding: Encoding,
}

/// What an event says of its rows where the table was altered after the version of
/// the configuration that captured it: the columns in their order, as they were at
/// that moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Layout {
    /// `None`: there was none.
    pub columns: Option<Vec<Described>>,
    /// The names of the columns that identify a row, as they are called there.
    pub identity: Option<Vec<String>>,
}

/// Why a layout makes no descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Columns that identified its rows are gone.
    Identity,
    Cause(String),
}

/// How to read one member of a row.
#[derive(Clone, Debug)]
pub struct Member {
    pub kind: Kind,
    /// What stands in front of its value: name, quotes, colon.
    pub key: Vec<u8>,
}

/// A relation, and how to read its rows.
#[derive(Clone, Debug)]
pub struct Descriptor {
    pub relation: Arc<Relation>,
    /// One per column, in their order.
    pub members: Vec<Member>,
    encodings: Vec<Encoding>,
}

impl Descriptor {
    /// `identity` names columns; the error says which it does not find.
    pub fn new(schema: &str, table: &str, version: &str, columns: Vec<Described>, identity: &[String]) -> Result<Self, String> {
        let identity = identity
            .iter()
            .map(|name| {
                let index = columns.iter().position(|column| column.name == *name);
                index.and_then(|index| u32::try_from(index).ok()).ok_or_else(|| format!("its identity column {name:?} is missing"))
            })
            .collect::<Result<Vec<u32>, String>>()?;
        let members =
            columns.iter().map(|column| Member { kind: Kind::of(column.oid, column.encoding), key: json::key(&column.name) }).collect();
        let encodings = columns.iter().map(|column| column.encoding).collect();
        let columns =
            columns.into_iter().map(|column| Column { name: column.name, type_name: column.type_name, type_oid: column.oid }).collect();
        let relation = Relation { schema: schema.to_owned(), table: table.to_owned(), columns, identity, version: version.to_owned() };
        Ok(Self { relation: Arc::new(relation), members, encodings })
    }

    /// Whether the rows have exactly these columns in this order.
    pub fn has_columns(&self, names: &[String]) -> bool {
        self.relation.columns.iter().map(|column| &column.name).eq(names)
    }

    /// The descriptor of rows that say what they are: `layout` is a [`Layout`] as JSON.
    /// `other` names the columns that identify a row where those of this descriptor are gone.
    pub fn altered(&self, layout: &str, other: Option<&[String]>) -> Result<Self, Unfit> {
        let layout: Layout =
            serde_json::from_str(layout).map_err(|error| Unfit::Cause(format!("its description is not valid: {error}")))?;
        let Relation { schema, table, version, identity, .. } = self.relation.as_ref();
        let (named, columns) = (layout.identity.unwrap_or_default(), layout.columns.unwrap_or_default());
        if named.len() == identity.len() {
            return Self::new(schema, table, version, columns, &named).map_err(Unfit::Cause);
        }
        let described = match other.ok_or(Unfit::Identity)? {
            [] => Err("it is not in the set any more".to_owned()),
            other => Self::new(schema, table, version, columns, other),
        };
        described.map_err(|cause| {
            Unfit::Cause(format!(
                "a column that identified its rows was dropped, and {cause}: give the table other primary_keys by `set update`, \
                 of columns that were captured, and start the relay again; if there are none, create the set anew and bootstrap its targets"
            ))
        })
    }

    /// The descriptor of rows that have the columns `names` instead: the table
    /// was altered after its triggers were made. `found` describes those that
    /// this descriptor does not know.
    pub fn reshape(&self, names: &[String], found: &HashMap<String, Described>) -> Result<Self, String> {
        let known: HashMap<&str, Described> = self
            .relation
            .columns
            .iter()
            .zip(&self.encodings)
            .map(|(column, encoding)| {
                let described =
                    Described { name: column.name.clone(), type_name: column.type_name.clone(), oid: column.type_oid, encoding: *encoding };
                (column.name.as_str(), described)
            })
            .collect();
        let columns = names
            .iter()
            .map(|name| {
                known
                    .get(name.as_str())
                    .or_else(|| found.get(name))
                    .cloned()
                    .ok_or_else(|| format!("nothing is known of its column {name:?}"))
            })
            .collect::<Result<Vec<Described>, String>>()?;
        let identity = self.relation.identity.iter().filter_map(|index| self.relation.columns.get(usize::try_from(*index).ok()?));
        let identity: Vec<String> = identity.map(|column| column.name.clone()).collect();
        Self::new(&self.relation.schema, &self.relation.table, &self.relation.version, columns, &identity)
    }

    /// The names in `names` that this descriptor does not know.
    #[must_use]
    pub fn unknown(&self, names: &[String]) -> Vec<String> {
        names.iter().filter(|name| !self.relation.columns.iter().any(|column| column.name == **name)).cloned().collect()
    }
}
