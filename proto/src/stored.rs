//! Messages at rest: the states that targets keep, the configurations in ZooKeeper.
//!
//! They are read seldom, so they are read by reflection, and every `required`
//! of their definitions is enforced.

use prost::{Message, Name};
use prost_reflect::DynamicMessage;

use crate::reflect;

/// Bytes that are not the message they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    #[error("{size} bytes are no {message}: {reason}")]
    Malformed { message: String, size: usize, reason: String },
    #[error("`{path}` is missing in a {message} of {size} bytes")]
    Missing { message: String, size: usize, path: String },
}

/// Reads what `encode_to_vec` wrote.
pub fn decode<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, StoredError> {
    let size = bytes.len();
    let message = || M::NAME.to_owned();
    let malformed = |error: prost::DecodeError| StoredError::Malformed { message: message(), size, reason: error.to_string() };
    let reflected = DynamicMessage::decode(reflect::descriptor::<M>(), bytes).map_err(malformed)?;
    match reflect::missing(&reflected) {
        Some(path) => Err(StoredError::Missing { message: message(), size, path }),
        None => M::decode(bytes).map_err(malformed),
    }
}
