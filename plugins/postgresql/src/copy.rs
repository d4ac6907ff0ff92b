//! Rows as the text format of `COPY … FROM STDIN`. Pure.

use crate::pgshovel::plugin::types::Value;
use crate::text;

/// Appends one row. See the text format of PostgreSQL's page "COPY".
pub fn write_row<'a>(values: impl Iterator<Item = &'a Value>, out: &mut String) {
    let mut first = true;
    for value in values {
        if !first {
            out.push('\t');
        }
        first = false;
        match value {
            Value::Null => out.push_str("\\N"),
            Value::Text(text) => escape(text, out),
            Value::Bytes(_) => {
                // The backslash of `\x` is escaped; digits need nothing.
                out.push('\\');
                text::write(value, out);
            }
            other => text::write(other, out),
        }
    }
    out.push('\n');
}

fn escape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\n', '\r', '\t']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes().first() {
            Some(b'\n') => "\\n",
            Some(b'\r') => "\\r",
            Some(b'\t') => "\\t",
            _ => "\\\\",
        });
        rest = special.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Value]) -> String {
        let mut out = String::new();
        write_row(values.iter(), &mut out);
        out
    }

    #[test]
    fn what_would_end_a_field_is_escaped() {
        let text = |text: &str| Value::Text(text.to_owned());
        let values = [text("a\tb\nc\rd\\"), Value::Null, text("\\N"), text(""), text("\\."), text("é\u{b}")];
        assert_eq!(row(&values), "a\\tb\\nc\\rd\\\\\t\\N\t\\\\N\t\t\\\\.\té\u{b}\n");
    }

    #[test]
    fn every_value_has_its_text() {
        let values = [Value::Boolean(false), Value::Integer(-1), Value::Float(0.5), Value::Bytes(vec![0, 255])];
        assert_eq!(row(&values), "f\t-1\t0.5\t\\\\x00ff\n");
    }
}
