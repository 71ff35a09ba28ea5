//! One transfer, and who decides about its end.
//!
//! Cancelling (ABOR, a client that went away, the server stopping) and committing meet in one compare-and-swap.
//! Whoever comes second reports what the first did.

use std::sync::{
    OnceLock,
    atomic::{AtomicU8, Ordering},
};

use tokio_util::sync::CancellationToken;

const RUNNING: u8 = 0;
const CANCELLED: u8 = 1;
const COMMITTING: u8 = 2;

/// What becomes of the bytes that are on their way when a transfer is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Not waited for.
    Dropped,
    /// Those that have come already are kept: the sender has gone and will want to go on behind them.
    Kept,
    /// Not waited for, and those that have come are not kept either: nobody knows whose they are.
    Discarded,
}

/// One transfer: it runs until it is cancelled or committed, and never both.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    state: AtomicU8,
    why: OnceLock<(String, Rest)>,
    cancelled: CancellationToken,
}

impl Transfer {
    /// Cancels the transfer. Returns true if it was still running: then nothing of it will be
    /// queued. Returns false when it was cancelled before or is being committed; `why` and `rest`
    /// are then ignored.
    pub(super) fn cancel(&self, why: &str, rest: Rest) -> bool {
        let won = self.state.compare_exchange(RUNNING, CANCELLED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if won {
            // Nobody else gets here.
            let _ = self.why.set((why.to_owned(), rest));
            // After the reason is set: whoever the token wakes reads it.
            self.cancelled.cancel();
        }
        won
    }

    /// Takes the right to commit. From then on [`Transfer::cancel`] returns false.
    ///
    /// # Errors
    /// The reason, when it was cancelled before.
    pub(super) fn commit(&self) -> Result<(), String> {
        match self.state.compare_exchange(RUNNING, COMMITTING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.why().0),
        }
    }

    /// Waits until it is cancelled. Cancel safe.
    pub(super) async fn cancelled(&self) -> (String, Rest) {
        self.cancelled.cancelled().await;
        self.why()
    }

    /// The reason, when it was cancelled so that nothing of it is kept.
    pub(super) fn discarded(&self) -> Option<String> {
        let (why, rest) = self.why.get()?;
        (*rest == Rest::Discarded).then(|| why.clone())
    }

    fn why(&self) -> (String, Rest) {
        self.why.get().cloned().unwrap_or_else(|| ("the transfer was cancelled".to_owned(), Rest::Dropped))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn one_of_two_wins() {
        for _ in 0..2000 {
            let transfer = Arc::new(Transfer::default());
            let other = transfer.clone();
            let cancelling = std::thread::spawn(move || other.cancel("ABOR", Rest::Dropped));
            let committed = transfer.commit().is_ok();
            assert_ne!(cancelling.join().unwrap(), committed);
        }
    }
}
