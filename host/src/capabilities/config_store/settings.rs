//! A section's configuration, as keys with values.

use serde_json::Value;

/// The keys of a section's configuration, in its order, with their values as text.
pub type Settings = Vec<(String, String)>;

/// A text as it is, each other value as JSON. A key without a value counts as absent, as it
/// does everywhere in the file.
pub(super) fn settings(configuration: &Value) -> Settings {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let entries = configuration.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_texts() {
        let configuration = json!({
            "topic": "a \"b\"", "empty": "", "count": 3, "rate": 0.5, "on": true, "absent": null,
            "nested": { "list": [1, "x", null] }, "list": []
        });
        let expected = [
            ("topic", "a \"b\""),
            ("empty", ""),
            ("count", "3"),
            ("rate", "0.5"),
            ("on", "true"),
            ("nested", r#"{"list":[1,"x",null]}"#),
            ("list", "[]"),
        ];
        assert_eq!(settings(&configuration), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(settings(&Value::Null), []);
    }
}
