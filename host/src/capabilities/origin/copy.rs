//! One row of `COPY … TO STDOUT` in its text format, decoded. Pure.
//!
//! Each type's own output function wrote the fields, under the pinned settings, so a
//! datum reads the same here as in the events of the set.

use std::str::FromStr;

use proto::row::{Class, Row, Value};

/// `pg_type.oid` of float4.
const FLOAT4: u32 = 700;

/// Decodes one line, with or without its newline; `types` are the columns' OIDs. The
/// error names the column by its number and says what is wrong, without its value.
pub(super) fn row(line: &[u8], types: &[u32]) -> Result<Row, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut row = Row::with_capacity(types.len());
    // A row without columns is an empty line.
    if types.is_empty() && line.is_empty() {
        return Ok(row);
    }
    let mut fields = line.split(|&byte| byte == b'\t');
    for (index, oid) in types.iter().enumerate() {
        let field = fields.next().ok_or_else(|| format!("the row has {index} columns, not {}", types.len()))?;
        row.push(value(field, *oid).ok_or_else(|| format!("the value of column {} is not of its type", index + 1))?);
    }
    match fields.next() {
        None => Ok(row),
        Some(_) => Err(format!("the row has more than {} columns", types.len())),
    }
}

fn value(field: &[u8], oid: u32) -> Option<Value> {
    if field == b"\\N" {
        return Some(Value::Null);
    }
    match Class::of(oid) {
        Class::Boolean => match field {
            b"t" => Some(Value::Boolean(true)),
            b"f" => Some(Value::Boolean(false)),
            _ => None,
        },
        Class::Integer => parse(field).map(Value::Integer),
        // By way of 32 bits, since 0.1 of 32 bits is not 0.1 of 64.
        Class::Float if oid == FLOAT4 => parse::<f32>(field).map(|narrow| Value::Float(narrow.into())),
        Class::Float => parse(field).map(Value::Float),
        // The backslash of `\x` is escaped.
        Class::Bytes => field.strip_prefix(b"\\\\x").and_then(bytes).map(Value::Bytes),
        Class::Text => String::from_utf8(unescape(field)).ok().map(Value::Text),
    }
}

fn parse<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn bytes(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Undoes `CopyAttributeOutText`: see the text format of PostgreSQL's page "COPY".
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        let (before, escape) = rest.split_at(at);
        plain.extend_from_slice(before);
        rest = match escape {
            [_, escaped, after @ ..] => {
                plain.push(match escaped {
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 0x0b,
                    other => *other,
                });
                after
            }
            lone => {
                plain.extend_from_slice(lone);
                &[]
            }
        };
    }
    plain.extend_from_slice(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unescaped_once() {
        let line = b"a\\\\N\t\\N\t\\\\N\tx\\ty\\nz\\b\\f\\r\\v\t\n";
        let text = |text: &str| Value::Text(text.to_owned());
        let types = [25; 5];
        let expected = vec![text("a\\N"), Value::Null, text("\\N"), text("x\ty\nz\u{8}\u{c}\r\u{b}"), text("")];
        assert_eq!(row(line, &types).unwrap(), expected);
    }

    #[test]
    fn values_take_the_class_of_their_column() {
        let types = [16, 20, 701, 17, 700];
        let expected = vec![
            Value::Boolean(true),
            Value::Integer(i64::MIN),
            Value::Float(0.1),
            Value::Bytes(vec![0, 255]),
            Value::Float(0.1f32.into()),
        ];
        assert_eq!(row(b"t\t-9223372036854775808\t0.1\t\\\\x00ff\t0.1", &types).unwrap(), expected);
    }

    #[test]
    fn a_row_of_another_width_is_an_error_without_its_values() {
        assert_eq!(row(b"secret", &[25; 2]).unwrap_err(), "the row has 1 columns, not 2");
        assert_eq!(row(b"secret\tb", &[25]).unwrap_err(), "the row has more than 1 columns");
        assert!(!row(b"secret", &[23]).unwrap_err().contains("secret"));
    }

    #[test]
    fn a_row_without_columns_is_an_empty_line() {
        assert_eq!(row(b"\n", &[]).unwrap(), Row::new());
        assert_eq!(row(b"\n", &[25]).unwrap(), vec![Value::Text(String::new())]);
    }
}
