//! A value of the file together with its path, and what can be asked of it.

use crate::printable;
use std::fmt::Write as _;
use std::time::Duration;

use serde_yaml::Value;

use super::expand::{Sources, expand};

/// One step of the way from the root to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// What is wrong with the field at `path`.
#[derive(Debug)]
pub struct Problem {
    pub path: Vec<Step>,
    /// The key is at fault, not its value.
    pub at_key: bool,
    pub message: String,
}

type Result<T> = std::result::Result<T, Problem>;

/// `transforms[1].limits.memory`.
pub fn join(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => _ = write!(text, "[{index}]"),
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => _ = write!(text, ".{key}"),
        }
    }
    text
}

#[derive(Clone, Debug)]
pub struct Field<'a> {
    pub path: Vec<Step>,
    pub value: &'a Value,
}

impl<'a> Field<'a> {
    pub fn root(value: &'a Value) -> Self {
        Self { path: Vec::new(), value }
    }

    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), at_key: false, message: message.into() }
    }

    /// Says that the value has the wrong kind, and what to write.
    pub fn wrong(&self, remedy: &str) -> Problem {
        self.problem(format!("{}; {remedy}", describe(self.value)))
    }

    pub fn below(&self, step: Step, value: &'a Value) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self { path, value }
    }

    /// Checks that the value is a map with no other keys than these.
    pub fn map(&self, keys: &[&str]) -> Result<()> {
        let list = || format!("`{}`", keys.join("`, `"));
        let Value::Mapping(map) = self.value else {
            return Err(self.wrong(&format!("write a map with the keys {}", list())));
        };
        for key in map.keys() {
            let name = self.key(key)?;
            if !keys.contains(&name) {
                let hint = match nearest(name, keys) {
                    Some(key) => format!("did you mean `{key}`?"),
                    None => format!("the keys here are {}", list()),
                };
                let at = self.below(Step::Key(name.to_owned()), self.value);
                return Err(Problem { at_key: true, ..at.problem(format!("unknown key; {hint}")) });
            }
        }
        Ok(())
    }

    fn key<'k>(&self, key: &'k Value) -> Result<&'k str> {
        key.as_str().ok_or_else(|| self.problem(format!("a key of this map {}; put it in quotes", describe(key))))
    }

    /// The entries of a map, in the file's order.
    pub fn entries(&self, remedy: &str) -> Result<Vec<(&'a str, Field<'a>)>> {
        let Value::Mapping(map) = self.value else { return Err(self.wrong(remedy)) };
        map.iter()
            .map(|(key, value)| {
                let name = key.as_str().ok_or_else(|| self.key(key).err().unwrap_or_else(|| self.wrong(remedy)))?;
                Ok((name, self.below(Step::Key(name.to_owned()), value)))
            })
            .collect()
    }

    /// The value under `key`; `key:` without a value counts as absent.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        let value = self.value.get(key)?;
        (!value.is_null()).then(|| self.below(Step::Key(key.to_owned()), value))
    }

    pub fn required(&self, key: &str, remedy: &str) -> Result<Field<'a>> {
        self.get(key).ok_or_else(|| self.problem(format!("the key `{key}` is missing; {remedy}")))
    }

    pub fn text(&self, remedy: &str) -> Result<&'a str> {
        match self.value.as_str() {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(self.wrong(remedy)),
        }
    }

    /// `text`, which stands in this field, with what `${…}` names.
    pub fn expand(&self, text: &str, sources: &Sources<'_>) -> Result<String> {
        expand(text, sources).map_err(|message| self.problem(message))
    }

    /// A size such as `64MiB`, within bounds.
    pub fn bytes(&self, min: u64, max: u64) -> Result<u64> {
        let remedy = "write a number with B, KiB, MiB or GiB, such as 64MiB";
        let text = self.value.as_str().ok_or_else(|| self.wrong(remedy))?;
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
        let bytes = quantity(text, &units).ok_or_else(|| self.problem(format!("{text:?} is not a size; {remedy}")))?;
        if (min..=max).contains(&bytes) {
            return Ok(bytes);
        }
        Err(self.problem(format!("{text} is out of bounds; write a size from {} to {}", printable::size(min), printable::size(max))))
    }

    /// A whole number, within bounds.
    pub fn count(&self, min: u64, max: u64) -> Result<u64> {
        let number = self.value.as_u64().ok_or_else(|| self.wrong(&format!("write a whole number from {min} to {max}")))?;
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(self.problem(format!("{number} is out of bounds; write a number from {min} to {max}")))
    }

    /// A duration such as `30s`, within bounds.
    pub fn duration(&self, min: Duration, max: Duration) -> Result<Duration> {
        let remedy = "write a number with ms, s, m or h, such as 30s";
        let text = self.value.as_str().ok_or_else(|| self.wrong(remedy))?;
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let millis = quantity(text, &units).ok_or_else(|| self.problem(format!("{text:?} is not a duration; {remedy}")))?;
        let duration = Duration::from_millis(millis);
        if (min..=max).contains(&duration) {
            return Ok(duration);
        }
        Err(self.problem(format!("{text} is out of bounds; write a duration from {min:?} to {max:?}")))
    }
}

/// The value's kind, and the value itself where it cannot be a secret.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "has no value".into(),
        Value::Bool(value) => format!("is {value}, a boolean"),
        Value::Number(number) => format!("is the number {number}"),
        Value::String(text) if text.trim().is_empty() => "is an empty text".into(),
        Value::String(_) => "is a text".into(),
        Value::Sequence(_) => "is a list".into(),
        Value::Mapping(_) => "is a map".into(),
        Value::Tagged(tagged) => format!("has the YAML tag {}", tagged.tag),
    }
}

/// A whole number and a unit, in the unit's smallest part.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The known key that a mistyped one was probably meant to be.
fn nearest<'k>(name: &str, keys: &[&'k str]) -> Option<&'k str> {
    let name = name.to_lowercase();
    let distance = |key: &&str| strsim::damerau_levenshtein(&name, key);
    keys.iter().copied().min_by_key(distance).filter(|key| distance(key) <= key.len().max(3) / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let units = [("KiB", 1 << 10), ("B", 1)];
        for (text, expected) in [
            ("64KiB", Some(65536)),
            ("64 KiB", Some(65536)),
            ("7B", Some(7)),
            ("7", None),
            ("", None),
            ("KiB", None),
            ("-1B", None),
            ("1.5KiB", None),
            ("64kib", None),
            ("99999999999999999999B", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(quantity(text, &units), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_print_as_they_are_written() {
        assert_eq!([0, 5, 1536, 64 << 20, 3 << 30].map(printable::size), ["0B", "5B", "1536B", "64MiB", "3GiB"]);
    }

    #[test]
    fn the_nearest_key_is_near() {
        let keys = ["path", "configuration", "grants", "limits", "sha256"];
        for (name, expected) in
            [("paht", Some("path")), ("config", None), ("configurations", Some("configuration")), ("Grants", Some("grants")), ("x", None)]
        {
            assert_eq!(nearest(name, &keys), expected, "{name}");
        }
    }
}
