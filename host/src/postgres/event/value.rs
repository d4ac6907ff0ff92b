//! One value of an event's row -> the [`Value`] that the column's type has on
//! the stream.

use proto::row::{Class, Value};
use serde::{Deserialize, Serialize};

use super::json::{Literal, Token};

/// How the trigger wrote a column's values: see `pgshovel_CLUSTER.relations`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As `row_to_json` prints them.
    Json,
    /// PostgreSQL's text output, as a JSON string.
    Text,
}

/// How to read a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Integer,
    Float4,
    Float8,
    Bytes,
    Text,
    /// `2020-01-02T03:04:05`, for PostgreSQL's `2020-01-02 03:04:05`.
    Timestamp,
    /// Likewise, with an offset.
    TimestampTz,
    /// Stands in the row as it is.
    Json,
}

/// `pg_type.oid` of the types whose JSON is not their text output.
const FLOAT4: u32 = 700;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const JSON: u32 = 114;
const JSONB: u32 = 3802;

impl Kind {
    #[must_use]
    pub fn of(type_oid: u32, encoding: Encoding) -> Self {
        match Class::of(type_oid) {
            Class::Boolean => Self::Boolean,
            Class::Integer => Self::Integer,
            Class::Float if type_oid == FLOAT4 => Self::Float4,
            Class::Float => Self::Float8,
            Class::Bytes => Self::Bytes,
            Class::Text => match (encoding, type_oid) {
                (Encoding::Json, TIMESTAMP) => Self::Timestamp,
                (Encoding::Json, TIMESTAMPTZ) => Self::TimestampTz,
                (Encoding::Json, JSON | JSONB) => Self::Json,
                _ => Self::Text,
            },
        }
    }

