//! Threads for sessions: one for each processor, each with a runtime of its own.
//!
//! A session stays on the thread that it began on, and all that it waits for wakes that thread and no other: a change of
//! threads costs a small file as much as writing it. Work that blocks, such as the disk writes of large files, is on
//! blocking threads as everywhere.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
    sync::oneshot,
    time::sleep,
};
use tracing::debug;

use crate::ingest::prepare_session_thread;

/// Shorter than all but a few times that sessions wait for.
const BEAT: Duration = Duration::from_secs(1);
/// The time that the blocking work of a thread gets when it ends.
const LAST_WORK: Duration = Duration::from_secs(5);

/// The threads of a door. Dropping it ends them, and drops what runs on them.
#[derive(Debug)]
pub(super) struct SessionThreads {
    threads: Vec<SessionThread>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct SessionThread {
    runtime: Handle,
    /// Ends the thread when it is dropped.
    _stop: oneshot::Sender<()>,
}

impl SessionThreads {
    /// Starts them, named after the door.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(door: &str) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = (0..count).map(|number| SessionThread::start(&format!("{door}-{number}")));
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, next: AtomicUsize::new(0) })
    }

    /// Has a connection served on one of them, each in its turn.
    pub(super) fn serve<F, W>(&self, stream: TcpStream, peer: SocketAddr, serve: F)
    where
        F: FnOnce(TcpStream) -> W + Send + 'static,
        W: Future<Output = ()> + Send,
    {
        // It leaves the runtime that it was accepted on.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return debug!(%peer, %error, "connection was gone at once"),
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        self.threads[number].runtime.spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => debug!(%peer, %error, "connection was gone at once"),
            }
        });
    }
}

/// Keeps a timer that is due before those of sessions: tokio makes a system call for each timer that is set to be due before
/// all others of its thread, which is three for a small file otherwise.
async fn beat() {
    loop {
        sleep(BEAT).await;
    }
}

impl SessionThread {
    fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        runtime.spawn(beat());
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            prepare_session_thread(runtime.handle());
            // Its sender is never used: it is dropped.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(LAST_WORK);
        })?;
        Ok(Self { runtime: handle, _stop: stop })
    }
}
