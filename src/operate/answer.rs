//! The way an answer goes back to the one who asked.
//!
//! A bounded channel: a deed that lists a million files waits for the reader, so an answer never
//! grows in memory. When the reader goes, sending fails with [`Cause::Gone`](super::Cause::Gone),
//! and the deed ends at its next piece: what belongs together must be done before the first piece
//! that tells of it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    problem::{Problem, Result},
    reply::{Piece, ProgressView, Reply},
};

/// Pieces that may be under way before the sender waits.
/// With bytes in pieces of 256 KiB, 16 MiB at most.
const DEPTH: usize = 64;

/// Takes pieces of an answer, one after another; waits when the reader is behind.
#[derive(Clone, Debug)]
pub struct Answer {
    sender: mpsc::Sender<Piece>,
}

impl Answer {
    /// A way back and its end.
    /// The receiver is read by the socket's task or, without a server, by the command line itself.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Piece>) {
        let (sender, receiver) = mpsc::channel(DEPTH);
        (Self { sender }, receiver)
    }

    /// Sends an object.
    /// Waits until there is room. Cancel safe: dropped, the piece was not sent.
    ///
    /// # Errors
    /// When the one who asked is gone.
    pub async fn give(&self, reply: Reply) -> Result<()> {
        self.sender.send(Piece::Reply(reply)).await.map_err(|_| Problem::gone())
    }

    /// Sends bytes of a file.
    /// Waits until there is room. Cancel safe: dropped, the piece was not sent.
    ///
    /// # Errors
    /// When the one who asked is gone.
    pub async fn bytes(&self, bytes: Bytes) -> Result<()> {
        self.sender.send(Piece::Bytes(bytes)).await.map_err(|_| Problem::gone())
    }

    /// For work that has nothing to send for a while.
    ///
    /// # Errors
    /// When the one who asked is gone.
    pub fn is_wanted(&self) -> Result<()> {
        if self.sender.is_closed() { Err(Problem::gone()) } else { Ok(()) }
    }

    /// Until the one who asked is gone.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Tells progress of `what` when there is room on the way; a figure that is left out does no harm.
    #[must_use]
    pub fn progress(&self, what: &'static str) -> Arc<dyn Fn(u64, u64) + Send + Sync> {
        let sender = self.sender.clone();
        Arc::new(move |done, total| {
            let view = ProgressView { what: what.to_owned(), done, total };
            // A full channel drops the figure: the next one says more.
            let _ = sender.try_send(Piece::Reply(Reply::Progress(view)));
        })
    }
}
