//! Where a field stands in the text. `serde_yaml` tells positions of errors only,
//! so the text is read once more, up to the field, which then is the error.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::field::Step;

/// Line and column of the field at `path`, counted from 1; of its key if `at_key`.
pub fn find(text: &str, path: &[Step], at_key: bool) -> Option<(usize, usize)> {
    let error = Walk { path, at_key }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|at| (at.line(), at.column()))
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    path: &'a [Step],
    at_key: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path.split_first() {
            None => deserializer.deserialize_any(Here),
            Some((Step::Key(key), rest)) => deserializer.deserialize_map(Entry { key, rest: Walk { path: rest, ..self } }),
            Some((Step::Index(index), rest)) => deserializer.deserialize_seq(Item { index: *index, rest: Walk { path: rest, ..self } }),
        }
    }
}

/// A visitor that accepts nothing: whatever it meets is the error to find.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

struct Entry<'a> {
    key: &'a str,
    rest: Walk<'a>,
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let fail = self.rest.path.is_empty() && self.rest.at_key;
        while let Some(found) = map.next_key_seed(Key { wanted: self.key, fail })? {
            if found {
                map.next_value_seed(self.rest)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Key<'a> {
    wanted: &'a str,
    fail: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<bool, E> {
        match text == self.wanted {
            true if self.fail => Err(E::custom("found")),
            found => Ok(found),
        }
    }
}

struct Item<'a> {
    index: usize,
    rest: Walk<'a>,
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for _ in 0..self.index {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(self.rest)?;
        Err(A::Error::custom("the list is shorter"))
    }
}
