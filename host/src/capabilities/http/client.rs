//! Requests of one plugin: checked against its grants, signed, sent, and answered within
//! the time of the call that sent them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::auth::Authenticator;
use super::body::{Answer, Beginning, Feed, Keeper, Outgoing, Written, answer, begin, full};
use super::connection::{Dialler, Sender, Sent, failed};
use super::grant::{Grant, Waits};
use super::headers;
use super::origin::{Origin, Server};
use super::pool::{Key, Lease, Pool};
use super::refusal::{Code, Refusal, Result};
use super::report::Reports;
use super::resolve::Resolve;
use super::tls;
use crate::budget::Budget;
use crate::capabilities::grants::Resources;

/// Requests of one plugin that are under way at one time; others wait for their turn.
const REQUESTS_MAX: usize = 64;
/// What the host holds for a request that a plugin writes: two pieces of its body.
pub const PIECE_BYTES_MAX: usize = 64 << 10;
const REQUEST_BYTES: usize = 2 * PIECE_BYTES_MAX;
/// How long to wait for the first piece of a body of unknown length: of a request that
/// seldom has one, and of others.
const SELDOM: Duration = Duration::from_secs(1);
const USUAL: Duration = Duration::from_millis(20);
/// A connection that was kept may be closed at any time: so often another one is tried.
const TRIES_MAX: usize = 3;
/// What is read of an answer that nobody wants, to keep its connection.
const DRAINED_BYTES_MAX: usize = 64 << 10;
const DRAINING: Duration = Duration::from_millis(200);
/// How long a connection may take until it is ready again.
const SETTLING: Duration = Duration::from_millis(20);

/// What one instance of a plugin asks by. Dropping it ends all that is under way.
#[derive(Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    granted: Vec<Granted>,
    budget: Budget,
    pool: Pool,
    places: Semaphore,
    /// For bodies, which are polled by whoever drives their connection.
    closed: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
    misconfigured: AtomicBool,
    reports: Reports,
}

/// A grant, ready for use.
struct Granted {
    origins: Vec<Origin>,
    waits: Waits,
    dialler: Dialler,
    authenticator: Authenticator,
}

/// What the plugin itself wants of the times; the grant's are upper bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub between_bytes: Option<Duration>,
}

/// An answer that has begun.
struct Begun<'a> {
    answer: Response<Incoming>,
    lease: Lease,
    waits: Waits,
    server: Server,
    _place: SemaphorePermit<'a>,
}

