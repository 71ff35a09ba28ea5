//! The end of a store that can no longer promise anything.
//!
//! It is set once, and never taken back before a restart: after a failed `fsync` the kernel may
//! drop the dirty pages and report success the next time, so no later sync can be believed.

use std::sync::OnceLock;

use crate::{Result, StorageError};

/// Why a store takes nothing more, if it does not.
#[derive(Debug, Default)]
pub(super) struct Poison(OnceLock<String>);

impl Poison {
    pub(super) fn why(&self) -> Option<String> {
        self.0.get().cloned()
    }

    pub(super) fn sound(&self) -> Result<()> {
        self.why().map_or(Ok(()), |why| Err(StorageError::Poisoned(why)))
    }

    /// Ends the store in good order.
    pub(super) fn close(&self) {
        let _ = self.0.set("it is closed".to_owned());
    }

    /// Stops the store for good: what was written can no longer be promised.
    pub(super) fn stop(&self, why: String) -> StorageError {
        if self.0.set(why.clone()).is_ok() {
            tracing::error!(%why, "storage stopped accepting until a restart");
        }
        StorageError::Poisoned(why)
    }
}
