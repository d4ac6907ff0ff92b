//! TLS to servers: whom it trusts, what it shows, and why it does not come about.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::grant::Grant;
use super::host::Host;
use super::origin::Server;
use super::refusal::{Code, Refusal, Result};
use crate::error::{self, Error};

const FILE_BYTES_MAX: u64 = 4 << 20;

/// What connections of one grant have in common. Reads the files that the grant names.
pub fn configuration(grant: &Grant) -> crate::error::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match &grant.ca {
        Some(path) => {
            for certificate in certificates("ca", path)? {
                roots.add(certificate).map_err(|error| unreadable("ca", path, &error.to_string()))?;
            }
        }
        // Those of the system that cannot be read trust nobody: no connection comes about by them.
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug(format!("cannot set up TLS: {error}")))?
        .with_root_certificates(roots);
    let mut configuration = match &grant.certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = certificates("certificate", &own.certificate)?;
            let key = private_key(&own.key)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let (certificate, key) = (own.certificate.display(), own.key.display());
                Error::configure(
                    error::Code::HttpGrantInvalid,
                    format!("the certificate in {certificate} and the key in {key} do not belong together: {error}"),
                )
            })?
        }
    };
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(configuration))
}

fn certificates(what: &str, path: &Path) -> crate::error::Result<Vec<CertificateDer<'static>>> {
    let bytes = read(what, path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unreadable(what, path, "it holds no certificate in PEM form")),
    }
}

fn private_key(path: &Path) -> crate::error::Result<PrivateKeyDer<'static>> {
    let bytes = read("key", path)?;
    let found = std::fs::metadata(path).map_err(|error| unreadable("key", path, &error.to_string()))?;
    // As for a key of PostgreSQL: root's may be read by a group.
    let forbidden = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.mode() & forbidden != 0 {
        return Err(Error::configure(
            error::Code::HttpGrantInvalid,
            format!("the key in {} can be read by others: run chmod 600 {0}", path.display()),
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| unreadable("key", path, "it holds no key in PEM form without a password"))
}

fn read(what: &str, path: &Path) -> crate::error::Result<Vec<u8>> {
    let failed = |error: io::Error| unreadable(what, path, &error.to_string());
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(unreadable(what, path, &format!("it is no file, or larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(failed)
}

fn unreadable(what: &str, path: &Path, why: &str) -> Error {
    Error::configure(error::Code::HttpGrantInvalid, format!("cannot read `{what}` in {}: {why}", path.display()))
}

/// Whoever dialled bounds the time.
pub async fn handshake(configuration: &Arc<ClientConfig>, server: &Server, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    let name = match &server.host {
        Host::Address(address) => ServerName::IpAddress((*address).into()),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|_| Refusal::new(Code::TlsCertificate, format!("{server} has a name that no certificate can have")))?,
    };
    let connector = TlsConnector::from(Arc::clone(configuration));
    connector.connect(name, stream).await.map_err(|error| refused(server, &error))
}

/// What the two sides did not agree on.
pub fn refused(server: &Server, error: &io::Error) -> Refusal {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return Refusal::new(Code::TlsProtocol, format!("{server} does not speak TLS: {error}"));
    };
    match error {
        rustls::Error::InvalidCertificate(reason) => Refusal::misconfigured(Code::TlsCertificate, certificate(server, reason)),
        rustls::Error::NoCertificatesPresented => Refusal::new(Code::TlsCertificate, format!("{server} shows no certificate")),
        rustls::Error::AlertReceived(alert) if refuses_us(*alert) => Refusal::misconfigured(
            Code::TlsAlert,
            format!("{server} refuses us by TLS: {alert:?}; see whether it wants a certificate, under certificate and key"),
        ),
        rustls::Error::AlertReceived(alert) => Refusal::new(Code::TlsAlert, format!("{server} ends TLS with {alert:?}")),
        other => Refusal::new(Code::TlsProtocol, format!("TLS with {server} does not come about: {other}")),
    }
}

/// Whether the alert is about who we are, or are not: nothing passes by itself. (`HandshakeFailure`
/// is what TLS 1.2 has for a certificate that is missing.)
const fn refuses_us(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
            | Alert::HandshakeFailure
    )
}

fn certificate(server: &Server, reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {server} has expired; it has to be renewed there")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {server} is not valid yet; see whether the clocks are right")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate of {server} is for another name; grant it by the name in its certificate")
        }
        CertificateError::UnknownIssuer => {
            format!(
                "the certificate of {server} is by nobody that is trusted; name the file of its authority under ca, if it is to be trusted"
            )
        }
        // As an end entity that is an authority: what `openssl req -x509` makes.
        other => format!("the certificate of {server} will not do: {other}; let its authority make another one"),
    }
}
