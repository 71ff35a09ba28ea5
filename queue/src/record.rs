//! What the journal says happened. The journal is the truth and the audit trail.

use std::fmt;

use chrono::{DateTime, Utc};
use forebay_storage::{FileId, Origin, Sha256};
use serde::{Deserialize, Serialize};

use crate::{Child, Continues, Entry, Hold, IdempotencyKey, LeaseToken, Messages, NodeId, State};

/// One thing that happened.
///
/// In the journal it is binary; versions before this one wrote it as the JSON that is still shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, by the wall clock of the server.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: Actor,
    /// The file it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FileId>,
    /// What.
    #[serde(flatten)]
    pub fact: Fact,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The server by itself.
    Server,
    /// A partner, through a door.
    Partner(String),
    /// A person at the CLI, by system user name.
    Operator(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Partner(name) => write!(f, "partner {name}"),
            Self::Operator(name) => write!(f, "operator {name}"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Fact {
    /// A file was accepted (`ready`), kept under a temporary name (`unfinished`) or accepted and held.
    Accepted {
        /// Whose.
        partner: String,
        /// Its path.
        name: String,
        /// The door.
        door: String,
        /// Length of the whole in bytes.
        size_bytes: u64,
        /// Digest.
        sha256: Sha256,
        /// When its last byte had come.
        received_at: DateTime<Utc>,
        /// The route.
        route: Option<String>,
        /// The state it got.
        state: State,
        /// Why, if held.
        reason: Option<String>,
        /// Why it is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<Hold>,
        /// The file that it is a copy of: acceptance and identity are one record, so that neither is without the other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Box<Origin>>,
        /// The key under which its sender may send it again: the same file is meant then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<IdempotencyKey>,
        /// The entry that it takes the place of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        supersedes: Option<FileId>,
        /// The entry whose bytes it begins with. Its own are those behind them; size and digest are of the whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        continues: Option<Box<Continues>>,
        /// No claim gives it before this time, unless its sender is seen to read the reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claimable_from: Option<DateTime<Utc>>,
        /// Where its bytes are in the journal; without it storage keeps them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inline: Option<Inline>,
    },
    /// Its sender never read the reply: it is as if it had not come.
    Withdrawn {
        /// The signs of that.
        reason: Option<String>,
    },
    /// The files that these were copied from are gone for good, and need not be known any more.
    OriginsGone {
        /// The accepted files.
        files: Vec<FileId>,
    },
    /// A file that no processor had begun got another name: of a temporary one this is the acceptance.
    Named {
        /// The final path.
        name: String,
        /// The route of the final path.
        route: Option<String>,
        /// `ready`, `held`, or `unfinished` when the new name is temporary too.
        state: State,
        /// Why, if held, for people.
        reason: Option<String>,
        /// Why, if held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<Hold>,
    },
    /// A processor begins. Written by versions before this one; [`Fact::Claimed`] now.
    Started {
        /// The lease.
        token: LeaseToken,
        /// The attempt's number, from 1.
        attempt: u32,
        /// When the lease ends unless renewed.
        until: DateTime<Utc>,
        /// The node.
        #[serde(default, skip_serializing_if = "NodeId::is_local")]
        node: NodeId,
    },
    /// Processors begin with all files of one claim.
    Claimed {
        /// Their leases.
        token: LeaseToken,
        /// When the leases end unless renewed.
        until: DateTime<Utc>,
        /// The node.
        #[serde(default, skip_serializing_if = "NodeId::is_local")]
        node: NodeId,
        /// The files.
        files: Vec<Begun>,
    },
    /// The processor's process is known.
    Child {
        /// The lease.
        token: LeaseToken,
        /// The process group.
        child: Child,
    },
    /// An attempt ended, one way or the other.
    Ended {
        /// The state that follows: `done`, `retrying`, `quarantined`, `dead`, `ready` (not counted), or `held`.
        state: State,
        /// Whether the attempt counts.
        counted: bool,
        /// When it is due again.
        due_at: Option<DateTime<Utc>>,
        /// What the processor or the server says of it.
        reason: Option<String>,
        /// The end of the processor's output, at most 4 KiB.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        output: String,
        /// What became of its messages so far, if they are handed over one by one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        messages: Option<Box<Messages>>,
    },
    /// A crash of the server ended an attempt.
    Crashed {
        /// The state that follows: `ready`, or `held` after three.
        state: State,
        /// How far its messages were, if more of them have an outcome than at the end of the attempt before: then the crash
        /// does not count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        messages: Option<Box<Messages>>,
    },
    /// A claim found that the same file was done shortly before.
    Duplicate {
        /// The earlier file.
        of: FileId,
    },
    /// An operator, a partner or a rule put it aside.
    Held {
        /// Why, for people.
        reason: Option<String>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<Hold>,
    },
    /// Held no more.
    Released {
        /// The route it has now.
        route: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// To be processed again.
    Requeued {
        /// The route it has now.
        route: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// Called off.
    Cancelled {
        /// Why.
        reason: Option<String>,
    },
    /// Forgotten after its retention; the bytes are removed after this record is durable.
    Purged,
    /// The entry as it stands, written again so that old segments can go.
    Carried {
        /// The entry.
        entry: Box<Entry>,
        /// Where the catalogue shows it.
        #[serde(default, skip_serializing_if = "Shown::is_unknown")]
        shown: Shown,
    },
    /// The partner has deleted the receipt of the file, as it stands.
    ReceiptHidden,
    /// A partner made a folder.
    FolderMade {
        /// Whose.
        partner: String,
        /// The folder.
        path: String,
    },
    /// A folder as it stands, written again so that old segments can go.
    FolderCarried {
        /// Whose.
        partner: String,
        /// The folder.
        path: String,
        /// When it was made.
        made_at: DateTime<Utc>,
    },
    /// A partner removed an empty folder.
    FolderRemoved {
        /// Whose.
        partner: String,
        /// The folder.
        path: String,
    },
    /// A partner took a file's name away.
    Hidden {
        /// Whose.
        partner: String,
        /// The name.
        path: String,
    },
    /// A partner gave a file or folder another name.
    Moved {
        /// Whose.
        partner: String,
        /// The name it had.
        from: String,
        /// The name it has.
        to: String,
        /// Files at or below it that are processed under another name from now on.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<MovedFile>,
    },
    /// A partner gave a file another time to show.
    TimeSet {
        /// Whose.
        partner: String,
        /// The name.
        path: String,
        /// The time.
        shows: DateTime<Utc>,
    },
    /// The file is shown under this name, whatever was before: a directory of the version before was taken over.
    ShownAt {
        /// Whose.
        partner: String,
        /// The name.
        path: String,
        /// The time that it shows.
        shows: DateTime<Utc>,
    },
    /// A partner is no more, nor are its names.
    NamesForgotten {
        /// Whose they were.
        partner: String,
    },
    /// Damage took these records of the journal, and what follows from that has been done.
    Damaged {
        /// The first that was lost.
        first: u64,
        /// The first behind them.
        next: u64,
    },
    /// Something about the server that belongs in the audit trail: gate overrides, accounts, recovery, clock.
    Noted {
        /// A short word, such as `gate.close`.
        topic: String,
        /// The sentence.
        text: String,
    },
}

/// A file that a processor begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The file.
    pub id: FileId,
    /// The attempt's number, from 1.
    pub attempt: u32,
}

impl Record {
    /// The record as one about this file alone, if it is about several that do not differ in more than that.
    pub(crate) fn of(self, id: FileId) -> Self {
        let Fact::Claimed { token, until, node, files } = &self.fact else { return self };
        let Some(file) = files.iter().find(|file| file.id == id) else { return self };
        let fact = Fact::Started { token: *token, attempt: file.attempt, until: *until, node: node.clone() };
        Self { id: Some(id), fact, ..self }
    }
}

impl Fact {
    /// Whether it says, of a file that it is about, in which state that is afterwards.
    pub(crate) fn tells_state(&self) -> bool {
        !matches!(self, Self::ReceiptHidden | Self::ShownAt { .. })
    }

    /// The partner that it names.
    pub(crate) fn partner(&self) -> Option<&String> {
        match self {
            Self::Accepted { partner, .. }
            | Self::FolderMade { partner, .. }
            | Self::FolderCarried { partner, .. }
            | Self::FolderRemoved { partner, .. }
            | Self::Hidden { partner, .. }
            | Self::Moved { partner, .. }
            | Self::TimeSet { partner, .. }
            | Self::ShownAt { partner, .. }
            | Self::NamesForgotten { partner } => Some(partner),
            Self::Carried { entry, .. } => Some(&entry.partner),
            _ => None,
        }
    }
}

/// Where in the journal the bytes of a small file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inline {
    /// This record brings them along.
    Here,
    /// The record with this sequence brought them.
    With(u64),
}

/// The place of a file in the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// A version before this one wrote the record: the name of the entry, unless something else is known.
    #[default]
    Unknown,
    /// No name leads to it.
    Nowhere,
    /// This name leads to it.
    At {
        /// The name.
        path: String,
        /// The time that it shows.
        shows: DateTime<Utc>,
    },
}

impl Shown {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// What a file below something that was moved is called from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedFile {
    /// The file.
    pub id: FileId,
    /// The path.
    pub name: String,
    /// The route that serves it.
    pub route: Option<String>,
    /// `ready`, `held` or `unfinished`.
    pub state: State,
    /// Why, if held, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, if held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}
