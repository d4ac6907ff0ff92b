//! Paths that a grant bounds: compared segment by segment, and refused where a server
//! might read them differently.

use std::fmt;

/// The beginning that a granted path has. Whole segments count: `/a` does not hold `/ab`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    segments: Vec<String>,
}

impl Prefix {
    /// The error says what is wrong with the path.
    pub fn parse(path: &str) -> Result<Self, &'static str> {
        let mut segments = segments(path)?;
        if segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        Ok(Self { segments })
    }

    /// How many segments have to be equal.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the path is granted. Where the whole origin is, it may be anything.
    pub fn holds(&self, path: &str) -> Result<bool, &'static str> {
        if self.segments.is_empty() {
            return Ok(true);
        }
        Ok(segments(path)?.starts_with(&self.segments))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        self.segments.iter().try_for_each(|segment| write!(f, "{segment}/"))
    }
}

/// The segments without their escapes and parameters; the last is empty for `/a/`.
fn segments(path: &str) -> Result<Vec<String>, &'static str> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let mut found = Vec::new();
    let mut raw = rest.split('/').peekable();
    while let Some(segment) = raw.next() {
        let text = decode(segment)?;
        if text.contains(['/', '\\']) || text.chars().any(char::is_control) {
            return Err("has a backslash, a control character or an escaped slash");
        }
        // Servers that decode twice would see something else.
        let escape = |bytes: &[u8]| matches!(bytes, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
        if text.as_bytes().windows(3).any(escape) {
            return Err("is escaped twice");
        }
        // To some servers, `..;x` is `..`.
        let name = text.split(';').next().unwrap_or_default();
        if matches!(name, "." | "..") {
            return Err("has a segment `.` or `..`");
        }
        if text.is_empty() && raw.peek().is_some() {
            return Err("has `//`");
        }
        found.push(text);
    }
    Ok(found)
}

fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return Err("has a `%` that begins no escape") };
        bytes.push(high << 4 | low);
    }
    // An overlong `.` or `/` is no UTF-8.
    String::from_utf8(bytes).map_err(|_| "is not UTF-8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_segments_count() {
        let prefix = Prefix::parse("/index/").unwrap();
        for path in ["/index", "/index/", "/index/_bulk", "/index/a%20b", "/%69ndex/x", "/index/a;b"] {
            assert_eq!(prefix.holds(path), Ok(true), "{path}");
        }
        for path in ["/", "/index2", "/inde", "/Index/x", "/other/index/", "", "/index;x/_bulk"] {
            assert_eq!(prefix.holds(path), Ok(false), "{path}");
        }
        assert_eq!(prefix.to_string(), "/index/");
        assert_eq!(Prefix::parse("").unwrap(), Prefix::parse("/").unwrap());
    }

    #[test]
    fn paths_that_servers_read_differently_are_refused() {
        let prefix = Prefix::parse("/index").unwrap();
        for path in [
            "/index/../other",
            "/index/..",
            "/index/./x",
            "/index/%2e%2e/other",
            "/index/%2E./other",
            "/index/.%2e/other",
            "/index/..;/other",
            "/index/..;a=b/other",
            "/index/%2e%2e;/other",
            "/index//other",
            "//index/x",
            "/index/..\\other",
            "/index\\..\\other",
            "/index/%5c..",
            "/index/..%2fother",
            "/index/%252e%252e/other",
            "/index/%252fother",
            "/index/%25ff%252f..%252f..%252fother",
            "/index/x%25%252f..%252f..%252fother",
            "/index/%c0%ae%c0%ae/x",
            "/index/%00",
            "/index/%",
            "/index/%2",
            "/index/%zz",
            "/index/a%0d%0ab",
        ] {
            assert!(prefix.holds(path).is_err(), "{path}");
        }
        // Where all is granted, nothing is left to leave.
        assert_eq!(Prefix::default().holds("/a//b/../%2f"), Ok(true));
    }

    /// Without its escapes; what is none stays.
    fn unescaped(bytes: &[u8]) -> Vec<u8> {
        let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(byte) = bytes.get(at) {
            let escaped = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))).filter(|_| *byte == b'%');
            found.push(escaped.map_or(*byte, |(high, low)| u8::try_from(16 * high + low).unwrap()));
            at += if escaped.is_some() { 3 } else { 1 };
        }
        found
    }

    /// What servers do with a path, at their most lenient.
    fn lenient(path: &str) -> Vec<String> {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..3 {
            bytes = unescaped(&bytes);
        }
        let mut kept: Vec<String> = Vec::new();
        for segment in String::from_utf8_lossy(&bytes).replace('\\', "/").split('/') {
            match segment.split(';').next().unwrap_or_default() {
                "" | "." => {}
                ".." => _ = kept.pop(),
                name => kept.push(name.to_owned()),
            }
        }
        kept
    }

    proptest! {
        #[test]
        fn no_path_leaves_its_prefix(parts in proptest::collection::vec(prop_oneof![
            Just("index"), Just("."), Just("/"), Just("\\"), Just("%2e"), Just("%2f"), Just("%5c"), Just("%25"), Just("2e"), Just("2f"), Just(";"),
            Just("x"), Just("%"), Just("%c0%ae"), Just("é"), Just("ff"), Just(".."),
        ], 0..12)) {
            let path = format!("/index/{}", parts.concat());
            let prefix = Prefix::parse("/index").unwrap();
            if prefix.holds(&path) == Ok(true) {
                let read = lenient(&path);
                prop_assert_eq!(read.first().map(String::as_str), Some("index"), "{}", path);
            }
        }
    }
}
