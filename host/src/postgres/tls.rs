//! TLS with PostgreSQL, by the rules of libpq ("SSL Support"): which certificates are
//! trusted, which is shown, and what is said when one is refused.

mod refusal;
mod settings;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
pub use openssl::ssl::SslVersion;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::MakeTlsConnector;

pub use self::refusal::{Failure, Refusals, explain};
use self::settings::{Client, Root};
pub use self::settings::{Mode, Settings};
use crate::error::{Code, Error, Result};

/// How large a file of certificates may be: those of a whole system have half of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Settings {
    /// What makes TLS connections, and where it says why it refused a certificate. Files
    /// are read each time, so that renewed certificates count at once. `newest` is the newest
    /// version of the protocol to speak, if not all are.
    pub(in crate::postgres) fn connector(&self, newest: Option<SslVersion>) -> Result<(MakeTlsConnector, Refusals)> {
        let set_up = |error: ErrorStack| Error::stop(Code::DatabaseTls, format!("cannot set up TLS: {error}"));
        let refusals = Refusals::default();
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(set_up)?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(set_up)?;
        builder.set_max_proto_version(newest).map_err(set_up)?;
        if self.trust(&mut builder)? {
            let refusals = refusals.clone();
            builder.set_verify_callback(SslVerifyMode::PEER, move |accepted, context| {
                if !accepted {
                    refusals.note(context);
                }
                accepted
            });
        } else {
            builder.set_verify(SslVerifyMode::NONE);
        }
        self.show(&mut builder)?;
        if self.direct {
            builder.set_alpn_protos(b"\x0apostgresql").map_err(set_up)?;
        }
        let mut connector = MakeTlsConnector::new(builder.build());
        let names = self.mode == Mode::VerifyFull;
        connector.set_callback(move |connection, _| {
            connection.set_verify_hostname(names);
            Ok(())
        });
        Ok((connector, refusals))
    }

    /// Whether the server's certificate is looked at: where somebody is named to trust, as
    /// with libpq also in the modes that do not ask for it.
    fn trust(&self, builder: &mut SslConnectorBuilder) -> Result<bool> {
        let (path, named) = match &self.root {
            // The builder has them already.
            Root::System => return Ok(true),
            Root::File { path, named } => (path.as_path(), *named),
            Root::None => (Path::new("~/.postgresql/root.crt"), false),
        };
        if !named && !path.exists() {
            if self.mode < Mode::VerifyCa {
                return Ok(false);
            }
            return Err(Error::configure(
                Code::DatabaseTls,
                format!(
                    "sslmode={} needs the certificates of the authorities to trust, and there is no file {}: name one by sslrootcert=FILE, or trust those of the system by sslrootcert=system",
                    self.mode_name(),
                    path.display()
                ),
            ));
        }
        let what = "the certificates to trust (sslrootcert)";
        let mut store = X509StoreBuilder::new().map_err(|error| unreadable(what, path, &reason(&error)))?;
        for certificate in certificates(what, path)? {
            store.add_cert(certificate).map_err(|error| unreadable(what, path, &reason(&error)))?;
        }
        builder.set_cert_store(store.build());
        Ok(true)
    }

    /// Shows the server our certificate, if there is one.
    fn show(&self, builder: &mut SslConnectorBuilder) -> Result<()> {
        let Some(Client { certificate, key, named }) = &self.client else { return Ok(()) };
        if !named && !certificate.exists() {
            return Ok(());
        }
        let what = "the client's certificate (sslcert)";
        let mut chain = certificates(what, certificate)?.into_iter();
        let own = chain.next().ok_or_else(|| unreadable(what, certificate, "it holds none"))?;
        let what = "the key of the client's certificate (sslkey)";
        let bytes = read(what, key)?;
        let found = std::fs::metadata(key).map_err(|error| unreadable(what, key, &error.to_string()))?;
        // As libpq has it: root's may be read by a group.
        let forbidden = if found.uid() == 0 { 0o037 } else { 0o077 };
        if found.mode() & forbidden != 0 {
            return Err(Error::configure(
                Code::DatabaseTls,
                format!("{what} in {} can be read by others: run chmod 600 {0}", key.display()),
            ));
        }
        // Without a password the library would ask for one at the terminal.
        let password = self.key_password.as_deref().unwrap_or_default();
        let own_key = PKey::private_key_from_pem_passphrase(&bytes, password.as_bytes()).map_err(|error| {
            if String::from_utf8_lossy(&bytes).contains("ENCRYPTED") {
                unreadable(what, key, "it is encrypted: give its password by sslpassword=, or decrypt it with `openssl pkey`")
            } else {
                unreadable(what, key, &reason(&error))
            }
        })?;
        let does_not_fit = |error: ErrorStack| {
            let (certificate, key) = (certificate.display(), key.display());
            Error::configure(
                Code::DatabaseTls,
                format!(
                    "the client's certificate (sslcert) in {certificate} and the key (sslkey) in {key} do not belong together: {}",
                    reason(&error)
                ),
            )
        };
        builder.set_certificate(&own).map_err(does_not_fit)?;
        for certificate in chain {
            builder.add_extra_chain_cert(certificate).map_err(does_not_fit)?;
        }
        builder.set_private_key(&own_key).map_err(does_not_fit)?;
        builder.check_private_key().map_err(does_not_fit)
    }
}

fn certificates(what: &str, path: &Path) -> Result<Vec<X509>> {
    let found = X509::stack_from_pem(&read(what, path)?).map_err(|error| unreadable(what, path, &reason(&error)))?;
    if found.is_empty() {
        return Err(unreadable(what, path, "it holds no certificate in PEM form"));
    }
    Ok(found)
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| unreadable(what, path, &error.to_string());
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(unreadable(what, path, &format!("it is no file, or larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(failed)
}

fn unreadable(what: &str, path: &Path, why: &str) -> Error {
    Error::configure(Code::DatabaseTls, format!("cannot read {what} in {}: {why}", path.display()))
}

/// The first word of the library, without its numbers.
fn reason(error: &ErrorStack) -> String {
    error.errors().iter().find_map(|error| error.reason()).unwrap_or("it is not in PEM form").to_owned()
}
