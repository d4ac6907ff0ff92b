//! Bodies: of requests, which a plugin writes, and of answers, which it reads.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{mpsc, oneshot};

use super::refusal::{Code, Refusal, Result};
use crate::budget::{Budget, Share};

/// What a plugin writes.
pub type Written = UnsyncBoxBody<Bytes, Refusal>;

/// The body of a request on its way to the server.
pub struct Outgoing {
    inner: Written,
    /// The plugin is gone: what ends now is not whole.
    closed: Arc<AtomicBool>,
    _share: Option<Share>,
}

impl Outgoing {
    pub fn new(inner: Written, closed: &Arc<AtomicBool>, share: Option<Share>) -> Self {
        Self { inner, closed: Arc::clone(closed), _share: share }
    }

    /// One that is there already.
    pub fn whole(bytes: Bytes, share: Option<Share>) -> Self {
        Self { inner: full(bytes), closed: Arc::default(), _share: share }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<std::result::Result<Frame<Bytes>, Refusal>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match polled {
            // A plugin that broke off drops its half of the body, which looks like its end.
            // The server must not take half of a request for a whole one.
            Poll::Ready(None) if self.closed.load(Ordering::SeqCst) => {
                Poll::Ready(Some(Err(Refusal::new(Code::ConnectionTerminated, "the plugin ended before its request was whole"))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.closed.load(Ordering::SeqCst) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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
}

/// What is read ahead of a plugin.
const FRAMES_AHEAD: usize = 2;

/// Where the frames of an answer go to.
#[derive(Debug)]
pub struct Feed {
    frames: mpsc::Sender<(Frame<Bytes>, Share)>,
    end: oneshot::Sender<Result<()>>,
}

pub fn answer() -> (Feed, Answer) {
    let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
    let (end, ended) = oneshot::channel();
    (Feed { frames: sender, end }, Answer { frames, end: Some(ended) })
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

impl fmt::Debug for Buffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buffered")
    }
}
