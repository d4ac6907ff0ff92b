//! Signatures for AWS, and for what speaks its protocol: version 4.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, Request, StatusCode, header};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::value::secret;
use crate::capabilities::http::connection::Dialler;
use crate::capabilities::http::fetch::fetch;
use crate::capabilities::http::grant::{Aws, Credentials};
use crate::capabilities::http::origin::Server;
use crate::capabilities::http::refusal::{Code, Refusal, Result};

/// How long credentials are used before they are read again. The metadata service gives
/// new ones at least five minutes before the old ones end.
const KEPT: Duration = Duration::from_secs(60);
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The metadata service of an instance.
const METADATA: (&str, &str) = ("http", "169.254.169.254");
const METADATA_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Signer {
    aws: Aws,
    current: Mutex<Option<(Keys, Instant)>>,
}

impl Signer {
    pub fn new(aws: Aws) -> Self {
        Self { aws, current: Mutex::default() }
    }

    /// S3 takes a body without a signature of its own, as it takes a digest; others do not.
    pub fn signs_bodies(&self) -> bool {
        !self.is_s3()
    }

    fn is_s3(&self) -> bool {
        matches!(self.aws.service.as_str(), "s3" | "s3express")
    }

    /// `body` is what the body is, where it is signed too.
    pub async fn sign(&self, server: &Server, parts: &mut Parts, body: Option<&Bytes>, dialler: &Dialler, until: Instant) -> Result<()> {
        let keys = self.keys(dialler, until).await?;
        // Those of a signature are the host's.
        let own: Vec<HeaderName> = parts.headers.keys().filter(|name| is_signatures(name)).cloned().collect();
        for name in own {
            parts.headers.remove(name);
        }
        let failed = |error: &dyn fmt::Display| Refusal::new(Code::RequestUri, format!("a request to {server} cannot be signed: {error}"));
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        if self.is_s3() {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let identity = keys.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.aws.region)
            .name(&self.aws.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let authority = server.authority();
        let uri = server.uri(parts.uri.path_and_query())?.to_string();
        let signed = parts.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-") || **name == header::CONTENT_TYPE);
        let signed: Vec<(&str, &str)> = signed.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let headers = signed.iter().copied().chain([("host", authority.as_str())]);
        let payload = body.map_or(SignableBody::UnsignedPayload, |body| SignableBody::Bytes(body));
        let request = SignableRequest::new(parts.method.as_str(), uri, headers, payload).map_err(|error| failed(&error))?;
        let (instructions, _) = sign(request, &params).map_err(|error| failed(&error))?.into_parts();
        for (name, value) in instructions.headers() {
            let name: HeaderName = name.parse().map_err(|_| failed(&"a header has no name"))?;
            parts.headers.insert(name, secret(value)?);
        }
        Ok(())
    }

    async fn keys(&self, dialler: &Dialler, until: Instant) -> Result<Keys> {
        let mut current = self.current.lock().await;
        if let Some((keys, since)) = &*current
            && since.elapsed() < KEPT
        {
            return Ok(keys.clone());
        }
        let keys = match &self.aws.credentials {
            Credentials::Keys { id, secret, token } => {
                let token = token.as_ref().map(|token| token.expose().to_owned());
                Keys::new(id.expose(), secret.expose(), token, None, "pgshovel")
            }
            Credentials::Environment => environment(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?,
            Credentials::Profile { name, file } => profile(name, file).await?,
            Credentials::Instance => instance(dialler, until.min(Instant::now() + METADATA_WAIT)).await?,
        };
        Ok(current.insert((keys, Instant::now())).0.clone())
    }
}

/// Headers that say who signs, and what.
fn is_signatures(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || matches!(name.as_str(), "x-amz-date" | "x-amz-security-token" | "x-amz-content-sha256")
}

fn missing(what: impl fmt::Display) -> Refusal {
    Refusal::misconfigured(Code::Configuration, format!("no credentials for AWS: {what} (aws.credentials)"))
}

fn environment(get: impl Fn(&str) -> Option<String>) -> Result<Keys> {
    let required = |name: &str| get(name).ok_or_else(|| missing(format_args!("the environment variable {name} is not set")));
    Ok(Keys::new(required("AWS_ACCESS_KEY_ID")?, required("AWS_SECRET_ACCESS_KEY")?, get("AWS_SESSION_TOKEN"), None, "environment"))
}

async fn profile(name: &str, file: &Path) -> Result<Keys> {
    let shown = file.display();
    let unreadable = |why: &dyn fmt::Display| missing(format_args!("cannot read {shown}: {why}"));
    let found = tokio::fs::metadata(file).await.map_err(|error| unreadable(&error))?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(unreadable(&"it is no file, or too large"));
    }
    let text = tokio::fs::read_to_string(file).await.map_err(|error| unreadable(&error))?;
    of_profile(&text, name).ok_or_else(|| missing(format_args!("{shown} has no keys under [{name}]")))
}

/// Of a file such as `~/.aws/credentials`. A profile that names a role or another source has no keys.
fn of_profile(text: &str, name: &str) -> Option<Keys> {
    let mut inside = false;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let title = title.trim();
            inside = title.strip_prefix("profile ").unwrap_or(title).trim() == name;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with(['#', ';'])) {
            let value = value.trim().to_owned();
            match key.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(value),
                "aws_session_token" => token = Some(value),
                _ => {}
            }
        }
    }
    Some(Keys::new(id?, secret?, token, None, "profile"))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

