//! The code that PostgreSQL gives its errors.

use std::fmt;

/// Five digits or capital letters: PostgreSQL's appendix A lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sqlstate([u8; 5]);

impl Sqlstate {
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    pub const QUERY_CANCELED: Self = Self(*b"57014");

    /// `None` for what is no SQLSTATE.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = <[u8; 5]>::try_from(text.as_bytes()).ok()?;
        bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()).then_some(Self(bytes))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        // It is ASCII, as `parse` has seen to.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Sqlstate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_five_digits_and_capitals_are_one() {
        assert_eq!(Sqlstate::parse("57014"), Some(Sqlstate::QUERY_CANCELED));
        assert_eq!(Sqlstate::parse("42P01").map(|state| state.to_string()).as_deref(), Some("42P01"));
        for wrong in ["", "5701", "570145", "57p01", "5701ä", "57 14"] {
            assert_eq!(Sqlstate::parse(wrong), None, "{wrong:?}");
        }
    }
}
