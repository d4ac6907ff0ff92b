//! The section's `configuration`.

use serde_json::Value;

/// What a target may be told. See the README of this folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Schema and name of the table that holds the state.
    pub state: (String, String),
    /// Source schema, target schema.
    pub schemas: Vec<(String, String)>,
    pub empty: Empty,
    pub triggers: Triggers,
    pub types: Types,
}

/// How a table is emptied before it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// Needs no more than what applying needs, and readers see the old rows until
    /// the new ones are there.
    Delete,
    /// Faster where the table is large; readers wait until the bootstrap ends.
    Truncate,
}

/// Whether foreign keys and ordinary triggers of the target take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triggers {
    /// Skipped where the role may skip them.
    Auto,
    /// `session_replication_role = replica`, as native logical replication does.
    Skip,
    Fire,
}

/// What becomes of values where the types of a column differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// Nothing is written to a type that may change a value: see [`crate::fit`].
    Same,
    /// What the target's type makes of their text.
    Convert,
}

const KEYS: [&str; 5] = ["state", "schemas", "empty", "triggers", "types"];

impl Settings {
    /// From JSON; the error names the key, and the nearest one that there is.
    pub fn parse(configuration: &str) -> Result<Self, String> {
        let parsed: Value = serde_json::from_str(configuration).map_err(|error| format!("the configuration is not JSON: {error}"))?;
        let members = match parsed {
            Value::Null => serde_json::Map::new(),
            Value::Object(members) => members,
            _ => return Err("the configuration is not a mapping: write keys and values".to_owned()),
        };
        let mut settings = Self {
            state: ("pgshovel".to_owned(), "state".to_owned()),
            schemas: Vec::new(),
            empty: Empty::Delete,
            triggers: Triggers::Auto,
            types: Types::Same,
        };
        for (key, value) in &members {
            match key.as_str() {
                "state" => settings.state = table(value)?,
                "schemas" => settings.schemas = schemas(value)?,
                "empty" => settings.empty = choice(key, value, &[("delete", Empty::Delete), ("truncate", Empty::Truncate)])?,
                "triggers" => {
                    let choices = [("auto", Triggers::Auto), ("skip", Triggers::Skip), ("fire", Triggers::Fire)];
                    settings.triggers = choice(key, value, &choices)?;
                }
                "types" => settings.types = choice(key, value, &[("same", Types::Same), ("convert", Types::Convert)])?,
                unknown => return Err(format!("the configuration has an unknown key {unknown:?}{}", nearest(unknown))),
            }
        }
        Ok(settings)
    }

    /// Where the rows of a source schema go.
    #[must_use]
    pub fn schema<'a>(&'a self, source: &'a str) -> &'a str {
        self.schemas.iter().find(|(from, _)| from == source).map_or(source, |(_, to)| to)
    }
}

fn table(value: &Value) -> Result<(String, String), String> {
    let parts = value.as_str().and_then(|text| text.split_once('.')).filter(|(schema, table)| !schema.is_empty() && !table.is_empty());
    let (schema, table) = parts.ok_or("the key \"state\" of the configuration is not a schema and a table: write pgshovel.state")?;
    Ok((schema.to_owned(), table.to_owned()))
}

fn schemas(value: &Value) -> Result<Vec<(String, String)>, String> {
    let wrong = "the key \"schemas\" of the configuration is not a mapping of source schemas to target schemas: write { public: copy }";
    let members = value.as_object().ok_or(wrong)?;
    members.iter().map(|(from, to)| Ok((from.clone(), to.as_str().ok_or(wrong)?.to_owned()))).collect()
}

fn choice<T: Copy>(key: &str, value: &Value, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = value.as_str().and_then(|text| choices.iter().find(|(name, _)| *name == text));
    chosen.map(|(_, chosen)| *chosen).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("the key {key:?} of the configuration takes one of: {}", names.join(", "))
    })
}

fn nearest(unknown: &str) -> String {
    let near = KEYS.iter().map(|key| (strsim::damerau_levenshtein(unknown, key), key)).min();
    match near {
        Some((distance, key)) if distance <= 2 => format!(": did you mean {key:?}?"),
        _ => format!(": it takes {}", KEYS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(configuration: &str) -> String {
        Settings::parse(configuration).unwrap_err()
    }

    #[test]
    fn nothing_given_is_the_defaults() {
        let settings = Settings::parse("{}").unwrap();
        assert_eq!(settings, Settings::parse("null").unwrap());
        assert_eq!(settings.state, ("pgshovel".to_owned(), "state".to_owned()));
        assert_eq!(settings.schema("public"), "public");
    }

    #[test]
    fn every_key_is_read() {
        let settings =
            r#"{"state": "ops.place", "schemas": {"public": "copy"}, "empty": "truncate", "triggers": "fire", "types": "convert"}"#;
        let settings = Settings::parse(settings).unwrap();
        assert_eq!(settings.state, ("ops".to_owned(), "place".to_owned()));
        assert_eq!((settings.schema("public"), settings.schema("other")), ("copy", "other"));
        assert_eq!((settings.empty, settings.triggers, settings.types), (Empty::Truncate, Triggers::Fire, Types::Convert));
    }

    #[test]
    fn mistakes_are_named_with_the_remedy() {
        assert_eq!(refused(r#"{"schema": {}}"#), "the configuration has an unknown key \"schema\": did you mean \"schemas\"?");
        assert_eq!(
            refused(r#"{"dsn": "x"}"#),
            "the configuration has an unknown key \"dsn\": it takes state, schemas, empty, triggers, types"
        );
        assert_eq!(refused(r#"{"empty": 1}"#), "the key \"empty\" of the configuration takes one of: delete, truncate");
        assert!(refused(r#"{"state": "place"}"#).contains("write pgshovel.state"));
        assert!(refused(r#"{"schemas": ["a"]}"#).contains("write { public: copy }"));
        assert!(refused("[]").contains("not a mapping"));
        assert!(refused("{").contains("not JSON"));
    }
}
