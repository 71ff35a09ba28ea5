//! A queue in a directory of its own, and what to put into it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use forebay_queue::{
    Actor, Claim, ClaimRequest, EmbeddedMaintenance, Entry, Filter, NewEntry, Order, QueueStore, Recovered, Result,
    RouteRequest, Settlement, State, Stats, Watch,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::{Content, FileId, Sha256, disk::OsDisk};
use sha2::Digest;
use tempfile::TempDir;

pub(crate) struct House {
    dir: TempDir,
}

impl House {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.dir().join("queue")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir().join("journal")
    }

    pub(crate) fn try_open(&self) -> Result<(EmbeddedQueue, Recovered)> {
        let options = Options { segment_bytes: 256 << 10, ..Options::default() };
        EmbeddedQueue::open(Arc::new(OsDisk), &self.journal(), &self.index(), options)
    }

    pub(crate) fn try_open_watched(&self, watch: &Watch) -> Result<(EmbeddedQueue, Recovered)> {
        let options = Options { segment_bytes: 256 << 10, ..Options::default() };
        EmbeddedQueue::open_watched(Arc::new(OsDisk), &self.journal(), &self.index(), options, watch)
    }

    pub(crate) fn open(&self) -> EmbeddedQueue {
        self.try_open().unwrap().0
    }

    /// Opens it with small segments, and a journal that keeps what is gone for so many days.
    pub(crate) fn open_keeping(&self, keep_days: u32) -> EmbeddedQueue {
        let options = Options { segment_bytes: 256 << 10, keep_days, ..Options::default() };
        EmbeddedQueue::open(Arc::new(OsDisk), &self.journal(), &self.index(), options).unwrap().0
    }

    pub(crate) fn first_segment(&self) -> PathBuf {
        segments(&self.journal()).swap_remove(0)
    }

    /// The only segment of the journal proper that has records, or the last of them.
    pub(crate) fn last_segment(&self) -> PathBuf {
        last_segment(&self.journal())
    }

    /// The same of the journal's short log.
    pub(crate) fn last_recent_segment(&self) -> PathBuf {
        last_segment(&self.journal().join("recent"))
    }
}

fn last_segment(dir: &Path) -> PathBuf {
    segments(dir).pop().unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
    let mut names: Vec<_> = names.filter(|path| path.is_file() && !path.to_string_lossy().contains("spare")).collect();
    names.sort();
    names
}

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_777_075_200 + seconds, 123_456_789).unwrap()
}

pub(crate) fn digest(text: &str) -> Sha256 {
    let mut bytes = [7u8; 32];
    for (at, byte) in text.bytes().enumerate() {
        bytes[at % 32] = bytes[at % 32].wrapping_mul(31).wrapping_add(byte);
    }
    Sha256(bytes)
}

/// A file that brings its bytes along, and those.
pub(crate) fn small_file(partner: &str, name: &str) -> (NewEntry, Content) {
    let bytes = Bytes::from(format!("{partner} sends {name}. ").repeat(20));
    let sha256 = Sha256(sha2::Sha256::digest(&bytes).into());
    (NewEntry { size_bytes: bytes.len() as u64, sha256, ..file(partner, name) }, Content::Inline(bytes))
}

pub(crate) fn file(partner: &str, name: &str) -> NewEntry {
    NewEntry {
        id: FileId::new(at(0)),
        partner: partner.into(),
        name: name.into(),
        door: "ftp".into(),
        size_bytes: 100,
        sha256: digest(name),
        received_at: at(0),
        route: Some("rest".into()),
        state: State::Ready,
        reason: None,
        hold: None,
        origin: None,
        idempotency_key: None,
        supersedes: None,
        continues: None,
        claimable_from: None,
    }
}

pub(crate) fn ask(limit: usize) -> ClaimRequest {
    ask_of(&["rest"], limit, Order::Strict)
}

pub(crate) fn ask_of(routes: &[&str], limit: usize, order: Order) -> ClaimRequest {
    let routes =
        routes.iter().map(|name| RouteRequest { name: (*name).into(), slots: limit, order, per_partner: 0 }).collect();
    ClaimRequest { routes, limit, lease_ms: 60_000, duplicate_window_ms: 0, per_partner: 0 }
}

pub(crate) fn end(state: State) -> Settlement {
    Settlement { state, counted: true, due_at: None, reason: None, output: String::new() }
}

pub(crate) fn later(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

pub(crate) fn operator() -> Actor {
    Actor::Operator("root".into())
}

pub(crate) async fn put(queue: &EmbeddedQueue, partner: &str, name: &str) -> FileId {
    let (new, content) = small_file(partner, name);
    queue.accept(new, content, at(0)).await.unwrap().id
}

pub(crate) async fn claim_one(queue: &EmbeddedQueue, now: i64) -> Claim {
    let mut claims = queue.claim(ask(1), at(now)).await.unwrap();
    assert_eq!(claims.len(), 1, "one file may be claimed");
    claims.pop().unwrap()
}

pub(crate) async fn finish(queue: &EmbeddedQueue, claim: &Claim, state: State, now: i64) -> Entry {
    queue.settle(claim.token, claim.entry.id, end(state), at(now)).await.unwrap()
}

/// All that can be seen of a queue.
#[derive(Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) entries: Vec<Entry>,
    pub(crate) changes: Vec<Entry>,
    pub(crate) stats: Stats,
    pub(crate) ids: Vec<FileId>,
}

pub(crate) async fn picture(queue: &EmbeddedQueue) -> Picture {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let page = queue.list(&Filter::default(), after, 7).await.unwrap();
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Picture {
        entries,
        changes: queue.changes(0, usize::MAX).await.unwrap(),
        stats: queue.stats(at(0)).await.unwrap(),
        ids: queue.ids().await.unwrap(),
    }
}

pub(crate) async fn assert_sound(queue: &EmbeddedQueue) {
    let verified = queue.verify(&|_, _| {}).await.unwrap();
    assert_eq!(verified.faults, Vec::<String>::new());
    let stats = queue.stats(at(0)).await.unwrap();
    for total in queue.totals() {
        let of_partners: Vec<_> = stats.counts.iter().filter(|count| count.state == total.state).collect();
        let files: u64 = of_partners.iter().map(|count| count.files).sum();
        let bytes: u64 = of_partners.iter().map(|count| count.size_bytes).sum();
        assert_eq!((total.files, total.size_bytes), (files, bytes), "{}", total.state);
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &to.join(item.file_name()));
        } else {
            std::fs::copy(item.path(), to.join(item.file_name())).unwrap();
        }
    }
}
