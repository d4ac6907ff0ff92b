//! What servers and plugins try. Each ends in a refusal that has a name, and nothing is held after it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn an_answer_comes_back() {
    let port = answering(OK).await;
    let plugin = Plugin::of(port);
    for _ in 0..3 {
        let (status, _, body) = plugin.get(&format!("http://127.0.0.1:{port}/a?b")).await.unwrap();
        assert_eq!((status, body.as_ref()), (StatusCode::OK, b"ok".as_slice()));
    }
    plugin.unharmed().await;
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let port = serve(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { while read_head(&mut stream).await.is_some() && stream.write_all(OK.as_bytes()).await.is_ok() {} }
    })
    .await;
    let plugin = Plugin::of(port);
    for _ in 0..50 {
        plugin.get(&format!("http://127.0.0.1:{port}/")).await.unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    plugin.unharmed().await;
}

/// A server may close what was kept, at any time; nothing was sent, so nothing is lost.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let port = serve(|mut stream| async move {
        read_head(&mut stream).await;
        _ = stream.write_all(OK.as_bytes()).await;
    })
    .await;
    let plugin = Plugin::of(port);
    for _ in 0..20 {
        plugin.get(&format!("http://127.0.0.1:{port}/")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    plugin.unharmed().await;
}

async fn refused(plugin: &Plugin, url: &str, expected: Code) -> Refusal {
    let refusal = plugin.ask(request("GET", url, ""), Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(refusal.code, expected, "{url}: {refusal}");
    refusal
}

#[tokio::test]
async fn what_is_not_granted_is_not_dialled() {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let port = serve(move |_| {
        seen.store(true, Ordering::SeqCst);
        async {}
    })
    .await;
    let plugin = Plugin::new(json!({ "origins": ["https://search.example/index/"] }), &Names::of(&[&["127.0.0.1"]]));
    let refusal = refused(&plugin, &format!("http://127.0.0.1:{port}/"), Code::Denied).await;
    assert_eq!(
        refusal.text,
        format!(
            "http://127.0.0.1:{port} is not granted; if the plugin is to ask it, add to grants.http: origins: [\"http://127.0.0.1:{port}/\"]"
        )
    );
    assert!(refusal.misconfigured);
    for url in [
        "http://search.example/index/",
        "https://search.example:9200/index/",
        "https://search.example/other",
        "https://search.example/index2",
        "https://search.example/",
        "https://other.example/index/",
        "https://search.example.evil.example/index/",
        "https://evil.example/search.example/index/",
    ] {
        refused(&plugin, url, Code::Denied).await;
    }
    for url in [
        "https://search.example@evil.example/index/",
        "https://user:pw@search.example/index/",
        "https://search.example/index/../other",
        "https://search.example/index/%2e%2e/other",
        "https://search.example/index//x",
        "https://search.example/index/..%2fother",
        "https://search.example/index/..;/other",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f000001/",
        "http://127.1/",
        "ftp://search.example/index/",
        "https://search.example:0/index/",
    ] {
        refused(&plugin, url, Code::RequestUri).await;
    }
    assert!(!asked.load(Ordering::SeqCst));
    // Each was told to the operator, once, without what the request was.
    let told = plugin.told.lock().unwrap().clone();
    assert!(told.len() >= 8 && told.iter().all(|text| text.ends_with("(section `target` of app.yaml)")), "{told:#?}");
    assert!(!told.iter().any(|text| text.contains("pw") || text.contains("other/") || text.contains("index2")), "{told:#?}");
    plugin.unharmed().await;
}

/// What a grant's path bounds is `path.rs`; that a request keeps to it, here.
#[tokio::test]
async fn the_path_of_a_request_is_sent_as_it_was_checked() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let port = serve(move |mut stream| {
        let seen = seen.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                seen.send(head).unwrap();
                _ = stream.write_all(OK.as_bytes()).await;
            }
        }
    })
    .await;
    let plugin = Plugin::new(json!({ "origins": [format!("http://127.0.0.1:{port}/index")] }), &Names::of(&[]));
    plugin.get(&format!("http://127.0.0.1:{port}/index/a%20b?x=../..")).await.unwrap();
    let head = requests.recv().await.unwrap();
    assert!(head.starts_with("GET /index/a%20b?x=../.. HTTP/1.1\r\n") && head.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{head}");
}

