//! What a connection string and the environment say of TLS.

use std::path::{Path, PathBuf};

use crate::postgres::parameters::Parameters;

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

const MODES: [(&str, Mode); 6] = [
    ("disable", Mode::Disable),
    ("allow", Mode::Allow),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

/// Whom the server's certificate has to be signed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// Those in a file; if `named` is false, it is the one where libpq looks by itself.
    File { path: PathBuf, named: bool },
    /// Those that the system trusts.
    System,
    /// There is no home folder to look into.
    None,
}

/// A certificate of our own, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) named: bool,
}

/// What a connection string and the environment say of TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    pub(super) root: Root,
    pub(super) client: Option<Client>,
    pub(super) key_password: Option<String>,
    pub(super) direct: bool,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("mode", &self.mode).field("root", &self.root).field("client", &self.client).finish_non_exhaustive()
    }
}

impl Settings {
    /// Takes out of `parameters` what the driver does not know.
    pub(in crate::postgres) fn take(
        parameters: &mut Parameters,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> std::result::Result<Self, String> {
        let mut take = |key: &str, variable: &str| parameters.take(key).or_else(|| env(variable)).filter(|value| !value.is_empty());
        let mode = take("sslmode", "PGSSLMODE");
        let (root, certificate, key) = (take("sslrootcert", "PGSSLROOTCERT"), take("sslcert", "PGSSLCERT"), take("sslkey", "PGSSLKEY"));
        let key_password = take("sslpassword", "");
        let direct = parameters.get("sslnegotiation") == Some("direct");
        let mode = match mode {
            None => None,
            Some(text) => {
                let found = MODES.iter().find(|(name, _)| *name == text);
                Some(found.ok_or("sslmode takes disable, allow, prefer, require, verify-ca or verify-full")?.1)
            }
        };
        // libpq looks into this folder too.
        let folder = env("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".postgresql"));
        let (root, default) = match root {
            Some(text) if text == "system" => (Root::System, Mode::VerifyFull),
            Some(path) => (Root::File { path: path.into(), named: true }, Mode::Prefer),
            None => (folder.as_ref().map_or(Root::None, |folder| Root::File { path: folder.join("root.crt"), named: false }), Mode::Prefer),
        };
        let mode = mode.unwrap_or(default);
        if root == Root::System && mode != Mode::VerifyFull {
            return Err(
                "with sslrootcert=system, sslmode has to be verify-full: everybody gets a certificate for a name of his own".to_owned()
            );
        }
        if direct && mode < Mode::Require {
            return Err("with sslnegotiation=direct, sslmode has to be require, verify-ca or verify-full".to_owned());
        }
        let named = certificate.is_some();
        let own = |text: Option<String>, name: &str| text.map(PathBuf::from).or_else(|| Some(folder.as_ref()?.join(name)));
        let client = own(certificate, "postgresql.crt").zip(own(key, "postgresql.key"));
        let client = client.map(|(certificate, key)| Client { certificate, key, named });
        Ok(Self { mode, root, client, key_password, direct })
    }

    #[must_use]
    pub fn mode_name(&self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self.mode).map_or("", |(name, _)| name)
    }

    #[must_use]
    pub fn shows_certificate(&self) -> bool {
        self.shown().is_some()
    }

    /// The certificate that is shown to the server, for messages.
    pub(super) fn shown(&self) -> Option<&Path> {
        self.client.as_ref().filter(|client| client.named || client.certificate.exists()).map(|client| client.certificate.as_path())
    }

    /// Whom we trust, for messages.
    pub(super) fn trusted(&self) -> String {
        match &self.root {
            Root::File { path, .. } => path.display().to_string(),
            Root::System => "the system's certificates".to_owned(),
            Root::None => "nothing".to_owned(),
        }
    }
}
