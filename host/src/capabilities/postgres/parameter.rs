//! Parameters on their way to the server. `Debug` never shows a value: the driver logs
//! parameters at level debug.

use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};
use proto::row::Value;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

/// A value that the statement's parameter cannot take; without the value.
#[derive(Debug)]
pub(super) struct Unsuitable(String);

impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unsuitable {}

/// One value, in the text format, which the input function of any type reads; bytes raw.
pub(super) struct Parameter<'a>(pub(super) &'a Value);

impl fmt::Debug for Parameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, target: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        use std::fmt::Write as _;
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::Boolean(boolean) => out.put_slice(if *boolean { b"t" } else { b"f" }),
            Value::Integer(integer) => write!(out, "{integer}")?,
            // The shortest text that reads back as the same number.
            Value::Float(float) => write!(out, "{float:?}")?,
            Value::Text(text) => out.put_slice(text.as_bytes()),
            Value::Bytes(bytes) if *target == Type::BYTEA => out.put_slice(bytes),
            Value::Bytes(_) => return Err(Box::new(Unsuitable(format!("bytes are given for a parameter of type {target}, not bytea")))),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if matches!(self.0, Value::Bytes(_)) { Format::Binary } else { Format::Text }
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A column of texts as `text[]`, in the binary format: nothing is quoted or scanned.
pub(super) struct TextArray<'a>(pub(super) &'a [Option<String>]);

impl fmt::Debug for TextArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}

impl ToSql for TextArray<'_> {
    fn to_sql(&self, target: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if *target != Type::TEXT_ARRAY {
            return Err(Box::new(Unsuitable(format!("a parameter of a statement over sets is text[], not {target}: write $1::text[]"))));
        }
        // `array_recv`: dimensions, whether there are NULLs, type; per dimension its length and lower bound; elements.
        let length = i32::try_from(self.0.len())?;
        out.put_i32(i32::from(length > 0));
        out.put_i32(i32::from(self.0.iter().any(Option::is_none)));
        out.put_u32(Type::TEXT.oid());
        if length > 0 {
            out.put_i32(length);
            out.put_i32(1);
        }
        for element in self.0 {
            match element {
                None => out.put_i32(-1),
                Some(text) => {
                    out.put_i32(i32::try_from(text.len())?);
                    out.put_slice(text.as_bytes());
                }
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}
