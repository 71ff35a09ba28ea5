//! The power goes at many points of the whole way from the first byte to the outcome, on a disk that keeps only what
//! was synced. Every sync of the way is taken out once, and the loss must show.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "power_cut/keyed.rs"]
mod keyed;
#[path = "power_cut/short.rs"]
mod short;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use forebay::{
    answers::Answers,
    clock::{Clock, SetClock},
    contents::Contents,
    gate::{self, Gate},
    ingest::{Ingest, Peer, Proven, Refusal, SessionInfo, Start},
    partners::{Limits, Partners, Policies},
    routes::{self, Routes},
};
use forebay_queue::{
    Action, Actor, ClaimRequest, EmbeddedMaintenance, Entry, Order, QueueStore, RouteRequest, Settlement, State,
    embedded::{self, EmbeddedQueue},
};
use forebay_storage::{
    FileId, Sha256, SpoolItem, SpoolMaintenance,
    disk::sim::{SimDisk, SyncClass},
    local::{self, LocalStorage},
};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use short::Kind;

const DATA: &str = "/data";

/// Files of up to so many bytes come with their records.
const INLINE_BYTES: usize = 4_096;

/// Sessions that upload at once.
const SESSIONS: u64 = 4;

fn start_of_time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_777_075_200, 0).expect("in range")
}

/// What was said to have happened. Nothing of it may be undone.
#[derive(Default)]
struct Said {
    /// What each file consists of, said or not.
    sent: HashMap<FileId, Sha256>,
    accepted: HashMap<FileId, String>,
    done: Vec<FileId>,
    held: Vec<FileId>,
    withdrawn: Vec<FileId>,
    /// Those for which there was no room.
    refused: Vec<FileId>,
    /// There is little room, again and again.
    is_short: bool,
    /// What was sent under each idempotency key.
    keyed: HashMap<String, keyed::Keyed>,
    /// What was seen to be wrong while there was power.
    faults: Vec<String>,
}

/// The parts that stand on the disk. Sled's index, which may be lost, views and accounts are in real directories.
struct House {
    disk: SimDisk,
    queue: Arc<EmbeddedQueue>,
    storage: Arc<LocalStorage>,
    ingest: Arc<Ingest>,
    clock: SetClock,
}

impl House {
    /// Opens everything as the server does, and puts it in order after the last crash.
    async fn open(disk: &SimDisk, beside: &Path, index: &Path) -> Result<Self, String> {
        let data = Path::new(DATA);
        let clock = SetClock::new(start_of_time());
        // Most files come with their records, and the journal's short log is emptied in most lives.
        let options = local::Options { reserve_bytes: 0, reserve_inodes: 0, inline_bytes: INLINE_BYTES as u64 };
        let storage = LocalStorage::open(disk.shared(), data, options);
        let storage = Arc::new(storage.map_err(|error| error.to_string())?);
        let options =
            embedded::Options { segment_bytes: 256 << 10, recent_bytes: 64 << 10, ..embedded::Options::default() };
        let opened = EmbeddedQueue::open(disk.shared(), &data.join("journal"), index, options);
        let (queue, recovered) = opened.map_err(|error| error.to_string())?;
        let queue = Arc::new(queue);
        let shared_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let partners =
            Partners::open(&beside.join("partners"), Limits::default(), Policies::default(), shared_clock.clone());
        let route = routes::Options {
            name: "all".to_owned(),
            processor: routes::ProcessorKind::Deliver,
            directory: Some(beside.join("delivered")),
            ..routes::Options::default()
        };
        let routes = Arc::new(Routes::from_options(vec![route]).expect("opens"));
        let gate =
            Gate::open(&beside.join("gate"), gate::Options::default(), shared_clock.clone(), None).expect("opens");
        let dependencies = forebay::ingest::Dependencies {
            storage: storage.clone(),
            queue: queue.clone(),
            catalogue: queue.clone(),
            answers: Arc::new(Answers::new(gate, routes.clone(), shared_clock.clone(), true)),
            routes,
            partners: partners.map_err(|error| error.to_string())?,
            clock: shared_clock,
            metrics: Arc::default(),
        };
        let ingest = Ingest::new(dependencies, forebay::ingest::Options::default());
        ingest.recover(&recovered, &*storage).await.map_err(|error| error.to_string())?;
        for entry in &recovered.interrupted {
            queue.settle_crashed(entry.id, clock.now()).await.map_err(|error| error.to_string())?;
        }
        Ok(Self { disk: disk.clone(), queue, storage, ingest, clock })
    }

