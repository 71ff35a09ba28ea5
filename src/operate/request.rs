//! What operators can ask for.

use forebay_queue::State;
use serde::{Deserialize, Serialize};

/// One request: the only line that a client of the admin socket sends.
///
/// Times are text, for the server knows the zone they are written in; see [`super::moment`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The whole server in figures.
    Status,
    /// Opens an account.
    PartnerAdd {
        /// Its name.
        name: String,
        /// Its password; generated if not given.
        password: Option<String>,
    },
    /// All accounts.
    PartnerList,
    /// Refuses an account's logins.
    PartnerDisable {
        /// Which.
        name: String,
    },
    /// Allows an account's logins.
    PartnerEnable {
        /// Which.
        name: String,
    },
    /// Sets an account's password.
    PartnerPasswd {
        /// Which.
        name: String,
        /// The password; generated if not given.
        password: Option<String>,
    },
    /// Closes an account.
    PartnerRemove {
        /// Which.
        name: String,
    },
    /// Lets an account log in with a public key.
    PartnerKeyAdd {
        /// Which.
        name: String,
        /// The key, a line as OpenSSH's `authorized_keys` has it.
        line: String,
    },
    /// The public keys of an account.
    PartnerKeyList {
        /// Whose.
        name: String,
    },
    /// No longer lets an account log in with a public key.
    PartnerKeyRemove {
        /// Which.
        name: String,
        /// The key's fingerprint.
        fingerprint: String,
    },
    /// Sessions now, the oldest first.
    Sessions,
    /// Ends sessions: those with these ids, or of a partner, or all.
    SessionsKick {
        /// Ids or beginnings of them.
        ids: Vec<String>,
        /// Whose, when no ids are given; everyone's if not given.
        partner: Option<String>,
        /// Why.
        reason: String,
    },
    /// Files, oldest first.
    QueueList {
        /// Which.
        which: Which,
        /// Received at or after.
        since: Option<String>,
        /// The newest so many.
        limit: Option<usize>,
    },
    /// One file with its history.
    QueueShow {
        /// An id or the beginning of one.
        id: String,
    },
    /// Acts on files.
    QueueAct {
        /// What to do.
        act: Act,
        /// Ids or beginnings of them.
        ids: Vec<String>,
        /// Which, when no ids are given.
        which: Option<Which>,
        /// Why.
        reason: Option<String>,
    },
    /// The queue in figures.
    QueueStats,
    /// Changes as they happen, and a pulse each second; never ends by itself.
    QueueWatch,
    /// The bytes of a file.
    QueueExport {
        /// An id or the beginning of one.
        id: String,
    },
    /// Checks every hash and record.
    QueueVerify,
    /// Makes the index anew.
    QueueRebuild,
    /// The gate now.
    GateStatus,
    /// Windows to come.
    GateList {
        /// How far ahead.
        to: String,
    },
    /// Closures of a span of time.
    GateSimulate {
        /// From when.
        from: String,
        /// Until when.
        to: String,
    },
    /// Closes the gate.
    GateClose {
        /// Routes; empty for everything.
        routes: Vec<String>,
        /// When it ends by itself.
        end: End,
        /// Why.
        reason: String,
        /// What web users are told.
        message: Option<String>,
        /// Whether to wait for what still runs.
        wait: bool,
    },
    /// Opens the gate for the rest of the present closure.
    GateOpen {
        /// Routes; empty for everything.
        routes: Vec<String>,
        /// Why.
        reason: String,
    },
    /// Puts the end of the present closure off.
    GateExtend {
        /// The new end.
        end: End,
        /// Why.
        reason: Option<String>,
    },
    /// Takes overrides back.
    GateClear {
        /// Which; all if not given.
        id: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// Trusts a clock that is behind the journal.
    GateConfirmClock,
    /// The journal.
    Audit {
        /// At or after.
        since: Option<String>,
        /// Whether to go on with what happens from now on.
        follow: bool,
    },
}

impl Request {
    /// Whether it can be answered from the data alone, with no server running.
    #[must_use]
    pub fn works_offline(&self) -> bool {
        match self {
            Self::Sessions
            | Self::SessionsKick { .. }
            | Self::QueueAct { .. }
            | Self::QueueWatch
            | Self::GateClose { .. }
            | Self::GateOpen { .. }
            | Self::GateExtend { .. }
            | Self::GateClear { .. }
            | Self::GateConfirmClock => false,
            Self::Audit { follow, .. } => !follow,
            _ => true,
        }
    }
}

/// Which files; all that is set must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Which {
    /// In one of these states; empty for any.
    pub states: Vec<State>,
    /// Of this partner.
    pub partner: Option<String>,
    /// Of this route.
    pub route: Option<String>,
}

impl Which {
    /// Whether it lets everything pass.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.states.is_empty() && self.partner.is_none() && self.route.is_none()
    }
}

/// When a closure ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// When an operator opens it.
    Open,
    /// After so many milliseconds, from now or (extend) from the present end.
    After(u64),
    /// At this time.
    At(String),
}

/// What can be done to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Keep from being processed.
    Hold,
    /// Hold no longer.
    Release,
    /// Process again.
    Requeue,
    /// Call off.
    Cancel,
}

impl Act {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Requeue => "requeue",
            Self::Cancel => "cancel",
        }
    }
}
