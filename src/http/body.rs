//! Bodies of requests that somebody may not read to their end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::timeout;

/// A body that is lent to whoever answers the request. What is left of it comes back.
#[derive(Debug)]
pub struct Lent {
    body: Option<Incoming>,
    /// Somebody has begun to read it: a client that waits for that was told to send it.
    is_begun: bool,
    is_cut: bool,
    back: Arc<Mutex<Left>>,
}

/// What is left of a body that was lent.
#[derive(Debug, Default)]
pub struct Rest(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
enum Left {
    /// It was not given back.
    #[default]
    Nothing,
    /// It was given back: whole, or begun.
    Whole(Incoming),
    Begun(Incoming),
    Cut,
}

impl Lent {
    /// Lends a body.
    #[must_use]
    pub fn new(body: Incoming) -> (Self, Rest) {
        let back = Arc::default();
        (Self { body: Some(body), is_begun: false, is_cut: false, back: Arc::clone(&back) }, Rest(back))
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        this.is_begun = true;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        this.is_cut |= matches!(polled, Poll::Ready(Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        *self.back.lock() = match (self.is_cut, self.is_begun) {
            (true, _) => Left::Cut,
            (false, true) => Left::Begun(body),
            (false, false) => Left::Whole(body),
        };
    }
}

impl Rest {
    /// Reads the rest and forgets it, so that its sender comes to read the answer. Returns false if that was not all of it:
    /// it is longer than `most` bytes, did not come `within` the time, was cut, or its client waits to be told to send it.
    pub async fn forget(self, client_waits: bool, most: u64, within: Duration) -> bool {
        let left = std::mem::take(&mut *self.0.lock());
        let body = match left {
            Left::Whole(body) if client_waits => return body.is_end_stream(),
            Left::Whole(body) | Left::Begun(body) => body,
            Left::Nothing | Left::Cut => return false,
        };
        if body.is_end_stream() {
            return true;
        }
        if body.size_hint().lower() > most {
            return false;
        }
        let mut body = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
        let all = async {
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(within, all).await.unwrap_or(false)
    }
}
