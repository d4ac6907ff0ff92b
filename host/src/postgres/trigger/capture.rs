//! What is captured of a table, and where it goes.

use super::columns::Columns;
use crate::names;
use crate::postgres::quote;

/// What the comments of sets' functions begin with; the set follows.
pub(super) const COMMENT: &str = "pgshovel: captures changes for the set ";

/// What a function captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
    /// A table is about to be truncated.
    Begin,
    /// A partition is about to be truncated.
    Partition,
    /// A partition was truncated.
    Emptied,
}

impl Event {
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Insert => 'i',
            Self::Update => 'u',
            Self::Delete => 'd',
            Self::Truncate => 't',
            Self::Begin => 'b',
            Self::Partition => 'p',
            Self::Emptied => 'q',
        }
    }
}

/// A table to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// `pg_class.oid`
    pub table_oid: u32,
    /// `pg_class.reltype`
    pub row_type_oid: u32,
    pub schema: String,
    pub table: String,
    /// The table in `ev_extra1`: as PostgreSQL's `quote_ident` writes it.
    pub key: String,
    pub columns: Columns,
    /// It is itself a partition of another table.
    pub is_partition: bool,
    /// Of a partitioned table: the keys of the tables that hold its rows.
    pub partitions: Option<Vec<String>>,
}

impl Capture {
    pub(super) const fn is_partitioned(&self) -> bool {
        self.partitions.is_some()
    }

    /// The events that have a function.
    #[must_use]
    pub const fn events(&self) -> &'static [Event] {
        const ALL: &[Event] =
            &[Event::Insert, Event::Update, Event::Delete, Event::Truncate, Event::Begin, Event::Partition, Event::Emptied];
        let (plain, _) = ALL.split_at(5);
        if self.is_partitioned() { ALL } else { plain }
    }

    /// The tables that have the trigger for `event`, by their keys.
    #[must_use]
    pub fn tables(&self, event: Event) -> Vec<&str> {
        match event {
            Event::Partition | Event::Emptied => self.partitions.iter().flatten().map(String::as_str).collect(),
            _ => vec![&self.key],
        }
    }
}

/// Whose triggers they are, and where their events go.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub cluster: &'a str,
    pub set: &'a str,
    /// `ev_extra3`.
    pub version: &'a str,
    /// `pg_class.oid` of the set's view; `None` while there is none yet, to show the SQL.
    pub view: Option<u32>,
}

impl Context<'_> {
    pub(super) fn schema(&self) -> String {
        quote(&names::capture_schema(self.cluster))
    }

    /// The role that the functions run as.
    pub(super) fn role(&self) -> String {
        quote(&names::capture_role(self.cluster))
    }

    /// The view that events are inserted into.
    pub(super) fn events(&self) -> String {
        format!("{}.{}", self.schema(), quote(self.set))
    }

    pub(super) fn view_oid(&self) -> String {
        self.view.map_or_else(|| "VIEW_OID".to_owned(), |oid| oid.to_string())
    }
}
