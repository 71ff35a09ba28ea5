//! Copying one file into ingest.
//!
//! It goes the same way as uploads through other doors: `begin_copy`, `write`, `finish` with
//! evidence. The identity of the original is in the record of the acceptance.

use std::{os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    options::Options,
    place::Found,
    proof::{self, Seen},
};
use crate::ingest::{Accepted, Evidence, Ingest, Intake, Refusal, SessionInfo, Verdict};

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 256 << 10;

/// Looks again at what was copied, right before it is accepted.
struct LookAgain {
    options: Arc<Options>,
    found: Arc<Found>,
    seen: Arc<Seen>,
}

impl Evidence for LookAgain {
    fn look(&mut self) -> Verdict {
        match proof::doubt(&self.options, &self.found, &self.seen) {
            None => Verdict::Whole,
            Some(doubt) => Verdict::Cut(doubt.to_owned()),
        }
    }
}

/// Copies a file that was judged to be whole. The folders above its name are made with its acceptance. An error leaves
/// nothing behind.
pub(super) async fn take(
    ingest: &Arc<Ingest>,
    session: &SessionInfo,
    name: &str,
    options: &Arc<Options>,
    found: &Arc<Found>,
    seen: &Arc<Seen>,
    stop: &watch::Receiver<bool>,
) -> Result<Accepted, Refusal> {
    let mut intake = ingest.begin_copy(session, name, found.origin.clone()).await?;
    if let Err(refusal) = copy(&mut intake, found, stop).await {
        intake.discard().await;
        return Err(refusal);
    }
    let evidence = LookAgain { options: Arc::clone(options), found: Arc::clone(found), seen: Arc::clone(seen) };
    intake.finish(Box::new(evidence)).await
}

/// Copies all bytes, or stops when the server does.
async fn copy(intake: &mut Intake, found: &Arc<Found>, stop: &watch::Receiver<bool>) -> Result<(), Refusal> {
    let size = found.origin.size_bytes;
    let mut at = 0;
    while at < size {
        if *stop.borrow() {
            return Err(Refusal::Cut("the server stops".to_owned()));
        }
        let piece = read(Arc::clone(found), at, PIECE_BYTES.min(size - at)).await?;
        if piece.is_empty() {
            return Err(Refusal::Cut("it became shorter while it was copied".to_owned()));
        }
        at += piece.len() as u64;
        intake.write(piece).await?;
    }
    Ok(())
}

/// Reads a piece on a blocking thread.
async fn read(found: Arc<Found>, at: u64, length: u64) -> Result<Bytes, Refusal> {
    let work = move || {
        let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = found.file.read_at(&mut piece, at)?;
        piece.truncate(read);
        Ok::<_, std::io::Error>(Bytes::from(piece))
    };
    let read = tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::Internal(error.to_string()))?;
    read.map_err(|error| Refusal::Internal(format!("cannot be read: {error}")))
}
