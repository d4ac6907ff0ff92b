//! What is sent, so that nothing prints it.

use http::HeaderValue;

use crate::capabilities::http::refusal::{Code, Refusal, Result};

/// The value of a header that nothing prints.
pub fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Refusal::misconfigured(Code::Configuration, "what authenticates has a character that no header may have, such as the end of a line")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