/// By the second version of the metadata service, which asks for a token first.
async fn instance(dialler: &Dialler, until: Instant) -> Result<Keys> {
    let server = Server::parse(METADATA.0, METADATA.1).map_err(missing)?;
    let ask = |method: Method, path: &str, name: &'static str, value: String| {
        let request = Request::builder().method(method).uri(path).header(name, value).body(Bytes::new());
        let server = &server;
        async move {
            let request = request.map_err(|_| missing("the metadata service answers with what cannot be asked for"))?;
            let (status, answer) = fetch(dialler, server, request, until).await?;
            let text = String::from_utf8(answer.to_vec()).ok().filter(|_| status == StatusCode::OK);
            text.ok_or_else(|| missing(format_args!("the metadata service answers {status}; see whether the instance has a role")))
        }
    };
    let token = ask(Method::PUT, "/latest/api/token", "x-aws-ec2-metadata-token-ttl-seconds", "300".to_owned()).await?;
    let roles = "/latest/meta-data/iam/security-credentials/";
    let role = ask(Method::GET, roles, "x-aws-ec2-metadata-token", token.clone()).await?;
    let role = role.lines().next().unwrap_or_default().trim();
    let found = ask(Method::GET, &format!("{roles}{role}"), "x-aws-ec2-metadata-token", token).await?;
    let Role { access_key_id, secret_access_key, token } =
        serde_json::from_str(&found).map_err(|_| missing("the metadata service answers without keys"))?;
    Ok(Keys::new(access_key_id, secret_access_key, token, None, "instance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read() {
        let text = "[default]\naws_access_key_id=A\naws_secret_access_key = B=\n# [other]\n[profile other]\naws_access_key_id = C\n\
                    aws_secret_access_key = D\naws_session_token = E\n[role]\nrole_arn = x\n";
        let keys = of_profile(text, "default").unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key(), keys.session_token()), ("A", "B=", None));
        assert_eq!(of_profile(text, "other").unwrap().session_token(), Some("E"));
        assert!(of_profile(text, "role").is_none() && of_profile(text, "nobody").is_none());
    }

    #[test]
    fn the_environment_says_what_is_missing() {
        let error = environment(|name| (name == "AWS_ACCESS_KEY_ID").then(|| "A".to_owned())).unwrap_err();
        assert!(error.misconfigured && error.text.contains("AWS_SECRET_ACCESS_KEY is not set"), "{error}");
    }
}