impl Client {
    /// Reads the files that the grants name.
    pub fn new(grants: &Resources<Grant>, resolver: &Arc<dyn Resolve>, budget: &Budget, reports: Reports) -> crate::error::Result<Self> {
        let grants: Vec<&Grant> = match grants {
            Resources::None => Vec::new(),
            Resources::One(grant) => vec![grant],
            Resources::Named(grants) => grants.values().collect(),
        };
        let granted = grants.into_iter().map(|grant| {
            let dialler = Dialler {
                resolver: Arc::clone(resolver),
                addresses: grant.addresses.clone(),
                tls: tls::configuration(grant)?,
                budget: budget.clone(),
            };
            Ok(Granted { origins: grant.origins.clone(), waits: grant.waits, dialler, authenticator: Authenticator::new(grant)? })
        });
        let inner = Inner {
            granted: granted.collect::<crate::error::Result<_>>()?,
            budget: budget.clone(),
            pool: Pool::new(budget.clone()),
            places: Semaphore::new(REQUESTS_MAX),
            closed: Arc::default(),
            closing: watch::Sender::new(false),
            misconfigured: AtomicBool::new(false),
            reports,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends a request, which has to be answered before `deadline`, to the last byte.
    pub fn send(
        &self,
        request: Request<Written>,
        asked: Asked,
        deadline: Instant,
    ) -> impl Future<Output = Result<Response<Answer>>> + Send + use<> {
        let (sender, answered) = oneshot::channel();
        tokio::spawn(Arc::clone(&self.inner).run(request, asked, deadline, sender));
        async move { answered.await.unwrap_or_else(|_| Err(ended())) }
    }

    /// Ends all that is under way: nothing is sent or received any more.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.closing.send_replace(true);
        self.inner.pool.close();
    }

    /// Whether a grant turned out to be wrong since it was asked last.
    pub fn was_misconfigured(&self) -> bool {
        self.inner.misconfigured.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

fn ended() -> Refusal {
    Refusal::new(Code::ConnectionTerminated, "the request was given up with the call of the plugin")
}

impl Inner {
    async fn run(
        self: Arc<Self>,
        request: Request<Written>,
        asked: Asked,
        deadline: Instant,
        mut to: oneshot::Sender<Result<Response<Answer>>>,
    ) {
        let mut closing = self.closing.subscribe();
        let late = || Refusal::new(Code::ResponseTimeout, "a request was not answered within the time of the call; see limits.call");
        let begun = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => Err(ended()),
            () = to.closed() => return,
            begun = timeout_at(deadline, self.begin(self.keep(request, deadline), asked, deadline)) => begun.unwrap_or_else(|_| Err(late())),
        };
        let Begun { answer: received, lease, waits, server, _place } = match begun {
            Ok(begun) => begun,
            Err(refusal) => {
                self.note(&refusal);
                // Whoever does not wait any more does not miss it.
                _ = to.send(Err(refusal));
                return;
            }
        };
        let (mut head, mut body) = received.into_parts();
        headers::clean(&mut head.headers);
        let share = match self.budget.take(weight(&head.headers)) {
            Ok(share) => share,
            Err(exceeded) => {
                _ = to.send(Err(Refusal::new(Code::ResponseHeaderSize, exceeded.to_string())));
                return;
            }
        };
        let (feed, taken) = answer(share);
        if to.send(Ok(Response::from_parts(head, taken))).is_err() {
            return;
        }
        let unwanted = async {
            feed.closed().await;
            sleep(DRAINING).await;
        };
        let pumped = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => Err(ended()),
            () = unwanted => return,
            pumped = timeout_at(deadline, self.pump(&mut body, &feed, waits, &server)) => pumped.unwrap_or_else(|_| Err(late())),
        };
        drop(body);
        match &pumped {
            Ok(true) => lease.give_back(SETTLING).await,
            Ok(false) => {}
            Err(refusal) => self.note(refusal),
        }
        feed.end(pumped.map(drop));
    }

    /// The plugin writes its body, also where the request is refused, and is told by the answer.
    fn keep(&self, request: Request<Written>, deadline: Instant) -> Result<Request<Written>> {
        let head = weight(request.headers()) + request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        let bytes = head + if request.body().is_end_stream() { 0 } else { REQUEST_BYTES };
        let share = self
            .budget
            .take(bytes)
            .map_err(|exceeded| Refusal::new(Code::ConnectionLimit, format!("too many requests at one time: {exceeded}")))?;
        let keeper = Keeper { closing: self.closing.subscribe(), until: deadline };
        Ok(request.map(|body| Outgoing::kept(body, &self.closed, share, keeper).boxed_unsync()))
    }

    async fn begin(&self, request: Result<Request<Written>>, asked: Asked, deadline: Instant) -> Result<Begun<'_>> {
        let request = request?;
        let (at, server) = self.check(&request)?;
        let place = self.places.acquire().await.map_err(|_| ended())?;
        let granted = &self.granted[at];
        let shorter = |own: Option<Duration>, asked: Option<Duration>| own.into_iter().chain(asked).min();
        let waits = Waits {
            connect: shorter(Some(granted.waits.connect), asked.connect).unwrap_or(granted.waits.connect),
            first_byte: shorter(granted.waits.first_byte, asked.first_byte),
            between_bytes: shorter(granted.waits.between_bytes, asked.between_bytes),
        };
        let (answer, lease) = self.exchange(Key { grant: at, server: server.clone() }, request, waits, deadline).await?;
        Ok(Begun { answer, lease, waits, server, _place: place })
    }

