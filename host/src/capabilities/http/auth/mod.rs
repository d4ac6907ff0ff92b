//! As whom servers are asked. What is sent is added here, behind the plugin, and no
//! plugin, log or error sees it.

mod aws;
mod bearer;
mod oauth2;
mod value;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::body::{Buffered, Written, buffer};
use super::connection::Dialler;
use super::grant::{Authentication, Grant};
use super::origin::Server;
use super::refusal::{Code, Refusal, Result};
use crate::budget::Share;
use value::secret;

/// A body that has to be known before it is sent, or may have to be sent twice.
const BUFFERED_BYTES_MAX: usize = 16 << 20;

/// What a grant adds to requests.
pub struct Authenticator {
    fixed: Vec<(HeaderName, HeaderValue)>,
    way: Option<Way>,
}

enum Way {
    Basic(HeaderValue),
    Bearer(bearer::Token),
    OAuth2(oauth2::Tokens),
    Aws(aws::Signer),
}

/// A request that was made somebody's.
pub struct Signed {
    pub body: Written,
    /// What the body is, where it may be sent again.
    pub whole: Option<Bytes>,
    /// What is held for the body.
    pub share: Option<Share>,
    /// What was sent of a token that can be asked for anew.
    pub token: Option<HeaderValue>,
}

impl Authenticator {
    pub fn new(grant: &Grant) -> crate::error::Result<Self> {
        let sendable =
            |text: &str| secret(text).map_err(|refusal| crate::error::Error::configure(crate::error::Code::HttpGrantInvalid, refusal.text));
        let fixed = grant.headers.iter().map(|(name, value)| Ok((name.clone(), sendable(value.expose())?)));
        let way = match &grant.authentication {
            None => None,
            Some(Authentication::Basic { user, password }) => {
                let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
                Some(Way::Basic(sendable(&format!("Basic {pair}"))?))
            }
            Some(Authentication::Bearer(bearer)) => Some(Way::Bearer(bearer::Token::new(bearer.clone()))),
            Some(Authentication::OAuth2(oauth2)) => Some(Way::OAuth2(oauth2::Tokens::new(oauth2.clone()))),
            Some(Authentication::Aws(aws)) => Some(Way::Aws(aws::Signer::new(aws.clone()))),
        };
        Ok(Self { fixed: fixed.collect::<crate::error::Result<_>>()?, way })
    }

    /// Adds what the grant says. Whatever the plugin wrote under the same names is replaced.
    pub async fn sign(&self, server: &Server, parts: &mut Parts, body: Written, dialler: &Dialler, until: Instant) -> Result<Signed> {
        for (name, value) in &self.fixed {
            parts.headers.insert(name.clone(), value.clone());
        }
        let mut signed = Signed { body, whole: None, share: None, token: None };
        let value = match &self.way {
            None => return Ok(signed),
            Some(Way::Basic(value)) => value.clone(),
            Some(Way::Bearer(token)) => token.value(server).await?,
            Some(Way::OAuth2(tokens)) => {
                let token = tokens.value(None, dialler, until).await?;
                signed = hold(signed.body, dialler).await?;
                signed.token = Some(token.clone());
                token
            }
            Some(Way::Aws(signer)) => {
                if signer.signs_bodies() {
                    signed = hold(signed.body, dialler).await?;
                    if signed.whole.is_none() {
                        let most = crate::printable::size(BUFFERED_BYTES_MAX as u64);
                        return Err(Refusal::new(
                            Code::RequestBodySize,
                            format!(
                                "a request to {server} has a body of more than {most}, or trailers, and is not signed; send it in parts"
                            ),
                        ));
                    }
                }
                signer.sign(server, parts, signed.whole.as_ref(), dialler, until).await?;
                return Ok(signed);
            }
        };
        parts.headers.insert(header::AUTHORIZATION, value);
        Ok(signed)
    }

    /// Another token than the one that was refused, if there is one to be had.
    pub async fn renewed(&self, refused: &HeaderValue, dialler: &Dialler, until: Instant) -> Result<Option<HeaderValue>> {
        match &self.way {
            Some(Way::OAuth2(tokens)) => tokens.value(Some(refused), dialler, until).await.map(Some),
            _ => Ok(None),
        }
    }
}

/// Reads the body, so that it can be sent again.
async fn hold(body: Written, dialler: &Dialler) -> Result<Signed> {
    Ok(match buffer(body, BUFFERED_BYTES_MAX, &dialler.budget).await? {
        Buffered::Whole(bytes, share) => {
            Signed { body: super::body::full(bytes.clone()), whole: Some(bytes), share: Some(share), token: None }
        }
        Buffered::Longer(body, share) => Signed { body, whole: None, share: Some(share), token: None },
    })
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("fixed", &self.fixed.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signed")
    }
}
