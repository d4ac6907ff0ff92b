//! Connections whose server may not send a message larger than a budget holds.
//!
//! The driver collects each message of the server whole, however large it is. Here its
//! length is read from its header, before the rest of it is taken from the socket.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio_postgres::config::{Host, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage, Socket};

use super::failure::{explain, read_only};
use super::opened::{Cancel, Cause, Opened, drive};
use crate::budget::{Budget, Share};
use crate::error::{Code, Error};

/// Messages up to this size are not counted one by one: the driver holds a few of them.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// How many messages the driver may hold that it took from the socket and has not handed
/// on: the last one, and those that fit its channel.
const DRIVER_MESSAGES: usize = 3;

/// "SSLRequest" of PostgreSQL's page "Message Formats".
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What the messages of one connection may take, and why one was refused.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    budget: Budget,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Bounds {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), refusal: Arc::default() }
    }

    /// Why the connection was broken off, if it was.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse(&self, reason: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// Why no connection was made.
#[derive(Debug)]
pub(super) enum Failed {
    Driver(tokio_postgres::Error),
    Other(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Driver(error) => explain(&error),
            Failed::Other(error) => error,
        }
    }
}

/// Connects as `Config::connect` does to one server, over TCP or a socket of the file system.
pub(super) async fn connect<T>(config: &Config, tls: T, bounds: &Bounds, place: &str) -> Result<Opened, Failed>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::TlsConnect: Send + 'static,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    if let [Host::Unix(folder)] = config.get_hosts() {
        return over_socket(config, folder, bounds, place).await;
    }
    let door =
        Door { tls, mode: config.get_ssl_mode(), direct: config.get_ssl_negotiation() == SslNegotiation::Direct, bounds: bounds.clone() };
    let mut config = config.clone();
    // The driver then leaves all of the negotiation to the connector.
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    let (client, connection) = config.connect(door.clone()).await.map_err(Failed::Driver)?;
    let token = client.cancel_token();
    let cancel =
        Box::new(move || -> BoxFuture<'static, _> { Box::pin(async move { token.cancel_query(door).await.map_err(Cause::from) }) });
    Ok(Opened { client, driver: drive(connection, place.to_owned()), cancel: Some(cancel) })
}

