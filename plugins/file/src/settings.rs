//! The section's `configuration`.

use serde::Deserialize;

use crate::failure::{Failure, Outcome};

const SEGMENT_BYTES: u64 = 128 << 20;
/// Pushed messages are collected up to this size before they are written.
const BUFFER_BYTES: usize = 1 << 20;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A segment that has grown to this size is followed by a new one.
    pub segment_bytes: u64,
    /// About how much to keep beside the newest segment; without it everything.
    /// A worker that falls further behind than this has to begin anew.
    pub retention_bytes: Option<u64>,
    /// For tests, which have no megabytes to write.
    #[serde(skip)]
    pub buffer_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, retention_bytes: None, buffer_bytes: BUFFER_BYTES }
    }
}

impl Settings {
    /// From the JSON that the host makes of the YAML.
    pub fn parse(json: &str) -> Outcome<Self> {
        let settings: Self = serde_json::from_str(json).map_err(|error| {
            Failure::Configure(format!(
                "the configuration of the file stream is not accepted: {error}; it takes `segment_bytes` and `retention_bytes`"
            ))
        })?;
        if settings.segment_bytes < SEGMENT_BYTES_MIN {
            return Err(Failure::Configure(format!("`segment_bytes` is {}: choose at least {SEGMENT_BYTES_MIN}", settings.segment_bytes)));
        }
        Ok(settings)
    }
}

/// The folder of a set's log below the granted one: cluster and set, each spelled
/// so that it is one plain file name.
pub fn folder(cluster: &str, set: &str) -> [String; 2] {
    [cluster, set].map(spell)
}

fn spell(name: &str) -> String {
    let mut spelled = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => spelled.push(char::from(byte)),
            b'.' if at > 0 => spelled.push('.'),
            other => spelled.push_str(&format!("%{other:02x}")),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_needs_to_be_configured() {
        assert_eq!(Settings::parse("{}"), Ok(Settings::default()));
    }

    #[test]
    fn what_is_configured_counts() {
        let settings = Settings::parse(r#"{"segment_bytes": 1048576, "retention_bytes": 0}"#);
        assert_eq!(settings, Ok(Settings { segment_bytes: 1 << 20, retention_bytes: Some(0), ..Settings::default() }));
    }

    #[test]
    fn mistakes_are_named() {
        for (json, named) in [
            (r#"{"segment_byte": 1}"#, "`segment_byte`"),
            (r#"{"segment_bytes": "1"}"#, "invalid type: string"),
            (r#"{"segment_bytes": 1}"#, "at least 1048576"),
            ("[1]", "segment_bytes"),
            ("", "not accepted"),
        ] {
            assert!(matches!(Settings::parse(json), Err(Failure::Configure(text)) if text.contains(named)), "{json}");
        }
    }

    #[test]
    fn a_name_is_one_plain_file_name() {
        assert_eq!(folder("a", "b.c"), ["a", "b.c"]);
        assert_eq!(folder("..", "a/b%ä"), ["%2e.", "a%2fb%25%c3%a4"]);
    }
}
