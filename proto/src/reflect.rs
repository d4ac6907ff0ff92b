//! The messages as data: their descriptors, and what of `required` prost does not enforce.

use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value};

#[allow(clippy::expect_used)]
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(descriptors.as_slice()).expect("the build script wrote what its compiler accepted")
});

#[allow(clippy::expect_used)]
pub(crate) fn descriptor<M: Name>() -> MessageDescriptor {
    POOL.get_message_by_name(&M::full_name()).expect("every generated message comes from a file of the pool")
}

/// The path of the first required field that is absent: `tables[1].name`.
pub(crate) fn missing(message: &DynamicMessage) -> Option<String> {
    message.descriptor().fields().find_map(|field| {
        if !message.has_field(&field) {
            let required = field.cardinality() == Cardinality::Required;
            return required.then(|| field.name().to_owned());
        }
        missing_inside(&field, &message.get_field(&field))
    })
}

fn missing_inside(field: &FieldDescriptor, value: &Value) -> Option<String> {
    match value {
        Value::Message(message) => missing(message).map(|path| format!("{}.{path}", field.name())),
        Value::List(items) => items.iter().enumerate().find_map(|(index, item)| {
            let path = missing(item.as_message()?)?;
            Some(format!("{}[{index}].{path}", field.name()))
        }),
        _ => None,
    }
}
