//! `tests/fixtures/asker`, a plugin with an ordinary HTTP client (Rust's `wstd`), through
//! the whole host.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::json;

use super::super::writer;
use super::*;
use crate::error::{Error, Next};
use crate::ports::{Messages, Writer as _};

/// A server that is told what arrived, and answers.
fn serve(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, requests) = mpsc::channel();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, seen) = (Arc::clone(&answer), seen.clone());
            std::thread::spawn(move || converse(stream.unwrap(), &*answer, &seen));
        }
    });
    (port, requests)
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&str) -> String, seen: &mpsc::Sender<String>) {
    use std::io::{Read as _, Write as _};
    let mut received = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        received.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if head.contains("transfer-encoding: chunked") { body.ends_with("0\r\n\r\n") } else { body.len() == length }
        });
        if whole || read == 0 {
            let reply = answer(&text);
            // The test may have what it wants.
            _ = seen.send(text);
            received.clear();
            if read == 0 || stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A section of the asker, with a grant as an operator writes it.
fn asker(orders: &serde_json::Value, grant: &str) -> Section {
    by("asker.wasm", orders, grant)
}

fn by(component: &str, orders: &serde_json::Value, grant: &str) -> Section {
    let folder = Folder::new(&format!("asker-{:x}", rand::random::<u64>()));
    let file = folder.0.join("app.yaml");
    let yaml = format!("stream:\n  path: {component}\n  configuration: {orders}\n  grants:\n    http: {grant}\n  limits: {{ call: 2s }}\n");
    std::fs::write(&file, yaml).unwrap();
    crate::config::relay(&file).unwrap().stream
}

async fn push(section: &Section, messages: Messages) -> crate::error::Result<()> {
    let mut writer = writer::open(engine(), section, &context()).await?;
    writer.push(&batch(), messages).await?;
    writer.flush().await
}

/// How a push ends that does not end well; numbers of ports left out.
async fn ends(section: &Section, port: u16, next: Next, expected: Expect) {
    let error: Error = push(section, Messages::from_iter(["a message"])).await.unwrap_err();
    assert_eq!(error.next, next, "{error}");
    expected.assert_eq(&error.message.replace(&port.to_string(), "PORT").replace(&section.file.display().to_string(), "app.yaml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_client_works() {
    let (port, requests) = serve(|_| OK.to_owned());
    let url = format!("http://127.0.0.1:{port}/changes?refresh=false");
    let grant = format!("{{ origins: [\"http://127.0.0.1:{port}/changes\"], basic: {{ user: ann, password: hunter2 }} }}");
    let section = asker(&json!({ "push": "post", "url": url }), &grant);
    // Larger than the pieces that a body is written in.
    push(&section, Messages::from_iter([vec![b'm'; 300_000], b"the end".to_vec()])).await.unwrap();
    let request = requests.recv().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /changes?refresh=false HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Basic YW5uOmh1bnRlcjI=") && head.contains(&format!("host: 127.0.0.1:{port}")), "{head}");
    assert!(body.contains("the end") && body.len() >= 300_007, "{}", body.len());
}

/// Posts by the client of another language, and is told of what is not so. `denied` is what
/// it makes of a request that is not granted.
async fn an_ordinary_client_of_another_language_works(component: &str, denied: Expect) {
    let (port, requests) = serve(|request| match request.starts_with("POST /late") {
        true => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nlate".to_owned(),
        false => OK.to_owned(),
    });
    let grant = format!("{{ origins: [\"http://127.0.0.1:{port}\"], bearer: hunter2 }}");
    let section = |url: &str| {
        let section = by(component, &json!({ "url": url }), &grant);
        Section { limits: Limits { call: Duration::from_secs(60), ..section.limits }, ..section }
    };
    let url = format!("http://127.0.0.1:{port}/changes");
    push(&section(&url), Messages::from_iter([vec![b'm'; 300_000], b"the end".to_vec()])).await.unwrap();
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /changes HTTP/1.1\r\n") && request.contains("authorization: Bearer hunter2\r\n"), "{request:.500}");
    assert!(request.contains("the end") && request.len() > 300_007, "{}", request.len());
    let error = push(&section(&format!("http://127.0.0.1:{port}/late")), Messages::from_iter(["a"])).await.unwrap_err();
    assert!(error.next == Next::Stop && error.message.ends_with("503: late"), "{error}");
    ends(&section("http://search.example/"), port, Next::Configure, denied).await;
}

/// `niquests`, in `tests/fixtures/asker-python`.
#[tokio::test(flavor = "multi_thread")]
async fn python() {
    let denied = expect!["stream: asker-python.wasm: failed: MaxRetryError"];
    an_ordinary_client_of_another_language_works("asker-python.wasm", denied).await;
}

/// `fetch`, in `tests/fixtures/asker-javascript`.
#[tokio::test(flavor = "multi_thread")]
async fn javascript() {
    let denied = expect!["stream: asker-javascript.wasm: failed: TypeError"];
    an_ordinary_client_of_another_language_works("asker-javascript.wasm", denied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_one_time() {
    let (port, _requests) = serve(|_| OK.to_owned());
    let section = asker(
        &json!({ "push": "many", "url": format!("http://127.0.0.1:{port}/") }),
        &format!("{{ origins: [\"http://127.0.0.1:{port}\"] }}"),
    );
    push(&section, Messages::from_iter(["a"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_has_a_name() {
    let (port, _requests) = serve(|request| {
        if request.starts_with("GET /away") {
            return "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n".to_owned();
        }
        OK.to_owned()
    });
    let granted = format!("{{ origins: [\"http://127.0.0.1:{port}\"] }}");
    let ask = |order: &str, url: &str| asker(&json!({ "push": order, "url": url }), &granted);
    ends(&ask("get", &format!("http://127.0.0.1:{port}/")), port, Next::Stop, expect!["stream: asker.wasm: 200 OK: ok"]).await;
    let denied = expect!["stream: asker.wasm: failed: ErrorCode::HttpRequestDenied"];
    ends(&ask("get", "http://localhost:9/"), port, Next::Configure, denied).await;
    let followed = expect!["stream: asker.wasm: failed: ErrorCode::HttpRequestDenied"];
    ends(&ask("follow", &format!("http://127.0.0.1:{port}/away")), port, Next::Configure, followed).await;
    let tricked = expect!["stream: asker.wasm: failed: ErrorCode::HttpRequestUriInvalid"];
    ends(&ask("get", "http://2130706433/"), port, Next::Stop, tricked).await;
    let smuggled = expect![
        "stream: asker.wasm: HeaderError::InvalidSyntax, HeaderError::InvalidSyntax, HeaderError::InvalidSyntax, HeaderError::InvalidSyntax, HeaderError::Forbidden, HeaderError::Forbidden, HeaderError::Forbidden"
    ];
    ends(&ask("smuggle", "http://a/"), port, Next::Stop, smuggled).await;
    // By name, `localhost` is not the address that is granted by number.
    let by_name = asker(
        &json!({ "push": "get", "url": format!("http://localhost:{port}/") }),
        &format!("{{ origins: [\"http://localhost:{port}\"] }}"),
    );
    let prohibited = expect!["stream: asker.wasm: failed: ErrorCode::DestinationIpProhibited"];
    ends(&by_name, port, Next::Configure, prohibited).await;
}

/// The body of a plugin that traps ends as if it were whole; no server may take it for that.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_request_of_a_plugin_that_traps() {
    let (port, requests) = serve(|_| OK.to_owned());
    let grant = format!("{{ origins: [\"http://127.0.0.1:{port}\"] }}");
    let section = asker(&json!({ "push": "half", "url": format!("http://127.0.0.1:{port}/") }), &grant);
    for _ in 0..5 {
        let error = push(&section, Messages::from_iter(["a"])).await.unwrap_err();
        assert_eq!(error.next, Next::Trap, "{error}");
        let request = requests.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(request.contains("half of it") && !request.ends_with("0\r\n\r\n"), "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_takes_the_time_of_the_call() {
    let (port, _requests) = serve(|_| {
        std::thread::sleep(Duration::from_secs(60));
        OK.to_owned()
    });
    let grant = format!("{{ origins: [\"http://127.0.0.1:{port}\"] }}");
    let post = asker(&json!({ "push": "post", "url": format!("http://127.0.0.1:{port}/") }), &grant);
    let started = std::time::Instant::now();
    let error = push(&post, Messages::from_iter(["a"])).await.unwrap_err();
    assert!(matches!(error.next, Next::Trap | Next::Retry), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    // One that leaves without its answer is done.
    let leave = asker(&json!({ "push": "leave", "url": format!("http://127.0.0.1:{port}/") }), &grant);
    push(&leave, Messages::from_iter(["a"])).await.unwrap();
}

#[tokio::test]
async fn a_plugin_without_the_grant_is_refused() {
    let error = writer::open(engine(), &section("stream", "asker.wasm", &built()), &context()).await.unwrap_err();
    assert_eq!(error.exit_code(), 3);
    let message = error.message.replace(&built().display().to_string(), "plugins");
    assert!(
        message.contains("wasi:http/")
            && message.contains("add to it: grants: { http: { origins: [\"https://search.example:9200/index/\"] } }"),
        "{message}"
    );
}