/// The host follows none; a plugin that does is checked again.
#[tokio::test]
async fn redirects_are_answers() {
    let port = answering("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/\r\ncontent-length: 0\r\n\r\n").await;
    let plugin = Plugin::of(port);
    let (status, headers, _) = plugin.get(&format!("http://127.0.0.1:{port}/")).await.unwrap();
    assert_eq!(status, StatusCode::FOUND);
    refused(&plugin, headers["location"].to_str().unwrap(), Code::Denied).await;
    plugin.unharmed().await;
}

#[tokio::test]
async fn headers_of_the_connection_are_refused() {
    let port = answering(OK).await;
    let plugin = Plugin::of(port);
    let url = format!("http://127.0.0.1:{port}/");
    for (name, value) in [
        ("host", "evil.example"),
        ("connection", "x-api-key"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "Basic x"),
        ("te", "gzip"),
        ("content-length", "+2"),
    ] {
        let request = Request::builder().uri(&url).header(name, value).body(full(Bytes::new())).unwrap();
        let refusal = plugin.ask(request, SOON).await.unwrap_err();
        assert_eq!(refusal.code, Code::Denied, "{name}: {refusal}");
    }
    for method in ["TRACE", "CONNECT"] {
        assert_eq!(plugin.ask(request(method, &url, ""), SOON).await.unwrap_err().code, Code::RequestMethod);
    }
    // What no header may hold cannot be written to begin with.
    for value in ["a\r\nb: c", "a\nb", "a\0b"] {
        assert!(http::HeaderValue::from_str(value).is_err());
    }
    for name in ["a b", "a\r\nb", "a:b", ""] {
        assert!(name.parse::<http::HeaderName>().is_err());
    }
    plugin.unharmed().await;
}

#[tokio::test]
async fn headers_of_the_connection_are_not_shown() {
    let port = answering("HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\nproxy-status: x\r\nx-own: y\r\ncontent-length: 2\r\n\r\nok").await;
    let (_, headers, _) = Plugin::of(port).get(&format!("http://127.0.0.1:{port}/")).await.unwrap();
    let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-own"]);
}

#[tokio::test]
async fn endless_headers() {
    let port = flooding("HTTP/1.1 200 OK\r\n", "x-more: 0123456789012345678901234567890123456789\r\n", Duration::ZERO).await;
    let plugin = Plugin::of(port);
    refused(&plugin, &format!("http://127.0.0.1:{port}/"), Code::ResponseHeaderSize).await;
    let port = flooding("HTTP/1.1 200 OK\r\nx: ", "0123456789", Duration::ZERO).await;
    let other = Plugin::of(port);
    refused(&other, &format!("http://127.0.0.1:{port}/"), Code::ResponseHeaderSize).await;
    plugin.unharmed().await;
    other.unharmed().await;
}

#[tokio::test]
async fn an_endless_body_waits_for_its_reader_and_ends_with_its_time() {
    let port = flooding("HTTP/1.1 200 OK\r\n\r\n", "0123456789012345678901234567890123456789", Duration::ZERO).await;
    let plugin = Plugin::of(port);
    let answer = plugin.send(request("GET", &format!("http://127.0.0.1:{port}/"), ""), Duration::from_secs(2)).await.unwrap();
    let mut body = answer.into_body();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Nobody reads, and the host holds little.
    assert!(plugin.budget.bytes() < 2 << 20, "{} bytes are held", plugin.budget.bytes());
    let mut read = 0;
    let refusal = loop {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.into_data().unwrap().len(),
            Some(Err(refusal)) => break refusal,
            None => panic!("it ended after {read} bytes"),
        }
    };
    assert_eq!(refusal.code, Code::ResponseTimeout, "{refusal}");
    assert!(read > 1 << 20, "{read}");
    plugin.unharmed().await;
}

#[tokio::test]
async fn a_byte_at_a_time() {
    let port = flooding("HTTP/1.1 200 OK\r\n\r\n", "0", Duration::from_millis(100)).await;
    let plugin = Plugin::of(port);
    let url = format!("http://127.0.0.1:{port}/");
    refused(&plugin, &url, Code::ResponseTimeout).await;
    // And in the middle of a line.
    let port = flooding("HTTP/1.1 200 OK\r\nx: ", "0", Duration::from_millis(100)).await;
    let other = Plugin::of(port);
    refused(&other, &format!("http://127.0.0.1:{port}/"), Code::ResponseTimeout).await;
    plugin.unharmed().await;
    other.unharmed().await;
}