    /// Uploads until the power is gone or enough was sent. What is said counts only if there was power to say it.
    async fn session(&self, seed: u64, files: u64, said: Arc<Mutex<Said>>) {
        let mut random = SmallRng::seed_from_u64(seed);
        let session = SessionInfo {
            partner: "clinic".parse().expect("a name"),
            door: "ftp",
            peer: Peer::Address("127.0.0.1:1".parse().expect("an address")),
            id: uuid::Uuid::nil(),
        };
        for number in 0..files {
            let size = match random.random_range(0..16) {
                0..2 => random.random_range(300_000..600_000),
                2..5 => random.random_range(5_000..9_000),
                // With its record it must fit into the journal's short log, which is very short here.
                _ => random.random_range(0..3_500),
            };
            let bytes: Vec<u8> = (0..size).map(|_| random.random()).collect();
            let temporary = random.random_ratio(1, 6);
            let name = format!("{seed:x}-{number}.hl7");
            let sent_as = if temporary { format!("{name}.part") } else { name.clone() };
            let intake = match self.ingest.begin(&session, &sent_as, None).await {
                Ok(intake) => intake,
                Err(Refusal::Full) => continue,
                Err(_) => return,
            };
            said.lock().sent.insert(intake.id(), digest(&bytes));
            let id = intake.id();
            let accepted = match short::sent(intake, &bytes).await {
                Ok(accepted) => accepted.id,
                Err(Refusal::Full) => {
                    self.say(|said| said.refused.push(id), &said);
                    continue;
                }
                Err(_) => return,
            };
            self.say(|said| said.accepted.insert(accepted, sent_as.clone()), &said);
            // Some go on: what is said of the whole takes the place of what was said of its beginning.
            let goes_on = !temporary && random.random_ratio(1, 3);
            if goes_on && self.go_on(&session, &name, bytes, accepted, &mut random, &said).await.is_none() {
                return;
            }
            if temporary {
                if self.ingest.files(&session).rename(&sent_as, &name).await.is_err() {
                    return;
                }
                self.say(|said| said.accepted.insert(accepted, name.clone()), &said);
            }
            self.clock.advance(std::time::Duration::from_millis(1));
        }
    }

