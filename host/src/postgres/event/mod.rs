//! One event of the queue -> one [`Mutation`]. Pure.
//!
//! Events come as rows of a binary `COPY` (PostgreSQL's documentation of COPY,
//! "Binary Format"): no escapes to undo, no timestamps to parse.

pub mod json;
pub mod relation;
pub mod value;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use proto::row::{Change, Mutation, Row};

use json::Scanner;
pub use relation::Layout;
use relation::{Descriptor, Unfit};

/// What to select of a batch's events, in the order that [`Event::parse`] reads.
pub const COLUMNS: &str = "ev_id, ev_time, ev_txid, ev_type, ev_extra1, ev_extra3, ev_extra4, ev_data, ev_extra2";

/// What a binary COPY starts with: signature, flags (none), length of an
/// extension (none).
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// From 1970-01-01 to 2000-01-01, where PostgreSQL's timestamps begin.
const EPOCH_US: i64 = 946_684_800_000_000;

/// The tag of the layout that is read here, in `ev_extra4`: rows as objects of JSON,
/// with the columns that the version of the configuration says. Where a table has
/// other columns by now, a space and a [`Layout`] follow.
pub const FORMAT: &str = "j1";

/// How many shapes of rows of one relation are remembered.
const SHAPES_MAX: usize = 64;

/// One event, as the trigger wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub id: u64,
    pub timestamp_us: i64,
    pub transaction: u64,
    pub operation: &'a str,
    /// The configured table, as SQL names it.
    pub table: &'a str,
    pub version: &'a str,
    pub format: &'a str,
    pub new: Option<&'a str>,
    pub old: Option<&'a str>,
}

/// Why an event has no mutation. Names the event, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    pub event: Option<u64>,
    pub table: Option<String>,
    pub cause: String,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Some(id) => write!(f, "event {id}")?,
            None => write!(f, "an event")?,
        }
        if let Some(table) = &self.table {
            write!(f, " of table {table}")?;
        }
        write!(f, " cannot be decoded: {}", self.cause)
    }
}

impl<'a> Event<'a> {
    /// Reads one row of a binary COPY; `None` at its end.
    pub fn parse(row: &'a [u8]) -> Result<Option<Self>, Undecodable> {
        let mut fields = Fields { rest: row.strip_prefix(HEADER).unwrap_or(row) };
        let broken = |event, cause: &str| Undecodable { event, table: None, cause: cause.to_owned() };
        match fields.count() {
            Some(-1) => return Ok(None),
            Some(9) => {}
            _ => return Err(broken(None, "COPY did not send its nine columns")),
        }
        let id = fields.integer().and_then(|id| u64::try_from(id).ok()).ok_or_else(|| broken(None, "its id is missing"))?;
        let mut event = || {
            Some(Self {
                id,
                timestamp_us: fields.integer()?.checked_add(EPOCH_US)?,
                transaction: u64::try_from(fields.integer()?).ok()?,
                operation: fields.text()?.unwrap_or_default(),
                table: fields.text()?.unwrap_or_default(),
                version: fields.text()?.unwrap_or_default(),
                format: fields.text()?.unwrap_or_default(),
                new: fields.text()?,
                old: fields.text()?,
            })
        };
        match event() {
            Some(event) => Ok(Some(event)),
            None => Err(broken(Some(id), "its columns are not the types of PgQ's event table, in UTF-8")),
        }
    }

    fn undecodable(&self, cause: impl Into<String>) -> Undecodable {
        let table = if self.table.is_empty() { None } else { Some(self.table.to_owned()) };
        Undecodable { event: Some(self.id), table, cause: cause.into() }
    }
}

/// The fields of a row that are still to be read.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn count(&mut self) -> Option<i16> {
        let (count, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(i16::from_be_bytes(*count))
    }

    /// The outer `None`: the row ends too early, or is not what was asked for.
    fn field(&mut self) -> Option<Option<&'a [u8]>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            self.rest = rest;
            return Some(None);
        }
        let (field, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(Some(field))
    }

    fn integer(&mut self) -> Option<i64> {
        self.field()??.try_into().ok().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Option<Option<&'a str>> {
        match self.field()? {
            None => Some(None),
            Some(bytes) => std::str::from_utf8(bytes).ok().map(Some),
        }
    }
}

/// What [`Decoder::decode`] made of an event.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    Mutation(Mutation),
    /// To learn first; then decode the event again.
    Unknown(Unknown),
}

