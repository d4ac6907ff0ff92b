//! TLS: whom it trusts, HTTP/2, and servers that are not who they should be.

use std::convert::Infallible;
use std::path::PathBuf;

use http_body_util::StreamBody;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority of the test's own, in a folder that is gone when it ends.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = std::env::temp_dir().join(format!("pgshovel-http-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn ca(&self) -> String {
        self.folder.join("ca.pem").display().to_string()
    }

    /// For `name`, and as `change` has it.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        server(vec![certificate.der().clone()], &key, None)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn server(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: &KeyPair,
    clients: Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))).unwrap()
}

/// Answers by HTTP/1.1 over TLS.
async fn secured(configuration: ServerConfig) -> u16 {
    let acceptor = TlsAcceptor::from(Arc::new(configuration));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) && stream.write_all(OK.as_bytes()).await.is_ok() {}
        }
    })
    .await
}

fn trusting(ca: &str, port: u16, name: &str) -> Plugin {
    let origin = format!("https://{name}:{port}/");
    Plugin::new(json!({ "origins": [origin], "addresses": ["127.0.0.1"], "ca": ca }), &Names::of(&[&["127.0.0.1"]]))
}

#[tokio::test]
async fn certificates_that_will_not_do() {
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    let day = |year| rcgen::date_time_ymd(year, 1, 1);
    let own = KeyPair::generate().unwrap();
    let self_signed = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&own).unwrap();
    for (configuration, expected) in [
        (authority.server("a.example", |_| {}), ""),
        (other.server("a.example", |_| {}), "is by nobody that is trusted"),
        (server(vec![self_signed.der().clone()], &own, None), "certificate of"),
        (authority.server("b.example", |_| {}), "is for another name"),
        (authority.server("a.example", |params| (params.not_before, params.not_after) = (day(2001), day(2002))), "has expired"),
        (authority.server("a.example", |params| (params.not_before, params.not_after) = (day(2090), day(2091))), "is not valid yet"),
    ] {
        let port = secured(configuration).await;
        let plugin = trusting(&authority.ca(), port, "a.example");
        match plugin.get(&format!("https://a.example:{port}/")).await {
            Ok(_) => assert_eq!(expected, ""),
            Err(refusal) => {
                assert!(!expected.is_empty() && refusal.text.contains(expected), "{expected}: {refusal}");
                assert_eq!((refusal.code, refusal.misconfigured), (Code::TlsCertificate, true), "{refusal}");
            }
        }
        plugin.unharmed().await;
    }
    // The system's authorities do not know ours.
    let port = secured(authority.server("a.example", |_| {})).await;
    let origin = format!("https://a.example:{port}/");
    let plugin = Plugin::new(json!({ "origins": [&origin], "addresses": ["127.0.0.1"] }), &Names::of(&[&["127.0.0.1"]]));
    assert_eq!(plugin.get(&origin).await.unwrap_err().code, Code::TlsCertificate);
    plugin.unharmed().await;
}

#[tokio::test]
async fn a_server_that_wants_a_certificate() {
    let authority = Authority::new("client");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().signed_by(&key, &authority.issuer).unwrap();
    let port = secured(server(vec![certificate.der().clone()], &key, Some(clients))).await;
    let url = format!("https://a.example:{port}/");
    let plugin = trusting(&authority.ca(), port, "a.example");
    let refusal = plugin.get(&url).await.unwrap_err();
    assert_eq!(refusal.code, Code::TlsAlert, "{refusal}");
    plugin.unharmed().await;

    let own = KeyPair::generate().unwrap();
    let shown = CertificateParams::new(Vec::new()).unwrap().signed_by(&own, &authority.issuer).unwrap();
    let (certificate, key) = (authority.folder.join("own.pem"), authority.folder.join("own.key"));
    std::fs::write(&certificate, shown.pem()).unwrap();
    std::fs::write(&key, own.serialize_pem()).unwrap();
    let value = json!({ "origins": [&url], "addresses": ["127.0.0.1"], "ca": authority.ca(), "certificate": certificate, "key": key });
    let read = grant(value.clone()).map_err(|problem| problem.message).unwrap();
    let Resources::One(granted) = &read else { panic!() };
    let mode = |mode| std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(super::super::tls::configuration(granted).unwrap_err().message.contains("can be read by others"));
    mode(0o600);
    let plugin = Plugin::new(value, &Names::of(&[&["127.0.0.1"]]));
    plugin.get(&url).await.unwrap();
    plugin.unharmed().await;
}

#[tokio::test]
async fn handshakes_that_do_not_end() {
    let silent = serve(|stream| async move {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        drop(stream);
    })
    .await;
    let talking = serve(|mut stream| async move {
        _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
    })
    .await;
    for (port, expected) in [(silent, Code::ConnectionTimeout), (talking, Code::TlsProtocol)] {
        let origin = format!("https://127.0.0.1:{port}/");
        let plugin = Plugin::new(json!({ "origins": [&origin], "connect": "200ms" }), &Names::of(&[]));
        let refusal = plugin.get(&origin).await.unwrap_err();
        assert_eq!(refusal.code, expected, "{refusal}");
        plugin.unharmed().await;
    }
}

/// By HTTP/2, with trailers, as gRPC's stores need it; all requests by one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_by_alpn() {
    let authority = Authority::new("h2");
    let mut configuration = authority.server("a.example", |_| {});
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(configuration));
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let port = serve(move |stream| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().authority().unwrap().host(), "a.example");
                assert!(!request.headers().contains_key("host"));
                let body = request.into_body().collect().await.unwrap();
                let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
                let frames = vec![Ok::<_, Infallible>(http_body::Frame::data(body.to_bytes())), Ok(http_body::Frame::trailers(trailers))];
                Ok::<_, Infallible>(http::Response::new(StreamBody::new(futures_util::stream::iter(frames))))
            });
            _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        }
    })
    .await;
    let plugin = trusting(&authority.ca(), port, "a.example");
    let url = format!("https://a.example:{port}/x");
    let large: &'static str = Box::leak("0123456789".repeat(100_000).into_boxed_str());
    let asked = (0..200).map(|_| async {
        let answer = plugin.send(request("POST", &url, large), SOON).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes().len(), large.len());
    });
    futures_util::future::join_all(asked).await;
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    plugin.unharmed().await;
}

#[test]
fn files_that_cannot_be_read() {
    for (key, value, expected) in [
        ("ca", "missing.pem", "cannot read `ca` in /nowhere/missing.pem: No such file"),
        ("ca", "/dev/null", "it is no file"),
        ("ca", "/proc/self/status", "it holds no certificate in PEM form"),
    ] {
        let Resources::One(grant) =
            grant(json!({ "origins": ["https://a.example"], key: value })).map_err(|problem| problem.message).unwrap()
        else {
            panic!()
        };
        let error = super::super::tls::configuration(&grant).unwrap_err();
        assert!(error.message.contains(expected) && error.exit_code() == 3, "{error}");
    }
}
