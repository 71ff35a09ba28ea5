//! Keys that went: a configuration that still has them is no fault, and says what took their place.
//!
//! So an upgrade never keeps a server from starting. An entry stays here for good: nobody knows how
//! old a file is.

/// A key that means nothing any more.
pub(super) struct Retired {
    /// Its section, `route` for each `[[route]]`.
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// The sentence that an operator reads.
    pub(super) instead: &'static str,
}

const IN_LIMITS: &str = "means nothing any more: connections of the web count in [limits], as those of every door";

/// Every key that went, in the order in which they went.
pub(super) const RETIRED: [Retired; 5] = [
    Retired {
        section: "ftp",
        key: "settle",
        instead: "means nothing any more: no reply waits; a file is claimable once its sender was seen to read the reply \
                  ([ingest] confirm_after)",
    },
    Retired {
        section: "ingest",
        key: "view_checkpoint",
        instead: "means nothing any more: what partners see follows from the journal",
    },
    Retired {
        section: "route",
        key: "link",
        instead: "means nothing any more: deliver copies, or makes a reflink where the file system can, since what was \
                  accepted must not change",
    },
    Retired { section: "web", key: "max_connections", instead: IN_LIMITS },
    Retired { section: "web", key: "max_connections_per_address", instead: IN_LIMITS },
];