#[tokio::test]
async fn silence() {
    let port = flooding("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0", "", Duration::from_secs(3600)).await;
    let url = format!("http://127.0.0.1:{port}/");
    let origins = json!([format!("http://127.0.0.1:{port}/")]);
    let plugin = Plugin::new(json!({ "origins": origins, "between_bytes": "100ms" }), &Names::of(&[]));
    let refusal = refused(&plugin, &url, Code::ConnectionReadTimeout).await;
    assert_eq!(refusal.text, format!("http://127.0.0.1:{port} sent nothing for 100ms in the middle of its answer"));
    let port = serve(|stream| async move {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        drop(stream);
    })
    .await;
    let other = Plugin::new(json!({ "origins": [format!("http://127.0.0.1:{port}/")], "first_byte": "100ms" }), &Names::of(&[]));
    let refusal = refused(&other, &format!("http://127.0.0.1:{port}/"), Code::ResponseTimeout).await;
    assert_eq!(refusal.text, format!("http://127.0.0.1:{port} did not begin to answer within 100ms"));
    plugin.unharmed().await;
    other.unharmed().await;
}

#[tokio::test]
async fn answers_that_are_none() {
    for (answer, expected) in [
        ("", Code::ResponseIncomplete),
        ("HTTP/1.1 200 OK\r\n", Code::ResponseIncomplete),
        ("SSH-2.0-OpenSSH\r\n\r\n", Code::Protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", Code::ResponseIncomplete),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", Code::Protocol),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Code::Protocol),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", Code::ResponseIncomplete),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", Code::Protocol),
        ("HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n", Code::Protocol),
    ] {
        let port = serve(move |mut stream| async move {
            read_head(&mut stream).await;
            _ = stream.write_all(answer.as_bytes()).await;
            _ = stream.shutdown().await;
        })
        .await;
        let plugin = Plugin::of(port);
        let refusal = plugin.get(&format!("http://127.0.0.1:{port}/")).await.unwrap_err();
        assert_eq!(refusal.code, expected, "{answer:?}: {refusal}");
        plugin.unharmed().await;
    }
}

/// Two answers to one request: the second is nobody's.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_not_taken() {
    let port = serve(|mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            _ = stream.write_all(format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").as_bytes()).await;
        }
    })
    .await;
    let plugin = Plugin::of(port);
    for _ in 0..20 {
        let answer = plugin.get(&format!("http://127.0.0.1:{port}/")).await;
        assert!(answer.is_err() || answer.unwrap().2.as_ref() == b"ok");
    }
    plugin.unharmed().await;
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let plugin = Plugin::of(port);
    refused(&plugin, &format!("http://127.0.0.1:{port}/"), Code::ConnectionRefused).await;
    plugin.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_at_one_time() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&open), Arc::clone(&most));
    let port = serve(move |mut stream| {
        let (counted, peak) = (Arc::clone(&counted), Arc::clone(&peak));
        async move {
            peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while read_head(&mut stream).await.is_some() && stream.write_all(OK.as_bytes()).await.is_ok() {}
            counted.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let plugin = Plugin::of(port);
    let url = format!("http://127.0.0.1:{port}/");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut answers: Vec<_> =
        (0..10_000).map(|_| Some(Box::pin(plugin.client.send(request("GET", &url, ""), Asked::default(), deadline)))).collect();
    for answer in &mut answers {
        let answer = answer.take().unwrap().await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().as_ref(), b"ok");
    }
    // The server notices the end of a connection a little later than another one begins.
    assert!(most.load(Ordering::SeqCst) <= 12, "{} connections at one time", most.load(Ordering::SeqCst));
    plugin.unharmed().await;
}

#[tokio::test]
async fn an_answer_behind_the_end_of_the_call() {
    let port = serve(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        _ = stream.write_all(OK.as_bytes()).await;
    })
    .await;
    let plugin = Plugin::of(port);
    let mut sent =
        Box::pin(plugin.client.send(request("GET", &format!("http://127.0.0.1:{port}/"), ""), Asked::default(), Instant::now() + SOON));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut sent).await.is_err());
    plugin.client.close();
    assert_eq!(sent.await.unwrap_err().code, Code::ConnectionTerminated);
    assert_eq!(plugin.get(&format!("http://127.0.0.1:{port}/")).await.unwrap_err().code, Code::ConnectionTerminated);
    plugin.unharmed().await;
}
