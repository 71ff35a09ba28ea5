//! The requests of operators.

use forebay_queue::{MessageResult, State};
use serde::{Deserialize, Serialize};

/// One request: the only line that a client of the admin socket sends.
///
/// Times are text, for the server knows the zone they are written in; see [`super::time_input`].
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
        /// True if it may have the name of a partner that was removed lately.
        #[serde(default)]
        take_over: bool,
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
    /// Makes a bearer token for an account.
    PartnerTokenAdd {
        /// Whose.
        name: String,
        /// When it ends; never if not given.
        expires: Option<String>,
        /// What operators call it.
        label: String,
    },
    /// The bearer tokens of an account.
    PartnerTokenList {
        /// Whose.
        name: String,
    },
    /// No longer lets an account log in with a bearer token.
    PartnerTokenRemove {
        /// Whose.
        name: String,
        /// The token's id.
        id: String,
    },
    /// Sessions now, the oldest first.
    Sessions,
    /// Ends sessions: those with these ids, or of a partner, or all.
    SessionsKick {
        /// Ids or beginnings of them.
        ids: Vec<String>,
        /// Whose, when no ids are given; everyone's if not given.
        partner: Option<String>,
        /// The reason.
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
        /// The action.
        act: Act,
        /// Ids or beginnings of them.
        ids: Vec<String>,
        /// Which, when no ids are given.
        which: Option<Which>,
        /// The reason.
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
    /// What became of the messages of a file, in runs.
    MessageList {
        /// The file's id or the beginning of it.
        id: String,
        /// With one of these results; empty for any.
        #[serde(default)]
        results: Vec<MessageResult>,
        /// From this message on, from 1.
        from: u64,
        /// At most so many runs; all if not given.
        limit: Option<usize>,
    },
    /// Checks every hash and record.
    QueueVerify,
    /// Rebuilds the index from the journal.
    QueueRebuild,
    /// The gate now.
    GateStatus,
    /// Windows to come.
    GateList {
        /// The end of the period.
        to: String,
    },
    /// Closures of a span of time.
    GateSimulate {
        /// The start.
        from: String,
        /// The end.
        to: String,
    },
    /// Closes the gate.
    GateClose {
        /// Routes; empty for everything.
        routes: Vec<String>,
        /// When it ends by itself.
        end: End,
        /// The reason.
        reason: String,
        /// The message for web users.
        message: Option<String>,
        /// True if the answer waits for running attempts.
        wait: bool,
    },
    /// Opens the gate for the rest of the present closure.
    GateOpen {
        /// Routes; empty for everything.
        routes: Vec<String>,
        /// The reason.
        reason: String,
    },
    /// Puts the end of the present closure off.
    GateExtend {
        /// The new end.
        end: End,
        /// The reason.
        reason: Option<String>,
    },
    /// Takes overrides back.
    GateClear {
        /// Which; all if not given.
        id: Option<String>,
        /// The reason.
        reason: Option<String>,
    },
    /// Trusts a clock that is behind the journal.
    GateConfirmClock,
    /// The journal.
    Audit {
        /// At or after.
        since: Option<String>,
        /// True if the answer goes on with new records.
        follow: bool,
    },
}

impl Request {
    /// Returns true if it can be answered from the data alone, with no server running.
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
    /// Returns true if every file matches.
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

/// An action on files.
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
