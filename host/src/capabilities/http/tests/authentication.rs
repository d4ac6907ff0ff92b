//! As whom servers are asked, and that a plugin has no say in it.

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest as _, Sha256};

use super::*;

/// A server that gives what `answer` makes of the head and the body of each request.
async fn asking(answer: impl Fn(&str, &[u8]) -> String + Clone + Send + Sync + 'static) -> u16 {
    serve(move |mut stream| {
        let answer = answer.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                let mut body = vec![0; length];
                if stream.read_exact(&mut body).await.is_err() || stream.write_all(answer(&head, &body).as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| Some(line.strip_prefix(&format!("{name}: "))?.to_owned()))
}

fn echo(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

/// What the server gets as `authorization`, where the plugin tries one of its own.
async fn authorized(way: serde_json::Value) -> String {
    let port =
        asking(|head, _| echo(&format!("{}|{}", header(head, "authorization").unwrap_or_default(), head.matches("authorization").count())))
            .await;
    let mut value = json!({ "origins": [format!("http://127.0.0.1:{port}/")] });
    value.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
    let plugin = Plugin::new(value, &Names::of(&[]));
    let mut request = request("GET", &format!("http://127.0.0.1:{port}/"), "");
    request.headers_mut().insert("authorization", "Basic of-the-plugin".parse().unwrap());
    let (_, _, body) = plugin.ask(request, SOON).await.unwrap();
    plugin.unharmed().await;
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn what_the_grant_says_replaces_what_the_plugin_says() {
    assert_eq!(authorized(json!({})).await, "Basic of-the-plugin|1");
    assert_eq!(authorized(json!({ "basic": { "user": "ann", "password": "${env:SECRET}" } })).await, "Basic YW5uOmh1bnRlcjI=|1");
    assert_eq!(authorized(json!({ "bearer": "${env:SECRET}" })).await, "Bearer hunter2|1");
    assert_eq!(authorized(json!({ "headers": { "Authorization": "ApiKey ${env:SECRET}" } })).await, "ApiKey hunter2|1");
}

/// Tokens that are taken once each, so that every second request has to ask anew.
#[tokio::test]
async fn a_token_that_is_refused_is_asked_for_once_more() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let given = Arc::new(AtomicUsize::new(0));
    let tokens = Arc::clone(&given);
    let port = asking(move |head, body| {
        if head.starts_with("POST /token?tenant=1 ") {
            assert_eq!(header(head, "authorization").unwrap(), "Basic YXBwOmh1bnRlcjI=");
            assert_eq!(body, b"grant_type=client_credentials&scope=read+write");
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            return echo(&format!(r#"{{"access_token":"t{number}","expires_in":3600,"token_type":"Bearer"}}"#));
        }
        // Only an even token is taken.
        match header(head, "authorization").unwrap().strip_prefix("Bearer t").unwrap().parse::<usize>().unwrap() {
            number if number % 2 == 0 => echo(&format!("{number} {}", String::from_utf8_lossy(body))),
            _ => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_owned(),
        }
    })
    .await;
    let origin = format!("http://127.0.0.1:{port}/");
    let oauth2 = json!({
        "token_url": format!("http://127.0.0.1:{port}/token?tenant=1"), "client_id": "app", "client_secret": "${env:SECRET}", "scope": "read write",
    });
    let plugin = Plugin::new(json!({ "origins": [&origin], "oauth2": oauth2 }), &Names::of(&[]));
    for _ in 0..3 {
        let (status, _, body) = plugin.ask(request("POST", &origin, "a body"), SOON).await.unwrap();
        assert_eq!((status, body.as_ref()), (StatusCode::OK, b"2 a body".as_slice()));
    }
    // The token was kept.
    assert_eq!(given.load(Ordering::SeqCst), 2);
    plugin.unharmed().await;
}

#[tokio::test]
async fn an_identity_provider_that_gives_no_token() {
    for (answer, expected, misconfigured) in [
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 7\r\n\r\nhunter2", "it answers 401 Unauthorized", true),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "it answers 503", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nhunter2", "answers without a token", true),
        ("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", "it answers 302", false),
    ] {
        let port = asking(move |_, _| answer.to_owned()).await;
        let origin = format!("http://127.0.0.1:{port}/");
        let oauth2 = json!({ "token_url": &origin, "client_id": "app", "client_secret": "${env:SECRET}" });
        let plugin = Plugin::new(json!({ "origins": [&origin], "oauth2": oauth2 }), &Names::of(&[]));
        let refusal = plugin.get(&origin).await.unwrap_err();
        assert!(refusal.text.contains(expected) && refusal.misconfigured == misconfigured, "{refusal}");
        assert!(!refusal.text.contains("hunter2") && !plugin.told.lock().unwrap().concat().contains("hunter2"));
        plugin.unharmed().await;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs what arrived, as AWS would, and compares.
fn is_signed(head: &str, body: &[u8], service: &str) -> bool {
    let mut parts = head.lines().next().unwrap().split(' ');
    let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let authorization = header(head, "authorization").unwrap();
    let field = |name: &str| authorization.split_once(&format!("{name}=")).unwrap().1.split(',').next().unwrap().to_owned();
    let date = header(head, "x-amz-date").unwrap();
    let digest = header(head, "x-amz-content-sha256").unwrap();
    assert!(digest == hex(&Sha256::digest(body)) || (service == "s3" && digest == "UNSIGNED-PAYLOAD"), "{digest}");
    let names = field("SignedHeaders");
    assert!(names.contains("host;") && names.contains("x-amz-content-sha256"), "{names}");
    let headers: String = names.split(';').map(|name| format!("{name}:{}\n", header(head, name).unwrap())).collect();
    let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{digest}");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{}/eu-central-1/{service}/aws4_request\n{}", &date[..8], hex(&Sha256::digest(canonical)));
    // The date as the crate wants it.
    let days = |year: u64, month: u64, day: u64| {
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468
    };
    let number = |range: std::ops::Range<usize>| date[range].parse::<u64>().unwrap();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(days(number(0..4), number(4..6), number(6..8)) * 86_400);
    let key = generate_signing_key("hunter2", time, "eu-central-1", service);
    calculate_signature(key, text.as_bytes()) == field("Signature")
}

#[tokio::test]
async fn signatures_of_aws() {
    for service in ["s3", "es"] {
        let port = asking(move |head, body| echo(&is_signed(head, body, service).to_string())).await;
        let keys = json!({ "access_key_id": "AKIDEXAMPLE", "secret_access_key": "${env:SECRET}", "session_token": "a token" });
        let value = json!({
            "origins": [format!("http://127.0.0.1:{port}/")], "aws": { "service": service, "region": "eu-central-1", "credentials": keys },
        });
        let plugin = Plugin::new(value, &Names::of(&[]));
        for (method, path, body) in [("GET", "/", ""), ("PUT", "/bucket/key-1.json", "a body"), ("POST", "/_bulk?a=b&c=d", "more of it")] {
            let mut asked = request(method, &format!("http://127.0.0.1:{port}{path}"), body);
            asked.headers_mut().insert("x-amz-security-token", "of-the-plugin".parse().unwrap());
            asked.headers_mut().insert("content-type", "text/plain".parse().unwrap());
            let (_, _, answer) = plugin.ask(asked, SOON).await.unwrap();
            assert_eq!(answer.as_ref(), b"true", "{service} {method} {path}");
        }
        plugin.unharmed().await;
    }
}

/// What is signed is held, and no more than that: the rest would be the plugin's to choose.
#[tokio::test]
async fn a_body_that_is_too_large_to_be_signed() {
    let keys = json!({ "access_key_id": "A", "secret_access_key": "B" });
    let value = json!({ "origins": ["http://127.0.0.1:9/"], "aws": { "service": "es", "region": "r", "credentials": keys } });
    let plugin = Plugin::new(value, &Names::of(&[]));
    let large: &'static str = Box::leak("0".repeat(17 << 20).into_boxed_str());
    let refusal = plugin.ask(request("POST", "http://127.0.0.1:9/", large), SOON).await.unwrap_err();
    assert_eq!(refusal.code, Code::RequestBodySize, "{refusal}");
    // More than the host holds for the plugin altogether.
    let held = plugin.budget.take(60 << 20).unwrap();
    let refusal = plugin.ask(request("POST", "http://127.0.0.1:9/", large), SOON).await.unwrap_err();
    assert!(refusal.code == Code::RequestBodySize && refusal.text.contains("raise limits.memory"), "{refusal}");
    drop(held);
    plugin.unharmed().await;
}
