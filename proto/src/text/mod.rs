//! Protobuf's text format, in which people write configurations.
//!
//! Read is what <https://protobuf.dev/reference/protobuf/textformat-spec/> allows
//! for messages of strings and messages, which all configurations are. Written
//! is one form of it, so that two files differ where two configurations do: one
//! field a line, in the order of their numbers, two spaces per level.
//!
//! An error names its line and column and never repeats a string: a connection
//! string may hold a password.

mod error;
mod lexer;
mod parser;

pub use error::TextError;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use crate::interfaces::configurations::{ClusterConfiguration, ReplicationSetConfiguration};
use crate::reflect;

/// What people write: messages whose fields are strings and messages, through and through.
pub trait Configuration: Message + Name + Default {}

impl Configuration for ClusterConfiguration {}
impl Configuration for ReplicationSetConfiguration {}

/// Reads one message. Fields without a value that have a default keep none: ask
/// the accessors of the generated type for it.
#[allow(clippy::expect_used)]
pub fn parse<M: Configuration>(text: &str) -> Result<M, TextError> {
    let message = parser::parse(reflect::descriptor::<M>(), text)?;
    Ok(message.transcode_to().expect("both come from one definition"))
}

/// Writes one message, with a newline at its end; empty for an empty message.
#[allow(clippy::expect_used)]
pub fn print<M: Configuration>(message: &M) -> String {
    let bytes = message.encode_to_vec();
    let reflected = DynamicMessage::decode(reflect::descriptor::<M>(), bytes.as_slice()).expect("both come from one definition");
    let mut out = String::new();
    print_fields(&reflected, 0, &mut out);
    out
}

fn print_fields(message: &DynamicMessage, indent: usize, out: &mut String) {
    for field in message.descriptor().fields().filter(|field| message.has_field(field)) {
        match message.get_field(&field).as_ref() {
            Value::List(items) => items.iter().for_each(|item| print_field(field.name(), item, indent, out)),
            value => print_field(field.name(), value, indent, out),
        }
    }
}

fn print_field(name: &str, value: &Value, indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(name);
    match value {
        Value::Message(message) => {
            out.push_str(" {\n");
            print_fields(message, indent + 2, out);
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str("}\n");
        }
        Value::String(text) => {
            out.push_str(": \"");
            text.chars().for_each(|character| print_character(character, out));
            out.push_str("\"\n");
        }
        _ => unreachable!("`{name}` is neither a string nor a message, which a test says no configuration has"),
    }
}

/// Letters of every script stay as they are; what a terminal would act upon does not.
fn print_character(character: char, out: &mut String) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '"' | '\\' => out.extend(['\\', character]),
        control if control.is_control() => {
            for byte in control.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("\\{byte:03o}"));
            }
        }
        other => out.push(other),
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::{Kind, MessageDescriptor};

    use super::*;

    fn assert_strings_and_messages(descriptor: &MessageDescriptor) {
        for field in descriptor.fields() {
            match field.kind() {
                Kind::String => {}
                Kind::Message(inner) => assert_strings_and_messages(&inner),
                other => panic!("{} is {other:?}", field.full_name()),
            }
        }
    }

    #[test]
    fn configurations_are_strings_and_messages_through_and_through() {
        assert_strings_and_messages(&reflect::descriptor::<ClusterConfiguration>());
        assert_strings_and_messages(&reflect::descriptor::<ReplicationSetConfiguration>());
    }
}
