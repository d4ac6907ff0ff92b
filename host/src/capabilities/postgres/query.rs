//! Results of a query as [`Row`]s.
//!
//! The driver asks for results in the binary format, which differs by type. A query
//! whose columns are not all of a type that is read here is therefore asked again
//! with those columns turned into text by their own output function.

use std::error::Error;
use std::fmt::Write as _;

use futures_util::TryStreamExt;
use proto::row::{Row, Value};
use tokio_postgres::types::{FromSql, Kind, Type};
use tokio_postgres::{Column, RowStream};

use super::failure::Failure;
use super::weight;
use crate::budget::Share;

/// The query to ask instead, if a column's binary format is not read here. `format`
/// calls the output function, which a cast to text does not always (inet, character(n)).
pub(super) fn readable(sql: &str, columns: &[Column]) -> Option<String> {
    if columns.iter().all(|column| is_readable(column.type_())) {
        return None;
    }
    let (mut names, mut outputs) = (String::new(), String::new());
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(names, "{comma}c{index}");
        let _ = if is_readable(column.type_()) {
            write!(outputs, "{comma}c{index}")
        } else {
            write!(outputs, "{comma}CASE WHEN c{index} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', c{index}) END")
        };
    }
    Some(format!("WITH q ({names}) AS ({}) SELECT {outputs} FROM q", sql.trim().trim_end_matches(';')))
}

/// Whether the binary format is one that [`Datum`] reads.
fn is_readable(of: &Type) -> bool {
    let text = [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::JSON, Type::UNKNOWN];
    let plain = [Type::BOOL, Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8, Type::BYTEA];
    text.contains(of) || plain.contains(of) || matches!(of.kind(), Kind::Enum(_))
}

/// Reads rows until the end, or until there are too many for `share`.
pub(super) async fn collect(rows: RowStream, mut share: Share) -> Result<Vec<Row>, Failure> {
    let mut rows = std::pin::pin!(rows);
    let mut read = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let values = (0..row.len()).map(|index| Ok(row.try_get::<_, Datum>(index)?.0)).collect::<Result<Row, Failure>>()?;
        share
            .grow(weight::of_result(&values, row.raw_size_bytes()))
            .map_err(|exceeded| Failure::Misuse(format!("the query returns too much: {exceeded}")))?;
        read.push(values);
    }
    Ok(read)
}

struct Datum(Value);

impl FromSql<'_> for Datum {
    fn from_sql(of: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match *of {
            Type::BOOL => Value::Boolean(bool::from_sql(of, raw)?),
            Type::INT2 => Value::Integer(i16::from_sql(of, raw)?.into()),
            Type::INT4 => Value::Integer(i32::from_sql(of, raw)?.into()),
            Type::INT8 => Value::Integer(i64::from_sql(of, raw)?),
            Type::FLOAT4 => Value::Float(f32::from_sql(of, raw)?.into()),
            Type::FLOAT8 => Value::Float(f64::from_sql(of, raw)?),
            Type::BYTEA => Value::Bytes(raw.to_vec()),
            _ => Value::Text(std::str::from_utf8(raw)?.to_owned()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
