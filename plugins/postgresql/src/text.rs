//! Values as PostgreSQL's input functions read them. Pure.

use std::fmt::Write as _;

use crate::pgshovel::plugin::types::Value;

/// `None` is NULL.
#[must_use]
pub fn of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.clone()),
        other => {
            let mut text = String::new();
            write(other, &mut text);
            Some(text)
        }
    }
}

/// Nothing for NULL.
pub fn write(value: &Value, out: &mut String) {
    // Writing to a String does not fail.
    let _ = match value {
        Value::Null => Ok(()),
        Value::Boolean(boolean) => out.write_str(if *boolean { "t" } else { "f" }),
        Value::Integer(integer) => write!(out, "{integer}"),
        // The shortest text that reads back as the same number.
        Value::Float(float) => write!(out, "{float:?}"),
        Value::Text(text) => out.write_str(text),
        Value::Bytes(bytes) => {
            out.push_str("\\x");
            hex(bytes, out);
            Ok(())
        }
    };
}

fn hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(DIGITS.get(usize::from(digit)).map_or('0', |digit| char::from(*digit)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_postgresql_reads_them() {
        let written = |value| of(&value).unwrap();
        assert_eq!(of(&Value::Null), None);
        assert_eq!(written(Value::Boolean(true)), "t");
        assert_eq!(written(Value::Integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(written(Value::Float(1e300)), "1e300");
        assert_eq!(written(Value::Float(0.1)), "0.1");
        assert_eq!(written(Value::Float(-0.0)), "-0.0");
        assert_eq!(written(Value::Float(f64::NAN)), "NaN");
        assert_eq!(written(Value::Float(f64::NEG_INFINITY)), "-inf");
        assert_eq!(written(Value::Bytes(vec![0, 0xab, 0xff])), "\\x00abff");
        assert_eq!(written(Value::Text(String::new())), "");
    }
}
