//! Progress and cancellation of long work: an index that catches up with its journal or is rebuilt.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{QueueError, Result};

type Tell = dyn Fn(u64, u64) + Send + Sync;

/// Reports how far an index has caught up with its journal or was rebuilt, and can stop that.
/// Clones share one state. (It has nothing to do with changes of the queue: see
/// `QueueStore::changed`.)
#[derive(Clone, Default)]
pub struct Watch {
    stopped: Arc<AtomicBool>,
    tell: Option<Arc<Tell>>,
}

impl Watch {
    /// A watch that is told what is done, and of how much.
    #[must_use]
    pub fn new(tell: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { stopped: Arc::default(), tell: Some(Arc::new(tell)) }
    }

    /// Stops the work where it can go on another time. It ends with [`QueueError::Stopped`].
    ///
    /// A stopped opening leaves an index that is right up to some record; the next one goes on
    /// there.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Tells how far the work is.
    ///
    /// # Errors
    /// When it is to stop.
    pub(crate) fn at(&self, done: u64, total: u64) -> Result<()> {
        if let Some(tell) = &self.tell {
            tell(done, total);
        }
        // What is done is done.
        if done < total && self.stopped.load(Ordering::Acquire) { Err(QueueError::Stopped) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}
