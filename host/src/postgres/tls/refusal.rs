//! Why a TLS connection was not made, and what to do about it.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::nid::Nid;
use openssl::ssl;
use openssl::x509::{X509NameRef, X509Ref, X509StoreContextRef, X509VerifyResult};

use super::settings::Settings;
use crate::error::{Code, Error};
use crate::postgres::driver::{self, Said};
use crate::postgres::parameters::Server;

/// What X509_verify_cert says (x509_vfy.h of OpenSSL).
mod code {
    pub const NOT_YET_VALID: i32 = 9;
    pub const EXPIRED: i32 = 10;
    pub const HOSTNAME_MISMATCH: i32 = 62;
    pub const ADDRESS_MISMATCH: i32 = 64;
    /// It, or one above it, is signed by somebody who is not known.
    pub const UNKNOWN: [i32; 5] = [2, 18, 19, 20, 21];
}

/// The last certificate that was refused.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<Option<Refusal>>>);

#[derive(Clone, Debug)]
struct Refusal {
    result: X509VerifyResult,
    /// 0: the server's own; above it, whoever signed.
    depth: u32,
    subject: String,
    issuer: String,
    names: Vec<String>,
    begins: String,
    ends: String,
}

impl Refusals {
    pub(super) fn note(&self, context: &X509StoreContextRef) {
        let Some(certificate) = context.current_cert() else { return };
        let refusal = Refusal {
            result: context.error(),
            depth: context.error_depth(),
            subject: name(certificate.subject_name()),
            issuer: name(certificate.issuer_name()),
            names: names(certificate),
            begins: certificate.not_before().to_string(),
            ends: certificate.not_after().to_string(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    fn taken(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What of TLS has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The two sides have no version in common.
    Version,
    Other,
}

/// What TLS has to do with this error, if anything.
pub fn explain(error: &tokio_postgres::Error, settings: &Settings, server: &Server, refusals: &Refusals) -> Option<(Error, Failure)> {
    if let Some(refusal) = refusals.taken() {
        return Some((Error::configure(Code::DatabaseTls, refused(&refusal, settings, server)), Failure::Other));
    }
    if driver::said(error) == Some(Said::NoTls) {
        let text = format!(
            "the server takes no TLS connections, and sslmode={} allows no others: set ssl = on in its postgresql.conf, or, where nobody else is on the network between, write sslmode=prefer",
            settings.mode_name()
        );
        return Some((Error::configure(Code::DatabaseTls, text), Failure::Other));
    }
    let reason = library(error)?.ssl_error()?.errors().first()?.reason()?;
    // The connection broke.
    if reason == "unexpected eof while reading" {
        return None;
    }
    // An alert is the other side's word.
    let text = match (reason.contains("alert"), settings.shown()) {
        (true, Some(path)) => format!(
            "the server refuses the TLS connection ({reason}): the client's certificate (sslcert) in {} has to be valid, and signed by an authority that the server's ssl_ca_file holds",
            path.display()
        ),
        (true, None) => format!(
            "the server refuses the TLS connection ({reason}): if it wants a client's certificate, name it by sslcert=FILE and sslkey=FILE"
        ),
        (false, _) => format!(
            "no TLS connection comes about ({reason}): the server has to speak TLS 1.2 or 1.3, with a certificate that OpenSSL takes"
        ),
    };
    // The library's own word.
    let failure = if reason.contains("protocol version") { Failure::Version } else { Failure::Other };
    Some((Error::configure(Code::DatabaseTls, text), failure))
}

fn refused(refusal: &Refusal, settings: &Settings, server: &Server) -> String {
    let Refusal { subject, issuer, begins, ends, .. } = refusal;
    let whose =
        if refusal.depth == 0 { "the server's certificate" } else { "the certificate of an authority, by which the server's is signed," };
    match refusal.result.as_raw() {
        code::EXPIRED => format!("{whose} {subject:?} ended on {ends}: renew it, or correct this machine's clock"),
        code::NOT_YET_VALID => {
            format!("{whose} {subject:?} begins on {begins} only: correct this machine's clock, or make the certificate anew")
        }
        code::HOSTNAME_MISMATCH | code::ADDRESS_MISMATCH => format!(
            "{whose} {subject:?} is made for {}, and not for {:?}: write host= as the certificate has it, make a certificate for {:?}, or, where it is enough that the right authority signed it, write sslmode=verify-ca",
            listed(&refusal.names),
            server.name(),
            server.name()
        ),
        // The server may send the authority's along.
        code if code::UNKNOWN.contains(&code) => format!(
            "the server's certificate is signed by {}, whom {} does not hold: write the certificate of that authority into a file, and name it by sslrootcert=FILE",
            if refusal.depth == 0 && subject == issuer { "itself".to_owned() } else { format!("{issuer:?}") },
            settings.trusted()
        ),
        _ => format!("{whose} {subject:?} is refused: {}", refusal.result.error_string()),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "no name".to_owned() } else { names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ") }
}

/// The TLS library's own error, below the driver's.
fn library<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a ssl::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<ssl::Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// `CN=db, O=Example`.
fn name(name: &X509NameRef) -> String {
    let mut text = String::new();
    for entry in name.entries() {
        let separator = if text.is_empty() { "" } else { ", " };
        let key = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string().unwrap_or_default();
        // Writing to a text does not fail.
        let _ = write!(text, "{separator}{key}={value}");
    }
    text
}

/// Whom a certificate is for: without such names, the common name counts.
fn names(certificate: &X509Ref) -> Vec<String> {
    let Some(names) = certificate.subject_alt_names() else {
        let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
        return common.filter_map(|entry| entry.data().to_string().ok()).collect();
    };
    let text = |name: &openssl::x509::GeneralNameRef| {
        let address = |bytes: &[u8]| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()),
        };
        name.dnsname().map(str::to_owned).or_else(|| address(name.ipaddress()?))
    };
    names.iter().filter_map(text).collect()
}
