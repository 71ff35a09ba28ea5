//! The contract of the queue (`QueueStore`) and of its upkeep (`EmbeddedMaintenance`).
//!
//! # Guarantees
//! - `Ok` of a change means that it is durable. An error means that nothing has changed, but for
//!   [`QueueError::Unknown`](crate::QueueError::Unknown): then the journal may have it.
//! - `confirm`, `put_off` and `renew` change memory alone, and a restart forgets them.
//! - A caller that was answered finds what was answered.
//!
//! It has no clock: callers pass the time, so that tests can. Of storage it names the ids and the
//! content that comes with a record.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay_storage::{Content, FileId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    Actor, Child, Cursor, Entry, Extent, Hold, IdempotencyKey, KeyedFile, KnownOrigin, Lane, LeaseToken, MessageRun,
    MessageSource, MessageState, NewEntry, NodeId, Progress, Record, Result, State,
};

/// The queue. Every method may be called from many tasks at once, and one day from many processes.
///
/// Ok of a method that changes something means: it is on stable storage. An error means that nothing was changed, but
/// for [`QueueError::Unknown`](crate::QueueError::Unknown). Not cancel safe in this sense: a change goes on when its
/// future is dropped. Callers give the time; the queue asks no clock.
#[async_trait]
pub trait QueueStore: Send + Sync + 'static {
    /// Takes a file. Ok: journalled, synced, shown in the catalogue under its name (in place of an older file of that
    /// name; folders above it are made if need be), and visible to claims if it is ready and not before
    /// `claimable_from`; and its bytes are durable, those of [`Content::Inline`] by this very call. With
    /// `supersedes`, the earlier entry becomes `superseded` in the same record, if it has the same name, and no processor has
    /// begun it or a crash left it without a record; otherwise the new one is a file of its own, and its `supersedes` is
    /// none. With `continues`, the earlier entry's bytes stay as long as this one.
    ///
    /// # Errors
    /// [`QueueError::NoBeginning`](crate::QueueError::NoBeginning) when what it continues is gone, or was withdrawn;
    /// [`QueueError::KeyUsed`](crate::QueueError::KeyUsed) when its idempotency key stands for a file already.
    async fn accept(&self, new: NewEntry, content: Content, now: DateTime<Utc>) -> Result<Entry>;

    /// All bytes of an extent that came inline, of which the digest was found right; none when storage keeps them. The entry
    /// that it was asked of may be an earlier look at it.
    ///
    /// # Errors
    /// [`QueueError::Damaged`](crate::QueueError::Damaged) when they are something else, or missing.
    async fn content(&self, extent: &Extent) -> Result<Option<Bytes>>;

    /// As [`QueueStore::content`], for those who are on a thread that may block.
    fn content_blocking(&self, extent: &Extent) -> Result<Option<Bytes>>;

    /// The stretches that a file consists of, from its first byte on: one, but for a file that continues another.
    ///
    /// # Errors
    /// [`QueueError::Damaged`](crate::QueueError::Damaged) when one of those is not in the queue.
    async fn extents(&self, entry: &Entry) -> Result<Vec<Extent>>;

    /// The entries that go on where this one ends, and need its bytes.
    async fn continued_by(&self, id: FileId) -> Result<Vec<FileId>>;

    /// Gives a file that no processor has begun another name, with the route and state that follow from it. An
    /// `unfinished` one is accepted by that and gets its turn; any other keeps its turn. The catalogue shows it under the
    /// new name, in place of a file that had that.
    ///
    /// # Errors
    /// [`QueueError::WrongState`](crate::QueueError::WrongState) when a processor has begun it, or it is held for
    /// another reason than that no route served it.
    async fn rename(&self, id: FileId, to: NewName, actor: Actor, now: DateTime<Utc>) -> Result<Entry>;

    /// Makes a file that waits for its `claimable_from` claimable now. In memory alone: a restart waits for that time.
    fn confirm(&self, id: FileId);

    /// Puts off the time from which a file is claimable, in memory alone. Nothing happens when it is claimable already.
    fn put_off(&self, id: FileId, until: DateTime<Utc>);

    /// Takes back a file whose sender never read the reply: it becomes `withdrawn`, its name goes (the file that had the
    /// name before has it again, if that is still there), and an entry that it superseded is what it was before. Ok:
    /// durable, and no claim gives it any more. On an error it is not claimable until a restart.
    ///
    /// # Errors
    /// [`QueueError::WrongState`](crate::QueueError::WrongState) when a processor has begun it, or another file continues it.
    async fn withdraw(&self, id: FileId, reason: &str, now: DateTime<Utc>) -> Result<Entry>;

    /// A partner deletes the receipt of a file: it is not shown until the entry changes again.
    async fn hide_receipt(&self, id: FileId, actor: Actor, now: DateTime<Utc>) -> Result<()>;

    /// The entries of a partner in order of their ids, those behind `after`, at most `limit`.
    async fn of_partner(&self, partner: &str, after: Option<FileId>, limit: usize) -> Result<Vec<Entry>>;

    /// Claims entries whose turn it is: first in, first out in each lane, fair over partners. Ok: the attempts are
    /// journalled as started. Never gives an entry of a route that was not asked for. Entries that turn out to be
    /// duplicates become so on the way and are not given.
    async fn claim(&self, ask: ClaimRequest, now: DateTime<Utc>) -> Result<Vec<Claim>>;

    /// Notes the process that works on a claim. Journalled, but not waited for by the caller's promise: see
    /// `process` for how children are found without it.
    async fn note_child(&self, token: LeaseToken, id: FileId, child: Child, now: DateTime<Utc>) -> Result<()>;

    /// Ends an attempt. Ok: the outcome is durable and the lease is gone.
    async fn settle(&self, token: LeaseToken, id: FileId, end: Settlement, now: DateTime<Utc>) -> Result<Entry>;

    /// Begins to hand a claimed file over message by message, or goes on with that. Ok: durable; from now on this lease alone
    /// notes what became of its messages. A file that was through, and was requeued, begins anew.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`](crate::QueueError::LeaseLost);
    /// [`QueueError::OtherMessages`](crate::QueueError::OtherMessages) when other bytes were begun;
    /// [`QueueError::Damaged`](crate::QueueError::Damaged) when it may have been begun and nobody knows how far.
    async fn begin_messages(&self, token: LeaseToken, id: FileId, source: MessageSource) -> Result<MessageState>;

    /// Notes what became of messages, also out of order. Ok: durable. `next` is the first message without an outcome then, and
    /// `offset` where it may begin in the file.
    ///
    /// # Errors
    /// [`QueueError::Full`](crate::QueueError::Full) changes nothing, and may be tried again;
    /// [`QueueError::LeaseLost`](crate::QueueError::LeaseLost) when another lease goes on with the file;
    /// [`QueueError::Damaged`](crate::QueueError::Damaged) for outcomes that do not follow those before.
    async fn advance(
        &self,
        token: LeaseToken,
        id: FileId,
        runs: Vec<MessageRun>,
        next: u64,
        offset: u64,
    ) -> Result<Progress>;

    /// How far a file is that was begun message by message and is not through.
    fn under_way(&self, id: FileId) -> Option<Progress>;

    /// How far a file is, or was when its last attempt ended, if it is handed over message by message.
    async fn progress(&self, id: FileId) -> Result<Option<Progress>>;

    /// What became of its messages, from message `from` on, at most `limit` runs.
    async fn outcomes(&self, id: FileId, from: u64, limit: usize) -> Result<Vec<MessageRun>>;

    /// Puts the end of a lease off.
    async fn renew(&self, token: LeaseToken, id: FileId, until: DateTime<Utc>, now: DateTime<Utc>) -> Result<()>;

    /// An operator's or partner's action on entries; one answer for each, in order.
    async fn act(
        &self,
        ids: &[FileId],
        action: Action,
        reason: Option<String>,
        actor: Actor,
        now: DateTime<Utc>,
    ) -> Vec<Result<Entry>>;

    /// Writes something into the audit trail.
    async fn note(&self, actor: Actor, topic: &str, text: &str, now: DateTime<Utc>) -> Result<()>;

    /// One entry.
    async fn get(&self, id: FileId) -> Result<Entry>;

    /// The id that begins so (any number of digits, dashes or not).
    async fn resolve(&self, prefix: &str) -> Result<FileId>;

    /// Entries that pass the filter, oldest first, from the cursor on. A piece may have fewer entries than `limit` although
    /// more come: only its cursor says that nothing is left.
    ///
    /// # Errors
    /// [`QueueError::BadCursor`](crate::QueueError::BadCursor) when another queue gave the cursor, or none did.
    async fn list(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page>;

    /// As [`QueueStore::list`], newest first. It reads what it gives and little more, and its cursors are its own.
    async fn newest(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page>;

    /// Everything the journal says of one file, oldest first.
    async fn history(&self, id: FileId) -> Result<Vec<(u64, Record)>>;

    /// The journal after sequence `after`, at most `limit` records.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, Record)>>;

    /// Entries that changed after sequence `after`, in order of their latest change, at most `limit`, but always all that
    /// changed with one record. Purged entries are not among them.
    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<Entry>>;

    /// Counts, bytes and lanes.
    async fn stats(&self, now: DateTime<Utc>) -> Result<Stats>;

    /// Files and bytes in each state, of all partners together, as of the last change that was answered. From memory alone:
    /// it waits for no index, also while that fails or is made anew.
    fn totals(&self) -> Vec<StateTotal>;

    /// How many files of a partner storage keeps, each with a place of its own; what is below `enough` may be too high. Those
    /// of a removed partner of the same name are not its own.
    async fn kept_files(&self, partner: &str, enough: u64) -> Result<u64>;

    /// Unprocessed bytes of a partner: everything that is not over. A file that continues others counts whole. Those of a
    /// removed partner of the same name are not its own.
    async fn unprocessed_bytes(&self, partner: &str) -> Result<u64>;

    /// The earliest instant after which a claim may find more than now, if it is known.
    async fn next_due(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>>;

    /// Every id, ascending.
    async fn ids(&self) -> Result<Vec<FileId>>;

    /// The ids of the files that are not over and whose bytes storage keeps, ascending; there may be others that are over
    /// among them.
    async fn kept_ids(&self) -> Result<Vec<FileId>>;

    /// Those of these ids that have no entry, in the same order.
    async fn without_entry(&self, ids: Vec<FileId>) -> Result<Vec<FileId>>;

    /// Whether this file has an entry, or the journal, as far back as it goes, says that it was purged. Damage may have
    /// taken the acceptance and left later records: such a file is not known, so that its bytes are not removed.
    async fn knows(&self, id: FileId) -> Result<bool>;

    /// Forgets entries that are over and ended before `before`, at most `limit`. One that another continues stays until that
    /// is forgotten, and then goes with it. Ok: the journal says so; the caller has
    /// storage remove the bytes of those it keeps afterwards. The room of the others comes back by itself.
    async fn purge(&self, before: DateTime<Utc>, limit: usize, now: DateTime<Utc>) -> Result<Purged>;

    /// Forgets these entries, as [`QueueStore::purge`] does, if they are over. Others are passed over.
    async fn purge_these(&self, ids: &[FileId], now: DateTime<Utc>) -> Result<Purged>;

    /// Bytes that the files brought that are over and not forgotten yet, by partner. With those of a removed partner of the
    /// same name, which are older and so the first to go.
    async fn over_bytes(&self) -> Result<Vec<(String, u64)>>;

    /// Every file whose origin was not said to be gone, also of files that are purged since.
    async fn origins(&self) -> Result<Vec<KnownOrigin>>;

    /// The origins of these files are gone for good, power cuts included: they are not known any more.
    async fn forget_origins(&self, files: &[FileId], now: DateTime<Utc>) -> Result<()>;

    /// The file that was accepted under a partner's key and is remembered: for [`IdempotencyKey::KEPT`] at least, over restarts,
    /// and also when it was purged since. Seen as soon as [`QueueStore::accept`] has answered.
    async fn keyed(&self, partner: &str, key: &IdempotencyKey) -> Result<Option<KeyedFile>>;

    /// Forgets the keys of files that were accepted before `before`; gives how many. Another file may be accepted under such a
    /// key from then on.
    async fn forget_keys(&self, before: DateTime<Utc>) -> Result<usize>;

    /// Rises with every change; for those who wait for one.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Why the queue takes nothing more, if it does not.
    fn poisoned(&self) -> Option<String>;
}

/// Upkeep of a queue that one process keeps on its own disk.
#[async_trait]
pub trait EmbeddedMaintenance: Send + Sync + 'static {
    /// Ends an attempt that a crash of the server cut, once no process of it runs any more: `ready` again at its old
    /// turn, or `held` when three crashes found it active and none of its messages went on meanwhile. The attempt is not
    /// counted.
    async fn settle_crashed(&self, id: FileId, now: DateTime<Utc>) -> Result<Entry>;

    /// Reads journal and index whole and compares them. `progress` gets done and total.
    async fn verify(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Verified>;

    /// Makes the index anew from the journal.
    async fn rebuild(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Verified>;
}

/// Files that were forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many.
    pub files: usize,
    /// Those of them whose bytes storage keeps.
    pub kept: Vec<FileId>,
}

/// What a file is called from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewName {
    /// The path.
    pub name: String,
    /// The route that serves it.
    pub route: Option<String>,
    /// `Ready`, `Held` or, when the name is temporary again, `Unfinished`.
    pub state: State,
    /// Why it is held, for people.
    pub reason: Option<String>,
    /// Why it is held.
    pub hold: Option<Hold>,
}

/// What a dispatcher wants.
#[derive(Clone, Debug, Default)]
pub struct ClaimRequest {
    /// The routes whose gate is open and that have room, each with what it wants.
    pub routes: Vec<RouteRequest>,
    /// No more than this in all.
    pub limit: usize,
    /// Length of the lease.
    pub lease_ms: u64,
    /// Entries done within this time make the same file a duplicate; 0 turns it off.
    pub duplicate_window_ms: u64,
    /// At most this many active entries for one partner over all routes; 0 for no bound.
    pub per_partner: usize,
}

/// What a dispatcher wants of one route.
#[derive(Clone, Debug)]
pub struct RouteRequest {
    /// The route.
    pub name: String,
    /// No more than this many of it now.
    pub slots: usize,
    /// How its lanes are ordered.
    pub order: Order,
    /// At most this many active entries of a lane, which are one partner's; 0 for no bound.
    pub per_partner: usize,
}

/// Whether a file that waits to be retried holds up those behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// One file of a lane at a time, and a retrying head blocks its lane.
    #[default]
    Strict,
    /// Any number at once, and a retrying file lets others pass.
    None,
}