    /// Sends more pieces behind a file. None: the power is gone.
    async fn go_on(
        &self,
        session: &SessionInfo,
        name: &str,
        mut whole: Vec<u8>,
        mut earlier: FileId,
        random: &mut SmallRng,
        said: &Arc<Mutex<Said>>,
    ) -> Option<()> {
        for _ in 0..random.random_range(1..5) {
            let size =
                if random.random_ratio(1, 4) { random.random_range(5_000..9_000) } else { random.random_range(0..900) };
            let own: Vec<u8> = (0..size).map(|_| random.random()).collect();
            let mut intake = self.ingest.resume(session, name, Start::End, None).await.ok()?;
            whole.extend_from_slice(&own);
            said.lock().sent.insert(intake.id(), digest(&whole));
            intake.write(own.into()).await.ok()?;
            let accepted = intake.finish(Box::new(Proven)).await.ok()?;
            let entry = self.queue.get(accepted.id).await.ok()?;
            if random.random_ratio(1, 4) {
                // Where that fails it is withdrawn or not, and nobody is told.
                self.ingest.withdraw(&accepted, "test").await.ok()?;
                self.say(|said| said.withdrawn.push(accepted.id), said);
                // The one before is what it was; bytes that storage kept are a partial behind it.
                match (&entry.continues, entry.content) {
                    (Some(_), Some(_)) => whole.truncate(whole.len() - size),
                    // Where there is no room to name them they are not kept: asked for, as a client does.
                    (Some(_), None) => match self.ingest.resumable(session, name).await.ok()? {
                        Some(kept) => assert_eq!(kept, whole.len() as u64, "{name}"),
                        None => whole.truncate(whole.len() - size),
                    },
                    // A copy, of which the partial is beside the one before: which of them is newer the disk's clock says.
                    (None, _) => return Some(()),
                }
                continue;
            }
            self.say(
                |said| {
                    if entry.supersedes == Some(earlier) {
                        said.accepted.remove(&earlier);
                    }
                    said.accepted.insert(accepted.id, name.to_owned());
                },
                said,
            );
            earlier = accepted.id;
        }
        Some(())
    }

    /// Processes what is ready, and holds some of it.
    async fn worker(&self, seed: u64, said: Arc<Mutex<Said>>) {
        let mut random = SmallRng::seed_from_u64(seed);
        for _ in 0..60 {
            tokio::task::yield_now().await;
            let now = self.clock.now() + TimeDelta::seconds(1);
            let ask = ClaimRequest {
                routes: vec![RouteRequest { name: "all".to_owned(), slots: 2, order: Order::Strict, per_partner: 0 }],
                limit: 2,
                lease_ms: 60_000,
                duplicate_window_ms: 0,
                per_partner: 0,
            };
            let Ok(claims) = self.queue.claim(ask, now).await else { return };
            for claim in claims {
                let end =
                    Settlement { state: State::Done, counted: true, due_at: None, reason: None, output: String::new() };
                if random.random_ratio(1, 5) {
                    let back = Settlement { state: State::Ready, counted: false, ..end };
                    if self.queue.settle(claim.token, claim.entry.id, back, now).await.is_err() {
                        return;
                    }
                    for held in self
                        .queue
                        .act(&[claim.entry.id], Action::Hold(forebay_queue::Hold::Operator), None, Actor::Server, now)
                        .await
                    {
                        if held.is_err() {
                            return;
                        }
                        self.say(|said| said.held.push(claim.entry.id), &said);
                    }
                } else if self.queue.settle(claim.token, claim.entry.id, end, now).await.is_ok() {
                    self.say(|said| said.done.push(claim.entry.id), &said);
                }
            }
        }
    }

    fn say<T>(&self, what: impl FnOnce(&mut Said) -> T, said: &Mutex<Said>) {
        let mut said = said.lock();
        if !self.disk.is_cut() {
            what(&mut said);
        }
    }

    /// The digest of a file's bytes, as they are read.
    async fn digest_of(&self, id: FileId) -> Result<Sha256, String> {
        let entry = self.queue.get(id).await.map_err(|error| error.to_string())?;
        for extent in self.queue.extents(&entry).await.map_err(|error| error.to_string())? {
            if extent.content.is_some() {
                continue;
            }
            match self.storage.inspect(extent.id).await.map_err(|error| error.to_string())? {
                SpoolItem::Sound(meta) if meta.sha256 == extent.sha256 => {}
                SpoolItem::Sound(_) => return Err("it has other bytes".to_owned()),
                SpoolItem::Damaged { what, .. } => return Err(what),
            }
        }
        let contents = Contents::new(self.storage.clone(), self.queue.clone());
        let content = contents.open(id).await.map_err(|error| error.to_string())?;
        Ok(digest(&content.read(0..entry.size_bytes + 1).await.map_err(|error| error.to_string())?))
    }