    /// Which grant the request is by, and where it goes: all by name, before anything is dialled.
    fn check(&self, request: &Request<Written>) -> Result<(usize, Server)> {
        let uri = request.uri();
        let refused = |reason: &str| Refusal::new(Code::RequestUri, format!("a request {reason}; the plugin has to send another one"));
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(http::uri::Authority::as_str).ok_or_else(|| refused("names no server"))?;
        let server = Server::parse(scheme, authority).map_err(|reason| refused(&reason))?;
        let (mut best, mut elsewhere) = (None, Vec::new());
        for (at, granted) in self.granted.iter().enumerate() {
            for origin in granted.origins.iter().filter(|origin| origin.server == server) {
                let holds = origin.path.holds(uri.path());
                if holds.map_err(|reason| refused(&format!("to {server} has a path that {reason}")))? {
                    best = best.max(Some((origin.path.len(), std::cmp::Reverse(at))));
                } else {
                    elsewhere.push(origin.to_string());
                }
            }
        }
        let Some((_, std::cmp::Reverse(at))) = best else { return Err(self.denied(&server, &elsewhere)) };
        // TRACE would show a plugin what the host adds; CONNECT is for proxies.
        if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            let text = format!("a request to {server} has the method {}, which no plugin may use", request.method());
            return Err(Refusal::new(Code::RequestMethod, text));
        }
        headers::check(request.headers())
            .map_err(|reason| Refusal::new(Code::Denied, format!("a request to {server} {reason}; the plugin has to send it without")))?;
        Ok((at, server))
    }

    fn denied(&self, server: &Server, elsewhere: &[String]) -> Refusal {
        let text = if elsewhere.is_empty() {
            format!("{server} is not granted; if the plugin is to ask it, add to grants.http: origins: [\"{server}/\"]")
        } else {
            format!(
                "a path of {server} is not granted, only {}; if the plugin is to use others, grant a shorter path",
                elsewhere.join(", ")
            )
        };
        Refusal::misconfigured(Code::Denied, text)
    }

    async fn exchange(&self, key: Key, request: Request<Written>, waits: Waits, deadline: Instant) -> Result<(Response<Incoming>, Lease)> {
        let granted = &self.granted[key.grant];
        let (mut parts, mut body) = request.into_parts();
        if !body.is_end_stream() && !parts.headers.contains_key(header::CONTENT_LENGTH) {
            body = self.announce(&mut parts, body).await?;
        }
        let signed = granted.authenticator.sign(&key.server, &mut parts, body, &granted.dialler, deadline).await?;
        let again = signed.token.as_ref().map(|token| (token.clone(), signed.whole.clone().map(|whole| (parts.clone(), whole))));
        let outgoing = Outgoing::new(signed.body, &self.closed, signed.share);
        let (answer, lease) = self.attempt(&key, parts, outgoing, waits, deadline).await?;
        let Some((token, whole)) = again.filter(|_| answer.status() == StatusCode::UNAUTHORIZED) else { return Ok((answer, lease)) };
        let Some(renewed) = granted.authenticator.renewed(&token, &granted.dialler, deadline).await? else { return Ok((answer, lease)) };
        // What is too large to be held is not sent twice: the plugin's next try has the new token.
        let Some((mut parts, whole)) = whole else { return Ok((answer, lease)) };
        drop((answer, lease));
        parts.headers.insert(header::AUTHORIZATION, renewed);
        let outgoing = Outgoing::new(full(whole), &self.closed, None);
        self.attempt(&key, parts, outgoing, waits, deadline).await
    }

    /// Says of a body of unknown length whether there is one: hyper drops that of a GET
    /// that does not say so, and servers dislike an empty one in chunks.
    async fn announce(&self, parts: &mut Parts, body: Written) -> Result<Written> {
        let seldom = matches!(parts.method, Method::GET | Method::HEAD);
        Ok(match begin(body, if seldom { SELDOM } else { USUAL }).await? {
            Beginning::Empty => {
                if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
                    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                full(bytes::Bytes::new())
            }
            Beginning::Unknown(body) | Beginning::Some(body) => {
                if seldom {
                    parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
                body
            }
        })
    }

    async fn attempt(
        &self,
        key: &Key,
        mut parts: Parts,
        mut body: Outgoing,
        waits: Waits,
        deadline: Instant,
    ) -> Result<(Response<Incoming>, Lease)> {
        let server = &key.server;
        let path = parts.uri.path_and_query().cloned();
        // HTTP/2 has no such header.
        let chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
        for _ in 0..TRIES_MAX {
            let mut lease = self.pool.connection(key, &self.granted[key.grant].dialler, waits.connect, deadline).await?;
            parts.headers.remove(header::HOST);
            parts.headers.remove(header::TRANSFER_ENCODING);
            parts.uri = server.uri(path.as_ref())?;
            parts.version = http::Version::HTTP_2;
            if matches!(lease.sender, Sender::Http1(_)) {
                if chunked {
                    parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
                parts.version = http::Version::HTTP_11;
                parts.uri = path.clone().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")).into();
                let authority = HeaderValue::from_str(&server.authority());
                parts.headers.insert(header::HOST, authority.map_err(|_| Refusal::new(Code::RequestUri, format!("{server} is no host")))?);
            }
            let sending = lease.sender.send(server, Request::from_parts(parts, body));
            let sent = match waits.first_byte {
                Some(wait) => timeout(wait, sending)
                    .await
                    .map_err(|_| Refusal::new(Code::ResponseTimeout, format!("{server} did not begin to answer within {wait:?}")))?,
                None => sending.await,
            };
            match sent? {
                Sent::Answer(answer) => return Ok((answer, lease)),
                Sent::NotSent(request) => (parts, body) = request.into_parts(),
            }
        }
        Err(Refusal::new(Code::ConnectionTerminated, format!("{server} closes its connections before a request is sent")))
    }

    /// Hands the body on, as fast as the plugin takes it; whether it was read to its end.
    async fn pump(&self, body: &mut Incoming, feed: &Feed, waits: Waits, server: &Server) -> Result<bool> {
        let mut drained = 0;
        loop {
            let wanted = feed.room().await;
            let next = match waits.between_bytes {
                Some(wait) => timeout(wait, body.frame()).await.map_err(|_| {
                    Refusal::new(Code::ConnectionReadTimeout, format!("{server} sent nothing for {wait:?} in the middle of its answer"))
                })?,
                None => body.frame().await,
            };
            let Some(frame) = next else { return Ok(true) };
            let frame = frame.map_err(|error| failed(server, &error))?;
            let bytes = frame.data_ref().map_or_else(|| frame.trailers_ref().map_or(0, weight), bytes::Bytes::len);
            if wanted {
                let share = self.budget.take(bytes).map_err(|exceeded| Refusal::new(Code::ResponseBodySize, exceeded.to_string()))?;
                feed.push(frame, share).await;
                continue;
            }
            drained += bytes;
            if drained > DRAINED_BYTES_MAX {
                return Ok(false);
            }
        }
    }

    fn note(&self, refusal: &Refusal) {
        if refusal.misconfigured {
            self.misconfigured.store(true, Ordering::Relaxed);
        }
        if !self.closed.load(Ordering::SeqCst) {
            self.reports.report(refusal);
        }
    }
}

fn weight(headers: &http::HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("grants", &self.granted.len()).finish_non_exhaustive()
    }
}