/// What a decoder has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// What the rows of `table` look like in `version`: [`Decoder::learn`].
    Relation { version: String, table: String },
    /// Its rows have other columns by now: see [`Decoder::relation`] and
    /// [`Decoder::learn`].
    Shape { version: String, table: String, columns: Vec<String> },
    /// Columns that identified its rows are gone: [`Decoder::identify`].
    Identity { table: String },
}

/// The shapes that rows of one table came in. The first is as the configuration
/// says.
#[derive(Debug, Default)]
struct Shapes {
    known: Vec<Shape>,
    /// The one that fitted last: rows of one shape come together.
    current: usize,
}

#[derive(Debug)]
struct Shape {
    /// `ev_extra4` of its events.
    format: String,
    descriptor: Arc<Descriptor>,
}

impl Shapes {
    fn add(&mut self, format: &str, descriptor: Arc<Descriptor>) {
        if self.known.len() >= SHAPES_MAX {
            self.known.truncate(1);
        }
        self.known.push(Shape { format: format.to_owned(), descriptor });
        self.current = self.known.len() - 1;
    }

    /// The shape that rows of the event may have: the current one, unless it has
    /// another format. What an event says of itself is learned, with the columns
    /// `identity` where those that identified its rows are gone.
    fn of(&mut self, event: &Event<'_>, identity: Option<&[String]>) -> Result<Option<Arc<Descriptor>>, Undecodable> {
        let fits = |shape: &Shape| shape.format == event.format;
        if let Some(shape) = self.known.get(self.current).filter(|shape| fits(shape)) {
            return Ok(Some(Arc::clone(&shape.descriptor)));
        }
        if let Some(index) = self.known.iter().position(fits) {
            self.current = index;
        } else {
            let base = self.known.first().ok_or_else(|| event.undecodable("nothing is known of its table"))?;
            let layout = event.format.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(|| {
                event.undecodable(format!("its ev_extra4 is not the format {FORMAT:?} that this version of pgshovel reads"))
            })?;
            match base.descriptor.altered(layout, identity) {
                Ok(descriptor) => self.add(event.format, Arc::new(descriptor)),
                Err(Unfit::Identity) => return Ok(None),
                Err(Unfit::Cause(cause)) => return Err(event.undecodable(cause)),
            }
        }
        self.known
            .get(self.current)
            .map(|shape| Some(Arc::clone(&shape.descriptor)))
            .ok_or_else(|| event.undecodable("nothing is known of its table"))
    }
}

/// Decodes events, and remembers what their tables look like.
#[derive(Debug, Default)]
pub struct Decoder {
    /// By version, then by table.
    shapes: HashMap<String, HashMap<String, Shapes>>,
    /// By table: the columns that identify its rows by now.
    identities: HashMap<String, Vec<String>>,
}

/// Why a row does not have the expected form.
enum Misfit {
    /// Other columns, another order or white space: to be read the slow way.
    Shape,
    Cause(String),
}

impl Decoder {
    /// Remembers a shape of the rows of `table` in `version`.
    pub fn learn(&mut self, version: &str, table: &str, descriptor: Arc<Descriptor>) {
        let shapes = self.shapes.entry(version.to_owned()).or_default().entry(table.to_owned()).or_default();
        shapes.add(FORMAT, descriptor);
    }

    /// Remembers what identifies the rows of `table` by now, for events whose own columns
    /// for that are gone.
    pub fn identify(&mut self, table: &str, identity: Vec<String>) {
        self.identities.insert(table.to_owned(), identity);
    }

    /// What was first learned of `table` in `version`.
    #[must_use]
    pub fn relation(&self, version: &str, table: &str) -> Option<Arc<Descriptor>> {
        self.shapes.get(version)?.get(table)?.known.first().map(|shape| Arc::clone(&shape.descriptor))
    }

    pub fn decode(&mut self, event: &Event<'_>) -> Result<Decoded, Undecodable> {
        let shapes = self.shapes.get_mut(event.version).and_then(|tables| tables.get_mut(event.table));
        let Some(shapes) = shapes else {
            return Ok(Decoded::Unknown(Unknown::Relation { version: event.version.to_owned(), table: event.table.to_owned() }));
        };
        let Some(descriptor) = shapes.of(event, self.identities.get(event.table).map(Vec::as_slice))? else {
            return Ok(Decoded::Unknown(Unknown::Identity { table: event.table.to_owned() }));
        };
        match change(event, |row| fast(row, &descriptor)) {
            Ok(change) => Ok(Decoded::Mutation(mutation(event, &descriptor, change))),
            Err(Misfit::Cause(cause)) => Err(event.undecodable(cause)),
            Err(Misfit::Shape) => slow(event, shapes),
        }
    }
}

