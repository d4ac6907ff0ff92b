//! A token that stands in the configuration, or in a file that somebody else renews.

use std::path::Path;
use std::time::SystemTime;

use http::HeaderValue;
use tokio::sync::Mutex;

use super::value::secret;
use crate::capabilities::http::grant::Bearer;
use crate::capabilities::http::origin::Server;
use crate::capabilities::http::refusal::{Code, Refusal, Result};

const FILE_BYTES_MAX: u64 = 64 << 10;

pub(super) struct Token {
    bearer: Bearer,
    /// What was read last.
    read: Mutex<Option<Read>>,
}

struct Read {
    version: Version,
    value: HeaderValue,
}

/// Changes when the file does.
type Version = (Option<SystemTime>, u64, u64);

impl Token {
    pub fn new(bearer: Bearer) -> Self {
        Self { bearer, read: Mutex::default() }
    }

    pub async fn value(&self, server: &Server) -> Result<HeaderValue> {
        match &self.bearer {
            Bearer::Value(token) => secret(&format!("Bearer {}", token.expose())),
            Bearer::File(path) => self.of(path, server).await,
        }
    }

    async fn of(&self, path: &Path, server: &Server) -> Result<HeaderValue> {
        let unreadable = |why: &dyn std::fmt::Display| {
            let text = format!("the token for {server} cannot be read from {} (bearer): {why}", path.display());
            Refusal::misconfigured(Code::Configuration, text)
        };
        let mut read = self.read.lock().await;
        let found = tokio::fs::metadata(path).await.map_err(|error| unreadable(&error))?;
        if !found.is_file() || found.len() > FILE_BYTES_MAX {
            return Err(unreadable(&format!("it is no file, or larger than {FILE_BYTES_MAX} bytes")));
        }
        // Files of secrets are often renewed by a link to another one.
        let version = (found.modified().ok(), found.len(), std::os::unix::fs::MetadataExt::ino(&found));
        if let Some(read) = &*read
            && read.version == version
        {
            return Ok(read.value.clone());
        }
        let text = tokio::fs::read_to_string(path).await.map_err(|error| unreadable(&error))?;
        let value = secret(&format!("Bearer {}", text.trim())).map_err(|_| unreadable(&"it holds what no header may hold"))?;
        *read = Some(Read { version, value: value.clone() });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changes() {
        let path = std::env::temp_dir().join(format!("pgshovel-bearer-{}", std::process::id()));
        let server = Server::parse("https", "a.example").unwrap();
        std::fs::write(&path, "first\n").unwrap();
        let token = Token::new(Bearer::File(path.clone()));
        assert_eq!(token.value(&server).await.unwrap(), "Bearer first");
        std::fs::write(&path, "the second").unwrap();
        let value = token.value(&server).await.unwrap();
        assert_eq!(value, "Bearer the second");
        assert!(!format!("{value:?}").contains("second"));
        std::fs::write(&path, "a\nb").unwrap();
        assert_eq!(token.value(&server).await.unwrap_err().code, Code::Configuration);
        std::fs::remove_file(&path).unwrap();
        assert!(token.value(&server).await.unwrap_err().text.contains("No such file"));
    }
}
