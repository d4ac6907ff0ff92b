//! One connection to a server, by HTTP/1.1 or HTTP/2.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::address::Network;
use super::body::Outgoing;
use super::origin::Server;
use super::refusal::{Code, Refusal, Result};
use super::resolve::{Resolve, dial};
use super::tls::handshake;
use crate::budget::{Budget, Handle, Share};

/// What an answer says before its body, at most, and what is read ahead.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 200;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What the client holds for a connection.
const HTTP1_BYTES: usize = 2 * HEAD_BYTES_MAX;
const HTTP2_BYTES: usize = CONNECTION_WINDOW as usize + 2 * HEAD_BYTES_MAX;

/// How one grant connects.
#[derive(Clone)]
pub struct Dialler {
    pub resolver: Arc<dyn Resolve>,
    pub addresses: Vec<Network>,
    pub tls: Arc<ClientConfig>,
    pub budget: Budget,
}

/// Where requests are handed in.
pub enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    /// For several requests at one time.
    Http2(http2::SendRequest<Outgoing>),
    /// It was given back.
    None,
}

/// Dropping it closes the connection, whatever is under way.
pub struct Connection {
    driver: JoinHandle<()>,
}

/// The place of a connection among those that the plugin may have. Dropping it gives the
/// place back, and tells whoever waits for one.
pub struct Place {
    handle: Option<Handle>,
    freed: Arc<Notify>,
}

impl Place {
    pub fn new(handle: Handle, freed: Arc<Notify>) -> Self {
        Self { handle: Some(handle), freed }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.handle.take());
        self.freed.notify_waiters();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dialler {
    /// Connects before `until`. What the host itself asks for takes no `place` of the plugin.
    pub async fn connect(&self, server: &Server, place: Option<Place>, until: Instant) -> Result<(Sender, Connection)> {
        let late = || Refusal::new(Code::ConnectionTimeout, format!("{server} did not finish to connect in time"));
        let stream = dial(server, &self.addresses, &*self.resolver, until).await?;
        if !server.secure {
            return timeout_at(until, self.http1(server, stream, place)).await.map_err(|_| late())?;
        }
        let secured = async {
            let stream = handshake(&self.tls, server, stream).await?;
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => self.http2(server, stream, place).await,
                _ => self.http1(server, stream, place).await,
            }
        };
        timeout_at(until, secured).await.map_err(|_| late())?
    }

    async fn http1<S>(&self, server: &Server, stream: S, place: Option<Place>) -> Result<(Sender, Connection)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let share = self.share(HTTP1_BYTES)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| failed(server, &error))?;
        Ok((Sender::Http1(sender), Connection::new(driver, place, share)))
    }

    async fn http2<S>(&self, server: &Server, stream: S, place: Option<Place>) -> Result<(Sender, Connection)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let share = self.share(HTTP2_BYTES)?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_send_buf_size(HEAD_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| failed(server, &error))?;
        Ok((Sender::Http2(sender), Connection::new(driver, place, share)))
    }

    fn share(&self, bytes: usize) -> Result<Share> {
        self.budget.take(bytes).map_err(|exceeded| Refusal::new(Code::ConnectionLimit, exceeded.to_string()))
    }
}

impl Connection {
    fn new<E: fmt::Display>(
        driver: impl Future<Output = std::result::Result<(), E>> + Send + 'static,
        place: Option<Place>,
        share: Share,
    ) -> Self {
        let drive = async move {
            // Given back when the socket is closed, and not before.
            let _held = (place, share);
            // What went wrong is the answer of the request that it went wrong for.
            _ = driver.await;
        };
        Self { driver: tokio::spawn(drive) }
    }
}

/// An answer, or the request where nothing of it was sent.
pub enum Sent {
    Answer(http::Response<Incoming>),
    NotSent(http::Request<Outgoing>),
}

impl Sender {
    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
            Self::None => true,
        }
    }

    pub async fn send(&mut self, server: &Server, request: http::Request<Outgoing>) -> Result<Sent> {
        match self {
            Self::Http1(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(Sent::NotSent(request));
                }
                sent(server, sender.try_send_request(request).await)
            }
            Self::Http2(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(Sent::NotSent(request));
                }
                sent(server, sender.try_send_request(request).await)
            }
            Self::None => Ok(Sent::NotSent(request)),
        }
    }
}

type Tried = std::result::Result<http::Response<Incoming>, hyper::client::conn::TrySendError<http::Request<Outgoing>>>;

fn sent(server: &Server, tried: Tried) -> Result<Sent> {
    match tried {
        Ok(answer) => Ok(Sent::Answer(answer)),
        Err(mut error) => match error.take_message() {
            Some(request) => Ok(Sent::NotSent(request)),
            None => Err(failed(server, error.error())),
        },
    }
}

/// What hyper says, without what the server said.
pub fn failed(server: &Server, error: &hyper::Error) -> Refusal {
    // The request's body, or the answer's, was refused by us: that is the reason.
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return refusal.clone();
        }
        if let Some(error) = inner.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::UnexpectedEof
        {
            return incomplete(server);
        }
        if let Some(error) = inner.downcast_ref::<std::io::Error>()
            && error.get_ref().is_some_and(|error| error.is::<rustls::Error>())
        {
            return super::tls::refused(server, error);
        }
        source = inner.source();
    }
    if error.is_parse_too_large() {
        let most = crate::printable::size(HEAD_BYTES_MAX as u64);
        return Refusal::new(
            Code::ResponseHeaderSize,
            format!("{server} answers with more than {most} or {HEADERS_MAX} lines of headers, which is the most that is taken"),
        );
    }
    if error.is_parse() {
        return Refusal::new(Code::Protocol, format!("{server} answers with what is no HTTP"));
    }
    if error.is_incomplete_message() {
        return incomplete(server);
    }
    if error.is_canceled() || error.is_closed() || error.is_body_write_aborted() {
        return Refusal::new(Code::ConnectionTerminated, format!("the connection to {server} was closed"));
    }
    Refusal::new(Code::Protocol, format!("HTTP with {server} broke off: {error}"))
}

fn incomplete(server: &Server) -> Refusal {
    Refusal::new(Code::ResponseIncomplete, format!("{server} closed the connection before its answer was whole"))
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1(_) => "Http1",
            Self::Http2(_) => "Http2",
            Self::None => "None",
        })
    }
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
