//! The rows that `row_to_json` prints, read without building a tree.
//!
//! The grammar is RFC 8259's, read leniently: whoever wrote the event is
//! PostgreSQL, so what matters is never to panic, never to mistake one value
//! for another, and speed. Numbers stay text: a numeric has more digits than
//! any machine type.

use std::borrow::Cow;

use memchr::memchr2;

/// Why a text is not the row that was expected. Never holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What was expected.
    pub expected: &'static str,
    /// Bytes from the beginning of the text.
    pub at: usize,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not the JSON that a trigger of pgshovel writes: expected {} at byte {}", self.expected, self.at)
    }
}

/// One value of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal<'a> {
    /// As it is written, quotes and escapes included.
    pub raw: &'a str,
    pub token: Token<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Token<'a> {
    Null,
    Boolean(bool),
    /// `Literal::raw` is the number.
    Number,
    /// Without quotes and escapes.
    String(Cow<'a, str>),
    /// An object or an array; `Literal::raw` is all of it.
    Nested,
}

/// A place in a text.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { expected, at: self.at }
    }

    /// Moves past `bytes` if they come next. They must be whole characters.
    #[inline]
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        let found = self.rest().starts_with(bytes);
        if found {
            self.at += bytes.len();
        }
        found
    }

    pub fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[must_use]
    #[inline]
    pub fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    #[inline]
    fn since(&self, start: usize) -> Result<&'a str, Malformed> {
        self.text.get(start..self.at).ok_or(Malformed { expected: "whole characters", at: start })
    }

    /// Reads the value that starts here.
    #[inline]
    pub fn value(&mut self) -> Result<Literal<'a>, Malformed> {
        let start = self.at;
        let token = match self.peek() {
            Some(b'"') => Token::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => {
                self.number();
                Token::Number
            }
            Some(b'{' | b'[') => {
                self.nested()?;
                Token::Nested
            }
            _ if self.take(b"null") => Token::Null,
            _ if self.take(b"true") => Token::Boolean(true),
            _ if self.take(b"false") => Token::Boolean(false),
            _ => return Err(self.malformed("a value")),
        };
        Ok(Literal { raw: self.since(start)?, token })
    }

    #[inline]
    fn number(&mut self) {
        let digits = self.rest().iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        self.at = digits.map_or(self.text.len(), |digits| self.at + digits);
    }

    /// Reads a string, the quote being next.
    #[inline]
    pub fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if !self.take(b"\"") {
            return Err(self.malformed("a string"));
        }
        let plain = self.plain()?;
        if self.take(b"\"") { Ok(Cow::Borrowed(plain)) } else { self.unescaped(plain).map(Cow::Owned) }
    }

    /// Reads up to the next quote or backslash of a string.
    #[inline]
    fn plain(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        let Some(end) = memchr2(b'"', b'\\', self.rest()) else { return Err(self.malformed("a closing quote")) };
        self.at += end;
        self.since(start)
    }

    /// The rest of a string that begins with `plain`, a backslash being next.
    fn unescaped(&mut self, plain: &str) -> Result<String, Malformed> {
        let mut text = plain.to_owned();
        loop {
            text.push(self.escape()?);
            text.push_str(self.plain()?);
            if self.take(b"\"") {
                return Ok(text);
            }
        }
    }

    /// Reads one escape, the backslash being next.
    fn escape(&mut self) -> Result<char, Malformed> {
        self.at += 1;
        let letter = self.peek().ok_or(self.malformed("an escape"))?;
        let character = match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.malformed("an escape")),
        };
        self.at += 1;
        Ok(character)
    }

    /// Reads `uXXXX`, two of them for what lies outside the basic plane.
    fn unicode(&mut self) -> Result<char, Malformed> {
        let first = self.code_unit()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            if !self.take(b"\\") {
                return Err(self.malformed("the second half of a surrogate pair"));
            }
            let second = self.code_unit()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.malformed("the second half of a surrogate pair"));
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or(self.malformed("a character"))
    }

    fn code_unit(&mut self) -> Result<u32, Malformed> {
        let digits = match self.rest() {
            [b'u', digits @ ..] => digits.get(..4),
            _ => None,
        };
        let unit = digits
            .and_then(|digits| digits.iter().try_fold(0, |unit, digit| char::from(*digit).to_digit(16).map(|digit| unit << 4 | digit)));
        let unit = unit.ok_or(self.malformed("four hexadecimal digits"))?;
        self.at += 5;
        Ok(unit)
    }

    /// Moves past an object or array. Counts its brackets instead of recursing,
    /// so that no depth is too much.
    fn nested(&mut self) -> Result<(), Malformed> {
        let mut depth: usize = 0;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        Err(self.malformed("a closing bracket"))
    }

    /// Moves past a string without reading its escapes: `\u0000`, which is
    /// valid in a json column, has no character to become.
    fn skip_string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        while let Some(end) = memchr2(b'"', b'\\', self.rest()) {
            self.at += end;
            if self.take(b"\"") {
                return Ok(());
            }
            self.at += 2;
        }
        Err(self.malformed("a closing quote"))
    }
}

