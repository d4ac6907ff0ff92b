//! Why a request is not answered: for the plugin by the code of `wasi:http`, for the
//! operator by a text that names the server, the reason and the remedy.

use std::fmt;

/// The codes of `wasi:http` that this client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Denied,
    Prohibited,
    DnsTimeout,
    DnsError,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    ConnectionReadTimeout,
    ConnectionLimit,
    TlsProtocol,
    TlsCertificate,
    TlsAlert,
    RequestUri,
    RequestMethod,
    RequestBodySize,
    ResponseIncomplete,
    ResponseHeaderSize,
    ResponseBodySize,
    ResponseTimeout,
    Protocol,
    Configuration,
}

/// Holds no path, query, header or body: only the server, the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub text: String,
    /// Trying again does not help before somebody changes the configuration.
    pub misconfigured: bool,
}

pub type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), misconfigured: false }
    }

    /// One that only another configuration mends.
    pub fn misconfigured(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), misconfigured: true }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}
