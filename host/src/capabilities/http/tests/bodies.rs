//! Bodies of requests, whole and half, and answers that are not read.

use std::sync::atomic::{AtomicBool, Ordering};

use http_body::{Body, Frame};

use super::*;

/// A body of which the second half never comes, or comes to its end where the plugin is gone.
struct Half {
    sent: bool,
    gone: Arc<AtomicBool>,
}

impl Body for Half {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        if !std::mem::replace(&mut self.sent, true) {
            return std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"half of it")))));
        }
        if self.gone.load(Ordering::SeqCst) {
            return std::task::Poll::Ready(None);
        }
        // Somebody else will tell that the plugin is gone.
        let waker = context.waker().clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            waker.wake();
        });
        std::task::Poll::Pending
    }
}

/// What wasmtime makes of a plugin that traps: its body ends as if it were whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_request_is_not_taken_for_a_whole_one() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let port = serve(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut received = Vec::new();
            _ = stream.read_to_end(&mut received).await;
            seen.send(String::from_utf8_lossy(&received).into_owned()).unwrap();
        }
    })
    .await;
    let plugin = Plugin::of(port);
    for _ in 0..20 {
        let gone = Arc::new(AtomicBool::new(false));
        let plugin = Plugin::of(port);
        let body = Half { sent: false, gone: Arc::clone(&gone) }.boxed_unsync();
        let request = Request::builder().method("POST").uri(format!("http://127.0.0.1:{port}/")).body(body).unwrap();
        let sent = tokio::spawn(plugin.client.send(request, Asked::default(), Instant::now() + SOON));
        tokio::time::sleep(Duration::from_millis(20)).await;
        plugin.client.close();
        gone.store(true, Ordering::SeqCst);
        assert!(sent.await.unwrap().is_err());
        let received = requests.recv().await.unwrap();
        assert!(!received.contains("0\r\n\r\n"), "{received:?}");
        plugin.unharmed().await;
    }
    drop(plugin);
}

#[tokio::test]
async fn a_body_that_is_not_read_to_its_end_is_let_go_of() {
    let port = flooding("HTTP/1.1 200 OK\r\n\r\n", "0123456789012345678901234567890123456789", Duration::ZERO).await;
    let plugin = Plugin::of(port);
    for _ in 0..30 {
        drop(plugin.send(request("GET", &format!("http://127.0.0.1:{port}/"), ""), SOON).await.unwrap());
    }
    plugin.unharmed().await;
}

/// Written in pieces, without a length: hyper would drop that of a GET, and the plugin is
/// told nothing while it ends what was read already.
#[tokio::test]
async fn bodies_without_a_length() {
    let port = serve(|mut stream| async move {
        while let Some(head) = read_head(&mut stream).await {
            let mut body = String::new();
            while head.contains("chunked") && !body.ends_with("0\r\n\r\n") {
                body.push(char::from(stream.read_u8().await.unwrap()));
            }
            let told = format!("{}|{}", if head.contains("content-length: 0") { "empty" } else { "" }, body.replace("\r\n", ","));
            _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{told}", told.len()).as_bytes()).await;
        }
    })
    .await;
    let plugin = Plugin::of(port);
    for (method, pieces, expected) in [
        ("GET", vec![], "|"),
        ("GET", vec!["ab", "c"], "|2,ab,1,c,0,,"),
        ("POST", vec![], "empty|"),
        ("POST", vec!["ab"], "|2,ab,0,,"),
        ("DELETE", vec![], "|"),
    ] {
        let frames = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let request = Request::builder().method(method).uri(format!("http://127.0.0.1:{port}/")).body(body).unwrap();
        let (_, _, answer) = plugin.ask(request, SOON).await.unwrap();
        assert_eq!(answer.as_ref(), expected.as_bytes(), "{method}");
    }
    plugin.unharmed().await;
}

#[tokio::test]
async fn trailers_come_through() {
    let port = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n").await;
    let plugin = Plugin::of(port);
    let request = Request::builder().uri(format!("http://127.0.0.1:{port}/")).header("te", "trailers").body(full(Bytes::new())).unwrap();
    let body = plugin.send(request, SOON).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
}
/// Each has a body that the plugin is still writing, which the host holds a part of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bodies_at_one_time() {
    let port = answering(OK).await;
    let plugin = Plugin::of(port);
    let url = format!("http://127.0.0.1:{port}/");
    let deadline = Instant::now() + Duration::from_secs(2);
    let half = || Half { sent: false, gone: Arc::default() }.boxed_unsync();
    let ask = |_| plugin.client.send(Request::post(&url).body(half()).unwrap(), Asked::default(), deadline);
    let answers: Vec<_> = (0..10_000).map(ask).map(Box::pin).collect();
    let mut refused = 0;
    for answer in answers {
        refused += usize::from(answer.await.is_err_and(|refusal| refusal.code == Code::ConnectionLimit));
    }
    assert!(refused > 9000 && plugin.budget.bytes() <= plugin.budget.bytes_max(), "{refused}");
    plugin.unharmed().await;
}
