//! Bodies: of requests, which a plugin writes, and of answers, which it reads.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::refusal::{Code, Refusal, Result};
use crate::budget::{Budget, Share};

/// What a plugin writes.
pub type Written = UnsyncBoxBody<Bytes, Refusal>;

/// The body of a request on its way to the server.
pub struct Outgoing {
    inner: Option<Written>,
    /// The plugin is gone: what ends now is not whole.
    closed: Arc<AtomicBool>,
    keeper: Option<Keeper>,
    _share: Option<Share>,
}

/// Until when a body is kept that nobody sends any more.
#[derive(Clone, Debug)]
pub struct Keeper {
    pub closing: watch::Receiver<bool>,
    pub until: Instant,
}

/// What a plugin writes although nobody sends it any more, until it is told.
const UNSENT_BYTES_MAX: usize = 1 << 20;

impl Outgoing {
    pub fn new(inner: Written, closed: &Arc<AtomicBool>, share: Option<Share>) -> Self {
        Self { inner: Some(inner), closed: Arc::clone(closed), keeper: None, _share: share }
    }

    /// A body that a plugin is writing. Whoever sends it lets go of it as soon as it was
    /// answered, or has as many bytes as were announced; the plugin ends it a little later,
    /// and must not be told that the connection broke.
    pub fn kept(inner: Written, closed: &Arc<AtomicBool>, share: Share, keeper: Keeper) -> Self {
        Self { inner: Some(inner), closed: Arc::clone(closed), keeper: Some(keeper), _share: Some(share) }
    }

    /// One that is there already.
    pub fn whole(bytes: Bytes, share: Option<Share>) -> Self {
        Self { inner: Some(full(bytes)), closed: Arc::default(), keeper: None, _share: share }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let (Some(mut inner), Some(Keeper { mut closing, until })) = (self.inner.take(), self.keeper.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let share = self._share.take();
        runtime.spawn(async move {
            let _held = share;
            let unsent = async {
                let mut bytes = 0;
                while bytes < UNSENT_BYTES_MAX {
                    let Some(Ok(frame)) = inner.frame().await else { return };
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
            };
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                _ = timeout_at(until, unsent) => {}
            }
        });
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, Refusal>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let next = std::task::ready!(Pin::new(inner).poll_frame(context));
        if !matches!(next, Some(Ok(_))) {
            self.inner = None;
        }
        // A plugin that broke off drops its half of the body, which looks like its end.
        // The server must not take half of a request for a whole one.
        if next.is_none() && self.closed.load(Ordering::SeqCst) {
            return Poll::Ready(Some(Err(Refusal::new(Code::ConnectionTerminated, "the plugin ended before its request was whole"))));
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        !self.closed.load(Ordering::SeqCst) && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A body that is there already.
pub fn full(bytes: Bytes) -> Written {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// As much of a body as is asked for.
pub enum Buffered {
    /// All of it.
    Whole(Bytes, Share),
    /// It is longer, or has trailers: what was read, and the rest behind it.
    Longer(Written, Share),
}

/// Reads a body up to `bytes_max`, which are taken from the budget.
pub async fn buffer(mut body: Written, bytes_max: usize, budget: &Budget) -> Result<Buffered> {
    let mut share = budget.share();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame?.into_data() {
            Ok(data) => data,
            Err(trailers) => return Ok(Buffered::Longer(Prefixed::boxed(vec![Frame::data(read.freeze()), trailers], body), share)),
        };
        share.grow(data.len()).map_err(|exceeded| Refusal::new(Code::RequestBodySize, exceeded.to_string()))?;
        read.extend_from_slice(&data);
        if read.len() > bytes_max {
            return Ok(Buffered::Longer(Prefixed::boxed(vec![Frame::data(read.freeze())], body), share));
        }
    }
    Ok(Buffered::Whole(read.freeze(), share))
}

/// What there is to say of a body before it is sent.
pub enum Beginning {
    /// It has nothing.
    Empty,
    /// It has something.
    Some(Written),
    /// Nothing was written so far.
    Unknown(Written),
}

/// Waits for the first piece of a body.
pub async fn begin(mut body: Written, wait: Duration) -> Result<Beginning> {
    Ok(match timeout(wait, body.frame()).await {
        Err(_) => Beginning::Unknown(body),
        Ok(None) => Beginning::Empty,
        Ok(Some(frame)) => Beginning::Some(Prefixed::boxed(vec![frame?], body)),
    })
}

/// Some frames, and a body behind them.
struct Prefixed {
    frames: std::vec::IntoIter<Frame<Bytes>>,
    rest: Written,
}

impl Prefixed {
    fn boxed(frames: Vec<Frame<Bytes>>, rest: Written) -> Written {
        Self { frames: frames.into_iter(), rest }.boxed_unsync()
    }
}

impl Body for Prefixed {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, Refusal>>> {
        match self.frames.next() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }
}

/// The body of an answer, as the plugin reads it.
#[derive(Debug)]
pub struct Answer {
    frames: mpsc::Receiver<(Frame<Bytes>, Share)>,
    /// What is left to say behind the last frame. Without a word, the answer is not whole.
    end: Option<oneshot::Receiver<Result<()>>>,
    /// For what the answer says before its body.
    _head: Share,
}

/// What is read ahead of a plugin.
const FRAMES_AHEAD: usize = 2;

/// Where the frames of an answer go to.
#[derive(Debug)]
pub struct Feed {
    frames: mpsc::Sender<(Frame<Bytes>, Share)>,
    end: oneshot::Sender<Result<()>>,
}

/// `head` is what the answer says before its body takes.
pub fn answer(head: Share) -> (Feed, Answer) {
    let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
    let (end, ended) = oneshot::channel();
    (Feed { frames: sender, end }, Answer { frames, end: Some(ended), _head: head })
}

impl Feed {
    /// Waits until there is room for the next frame; false if nobody reads any more.
    pub async fn room(&self) -> bool {
        self.frames.reserve().await.is_ok()
    }

    /// Returns when nobody reads any more.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }

    pub async fn push(&self, frame: Frame<Bytes>, share: Share) {
        // Whoever does not read any more does not miss it.
        _ = self.frames.send((frame, share)).await;
    }

    pub fn end(self, outcome: Result<()>) {
        _ = self.end.send(outcome);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, Refusal>>> {
        if let Some((frame, _)) = std::task::ready!(self.frames.poll_recv(context)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let ended = std::task::ready!(Pin::new(end).poll(context));
        self.end = None;
        let broken = || Err(Refusal::new(Code::ConnectionTerminated, "the request was given up before its answer was whole"));
        Poll::Ready(ended.unwrap_or_else(|_| broken()).err().map(Err))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outgoing")
    }
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beginning")
    }
}

impl fmt::Debug for Buffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buffered")
    }
}
