//! What a section of the configuration lets its plugin reach: nothing, unless it
//! is said here. Credentials stay in the host; no output of this module shows them.

use std::collections::BTreeMap;
use std::fmt;

use super::capability::Capability;
use crate::yaml::{Field, Problem};

/// The resources of one kind: a plugin asks for one by its name, or for the only one.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Resources<T> {
    #[default]
    None,
    One(T),
    Named(BTreeMap<String, T>),
}

impl<T> Resources<T> {
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The resource that a plugin asks for. The error is for the plugin's author:
    /// `kind` is the key of the grant.
    pub fn pick(&self, kind: &str, name: Option<&str>) -> Result<&T, String> {
        match (self, name) {
            (Self::One(resource), None) => Ok(resource),
            (Self::Named(resources), None) if resources.len() == 1 => resources.values().next().ok_or_else(|| format!("no grant `{kind}`")),
            (Self::Named(resources), Some(name)) => {
                resources.get(name).ok_or_else(|| format!("no grant `{kind}.{name}`; the section grants {}", names(kind, resources)))
            }
            (Self::Named(resources), None) => {
                Err(format!("the section grants several, so one has to be asked for by name: {}", names(kind, resources)))
            }
            (Self::One(_), Some(name)) => Err(format!("no grant `{kind}.{name}`; the section grants one `{kind}` without a name")),
            (Self::None, _) => Err(format!("the section grants no `{kind}`")),
        }
    }
}

fn names<T>(kind: &str, resources: &BTreeMap<String, T>) -> String {
    let names: Vec<String> = resources.keys().map(|name| format!("`{kind}.{name}`")).collect();
    names.join(", ")
}

/// A text that no log may show: a connection string, a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the client library that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The resource that a plugin asks for; else what its author, or its operator, has to do.
pub fn granted<'a, C: Capability, T>(resources: &'a Resources<T>, name: Option<&str>, place: &str) -> Result<&'a T, String> {
    resources.pick(C::NAME, name).map_err(|reason| match C::ACCESS.example() {
        Some(grant) if resources.is_none() => format!("{reason}; add to the {place}: grants: {{ {grant} }}"),
        _ => format!("{reason} ({place})"),
    })
}

/// Reads a map from names to resources.
pub(crate) fn named<'a, T>(
    field: &Field<'a>,
    read: impl Fn(&Field<'a>) -> std::result::Result<T, Problem>,
) -> std::result::Result<Resources<T>, Problem> {
    let entries = field.entries("write a map from names to resources")?;
    if entries.is_empty() {
        return Err(field.problem("grants nothing; remove it, or write a map from names to resources"));
    }
    let resource = |(name, field): (&str, Field<'a>)| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(legal) {
            return Err(Problem { at_key: true, ..field.problem("is not a name; write letters, digits, - and _") });
        }
        Ok((name.to_owned(), read(&field)?))
    };
    Ok(Resources::Named(entries.into_iter().map(resource).collect::<std::result::Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Resources<String> {
        Resources::Named(names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect())
    }

    #[test]
    fn a_plugin_gets_what_is_granted_and_nothing_else() {
        let one = Resources::One("only".to_owned());
        assert_eq!(one.pick("postgres", None).unwrap(), "only");
        assert_eq!(named(&["a"]).pick("postgres", None).unwrap(), "a");
        assert_eq!(named(&["a", "b"]).pick("postgres", Some("b")).unwrap(), "b");
        for (resources, name, expected) in [
            (Resources::None, None, "the section grants no `postgres`"),
            (Resources::None, Some("a"), "the section grants no `postgres`"),
            (one, Some("a"), "no grant `postgres.a`; the section grants one `postgres` without a name"),
            (named(&["a", "b"]), None, "the section grants several, so one has to be asked for by name: `postgres.a`, `postgres.b`"),
            (named(&["a"]), Some("c"), "no grant `postgres.c`; the section grants `postgres.a`"),
        ] {
            assert_eq!(resources.pick("postgres", name).unwrap_err(), expected);
        }
    }
}