fn mutation(event: &Event<'_>, descriptor: &Descriptor, change: Change) -> Mutation {
    Mutation {
        id: event.id,
        relation: Arc::clone(&descriptor.relation),
        change,
        transaction: event.transaction,
        timestamp_us: event.timestamp_us,
        version: 0,
    }
}

/// The change that an event stands for, its rows read by `read`.
fn change(event: &Event<'_>, read: impl Fn(&str) -> Result<Row, Misfit>) -> Result<Change, Misfit> {
    let missing = |which: &str| Misfit::Cause(format!("its {which} row is missing"));
    let new = || read(event.new.ok_or_else(|| missing("new"))?);
    let old = || read(event.old.ok_or_else(|| missing("old"))?);
    match event.operation {
        "I" => Ok(Change::Insert(new()?)),
        "U" => Ok(Change::Update { before: old()?, after: new()? }),
        "D" => Ok(Change::Delete(old()?)),
        "T" => Ok(Change::Truncate),
        _ => Err(Misfit::Cause("its ev_type is none of I, U, D and T".to_owned())),
    }
}

/// Reads a row that has exactly the columns of `descriptor`, as `row_to_json`
/// prints them.
fn fast(text: &str, descriptor: &Descriptor) -> Result<Row, Misfit> {
    let mut scanner = Scanner::new(text);
    let mut row = Vec::with_capacity(descriptor.members.len());
    let mut before: &[u8] = b"{";
    for (index, member) in descriptor.members.iter().enumerate() {
        if !scanner.take(before) || !scanner.take(&member.key) {
            return Err(Misfit::Shape);
        }
        let literal = scanner.value().map_err(|_| Misfit::Shape)?;
        row.push(member.kind.read(&literal).map_err(|cause| misread(descriptor, index, cause))?);
        before = b",";
    }
    if scanner.take(b"}") && scanner.at_end() { Ok(row) } else { Err(Misfit::Shape) }
}

fn misread(descriptor: &Descriptor, index: usize, cause: &str) -> Misfit {
    let name = descriptor.relation.columns.get(index).map_or("", |column| &column.name);
    Misfit::Cause(format!("column {name:?}: {cause}"))
}

/// Finds the shape that an event's rows have, and reads them wherever they have
/// white space.
fn slow(event: &Event<'_>, shapes: &mut Shapes) -> Result<Decoded, Undecodable> {
    let names = columns(event)?;
    let fits = |shape: &Shape| shape.format == event.format && shape.descriptor.has_columns(&names);
    let Some(index) = shapes.known.iter().position(fits) else {
        return Ok(Decoded::Unknown(Unknown::Shape { version: event.version.to_owned(), table: event.table.to_owned(), columns: names }));
    };
    shapes.current = index;
    let Some(Shape { descriptor, .. }) = shapes.known.get(index) else { return Err(event.undecodable("nothing is known of its table")) };
    match change(event, |row| lenient(row, descriptor)) {
        Ok(change) => Ok(Decoded::Mutation(mutation(event, descriptor, change))),
        Err(Misfit::Cause(cause)) => Err(event.undecodable(cause)),
        Err(Misfit::Shape) => Err(event.undecodable("its old and its new row have different columns")),
    }
}

/// The names of the columns of an event's rows.
fn columns(event: &Event<'_>) -> Result<Vec<String>, Undecodable> {
    let row = event.new.or(event.old).unwrap_or_default();
    let members = json::object(row).map_err(|malformed| event.undecodable(malformed.to_string()))?;
    Ok(members.into_iter().map(|(name, _)| name.into_owned()).collect())
}

fn lenient(text: &str, descriptor: &Descriptor) -> Result<Row, Misfit> {
    let members = json::object(text).map_err(|malformed| Misfit::Cause(malformed.to_string()))?;
    let names = descriptor.relation.columns.iter().map(|column| column.name.as_str());
    if !members.iter().map(|(name, _)| name.as_ref()).eq(names) {
        return Err(Misfit::Shape);
    }
    let literals = members.iter().map(|(_, literal)| literal);
    let values = literals.zip(&descriptor.members).enumerate();
    values.map(|(index, (literal, member))| member.kind.read(literal).map_err(|cause| misread(descriptor, index, cause))).collect()
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
