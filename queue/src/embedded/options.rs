//! What can be set of the embedded queue.

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// How journal and index are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Size of a journal segment in bytes.
    pub segment_bytes: u64,
    /// The journal's short log, which has the bytes of small files too, is emptied when it is so long, in bytes. A record
    /// with its file takes a sixteenth of it at most.
    #[serde(skip)]
    pub recent_bytes: u64,
    /// Memory that the index may keep pages in, in bytes.
    pub cache_bytes: u64,
    /// The name of this server in what it claims.
    #[serde(skip)]
    pub node: NodeId,
    /// For so many days the journal keeps what happened to files that are gone. Of files that are still there it
    /// keeps at least how they stand.
    pub keep_days: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            recent_bytes: 32 << 20,
            cache_bytes: 64 << 20,
            node: NodeId::local(),
            keep_days: 400,
        }
    }
}

impl Options {
    /// Every fault, each with the key it is about.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !(256 << 10..=1 << 30).contains(&self.segment_bytes) {
            faults
                .push(("segment_bytes", format!("must lie between 256 KiB and 1 GiB, and is {}", self.segment_bytes)));
        }
        if self.cache_bytes < 1 << 20 {
            faults.push(("cache_bytes", format!("must be at least 1 MiB, and is {}", self.cache_bytes)));
        }
        if self.keep_days == 0 {
            faults.push(("keep_days", "must be at least 1".into()));
        }
        faults
    }
}
