//! The options that say how a command reaches ZooKeeper, and as whom.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Code, Error, Result};
use crate::registry::access::Access;
use crate::registry::tls::{Files, Tls};

/// Holds what the file of `--zookeeper-auth-file` does. There is no option of that kind,
/// since whoever lists processes reads their options.
const AUTH: &str = "PGSHOVEL_ZOOKEEPER_AUTH";

/// What a file of credentials may have.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// A file with lines `digest:USER:PASSWORD` or `sasl:USER:PASSWORD` (DIGEST-MD5): who this process is
    /// to ZooKeeper. What it creates there nobody else can read or change, so all processes of a cluster
    /// have to be the same user. `cluster upgrade` closes a cluster that was made without. Instead of a
    /// file: the same lines in the environment's PGSHOVEL_ZOOKEEPER_AUTH.
    #[arg(long, global = true, env = "PGSHOVEL_ZOOKEEPER_AUTH_FILE", value_name = "FILE")]
    pub zookeeper_auth_file: Option<PathBuf>,

    /// Connect to ZooKeeper by TLS, to servers whose certificate a CA of this file (PEM) has signed for the
    /// host in --zookeeper-hosts. On Debian the system's CAs are in /etc/ssl/certs/ca-certificates.crt.
    #[arg(long, global = true, env = "PGSHOVEL_ZOOKEEPER_TLS_CA", value_name = "FILE")]
    pub zookeeper_tls_ca: Option<PathBuf>,

    /// The certificate (PEM) that this process shows ZooKeeper; it is a user of ZooKeeper's too.
    #[arg(long, global = true, env = "PGSHOVEL_ZOOKEEPER_TLS_CERT", value_name = "FILE")]
    pub zookeeper_tls_cert: Option<PathBuf>,

    /// The key (PEM, without a passphrase) of that certificate.
    #[arg(long, global = true, env = "PGSHOVEL_ZOOKEEPER_TLS_KEY", value_name = "FILE")]
    pub zookeeper_tls_key: Option<PathBuf>,
}

impl Arguments {
    pub fn access(&self) -> Result<Access> {
        let tls = self.files()?.map(Tls::read).transpose()?;
        match (&self.zookeeper_auth_file, std::env::var(AUTH).ok().filter(|text| !text.is_empty())) {
            (Some(_), Some(_)) => {
                Err(Error::usage(Code::RegistryOptions, format!("--zookeeper-auth-file and {AUTH} are both given; leave one of them out")))
            }
            (Some(file), None) => Access::new(&read(file)?, &format!("--zookeeper-auth-file {}", file.display()), tls),
            (None, text) => Access::new(&text.unwrap_or_default(), AUTH, tls),
        }
    }

    fn files(&self) -> Result<Option<Files>> {
        let identity = match (&self.zookeeper_tls_cert, &self.zookeeper_tls_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::usage(Code::RegistryOptions, "--zookeeper-tls-cert is given without --zookeeper-tls-key; give both"));
            }
            (None, Some(_)) => {
                return Err(Error::usage(Code::RegistryOptions, "--zookeeper-tls-key is given without --zookeeper-tls-cert; give both"));
            }
        };
        match (&self.zookeeper_tls_ca, identity) {
            (Some(ca), identity) => Ok(Some(Files { ca: ca.clone(), identity })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::usage(
                Code::RegistryOptions,
                "--zookeeper-tls-cert is given without --zookeeper-tls-ca, which switches TLS on; give the CA of the servers too",
            )),
        }
    }
}

fn read(file: &Path) -> Result<String> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|mut file| {
        file.by_ref().take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(file.metadata()?.mode())
    });
    match read {
        Ok(mode) => {
            if mode & 0o007 != 0 {
                tracing::warn!(file = %file.display(), "every user of this machine may read the credentials for ZooKeeper; run chmod 600");
            }
            Ok(text)
        }
        Err(error) => {
            Err(Error::configure(Code::CredentialsUnreadable, format!("--zookeeper-auth-file: cannot read {}: {error}", file.display())))
        }
    }
}