async fn over_socket(config: &Config, folder: &Path, bounds: &Bounds, place: &str) -> Result<Opened, Failed> {
    let path = folder.join(format!(".s.PGSQL.{}", config.get_ports().first().copied().unwrap_or(5432)));
    let socket = UnixStream::connect(&path).await;
    let socket = socket.map_err(|error| Failed::Other(Error::retry(Code::DatabaseAway, format!("error connecting to server: {error}"))))?;
    let (client, connection) = config.connect_raw(Bounded::new(socket, bounds.clone()), NoTls).await.map_err(Failed::Driver)?;
    let driver = drive(connection, place.to_owned());
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite && is_read_only(&client).await? {
        return Err(Failed::Other(read_only()));
    }
    let token = client.cancel_token();
    let cancel: Cancel = Box::new(move || -> BoxFuture<'static, _> { Box::pin(cancel_over_socket(token, path)) });
    Ok(Opened { client, driver, cancel: Some(cancel) })
}

async fn is_read_only(client: &Client) -> Result<bool, Failed> {
    let answer = client.simple_query("SHOW transaction_read_only").await.map_err(Failed::Driver)?;
    Ok(answer.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on"))))
}

async fn cancel_over_socket(token: CancelToken, path: PathBuf) -> Result<(), Cause> {
    let socket = UnixStream::connect(&path).await?;
    token.cancel_query_raw(socket, NoTls).await.map_err(Cause::from)
}

/// Makes the stream below the driver: TLS where it is wanted and can be had, and the bounds.
#[derive(Clone)]
struct Door<T> {
    tls: T,
    mode: SslMode,
    direct: bool,
    bounds: Bounds,
}

impl<T> MakeTlsConnect<Socket> for Door<T>
where
    T: MakeTlsConnect<Socket>,
    T::TlsConnect: Send + 'static,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    type Stream = Bounded<Either<T::Stream>>;
    type TlsConnect = Door<Option<T::TlsConnect>>;
    type Error = T::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, T::Error> {
        // A name that no certificate can have matters only where one is asked for.
        let tls = if self.mode == SslMode::Disable { None } else { Some(self.tls.make_tls_connect(domain)?) };
        Ok(Door { tls, mode: self.mode, direct: self.direct, bounds: self.bounds.clone() })
    }
}

impl<C> TlsConnect<Socket> for Door<Option<C>>
where
    C: TlsConnect<Socket> + Send + 'static,
    C::Stream: Send + 'static,
    C::Future: Send,
{
    type Stream = Bounded<Either<C::Stream>>;
    type Error = Cause;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Cause>> + Send>>;

    fn connect(self, mut socket: Socket) -> Self::Future {
        Box::pin(async move {
            let is_tls = self.tls.is_some() && (self.direct || accepts_tls(&mut socket).await?);
            let stream = match self.tls {
                Some(tls) if is_tls => Either::Tls(tls.connect(socket).await.map_err(Into::into)?),
                Some(_) if self.mode == SslMode::Require => return Err("server does not support TLS".into()),
                _ => Either::Plain(socket),
            };
            Ok(Bounded::new(stream, self.bounds))
        })
    }
}

async fn accepts_tls(socket: &mut Socket) -> io::Result<bool> {
    socket.write_all(&SSL_REQUEST).await?;
    Ok(socket.read_u8().await? == b'S')
}

/// A connection with or without TLS.
pub(super) enum Either<T> {
    Plain(Socket),
    Tls(T),
}

/// A stream of messages of a server, of which the large ones are counted.
pub(super) struct Bounded<S> {
    stream: S,
    bounds: Bounds,
    header: [u8; 5],
    header_bytes: usize,
    /// What of the message is still to come.
    rest: usize,
    /// Of the message under way, last, and of those before it that the driver may still hold.
    shares: VecDeque<(usize, Share)>,
}

impl<S> Bounded<S> {
    fn new(stream: S, bounds: Bounds) -> Self {
        Self { stream, bounds, header: [0; 5], header_bytes: 0, rest: 0, shares: VecDeque::new() }
    }

    /// Follows the messages in `bytes`, which came next.
    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (self.header.len() - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == self.header.len() {
                self.header_bytes = 0;
                let [kind, length @ ..] = self.header;
                // A length counts itself.
                self.rest = (u32::from_be_bytes(length) as usize).saturating_sub(length.len());
                self.begin(kind)?;
            }
        }
        Ok(())
    }

    /// The buffer of a message that comes may be twice as large as what it holds.
    fn begin(&mut self, kind: u8) -> io::Result<()> {
        if let Some((bytes, share)) = self.shares.back_mut() {
            share.shrink(*bytes);
        }
        if kind == b'Z' {
            // "ReadyForQuery": all answers before it were handed on.
            self.shares.clear();
        }
        if self.rest <= SMALL_BYTES_MAX {
            return Ok(());
        }
        if self.shares.len() >= DRIVER_MESSAGES {
            self.shares.pop_front();
        }
        let share = self.bounds.budget.take(self.rest.saturating_mul(2)).map_err(|exceeded| {
            let reason = format!("the server sends a message of {} bytes: {exceeded}", self.rest);
            self.bounds.refuse(reason.clone());
            io::Error::other(reason)
        })?;
        self.shares.push_back((self.rest, share));
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.follow(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<T: TlsStream + Unpin> TlsStream for Bounded<Either<T>> {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.stream {
            Either::Plain(_) => ChannelBinding::none(),
            Either::Tls(stream) => stream.channel_binding(),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Either<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Either<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::BYTES_MIN;

    fn message(kind: u8, body: usize) -> Vec<u8> {
        let length = u32::try_from(body + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], &vec![0; body]].concat()
    }

    fn bounded() -> (Bounded<()>, Budget) {
        let budget = Budget::new(0, 1, "section `target`".into());
        (Bounded::new((), Bounds::new(&budget)), budget)
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let bytes = [message(b'D', 0), message(b'D', 3), message(b'C', 1000), message(b'Z', 1)].concat();
        for size in [1, 2, 3, 5, 7, 1000] {
            let (mut bounded, budget) = bounded();
            bytes.chunks(size).for_each(|chunk| bounded.follow(chunk).unwrap());
            assert_eq!((bounded.rest, bounded.header_bytes, budget.bytes()), (0, 0, 0));
        }
    }

    #[test]
    fn large_messages_are_counted_until_the_answer_is_complete() {
        let (mut bounded, budget) = bounded();
        const LARGE: usize = SMALL_BYTES_MAX + 1;
        bounded.follow(&message(b'D', LARGE)).unwrap();
        assert_eq!(budget.bytes(), 2 * LARGE);
        for _ in 0..10 {
            bounded.follow(&message(b'D', LARGE)).unwrap();
        }
        assert_eq!(budget.bytes(), (DRIVER_MESSAGES + 1) * LARGE);
        bounded.follow(&message(b'Z', 1)).unwrap();
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_header() {
        let (mut bounded, budget) = bounded();
        let length = u32::try_from(BYTES_MIN / 2 + 100).unwrap();
        let error = bounded.follow(&[b"D", &length.to_be_bytes()[..]].concat()).unwrap_err();
        assert!(error.to_string().contains("raise limits.memory in the section `target`"), "{error}");
        assert_eq!((budget.bytes(), bounded.bounds.refusal()), (0, Some(error.to_string())));
    }
}
