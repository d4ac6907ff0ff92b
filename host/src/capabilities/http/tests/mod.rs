//! The client against servers that mean harm, on loopback, and names that change.

mod attacks;
mod authentication;
mod bodies;
mod grants;
mod names;
mod secured;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::body::{Answer, Written, full};
use super::client::{Asked, Client};
use super::grant::{Grant, read};
use super::refusal::{Code, Refusal};
use super::report::Reports;
use super::resolve::{Addresses, Resolve};
use crate::budget::Budget;
use crate::capabilities::grants::Resources;
use crate::yaml::{Field, Problem, Sources, Value};

/// Answers each query with what stands in front; the last answer stays.
#[derive(Debug, Default)]
struct Names(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names {
    fn of(answers: &[&[&str]]) -> Arc<dyn Resolve> {
        let addresses = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(addresses).collect())))
    }
}

impl Resolve for Names {
    fn resolve(&self, _: &str) -> Addresses {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| std::io::Error::other("no such name")) })
    }
}

/// What was told to the operator.
type Told = Arc<Mutex<Vec<String>>>;

/// A plugin with a grant.
struct Plugin {
    client: Client,
    budget: Budget,
    /// How many connections it may have.
    connections: usize,
    told: Told,
}

fn grant(value: serde_json::Value) -> Result<Resources<Grant>, Problem> {
    let value: Value = serde_json::from_value(value).unwrap();
    let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
    read(&Field::root(&value), &Sources { folder: Path::new("/nowhere"), env: &env })
}

impl Plugin {
    fn new(value: serde_json::Value, resolver: &Arc<dyn Resolve>) -> Self {
        Self::with(&grant(value).map_err(|problem| problem.message).unwrap(), resolver, 8)
    }

    fn with(grant: &Resources<Grant>, resolver: &Arc<dyn Resolve>, connections: usize) -> Self {
        let place = "section `target` of app.yaml";
        let budget = Budget::new(0, connections, place.into());
        let told = Told::default();
        let said = Arc::clone(&told);
        let reports = Reports::new(place.into(), move |text| said.lock().unwrap().push(text.to_owned()));
        Self { client: Client::new(grant, resolver, &budget, reports).unwrap(), budget, connections, told }
    }

    /// Granted one server on loopback by number.
    fn of(port: u16) -> Self {
        Self::new(json!({ "origins": [format!("http://127.0.0.1:{port}/")] }), &Names::of(&[]))
    }

    async fn send(&self, request: Request<Written>, within: Duration) -> Result<http::Response<Answer>, Refusal> {
        self.client.send(request, Asked::default(), Instant::now() + within).await
    }

    /// The whole answer.
    async fn ask(&self, request: Request<Written>, within: Duration) -> Result<(StatusCode, HeaderMap, Bytes), Refusal> {
        let (head, body) = self.send(request, within).await?.into_parts();
        Ok((head.status, head.headers, body.collect().await?.to_bytes()))
    }

    async fn get(&self, url: &str) -> Result<(StatusCode, HeaderMap, Bytes), Refusal> {
        self.ask(request("GET", url, ""), SOON).await
    }

    /// Nothing is held any more, soon.
    async fn unharmed(self) {
        self.client.close();
        let freed = async {
            while self.budget.bytes() > 0 || self.free() < self.connections {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let freed = tokio::time::timeout(SOON, freed).await;
        assert!(freed.is_ok(), "{} bytes are held, and {} of {} connections are free", self.budget.bytes(), self.free(), self.connections);
    }

    fn free(&self) -> usize {
        std::iter::from_fn(|| self.budget.handle().ok()).take(self.connections).collect::<Vec<_>>().len()
    }
}

const SOON: Duration = Duration::from_secs(20);

fn request(method: &str, url: &str, body: &'static str) -> Request<Written> {
    Request::builder().method(method).uri(url).body(full(Bytes::from(body))).unwrap()
}

/// Serves each connection; its port.
async fn serve<F, S>(serve: F) -> u16
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// Reads up to the end of the headers of a request.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A server that answers each request in the same way, as long as it is asked.
async fn answering(answer: &'static str) -> u16 {
    serve(move |mut stream| async move {
        while read_head(&mut stream).await.is_some() && stream.write_all(answer.as_bytes()).await.is_ok() {}
    })
    .await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Writes `first`, and `rest` again and again.
async fn flooding(first: &'static str, rest: &'static str, pause: Duration) -> u16 {
    serve(move |mut stream| async move {
        read_head(&mut stream).await;
        _ = stream.write_all(first.as_bytes()).await;
        while stream.write_all(rest.as_bytes()).await.is_ok() {
            // The shortest sleep is a millisecond.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
