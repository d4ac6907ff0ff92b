//! TLS to ZooKeeper: the files that it takes, checked before anything is connected
//! to, and what is wrong with a server that no session came about with.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore};
use zookeeper_client as zookeeper;

use crate::error::{Code, Error, Result};

/// How long one server may take to answer each time when it is asked what is wrong.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// What a file of certificates may have.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The files that the operator gives.
#[derive(Clone, Debug)]
pub struct Files {
    pub ca: PathBuf,
    /// A certificate of ours, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What connections are made with.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Files,
    options: zookeeper::TlsOptions,
    /// The same, to ask a server what is wrong: the client does not say.
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the files. `Configure` with the option and the remedy if one will not do.
    pub fn read(files: Files) -> Result<Self> {
        let provider = rustls::crypto::ring::default_provider();
        // The client takes the process's provider. That there is one already is as good.
        let _ = provider.clone().install_default();
        let unusable = |option: &str, file: &Path, reason: &str| {
            Error::configure(Code::RegistryTls, format!("--zookeeper-tls-{option} {}: {reason}", file.display()))
        };
        let ca = text("ca", &files.ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&ca).map_err(|reason| unusable("ca", &files.ca, &reason))? {
            roots
                .add(certificate)
                .map_err(|error| unusable("ca", &files.ca, &format!("it holds a certificate that cannot be used: {error}")))?;
        }
        let bad = |error: zookeeper::Error| unusable("ca", &files.ca, &error.to_string());
        let mut options = zookeeper::TlsOptions::new().with_pem_ca(&ca).map_err(bad)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::bug(format!("cannot set up TLS: {error}")))?
            .with_root_certificates(roots);
        let config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, secret) = (text("cert", certificate)?, text("key", key)?);
                let found = certificates(&chain).map_err(|reason| unusable("cert", certificate, &reason))?;
                let parsed = PrivateKeyDer::from_pem_slice(secret.as_bytes()).map_err(|_| {
                    unusable(
                        "key",
                        key,
                        "it holds no private key in PEM without a passphrase; give one of PKCS#8, or `openssl pkey -in KEY -out PLAIN`",
                    )
                })?;
                options = options.with_pem_identity(&chain, &secret).map_err(|error| unusable("cert", certificate, &error.to_string()))?;
                builder.with_client_auth_cert(found, parsed).map_err(|error| {
                    let reason = format!(
                        "it does not fit the certificate in {}: {error}; give the key that this certificate was made for",
                        certificate.display()
                    );
                    unusable("key", key, &reason)
                })?
            }
        };
        Ok(Self { files, options, config: Arc::new(config) })
    }

    pub(super) fn options(&self) -> zookeeper::TlsOptions {
        self.options.clone()
    }

    /// The file of our own certificate.
    pub(super) fn certificate(&self) -> Option<&Path> {
        self.files.identity.as_ref().map(|(certificate, _)| certificate.as_path())
    }

    /// Whether a certificate can be for a server of this name.
    pub(super) fn takes(host: &str) -> bool {
        ServerName::try_from(host).is_ok()
    }

    /// What is wrong with servers of which none could be used, if it is TLS.
    pub(super) async fn diagnose(&self, servers: Vec<(String, u16)>) -> Option<String> {
        let tls = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut wrong = None;
            for (host, port) in servers {
                match tls.ask(&host, port) {
                    Ok(()) => return None,
                    Err(Fault::Away) => {}
                    Err(Fault::Wrong(text)) => wrong = wrong.or(Some(format!("the ZooKeeper server at {host}:{port} {text}"))),
                }
            }
            wrong
        })
        .await
        .ok()
        .flatten()
    }

    fn ask(&self, host: &str, port: u16) -> std::result::Result<(), Fault> {
        let away = |_| Fault::Away;
        let address = (host, port).to_socket_addrs().map_err(away)?.next().ok_or(Fault::Away)?;
        let mut socket = TcpStream::connect_timeout(&address, PROBE_TIMEOUT).map_err(away)?;
        socket.set_read_timeout(Some(PROBE_TIMEOUT)).map_err(away)?;
        socket.set_write_timeout(Some(PROBE_TIMEOUT)).map_err(away)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Fault::Away)?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), name).map_err(|_| Fault::Away)?;
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        // A server says what it thinks of our certificate after its handshake, to whoever reads.
        let answer = stream.write_all(b"srvr").and_then(|()| stream.read(&mut [0; 64]));
        let shaken = !session.is_handshaking();
        match answer {
            Ok(_) => Ok(()),
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => Err(Fault::Wrong(self.explain(error))),
                None if shaken || matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
                None => Err(Fault::Wrong(NO_TLS.to_owned())),
            },
        }
    }

    fn explain(&self, error: &rustls::Error) -> String {
        use CertificateError as Bad;
        let ca = self.files.ca.display();
        match error {
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer => format!("has a certificate that none of {ca} has signed: give --zookeeper-tls-ca the CA that has"),
                Bad::Expired | Bad::ExpiredContext { .. } => "has a certificate that has expired: renew it on the server".to_owned(),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    "has a certificate that is not valid yet: see the clocks of both machines".to_owned()
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    "has a certificate for another name: name the server in --zookeeper-hosts as its certificate does, or give it one with this name".to_owned()
                }
                Bad::Other(_) => format!(
                    "has a certificate that cannot be used ({error}): one that signs itself, or a CA's own, will not do; let a CA sign one for the server, and give that CA to --zookeeper-tls-ca"
                ),
                _ => format!("has a certificate that cannot be used ({error}): give the server another one"),
            },
            rustls::Error::AlertReceived(alert) => match (alert, self.certificate()) {
                (AlertDescription::ProtocolVersion, _) => "speaks no version of TLS from 1.2 on: enable one on the server".to_owned(),
                (_, None) => format!("refuses us ({alert:?}): where it asks for a certificate of clients, give --zookeeper-tls-cert and --zookeeper-tls-key"),
                (_, Some(certificate)) => format!(
                    "refuses the certificate in {} ({alert:?}): see that it has not expired, and that the server trusts the CA that signed it",
                    certificate.display()
                ),
            },
            rustls::Error::InvalidMessage(_) => NO_TLS.to_owned(),
            other => format!("cannot be used with TLS: {other}"),
        }
    }
}

const NO_TLS: &str = "does not speak TLS on this port: give its secureClientPort in --zookeeper-hosts";

enum Fault {
    /// Nobody knows: it does not answer.
    Away,
    Wrong(String),
}

fn text(option: &str, file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::configure(
            Code::RegistryTls,
            format!("--zookeeper-tls-{option}: cannot read {}: {error}; give a file in PEM", file.display()),
        )),
    }
}

fn certificates(pem: &str) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is no certificate in PEM: {error}")),
    }
}
