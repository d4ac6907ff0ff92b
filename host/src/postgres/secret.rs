//! Passwords in connection strings: where they stand, and how they are hidden.
//! Pure.

use std::ops::Range;

/// What stands for a password.
pub const MASK: &str = "********";

/// The keywords whose values are secrets.
const SECRETS: [&str; 2] = ["password", "sslpassword"];

/// The connection string with every password replaced by [`MASK`].
#[must_use]
pub fn mask(dsn: &str) -> String {
    let mut masked = dsn.to_owned();
    for place in secrets(dsn).into_iter().rev() {
        masked.replace_range(place, MASK);
    }
    masked
}

/// Whether a password is [`MASK`]: the string was printed, not written.
#[must_use]
pub fn is_masked(dsn: &str) -> bool {
    secrets(dsn).into_iter().any(|place| dsn.get(place) == Some(MASK))
}

/// Whether it holds a password.
#[must_use]
pub fn has_password(dsn: &str) -> bool {
    !secrets(dsn).is_empty()
}

/// Where the passwords stand, in order.
fn secrets(dsn: &str) -> Vec<Range<usize>> {
    match ["postgresql://", "postgres://"].iter().find(|scheme| dsn.starts_with(**scheme)) {
        Some(scheme) => in_uri(dsn, scheme.len()),
        None => in_keywords(dsn),
    }
}

fn in_uri(dsn: &str, start: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let rest = dsn.get(start..).unwrap_or_default();
    // The last '@' before the path: a password may hold one that was not escaped.
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    let end_of_user = rest.get(..authority).and_then(|text| text.rfind('@')).or_else(|| rest.rfind('@'));
    if let Some(end) = end_of_user
        && let Some(colon) = rest.get(..end).and_then(|user| user.find(':'))
    {
        found.push(start + colon + 1..start + end);
    }
    if let Some(question) = rest.find('?') {
        let mut at = start + question + 1;
        for pair in dsn.get(at..).unwrap_or_default().split('&') {
            if let Some((key, _)) = pair.split_once('=')
                && SECRETS.contains(&key)
            {
                found.push(at + key.len() + 1..at + pair.len());
            }
            at += pair.len() + 1;
        }
    }
    found
}

fn in_keywords(dsn: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(equals) = dsn.get(at..).and_then(|rest| rest.find('=')).map(|found| found + at) {
        let key = dsn.get(at..equals).unwrap_or_default().trim();
        let value = dsn.get(equals + 1..).unwrap_or_default();
        let begin = equals + 1 + (value.len() - value.trim_start().len());
        let end = begin + value_length(dsn.get(begin..).unwrap_or_default());
        if SECRETS.contains(&key) {
            found.push(begin..end);
        }
        at = end;
    }
    found
}

/// Bytes of a value: quoted, or up to a blank; a backslash takes the next
/// character with it.
fn value_length(text: &str) -> usize {
    let quoted = text.starts_with('\'');
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(usize::from(quoted)) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted => return index + 1,
            _ if !quoted && character.is_whitespace() => return index,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (dsn, masked) in [
            ("host=a password=secret user=b", "host=a password=******** user=b"),
            ("password = 'it is' host=a", "password = ******** host=a"),
            (r"password='a\' b' dbname=password", "password=******** dbname=password"),
            (r"host=a password=a\ b user=c", "host=a password=******** user=c"),
            ("host=a user=b", "host=a user=b"),
            ("postgresql://u:secret@a:1/db", "postgresql://u:********@a:1/db"),
            ("postgresql://u:sec@ret@a/db", "postgresql://u:********@a/db"),
            ("postgresql://u:a/b@a/db", "postgresql://u:********@a/db"),
            ("postgres://u@a:1/db?sslmode=disable&password=x", "postgres://u@a:1/db?sslmode=disable&password=********"),
            ("postgresql://a:5432/db", "postgresql://a:5432/db"),
        ] {
            assert_eq!(mask(dsn), masked);
            assert_eq!((is_masked(masked), has_password(dsn)), (dsn != masked, dsn != masked), "{masked}");
            assert!(!is_masked(dsn), "{dsn}");
        }
    }
}
