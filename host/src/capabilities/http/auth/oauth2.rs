//! OAuth 2 client credentials: a token from an identity provider, kept until shortly
//! before it ends.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::value::secret;
use crate::capabilities::http::connection::Dialler;
use crate::capabilities::http::fetch::fetch;
use crate::capabilities::http::grant::OAuth2;
use crate::capabilities::http::refusal::{Code, Refusal, Result};

/// A token that ends within this time is not used any more; of a short one, half of its time.
const RESERVE: Duration = Duration::from_secs(60);
/// How long a token is used that does not say how long it lasts.
const UNTOLD: Duration = Duration::from_secs(300);
const LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct Tokens {
    oauth2: OAuth2,
    /// Who finds none asks for one; the others wait for it.
    current: Mutex<Option<Token>>,
}

struct Token {
    value: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds: a number, which some write as text.
    expires_in: Option<serde_json::Value>,
}

impl Tokens {
    pub fn new(oauth2: OAuth2) -> Self {
        Self { oauth2, current: Mutex::default() }
    }

    /// A token, another one than `refused`.
    pub async fn value(&self, refused: Option<&HeaderValue>, dialler: &Dialler, until: Instant) -> Result<HeaderValue> {
        let mut current = self.current.lock().await;
        if let Some(token) = &*current
            && Instant::now() < token.until
            && refused != Some(&token.value)
        {
            return Ok(token.value.clone());
        }
        *current = None;
        let token = self.ask(dialler, until).await?;
        Ok(current.insert(token).value.clone())
    }

    async fn ask(&self, dialler: &Dialler, until: Instant) -> Result<Token> {
        let OAuth2 { server, path, client, secret: password, scope } = &self.oauth2;
        let pair = STANDARD.encode(format!("{}:{}", form(client), form(password.expose())));
        let mut body = "grant_type=client_credentials".to_owned();
        if let Some(scope) = scope {
            _ = write!(body, "&scope={}", form(scope));
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::AUTHORIZATION, secret(&format!("Basic {pair}"))?)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from(body))
            .map_err(|_| {
                Refusal::misconfigured(Code::Configuration, format!("no token can be asked for at {server}: see oauth2.token_url"))
            })?;
        let (status, answer) = fetch(dialler, server, request, until).await?;
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::REQUEST_TIMEOUT {
            let text = format!("{server} gives no token: it answers {status}; see oauth2.client_id, client_secret and scope");
            return Err(Refusal::misconfigured(Code::Denied, text));
        }
        if status != StatusCode::OK {
            return Err(Refusal::new(Code::ConnectionTerminated, format!("{server} gives no token: it answers {status}")));
        }
        // What it answers may hold a token, and is not shown.
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| Refusal::misconfigured(Code::Configuration, format!("{server} answers without a token; see oauth2.token_url")))?;
        let seconds = answer.expires_in.and_then(|value| value.as_f64().or_else(|| value.as_str()?.parse().ok()));
        let life = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(UNTOLD).min(LIFE_MAX);
        let used = life.saturating_sub(RESERVE).max(life / 2);
        Ok(Token { value: secret(&format!("Bearer {}", answer.access_token))?, until: Instant::now() + used })
    }
}

/// `application/x-www-form-urlencoded`.
fn form(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            // Writing to a String does not fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn forms_are_encoded() {
        assert_eq!(super::form("a b&c=d/é~"), "a+b%26c%3Dd%2F%C3%A9%7E");
    }
}