/// A lease on an entry, as it stood when it was claimed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The entry, `active`.
    pub entry: Entry,
    /// Proves the lease.
    pub token: LeaseToken,
    /// This attempt's number, from 1.
    pub attempt: u32,
    /// The node that has it.
    pub node: NodeId,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// `Done`, `Retrying`, `Quarantined`, `Dead`, `Held`, or `Ready` to give it back at its old turn.
    pub state: State,
    /// Whether it counts as an attempt. A stop by the gate or a backend that is down does not.
    pub counted: bool,
    /// When it is due again, for `Retrying`.
    pub due_at: Option<DateTime<Utc>>,
    /// What is to be said of it.
    pub reason: Option<String>,
    /// The end of the processor's output; cut to 4 KiB.
    pub output: String,
}

/// What an operator can do to an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `unfinished`, `ready`, `retrying` → `held`. With [`Hold::ReplyNotRead`] also `superseded`: it stays so, and is held
    /// should what superseded it be withdrawn.
    Hold(Hold),
    /// `held` → `ready` at its old turn. For each id the route that its name has now; without one it stays held.
    Release(Vec<Option<String>>),
    /// `done`, `quarantined`, `dead`, `cancelled`, `duplicate`, `held`, `retrying` → `ready`, attempts counted anew.
    Requeue(Vec<Option<String>>),
    /// Anything that is neither active nor done → `cancelled`.
    Cancel,
}

