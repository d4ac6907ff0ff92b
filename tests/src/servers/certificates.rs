//! Certificates of a test's own: authorities, servers, clients, and bad ones.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use pgshovel::error::{Code, Error, Result};

const DAY: i64 = 24 * 60 * 60;

/// The version of certificates that have extensions.
const VERSION_3: i32 = 2;

/// What a certificate says. The default is good for a year, and for no name.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub common_name: &'a str,
    /// Names and addresses of a server (subjectAltName).
    pub names: &'a [&'a str],
    /// When it begins and ends, in days from now.
    pub days: (i64, i64),
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { common_name: "test", names: &[], days: (-1, 365) }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    certificate: X509,
    key: PKey<Private>,
    /// Whose word it is; itself for an authority.
    issuer: X509,
}

impl Certificate {
    /// An authority, which signs itself.
    pub fn authority(common_name: &str) -> Result<Self> {
        Self::self_signed(&Wanted { common_name, ..Wanted::default() })
    }

    /// One that nobody else signed, as `openssl req -x509` makes it: an authority too.
    pub fn self_signed(wanted: &Wanted<'_>) -> Result<Self> {
        make(wanted, None).map_err(failed)
    }

    /// One that this authority signs.
    pub fn issue(&self, wanted: &Wanted<'_>) -> Result<Self> {
        make(wanted, Some(self)).map_err(failed)
    }

    pub fn certificate_pem(&self) -> Result<Vec<u8>> {
        self.certificate.to_pem().map_err(failed)
    }

    pub fn key_pem(&self) -> Result<Vec<u8>> {
        self.key.private_key_to_pem_pkcs8().map_err(failed)
    }

    /// The key, which only who knows the password can read.
    pub fn encrypted_key_pem(&self, password: &str) -> Result<Vec<u8>> {
        self.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), password.as_bytes()).map_err(failed)
    }

    /// Certificate, key and issuer as Java takes them.
    pub fn pkcs12(&self, password: &str) -> Result<Vec<u8>> {
        let build = || {
            let mut issuers = Stack::new()?;
            issuers.push(self.issuer.clone())?;
            Pkcs12::builder().name("test").pkey(&self.key).cert(&self.certificate).ca(issuers).build2(password)?.to_der()
        };
        build().map_err(failed)
    }

    /// Writes NAME.crt and NAME.key into a folder; the key is for its owner only.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        write_private(&folder.join(format!("{name}.crt")), &self.certificate_pem()?)?;
        write_private(&folder.join(format!("{name}.key")), &self.key_pem()?)
    }
}

/// Writes a file that nobody but its owner may read.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)))
        .map_err(|error| Error::stop(Code::ToolFailed, format!("cannot write {}: {error}", path.display())))
}

fn make(wanted: &Wanted<'_>, issuer: Option<&Certificate>) -> std::result::Result<Certificate, ErrorStack> {
    let key = PKey::from_ec_key(EcKey::generate(EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?.as_ref())?)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", wanted.common_name)?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let mut builder = X509::builder()?;
    builder.set_version(VERSION_3)?;
    builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(issuer.map_or(&*name, |issuer| issuer.certificate.subject_name()))?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(Asn1Time::from_unix(now + wanted.days.0 * DAY)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(now + wanted.days.1 * DAY)?.as_ref())?;
    if issuer.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().digital_signature().build()?)?;
    }
    if !wanted.names.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in wanted.names {
            if name.parse::<IpAddr>().is_ok() {
                names.ip(name)
            } else {
                names.dns(name)
            };
        }
        let extension = names.build(&builder.x509v3_context(issuer.map(|issuer| &*issuer.certificate), None))?;
        builder.append_extension(extension)?;
    }
    builder.sign(issuer.map_or(&*key, |issuer| &*issuer.key), MessageDigest::sha256())?;
    let certificate = builder.build();
    let issuer = issuer.map_or_else(|| certificate.clone(), |issuer| issuer.certificate.clone());
    Ok(Certificate { certificate, key, issuer })
}

fn failed(error: ErrorStack) -> Error {
    Error::stop(Code::ToolFailed, format!("cannot make a certificate: {error}"))
}