    /// The value of `literal`, or what it should have been.
    #[inline]
    pub fn read(self, literal: &Literal<'_>) -> Result<Value, &'static str> {
        if literal.token == Token::Null {
            return Ok(Value::Null);
        }
        match self {
            Self::Boolean => boolean(literal).map(Value::Boolean).ok_or("its value is not a boolean"),
            Self::Integer => {
                scalar(literal).and_then(|text| text.parse().ok()).map(Value::Integer).ok_or("its value is not an integer of 64 bits")
            }
            // By way of 32 bits, since 0.1 of 32 bits is not 0.1 of 64.
            Self::Float4 => scalar(literal)
                .and_then(|text| text.parse::<f32>().ok())
                .map(|float| Value::Float(f64::from(float)))
                .ok_or("its value is not a number of 32 bits"),
            Self::Float8 => {
                scalar(literal).and_then(|text| text.parse().ok()).map(Value::Float).ok_or("its value is not a number of 64 bits")
            }
            Self::Bytes => scalar(literal).and_then(bytes).map(Value::Bytes).ok_or("its value is not bytea in hex form"),
            Self::Text => Ok(Value::Text(text(literal))),
            Self::Timestamp => scalar(literal).map(|text| Value::Text(timestamp(text, false))).ok_or("its value is not a timestamp"),
            Self::TimestampTz => scalar(literal).map(|text| Value::Text(timestamp(text, true))).ok_or("its value is not a timestamp"),
            Self::Json => Ok(Value::Text(literal.raw.to_owned())),
        }
    }
}

fn scalar<'a>(literal: &'a Literal<'_>) -> Option<&'a str> {
    match &literal.token {
        Token::Number => Some(literal.raw),
        Token::String(text) => Some(text),
        Token::Null | Token::Boolean(_) | Token::Nested => None,
    }
}

fn boolean(literal: &Literal<'_>) -> Option<bool> {
    match &literal.token {
        Token::Boolean(boolean) => Some(*boolean),
        Token::String(text) => match text.as_ref() {
            "t" | "true" => Some(true),
            "f" | "false" => Some(false),
            _ => None,
        },
        Token::Null | Token::Number | Token::Nested => None,
    }
}

fn text(literal: &Literal<'_>) -> String {
    match &literal.token {
        Token::String(text) => text.as_ref().to_owned(),
        // A domain over boolean: what the output function prints.
        Token::Boolean(true) => "t".to_owned(),
        Token::Boolean(false) => "f".to_owned(),
        Token::Null | Token::Number | Token::Nested => literal.raw.to_owned(),
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    digits.chunks_exact(2).map(|pair| pair.iter().try_fold(0, |byte, digit| Some(byte << 4 | hexadecimal(*digit)?))).collect()
}

fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// PostgreSQL's text output of a timestamp, from what its JSON functions make
/// of it: `T` for the space, and an offset that always has minutes. What has no
/// `T`, such as `infinity`, stays.
fn timestamp(text: &str, zoned: bool) -> String {
    let Some((date, time)) = text.split_once('T') else { return text.to_owned() };
    let mut output = String::with_capacity(text.len());
    output.push_str(date);
    output.push(' ');
    let offset = if zoned { time.rfind(['+', '-']) } else { None };
    match offset.and_then(|offset| time.split_at_checked(offset + "+00".len())) {
        Some((clock, rest)) => {
            output.push_str(clock);
            output.push_str(without_zero_minutes(rest));
        }
        None => output.push_str(time),
    }
    output
}

/// Takes `:00` off an offset's `:MM[:SS]`, unless seconds follow it.
fn without_zero_minutes(rest: &str) -> &str {
    match rest.strip_prefix(":00") {
        Some(short) if !short.starts_with(':') => short,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json::Scanner;
    use super::*;

    fn read(kind: Kind, json: &str) -> Result<Value, &'static str> {
        kind.read(&Scanner::new(json).value().unwrap())
    }

    fn text(kind: Kind, json: &str) -> String {
        match read(kind, json) {
            Ok(Value::Text(text)) => text,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn timestamps_are_postgresqls_text() {
        for (json, expected) in [
            (r#""2020-01-02T03:04:05""#, "2020-01-02 03:04:05"),
            (r#""2020-01-02T03:04:05.000001""#, "2020-01-02 03:04:05.000001"),
            (r#""0044-03-15T00:00:00 BC""#, "0044-03-15 00:00:00 BC"),
            (r#""294276-12-31T23:59:59.999999""#, "294276-12-31 23:59:59.999999"),
            (r#""infinity""#, "infinity"),
            (r#""-infinity""#, "-infinity"),
        ] {
            assert_eq!(text(Kind::Timestamp, json), expected);
        }
        for (json, expected) in [
            (r#""2020-01-02T03:04:05+00:00""#, "2020-01-02 03:04:05+00"),
            (r#""2020-01-02T03:04:05.5-05:00""#, "2020-01-02 03:04:05.5-05"),
            (r#""2020-01-02T03:04:05+05:30""#, "2020-01-02 03:04:05+05:30"),
            (r#""1890-01-02T03:04:05+00:53:28""#, "1890-01-02 03:04:05+00:53:28"),
            (r#""1890-01-02T03:04:05+01:00:20""#, "1890-01-02 03:04:05+01:00:20"),
            (r#""4713-11-24T00:00:00+00:00 BC""#, "4713-11-24 00:00:00+00 BC"),
            (r#""-infinity""#, "-infinity"),
        ] {
            assert_eq!(text(Kind::TimestampTz, json), expected);
        }
    }

    #[test]
    fn a_type_without_a_class_of_its_own_is_text() {
        assert_eq!(text(Kind::of(1700, Encoding::Json), "1.10"), "1.10");
        assert_eq!(text(Kind::of(1700, Encoding::Json), r#""NaN""#), "NaN");
        assert_eq!(text(Kind::of(1082, Encoding::Json), r#""0044-03-15 BC""#), "0044-03-15 BC");
        assert_eq!(text(Kind::of(TIMESTAMP, Encoding::Text), r#""Tuesday""#), "Tuesday");
        assert_eq!(text(Kind::of(25, Encoding::Json), r#""a\nb""#), "a\nb");
    }

    #[test]
    fn json_stays_as_it_is() {
        assert_eq!(text(Kind::of(JSON, Encoding::Json), r#"{"a" : "\u0000"}"#), r#"{"a" : "\u0000"}"#);
        assert_eq!(text(Kind::of(JSONB, Encoding::Json), r#""x""#), r#""x""#);
        assert_eq!(text(Kind::of(JSONB, Encoding::Text), r#""\"x\"""#), r#""x""#);
        assert_eq!(text(Kind::of(JSON, Encoding::Text), r#""null""#), "null");
    }

    #[test]
    fn numbers_are_of_their_width() {
        assert_eq!(read(Kind::of(20, Encoding::Json), "-9223372036854775808"), Ok(Value::Integer(i64::MIN)));
        assert!(read(Kind::of(20, Encoding::Json), "9223372036854775808").is_err());
        assert_eq!(read(Kind::of(FLOAT4, Encoding::Json), "0.1"), Ok(Value::Float(f64::from(0.1_f32))));
        assert_eq!(read(Kind::of(701, Encoding::Json), "5e-324"), Ok(Value::Float(5e-324)));
        assert_eq!(read(Kind::of(701, Encoding::Json), r#""-Infinity""#), Ok(Value::Float(f64::NEG_INFINITY)));
        assert_eq!(read(Kind::of(701, Encoding::Text), r#""0.5""#), Ok(Value::Float(0.5)));
    }

    #[test]
    fn null_is_null_in_every_type() {
        for oid in [16, 20, 25, JSON, FLOAT4, 701, 17, TIMESTAMPTZ] {
            assert_eq!(read(Kind::of(oid, Encoding::Json), "null"), Ok(Value::Null));
        }
    }

    proptest! {
        #[test]
        fn floats_come_back(float in any::<f64>(), single in any::<f32>()) {
            prop_assume!(float.is_finite() && single.is_finite());
            prop_assert_eq!(read(Kind::Float8, &format!("{float:e}")), Ok(Value::Float(float)));
            prop_assert_eq!(read(Kind::Float4, &format!("{single:e}")), Ok(Value::Float(f64::from(single))));
        }

        #[test]
        fn bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(read(Kind::Bytes, &format!(r#""\\x{hex}""#)), Ok(Value::Bytes(bytes)));
        }

        #[test]
        fn any_value_of_any_kind_is_read_or_refused(input in any::<String>(), oid in prop::sample::select(vec![16, 20, 25, 114, 700, 701, 17, 1114, 1184])) {
            let json = serde_json::to_string(&input).unwrap();
            let _ = read(Kind::of(oid, Encoding::Json), &json);
        }
    }
}
