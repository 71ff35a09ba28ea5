//! How long an opening takes after a kill, and without an index.
//!
//! `cargo run --release -p forebay-queue --example restart -- [ENTRIES] [DIRECTORY]` fills a queue in a process of its own,
//! which kills itself, and opens what it left.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement asks the clock and may fail")]

use std::{path::Path, process::Command, sync::Arc, time::Instant};

use bytes::Bytes;
use chrono::Utc;
use forebay_queue::{
    ClaimRequest, NewEntry, Order, QueueStore, RouteRequest, Settlement, State,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::{Content, FileId, Sha256, disk::OsDisk};
use sha2::Digest as _;
use uuid::Uuid;

const PARTNERS: usize = 64;
const TASKS: usize = 64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("fill") {
        let entries = arguments.next().unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(fill(Path::new(&arguments.next().unwrap()), entries));
        return;
    }
    let entries: usize = first.map_or(200_000, |text| text.parse().unwrap());
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let own = std::env::current_exe().unwrap();
    let ended = Command::new(own).arg("fill").arg(entries.to_string()).arg(dir.path()).status().unwrap();
    assert!(!ended.success(), "it was killed");
    println!("{:<28} {:>10} KiB", "index on disk", bytes_below(&dir.path().join("queue")) >> 10);
    timed("open after a kill", || open(dir.path()));
    timed("open once more", || open(dir.path()));
    std::fs::remove_dir_all(dir.path().join("queue")).unwrap();
    timed("open without an index", || open(dir.path()));
}

async fn fill(dir: &Path, entries: usize) {
    let queue = Arc::new(open(dir));
    let began = Instant::now();
    let mut running = Vec::new();
    for task in 0..TASKS {
        let queue = queue.clone();
        running.push(tokio::spawn(async move {
            for n in 0..entries / TASKS {
                let (new, bytes) = new_entry(task, n);
                queue.accept(new, Content::Inline(bytes), Utc::now()).await.unwrap();
            }
        }));
    }
    let working = tokio::spawn(work(queue.clone(), entries / TASKS * TASKS));
    for task in running {
        task.await.unwrap();
    }
    println!("{:<28} {:>10.2?}", "filled", began.elapsed());
    working.await.unwrap();
    println!("{:<28} {:>10.2?}", "worked", began.elapsed());
    // SIGKILL, to itself: nothing is closed.
    Command::new("kill").arg("-9").arg(std::process::id().to_string()).status().unwrap();
    std::future::pending::<()>().await;
}

async fn work(queue: Arc<EmbeddedQueue>, count: usize) {
    let route = RouteRequest { name: "immunizations".into(), slots: 256, order: Order::None, per_partner: 0 };
    let ask = ClaimRequest {
        routes: vec![route],
        limit: 256,
        lease_ms: 60_000,
        duplicate_window_ms: 86_400_000,
        per_partner: 0,
    };
    let mut done = 0;
    while done < count {
        let claims = queue.claim(ask.clone(), Utc::now()).await.unwrap();
        if claims.is_empty() {
            tokio::task::yield_now().await;
        }
        let mut running = Vec::new();
        for claim in claims {
            let queue = queue.clone();
            running.push(tokio::spawn(async move {
                let end =
                    Settlement { state: State::Done, counted: true, due_at: None, reason: None, output: String::new() };
                queue.settle(claim.token, claim.entry.id, end, Utc::now()).await.unwrap();
            }));
        }
        done += running.len();
        for task in running {
            task.await.unwrap();
        }
    }
}

fn open(dir: &Path) -> EmbeddedQueue {
    let (disk, options) = (Arc::new(OsDisk), Options::default());
    let (queue, found) = EmbeddedQueue::open(disk, &dir.join("journal"), &dir.join("queue"), options).unwrap();
    println!("{:<28} {:>10} records, rebuilt {}", "replayed", found.replayed, found.rebuilt);
    queue
}

fn new_entry(task: usize, n: usize) -> (NewEntry, Bytes) {
    let now = Utc::now();
    let bytes = Bytes::from(Uuid::new_v4().as_bytes().repeat(64));
    let new = NewEntry {
        id: FileId::new(now),
        partner: format!("partner-{:03}", (task + n) % PARTNERS),
        name: format!("2026/immunizations-{task:02}-{n:07}.hl7"),
        door: "ftp".into(),
        size_bytes: bytes.len() as u64,
        sha256: Sha256(sha2::Sha256::digest(&bytes).into()),
        received_at: now,
        route: Some("immunizations".into()),
        state: State::Ready,
        reason: None,
        hold: None,
        origin: None,
        idempotency_key: None,
        supersedes: None,
        continues: None,
        claimable_from: None,
    };
    (new, bytes)
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) {
    let began = Instant::now();
    let done = work();
    println!("{what:<28} {:>10.2?}, {}", began.elapsed(), memory());
    drop(done);
}

fn bytes_below(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    format!("{} now, {} at most", line("VmRSS:"), line("VmHWM:"))
}
