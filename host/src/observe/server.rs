//! `/healthz`, `/readyz` and `/metrics` over HTTP/1.
//!
//! The server runs in the task of the loop that it tells of: it answers only while
//! that task is given its turns.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use httparse::{EMPTY_HEADER, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::Status;
use crate::error::{Code, Error, Result};

/// Connections at one time. One more ends the oldest, which has had more time than it needed.
const CONNECTIONS_MAX: usize = 256;

/// A connection carries one request: the time for its head, for the answer, and for what
/// the client still sends after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const REST_TIMEOUT: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: u64 = 64 << 10;

/// What a request's head may have.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 100;

/// How long to wait when no connection can be taken: no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    status: Status,
}

impl Server {
    /// Takes the address; `Configure` if it cannot be had.
    pub async fn bind(address: SocketAddr, status: Status) -> Result<Self> {
        let cannot =
            |error: std::io::Error| Error::configure(Code::ListenFailed, format!("cannot listen on {address}: {error}; see --listen"));
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        tracing::info!(%address, "serving /healthz, /readyz and /metrics");
        Ok(Self { listener, status })
    }

    /// Serves until `work` is done.
    pub async fn beside<T>(self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.serve() => match never {},
        }
    }

    async fn serve(&self) -> Infallible {
        let mut connections = FuturesUnordered::new();
        // In the order in which they came, with those that are over.
        let mut ends: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (conversation, end) = abortable(self.converse(stream));
                        connections.push(conversation);
                        ends.push_back(end);
                        if ends.len() > CONNECTIONS_MAX && let Some(oldest) = ends.pop_front() {
                            oldest.abort();
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection cannot be taken");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.next(), if !connections.is_empty() => {}
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream) {
        // Whatever goes wrong, nobody is there to be told.
        let Ok(Ok(head)) = timeout(HEAD_TIMEOUT, read_head(&mut stream)).await else { return };
        let answer = match head {
            Some(head) => self.answer(&head.method, &head.path),
            None => Answer { code: "400 Bad Request", content: TEXT, body: "not an HTTP request\n".to_owned(), bodiless: false },
        };
        let answering = async {
            stream.write_all(answer.bytes().as_bytes()).await?;
            stream.shutdown().await
        };
        if let Ok(Ok(())) = timeout(ANSWER_TIMEOUT, answering).await {
            // A connection that is closed before all was read would take the answer with it.
            let _ = timeout(REST_TIMEOUT, drain(&mut stream)).await;
        }
    }

    fn answer(&self, method: &str, path: &str) -> Answer {
        let answer = |code, content, body| Answer { code, content, body, bodiless: method == "HEAD" };
        if !matches!(method, "GET" | "HEAD") {
            return answer("405 Method Not Allowed\r\nAllow: GET, HEAD", TEXT, "only GET and HEAD\n".to_owned());
        }
        match path.split('?').next() {
            Some("/healthz") => answer("200 OK", TEXT, "ok\n".to_owned()),
            Some("/readyz") => {
                let facts = self.status.facts();
                answer(if facts.is_ready() { "200 OK" } else { "503 Service Unavailable" }, JSON, facts.json())
            }
            Some("/metrics") => answer("200 OK", METRICS, self.status.facts().metrics()),
            _ => answer("404 Not Found", TEXT, "there are /healthz, /readyz and /metrics\n".to_owned()),
        }
    }
}

struct Head {
    method: String,
    path: String,
}

struct Answer {
    /// With its reason.
    code: &'static str,
    content: &'static str,
    body: String,
    /// The body's length is told, and no body sent.
    bodiless: bool,
}

impl Answer {
    fn bytes(&self) -> String {
        let Self { code, content, body, bodiless } = self;
        let length = body.len();
        let body = if *bodiless { "" } else { body };
        format!(
            "HTTP/1.1 {code}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
        )
    }
}

/// `None`: what came is no HTTP request, or a longer one than is read here.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    loop {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = Request::new(&mut headers);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(_)) => {
                let (method, path) = (request.method.unwrap_or_default().to_owned(), request.path.unwrap_or_default().to_owned());
                return Ok(Some(Head { method, path }));
            }
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {}
            Ok(httparse::Status::Partial) | Err(_) => return Ok(None),
        }
        let room = (HEAD_BYTES_MAX - bytes.len()) as u64;
        if (&mut *stream).take(room).read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

async fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut rest = [0; 1024];
    let mut stream = stream.take(REST_BYTES_MAX);
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::State;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A refusal of what is still on its way may come as a reset.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    #[tokio::test]
    async fn it_answers_what_it_is_asked() {
        let status = Status::new("relay", "app");
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), status.clone()).await.unwrap();
        let address = server.listener.local_addr().unwrap();
        let asking = async {
            assert!(ask(address, &get("/healthz")).await.starts_with("HTTP/1.1 200 "));
            let unready = ask(address, &get("/readyz")).await;
            assert!(unready.starts_with("HTTP/1.1 503 ") && unready.contains("\"state\":\"starting\""), "{unready}");
            status.enter(State::Standby);
            assert!(ask(address, &get("/readyz?verbose")).await.starts_with("HTTP/1.1 200 "));
            let metrics = ask(address, &get("/metrics")).await;
            assert!(metrics.contains("version=0.0.4") && metrics.contains("\npgshovel_batches_total{"), "{metrics}");
            assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404 "));
            assert!(ask(address, "POST /readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
            assert!(ask(address, "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.ends_with("\r\n\r\n"));
            assert!(ask(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
            let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
            assert!(!ask(address, &long).await.starts_with("HTTP/1.1 200 "));
            // Those that say nothing keep nobody out.
            let mut silent = Vec::new();
            for _ in 0..2 * CONNECTIONS_MAX {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            let asked = std::time::Instant::now();
            assert!(ask(address, &get("/healthz")).await.starts_with("HTTP/1.1 200 "));
            assert!(asked.elapsed() < HEAD_TIMEOUT, "{:?}", asked.elapsed());
        };
        server.beside(asking).await;
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Server::bind(address, Status::new("relay", "app")).await.unwrap_err();
        assert!(error.message.contains(&address.to_string()) && error.message.contains("--listen"), "{error}");
    }
}
