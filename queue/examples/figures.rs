//! The queue's figures for docs/PERFORMANCE.md.
//!
//! `cargo run --release -p forebay-queue --example figures -- [ENTRIES] [DIRECTORY]` measures durable enqueues with one
//! and with 64 tasks, claims, opening with so many entries, and size and memory before and after purging them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement asks the clock and may fail")]

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_queue::{
    Action, Actor, ClaimRequest, Filter, NewEntry, Order, QueueStore, RouteRequest, Settlement, State,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::{Content, FileId, Sha256, disk::OsDisk};
use uuid::Uuid;

const PARTNERS: usize = 64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let entries: usize = arguments.next().map_or(100_000, |text| text.parse().unwrap());
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(dir.path(), entries));
}

async fn measure(dir: &Path, entries: usize) {
    let queue = Arc::new(open(dir));
    let few = (entries / 20).clamp(100, 5_000);
    rate("enqueue, 1 task", few, enqueue(&queue, few, 1)).await;
    rate("enqueue, 64 tasks", entries - few, enqueue(&queue, entries - few, 64)).await;
    state("all waiting", dir);
    show_reads(&queue).await;
    let worked = (entries / 20).max(2_000).min(entries);
    rate("claim and settle, 64 lanes", worked, work(&queue, worked)).await;
    drop(queue);
    let queue = timed("open", || open(dir));
    state("opened again", dir);
    drop(queue);
    std::fs::remove_dir_all(dir.join("queue")).unwrap();
    let queue = timed("open without an index", || open(dir));
    state("index made anew", dir);
    rate("cancel", entries, cancel(&queue)).await;
    let rest = Filter { states: vec![State::Done], ..Filter::default() };
    println!("{:<28} {}", "done", queue.list(&rest, None, usize::MAX).await.unwrap().entries.len());
    rate("purge", entries, purge(&queue)).await;
    state("purged", dir);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    state("purged, ten seconds later", dir);
    drop(queue);
    let queue = timed("open after the purge", || open(dir));
    state("opened after the purge", dir);
    drop(queue);
}

fn open(dir: &Path) -> EmbeddedQueue {
    let (disk, options) = (Arc::new(OsDisk), Options::default());
    EmbeddedQueue::open(disk, &dir.join("journal"), &dir.join("queue"), options).unwrap().0
}

fn new_entry(task: usize, n: usize) -> NewEntry {
    let now = Utc::now();
    // As digests are: no two bytes tell of each other.
    let digest = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat().try_into().unwrap();
    NewEntry {
        id: FileId::new(now),
        partner: format!("partner-{:03}", (task + n) % PARTNERS),
        name: format!("2026/immunizations-{task:02}-{n:07}.hl7"),
        door: "ftp".into(),
        size_bytes: 10_240,
        sha256: Sha256(digest),
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
    }
}

async fn enqueue(queue: &Arc<EmbeddedQueue>, count: usize, tasks: usize) {
    let mut running = Vec::new();
    for task in 0..tasks {
        let queue = queue.clone();
        let share = count / tasks + usize::from(task < count % tasks);
        running.push(tokio::spawn(async move {
            for n in 0..share {
                queue.accept(new_entry(task, n), Content::Kept, Utc::now()).await.unwrap();
            }
        }));
    }
    for task in running {
        task.await.unwrap();
    }
}

async fn work(queue: &Arc<EmbeddedQueue>, count: usize) {
    let route = RouteRequest { name: "immunizations".into(), slots: PARTNERS, order: Order::Strict, per_partner: 0 };
    let ask = ClaimRequest {
        routes: vec![route],
        limit: PARTNERS,
        lease_ms: 60_000,
        duplicate_window_ms: 86_400_000,
        per_partner: 0,
    };
    let mut done = 0;
    while done < count {
        let mut running = Vec::new();
        for claim in queue.claim(ask.clone(), Utc::now()).await.unwrap() {
            let queue = queue.clone();
            running.push(tokio::spawn(async move {
                let end =
                    Settlement { state: State::Done, counted: true, due_at: None, reason: None, output: String::new() };
                queue.settle(claim.token, claim.entry.id, end, Utc::now()).await.unwrap();
            }));
        }
        assert!(!running.is_empty(), "something waits");
        done += running.len();
        for task in running {
            task.await.unwrap();
        }
    }
}

async fn show_reads(queue: &EmbeddedQueue) {
    let began = Instant::now();
    let stats = queue.stats(Utc::now()).await.unwrap();
    println!("{:<28} {:>10.2?} ({} lanes)", "stats", began.elapsed(), stats.lanes.len());
    let began = Instant::now();
    let page = queue.list(&Filter::default(), None, 1_000).await.unwrap();
    println!("{:<28} {:>10.2?}", "list, 1,000 entries", began.elapsed());
    let id = page.entries[page.entries.len() / 2].id;
    let began = Instant::now();
    queue.history(id).await.unwrap();
    println!("{:<28} {:>10.2?}", "history of one", began.elapsed());
}

async fn cancel(queue: &EmbeddedQueue) {
    let states = vec![State::Ready, State::Retrying, State::Held];
    let filter = Filter { states, ..Filter::default() };
    loop {
        let page = queue.list(&filter, None, 4_096).await.unwrap();
        if page.entries.is_empty() {
            break;
        }
        let ids: Vec<_> = page.entries.iter().map(|entry| entry.id).collect();
        for answer in queue.act(&ids, Action::Cancel, None, Actor::Server, Utc::now()).await {
            answer.unwrap();
        }
    }
}

async fn purge(queue: &EmbeddedQueue) {
    let before: DateTime<Utc> = Utc::now() + TimeDelta::days(1);
    while queue.purge(before, 10_000, Utc::now()).await.unwrap().files > 0 {}
}

async fn rate(what: &str, count: usize, work: impl Future<Output = ()>) {
    let began = Instant::now();
    work.await;
    let seconds = began.elapsed().as_secs_f64();
    println!("{what:<28} {:>10.0}/s ({count} in {seconds:.2} s)", count as f64 / seconds);
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = work();
    println!("{what:<28} {:>10.2?}", began.elapsed());
    outcome
}

fn state(what: &str, dir: &Path) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss: u64 = rss.trim().trim_end_matches(" kB").trim().parse().unwrap();
    println!(
        "{what:<28} index {:.0} MiB, journal {:.0} MiB, RSS {:.0} MiB",
        mib(size(&dir.join("queue"))),
        mib(size(&dir.join("journal"))),
        mib(rss << 10),
    );
}

/// What it takes on the disk.
fn size(path: &Path) -> u64 {
    let taken = |data: std::fs::Metadata| data.blocks() * 512;
    let Ok(items) = std::fs::read_dir(path) else { return std::fs::metadata(path).map_or(0, taken) };
    items.map(|item| size(&item.unwrap().path())).sum()
}
