//! Where the sources make errors, and of which codes.

use std::collections::{BTreeMap, BTreeSet};

/// The codes that a text names, each with what its constructors say is done next: `stop` for
/// `Error::stop(Code::Bug`, `Stop` for `(Next::Stop, Code::Bug`.
pub fn named(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    // A test module at the end of a file makes errors of its own.
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (at, _) in text.match_indices("Code::") {
        let name: String = text[at + "Code::".len()..].chars().take_while(|c| c.is_alphanumeric()).collect();
        let nexts = found.entry(name).or_default();
        let before = text[..at].trim_end_matches("error::").trim_end_matches("crate::").trim_end();
        let next = match before.strip_suffix('(') {
            Some(call) => last_of(call, "Error::"),
            None => before.strip_suffix(',').and_then(|pair| last_of(pair, "Next::")),
        };
        nexts.extend(next.map(str::to_lowercase));
    }
    found
}

/// `stop` of `… Error::stop`.
fn last_of<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (_, name) = text.rsplit_once(prefix)?;
    name.chars().all(char::is_alphanumeric).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_what_is_done_next_are_found_however_they_are_written() {
        let text = "Error::stop(Code::A, 1)\nError::retry(\n    Code::A,\n    2)\n(Next::Blocked, Code::B)\nsome(error.code == Code::C)\nError::trap(crate::error::Code::A, 3)\n\
                    #[cfg(test)]\nmod tests {\n    Code::D";
        let found: Vec<(String, Vec<String>)> = named(text).into_iter().map(|(code, nexts)| (code, nexts.into_iter().collect())).collect();
        let expected = [("A", vec!["retry", "stop", "trap"]), ("B", vec!["blocked"]), ("C", vec![])];
        let expected = expected.map(|(code, nexts)| (code.to_owned(), nexts.into_iter().map(str::to_owned).collect::<Vec<_>>()));
        assert_eq!(found, expected);
    }
}