    /// What became of an entry in the end: one whose continuation nobody was told of has that in its place.
    async fn last_of(&self, id: FileId) -> Option<Entry> {
        let mut entry = self.queue.get(id).await.ok()?;
        while let Some(by) = entry.superseded.as_ref().map(|superseded| superseded.by) {
            entry = self.queue.get(by).await.ok()?;
        }
        Some(entry)
    }

    /// What of all that was said is not so.
    async fn broken(&self, said: &Said) -> Option<String> {
        for (id, name) in &said.accepted {
            let Some(entry) = self.last_of(*id).await else { return Some(format!("{name} is not in the queue")) };
            if !matches!(entry.state, State::Ready | State::Done | State::Held | State::Unfinished) {
                return Some(format!("{name} is {}", entry.state));
            }
            // A rename whose answer was not heard may have happened.
            if entry.name != *name && format!("{}.part", entry.name) != *name {
                return Some(format!("{name} is called {}", entry.name));
            }
            match self.digest_of(*id).await {
                Ok(digest) if Some(&digest) == said.sent.get(id) => {}
                Ok(_) => return Some(format!("{name} has other bytes")),
                Err(what) => return Some(format!("{name}: {what}")),
            }
        }
        if let Some(id) = self.came_back(said).await {
            return Some(format!("{id} was refused for want of room and is there"));
        }
        for id in &said.withdrawn {
            match self.queue.get(*id).await {
                Ok(entry) if entry.state == State::Withdrawn => {}
                other => return Some(format!("{id} was withdrawn and is {:?}", other.map(|entry| entry.state))),
            }
        }
        for id in &said.done {
            match self.queue.get(*id).await {
                Ok(entry) if entry.state == State::Done => {}
                other => return Some(format!("{id} was done and is {:?}", other.map(|entry| entry.state))),
            }
        }
        for id in &said.held {
            match self.queue.get(*id).await {
                Ok(entry) if entry.state == State::Held => {}
                other => return Some(format!("{id} was held and is {:?}", other.map(|entry| entry.state))),
            }
        }
        // What nobody was told of may be there, but only whole, and never by itself on its way to a processor when the
        // journal does not know it.
        for id in self.queue.ids().await.expect("ids") {
            let entry = self.queue.get(id).await.expect("listed");
            if let Ok(digest) = self.digest_of(id).await {
                if said.sent.get(&id) != Some(&digest) || digest != entry.sha256 {
                    return Some(format!("{} is not what was sent", entry.name));
                }
            } else if entry.state == State::Ready {
                return Some(format!("{} is ready without its bytes", entry.name));
            }
        }
        self.broken_keys(said).await
    }
}