/// Which entries. Empty lets all pass; all that are set must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// In one of these states; empty for any.
    pub states: Vec<State>,
    /// Of this partner.
    pub partner: Option<String>,
    /// Of this route.
    pub route: Option<String>,
    /// Received at or after.
    pub since: Option<DateTime<Utc>>,
    /// With exactly this name.
    pub name: Option<String>,
}

/// A piece of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next piece begins, if there may be more.
    pub next: Option<Cursor>,
}

/// The queue in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// By partner and state, only what is not zero.
    pub counts: Vec<StateCount>,
    /// Lanes that have something to do.
    pub lanes: Vec<LaneInfo>,
    /// The oldest entry that waits, by the time it was received.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// The journal's latest sequence.
    pub last_seq: u64,
}

/// How many entries of a partner are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCount {
    /// The partner.
    pub partner: String,
    /// They are of a removed partner that had the name before.
    #[serde(default, rename = "former", skip_serializing_if = "std::ops::Not::not")]
    pub is_former: bool,
    /// The state.
    pub state: State,
    /// Entries.
    pub files: u64,
    /// The bytes that they brought: those of an earlier file that one continues count for that.
    pub size_bytes: u64,
}

/// How many entries are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTotal {
    /// The state.
    pub state: State,
    /// Entries.
    pub files: u64,
    /// The bytes that they brought.
    pub size_bytes: u64,
}

/// A lane with something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneInfo {
    /// The lane.
    pub lane: Lane,
    /// `ready`, `retrying` and `active` entries.
    pub files: u64,
    /// Its first entry.
    pub head: FileId,
    /// The state of its first entry.
    pub head_state: State,
    /// When the head is due, if it is retrying.
    pub due_at: Option<DateTime<Utc>>,
}

/// What a look at everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Records read.
    pub records: u64,
    /// Entries compared.
    pub entries: u64,
    /// What disagrees; empty is good.
    pub faults: Vec<String>,
}

/// What opening the queue found and did. Shown to operators and noted in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Entries that were active when the server ended, with the child that may still run.
    pub interrupted: Vec<Entry>,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: u64,
    /// How many journal records damage took.
    pub lost_records: u64,
    /// Things that were set aside.
    pub set_aside: Vec<PathBuf>,
    /// Records that the index had to catch up on.
    pub replayed: u64,
    /// Whether the index was made anew.
    pub rebuilt: bool,
    /// Records of the journal that do not follow from those before them.
    pub faults: Vec<String>,
    /// The newest time in the journal: a clock far behind it is not to be trusted.
    pub newest_at: Option<DateTime<Utc>>,
}
