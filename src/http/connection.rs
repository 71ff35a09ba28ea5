//! One connection, within its bounds.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::heads::Heads;

/// The most bytes of a request's head, and the most lines of it.
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_LINES: usize = 64;
/// What is read of a client that was answered and sends on.
const LINGER_BYTES: u64 = 4 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// The times of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For a request's head, and for the wait for the next request.
    pub head: Duration,
    /// For the whole connection. Transfers that are under way are not cut by it.
    pub age: Duration,
    /// For the answer in progress when the connection is to end.
    pub last_answer: Duration,
}

/// The transfers that are under way on a connection: their own clock limits them, and the connection's age does not.
#[derive(Clone, Debug, Default)]
pub struct Transfers(Arc<AtomicUsize>);

/// A transfer that is under way, until it is dropped.
#[derive(Debug)]
pub struct Transfer(Arc<AtomicUsize>);

impl Transfers {
    /// A transfer begins.
    #[must_use]
    pub fn begin(&self) -> Transfer {
        self.0.fetch_add(1, Ordering::AcqRel);
        Transfer(Arc::clone(&self.0))
    }

    fn are_under_way(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers the requests of a connection, one after another, until its client, its age or `end` ends it. The request in
/// progress is answered then.
///
/// # Errors
/// When the connection ended early: what the client sent was no HTTP, or it is gone.
pub async fn serve<S, B, A>(
    stream: S,
    bounds: Bounds,
    transfers: &Transfers,
    end: impl Future<Output = ()>,
    answer: impl Fn(Request<Incoming>) -> A,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    A: Future<Output = Response<B>>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .half_close(true);
    let service = service_fn(|request| {
        let answering = answer(request);
        Box::pin(async move { Ok::<_, Infallible>(answering.await) })
    });
    let mut connection = http.serve_connection(TokioIo::new(Heads::new(stream)), service);
    let ended = tokio::select! {
        ended = answered(&mut connection) => Some(ended),
        () = end => None,
        () = sleep(bounds.age) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            last_answered(&mut connection, bounds, transfers).await
        }
    };
    if ended.is_ok() {
        linger(connection.into_parts().io.into_inner()).await;
    }
    ended
}

/// Answers until no request comes any more. The stream stays open.
async fn answered<S, T, B>(connection: &mut http1::Connection<TokioIo<S>, T>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: HttpService<Incoming, ResBody = B> + Unpin,
    T::Future: Unpin,
    T::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    poll_fn(|cx| connection.poll_without_shutdown(cx)).await
}

/// Ends the request in progress, which has its time, or that of its transfer.
async fn last_answered<S, T, B>(
    connection: &mut http1::Connection<TokioIo<S>, T>,
    bounds: Bounds,
    transfers: &Transfers,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: HttpService<Incoming, ResBody = B> + Unpin,
    T::Future: Unpin,
    T::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        match timeout(bounds.last_answer, answered(connection)).await {
            Ok(ended) => return ended,
            Err(_) if transfers.are_under_way() => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Closes a connection whose client may still send: closed at once, with bytes unread, it would be reset, and the answer lost.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection is over.
    let _ = timeout(LINGER_TIME, rest).await;
}
