//! The section's `configuration`, and what positions look like.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Kafka's own default, 1 MiB, is less than one wide row; brokers take requests of
/// up to 100 MiB unless they are told otherwise.
const MESSAGE_BYTES_MAX: (&str, &str) = ("max.message.bytes", "104000000");

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Default: `pgshovel.{cluster}.{set}`.
    pub topic: Option<String>,
    /// For a topic that is made here; default: what the broker makes.
    pub replicas: Option<u16>,
    /// The topic's own settings, for one that is made here: `retention.ms: "-1"`.
    pub settings: BTreeMap<String, String>,
    /// Which of several `grants.kafka` to use.
    pub grant: Option<String>,
}

impl Settings {
    /// From the JSON that the host makes of the YAML. The error is for the operator.
    pub fn parse(json: &str) -> Result<Self, String> {
        let mut settings: Self = serde_json::from_str(json).map_err(|error| {
            format!("the configuration of the kafka stream is not accepted: {error}; it takes `topic`, `replicas`, `settings` and `grant`")
        })?;
        let (name, value) = MESSAGE_BYTES_MAX;
        settings.settings.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        Ok(settings)
    }

    pub fn topic(&self, cluster: &str, set: &str) -> String {
        self.topic.clone().unwrap_or_else(|| format!("pgshovel.{cluster}.{set}"))
    }
}

/// A position is the offset of the message it follows, big endian.
pub fn encode_position(offset: u64) -> [u8; 8] {
    offset.to_be_bytes()
}

/// The offset to resume at.
pub fn decode_position(position: &[u8]) -> Result<u64, String> {
    let bytes: [u8; 8] = position
        .try_into()
        .map_err(|_| format!("a position of {} bytes is not one of this stream: was it made by another plugin?", position.len()))?;
    u64::from_be_bytes(bytes).checked_add(1).ok_or_else(|| "no offset follows the position".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_needs_to_be_configured() {
        let settings = Settings::parse("{}").unwrap();
        assert_eq!(settings.topic("c", "s"), "pgshovel.c.s");
        assert_eq!(settings.settings["max.message.bytes"], "104000000");
    }

    #[test]
    fn what_is_configured_counts() {
        let settings =
            Settings::parse(r#"{"topic": "t", "replicas": 3, "settings": {"max.message.bytes": "1", "retention.ms": "-1"}}"#).unwrap();
        assert_eq!((settings.topic("c", "s").as_str(), settings.replicas), ("t", Some(3)));
        assert_eq!(settings.settings["max.message.bytes"], "1");
        assert_eq!(settings.settings["retention.ms"], "-1");
    }

    #[test]
    fn mistakes_are_named() {
        for (json, named) in [(r#"{"topics": "t"}"#, "`topics`"), (r#"{"replicas": -1}"#, "-1"), ("null", "`topic`")] {
            let refused = Settings::parse(json).unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn a_position_resumes_after_its_message() {
        assert_eq!(decode_position(&encode_position(41)), Ok(42));
        assert!(decode_position(&encode_position(u64::MAX)).is_err());
        assert!(decode_position(b"short").unwrap_err().contains("5 bytes"));
    }
}