fn digest(bytes: &[u8]) -> Sha256 {
    use sha2::Digest;
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// Cuts the power once so many words were said. Nothing is said while it goes.
fn cut_after(words: usize, disk: &SimDisk, said: &Mutex<Said>) -> bool {
    let said = said.lock();
    let now = disk.is_cut() || said.accepted.len() + said.done.len() >= words;
    if now {
        disk.cut_now();
    }
    now
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// One life, one cut, one look. Gives what was lost, and how many files had been accepted and how many refused.
fn life(seed: u64, kind: Kind) -> (Option<String>, [usize; 2]) {
    let beside = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(beside.path().join("partners")).expect("mkdir");
    let runtime = runtime();
    let mut disk = SimDisk::new(seed).with_dir(Path::new(DATA));
    if let Kind::Without(class) = kind {
        disk = disk.without(class);
    }
    let said = Arc::new(Mutex::new(Said { is_short: kind == Kind::Short, ..Said::default() }));
    let mut random = SmallRng::seed_from_u64(seed);
    runtime.block_on(async {
        let index = beside.path().join("index");
        let Ok(house) = House::open(&disk, beside.path(), &index).await else { panic!("a fresh disk opens") };
        let house = Arc::new(house);
        // Half of the cuts come at an operation, half right after something was said.
        let at_word = random.random_bool(0.5).then(|| random.random_range(1..40_usize));
        if at_word.is_none() {
            disk.cut_at(disk.operations() + random.random_range(1..900));
        }
        let mut tasks = tokio::task::JoinSet::new();
        for session in 0..SESSIONS {
            let (house, said) = (house.clone(), said.clone());
            tasks.spawn(async move { house.session(seed.wrapping_mul(31).wrapping_add(session), 12, said).await });
        }
        {
            let (house, said) = (house.clone(), said.clone());
            tasks.spawn(async move { house.worker(seed, said).await });
        }
        {
            let (house, said) = (house.clone(), said.clone());
            tasks.spawn(async move { house.keyed_session(seed, 12, said).await });
        }
        let done = Arc::new(AtomicBool::new(false));
        let short = (kind == Kind::Short).then(|| tokio::spawn(short::run_short(disk.clone(), seed, done.clone())));
        if let Some(words) = at_word {
            let (disk, said) = (disk.clone(), said.clone());
            tasks.spawn(async move {
                for _ in 0..200_000 {
                    if cut_after(words, &disk, &said) {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        disk.cut_now();
        done.store(true, Ordering::Release);
        if let Some(short) = short {
            short.await.expect("it ends");
        }
        house.ingest.idle().await;
    });
    // The index: as sled left it, gone, or from nowhere.
    let index = match random.random_range(0..3) {
        0 => beside.path().join("index"),
        1 => {
            std::fs::remove_dir_all(beside.path().join("index")).expect("removed");
            beside.path().join("index")
        }
        _ => beside.path().join("another-index"),
    };
    let said = said.lock();
    // The power may fail once more while the server puts things in order.
    let mut after = disk.reboot();
    if random.random_bool(0.3) {
        after.cut_at(after.operations() + random.random_range(1..60));
        let first = runtime.block_on(House::open(&after, beside.path(), &index));
        drop(first);
        after.cut_now();
        after = after.reboot();
    }
    let lost = runtime.block_on(async {
        match House::open(&after, beside.path(), &index).await {
            Ok(house) => house.broken(&said).await,
            Err(error) => Some(format!("does not open: {error}")),
        }
    });
    (lost, [said.accepted.len(), said.refused.len()])
}

fn seed() -> u64 {
    let seed =
        std::env::var("FOREBAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random::<u32>);
    eprintln!("FOREBAY_SEED={seed}");
    u64::from(seed)
}

#[test]
fn nothing_that_was_acknowledged_is_lost_at_any_cut() {
    let seed = seed();
    let mut accepted = 0;
    for at in 0..300 {
        let (lost, [files, _]) = life(seed + at, Kind::Sound);
        assert_eq!(lost, None, "with FOREBAY_SEED={} in the first life", seed + at);
        accepted += files;
    }
    eprintln!("{accepted} files were acknowledged before 300 cuts");
    let found_again = keyed::FOUND_AGAIN.load(std::sync::atomic::Ordering::Relaxed);
    eprintln!("{found_again} files were found again by their keys");
    assert!(found_again > 300, "too few to prove anything: {found_again}");
    assert!(accepted > 1_000, "too few to prove anything: {accepted}");
}

#[test]
fn each_sync_of_the_way_is_needed() {
    let seed = seed();
    for class in [
        SyncClass::File,
        SyncClass::FileAttributes,
        SyncClass::Shard,
        SyncClass::ShardParent,
        SyncClass::Recent,
        SyncClass::RecentDir,
        SyncClass::Journal,
        SyncClass::JournalDir,
        SyncClass::Pack,
        SyncClass::PackDir,
    ] {
        let lives = 300;
        let red = (0..lives).find_map(|at| Some((at + 1, life(seed + at, Kind::Without(class)).0?)));
        eprintln!("without {class:?}: {red:?}");
        assert!(red.is_some(), "without {class:?} nothing was lost in {lives} cuts: the test cannot see it");
    }
}
