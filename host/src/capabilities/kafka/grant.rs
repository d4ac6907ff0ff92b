//! `grants.kafka`: the brokers that a plugin may use.

use std::collections::BTreeMap;
use std::fmt;

use crate::capabilities::grants::{Resources, Secret, named};
use crate::yaml::{Field, Problem, Sources, Value};

type Result<T> = std::result::Result<T, Problem>;

/// librdkafka's properties; some of them are secret, so none is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, Secret::new(String::new())))).finish()
    }
}

pub(super) fn read(field: &Field<'_>, sources: &Sources<'_>) -> Result<Resources<Properties>> {
    Ok(match field.value {
        Value::Mapping(map) if !map.keys().any(is_property) => named(field, |field| brokers(field, sources))?,
        _ => Resources::One(brokers(field, sources)?),
    })
}

/// The names of grants have no dots, and nearly all of librdkafka's properties have.
fn is_property(key: &Value) -> bool {
    key.as_str().is_some_and(|key| key.contains('.'))
}

fn brokers(field: &Field<'_>, sources: &Sources<'_>) -> Result<Properties> {
    let remedy = "write the brokers, such as localhost:9092, or a map of librdkafka's properties with bootstrap.servers";
    if !field.value.is_mapping() {
        let servers = field.expand(field.text(remedy)?, sources)?;
        return Ok(Properties(BTreeMap::from([("bootstrap.servers".to_owned(), servers)])));
    }
    let mut properties = BTreeMap::new();
    for (name, field) in field.entries(remedy)? {
        let value = match field.value {
            Value::String(text) => field.expand(text, sources)?,
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => return Err(field.wrong("write the value of this property of librdkafka")),
        };
        properties.insert(name.to_owned(), value);
    }
    if !properties.contains_key("bootstrap.servers") {
        return Err(field.problem("the key `bootstrap.servers` is missing; write bootstrap.servers: localhost:9092"));
    }
    Ok(Properties(properties))
}