/// The members of an object in their order, wherever it has white space.
pub fn object(text: &str) -> Result<Vec<(Cow<'_, str>, Literal<'_>)>, Malformed> {
    let mut scanner = Scanner::new(text);
    let mut members = Vec::new();
    scanner.skip_space();
    if !scanner.take(b"{") {
        return Err(scanner.malformed("an object"));
    }
    scanner.skip_space();
    if scanner.take(b"}") {
        return end(scanner, members);
    }
    loop {
        scanner.skip_space();
        let key = scanner.string()?;
        scanner.skip_space();
        if !scanner.take(b":") {
            return Err(scanner.malformed("a colon"));
        }
        scanner.skip_space();
        members.push((key, scanner.value()?));
        scanner.skip_space();
        if scanner.take(b"}") {
            return end(scanner, members);
        }
        if !scanner.take(b",") {
            return Err(scanner.malformed("a comma or the end of the object"));
        }
    }
}

fn end<T>(mut scanner: Scanner<'_>, members: T) -> Result<T, Malformed> {
    scanner.skip_space();
    if scanner.at_end() { Ok(members) } else { Err(scanner.malformed("nothing after the object")) }
}

/// `name` as a key of an object, colon included, escaped as PostgreSQL's
/// `escape_json` does.
#[must_use]
pub fn key(name: &str) -> Vec<u8> {
    let mut key = String::with_capacity(name.len() + 3);
    key.push('"');
    for character in name.chars() {
        match character {
            '"' => key.push_str("\\\""),
            '\\' => key.push_str("\\\\"),
            '\u{8}' => key.push_str("\\b"),
            '\u{c}' => key.push_str("\\f"),
            '\n' => key.push_str("\\n"),
            '\r' => key.push_str("\\r"),
            '\t' => key.push_str("\\t"),
            control if control < ' ' => key.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => key.push(other),
        }
    }
    key.push_str("\":");
    key.into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Eighths are exact whatever reads them.
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn same(literal: &Literal<'_>, value: &Value) -> bool {
        let whole: Value = serde_json::from_str(literal.raw).unwrap();
        whole == *value
            && match &literal.token {
                Token::Null => value.is_null(),
                Token::Boolean(boolean) => value == &Value::from(*boolean),
                Token::Number => value.is_number(),
                Token::String(text) => value == &Value::from(text.as_ref()),
                Token::Nested => value.is_object() || value.is_array(),
            }
    }

    proptest! {
        #[test]
        fn objects_read_as_serde_reads_them(map in prop::collection::hash_map(any::<String>(), json(), 0..8), pretty in any::<bool>()) {
            let value = Value::Object(map.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let members = object(&text).unwrap();
            let expected = value.as_object().unwrap();
            prop_assert_eq!(members.len(), expected.len());
            for ((key, literal), (name, value)) in members.iter().zip(expected) {
                prop_assert_eq!(key.as_ref(), name);
                prop_assert!(same(literal, value), "{:?} is not {}", literal, value);
            }
        }

        #[test]
        fn a_key_is_what_a_serializer_of_json_writes(name in any::<String>()) {
            let mut scanner_input = key(&name);
            prop_assert_eq!(scanner_input.pop(), Some(b':'));
            prop_assert_eq!(serde_json::from_slice::<String>(&scanner_input).unwrap(), name);
        }

        #[test]
        fn anything_is_read_or_refused(text in any::<String>()) {
            let _ = object(&text);
            let _ = object(&format!("{{\"a\":{text}"));
            let _ = object(&format!("{{\"a\":\"{text}"));
            let _ = object(&format!("{{\"a\":[{text}"));
        }

        #[test]
        fn a_cut_object_is_refused(map in prop::collection::hash_map(any::<String>(), json(), 1..4), cut in any::<prop::sample::Index>()) {
            let text = Value::Object(map.into_iter().collect()).to_string();
            let at = (0..=cut.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            prop_assert!(object(&text[..at]).is_err());
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let text = r#"{"a":12345678901234567890.12345678901234567890,"b":-1e400}"#;
        let raw: Vec<&str> = object(text).unwrap().into_iter().map(|(_, literal)| literal.raw).collect();
        assert_eq!(raw, ["12345678901234567890.12345678901234567890", "-1e400"]);
    }

    #[test]
    fn a_nested_null_character_is_kept() {
        let text = r#"{"a":{"b":"\u0000","b":"\\\""}}"#;
        assert_eq!(object(text).unwrap()[0].1.raw, r#"{"b":"\u0000","b":"\\\""}"#);
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for text in [r#"{"a":"\ud800"}"#, r#"{"a":"\ud800\u0041"}"#, r#"{"a":"\udc00"}"#, r#"{"a":"\u+123"}"#] {
            assert!(object(text).is_err(), "{text}");
        }
        assert_eq!(object(r#"{"a":"\ud83d\ude00"}"#).unwrap()[0].1.token, Token::String("😀".into()));
    }
}
