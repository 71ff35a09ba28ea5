use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use forebay_storage::{
    Sha256,
    disk::sim::{SimDisk, SyncClass},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use uuid::Uuid;

use super::*;
use crate::{MessageDetail, MessageResult};

const DIR: &str = "/data/messages";

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(seed).with_dir(Path::new("/data"))
}

fn open(disk: &SimDisk) -> Result<Arc<MessageLog>> {
    MessageLog::new(disk.shared(), DIR.into()).map(Arc::new)
}

fn id(number: u64) -> FileId {
    FileId::from_bytes(u128::from(number).to_be_bytes())
}

fn token(number: u128) -> LeaseToken {
    LeaseToken(Uuid::from_u128(number))
}

fn source(messages: u64) -> MessageSource {
    MessageSource { messages, sha256: Sha256([7; 32]) }
}

fn accepted(first: u64, count: u64) -> MessageRun {
    MessageRun { first, count, result: MessageResult::Accepted, detail: None }
}

fn refused(first: u64, text: &str) -> MessageRun {
    let detail = MessageDetail { text: text.to_owned(), errors: Vec::new() };
    MessageRun { first, count: 1, result: MessageResult::Refused, detail: Some(detail) }
}

/// As when nobody is at work on any file.
async fn tidy(log: &MessageLog) -> Result<()> {
    match log.retire().await? {
        Some(oldest) => log.write_anew(oldest).await,
        None => Ok(()),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[test]
fn outcomes_come_in_any_order_and_each_once() {
    let log = open(&disk(1)).expect("opens");
    block_on(async {
        let begun = log.begin(token(1), id(1), source(9), true).await.expect("begins");
        assert_eq!((begun.progress.next, begun.ahead.len()), (1, 0));
        log.advance(token(1), id(1), vec![accepted(2, 2)], 1, 0).await.expect("ahead");
        let progress = log.advance(token(1), id(1), vec![accepted(1, 1)], 4, 40).await.expect("in order");
        assert_eq!((progress.next, progress.offset, progress.tally.accepted), (4, 40, 3));
        for (runs, next, offset) in [
            (vec![accepted(3, 1)], 4, 40),
            (vec![accepted(4, 1), accepted(4, 1)], 5, 50),
            (vec![accepted(4, 1)], 6, 50),
            (vec![accepted(4, 1)], 5, 30),
            (vec![accepted(9, 2)], 4, 40),
            (vec![accepted(4, 0)], 4, 40),
        ] {
            let refused = log.advance(token(1), id(1), runs.clone(), next, offset).await;
            assert!(matches!(refused, Err(QueueError::Damaged { .. })), "{runs:?}");
        }
        log.advance(token(1), id(1), vec![refused(4, "no"), accepted(6, 1)], 5, 50).await.expect("goes on");
        assert_eq!(log.outcomes(id(1), 1, 99).expect("read"), [accepted(1, 3), refused(4, "no"), accepted(6, 1)]);
        assert_eq!(log.outcomes(id(1), 4, 1).expect("read"), [refused(4, "no")]);
    });
}

#[test]
fn the_lease_that_began_last_notes_outcomes_and_other_bytes_are_refused() {
    let log = open(&disk(1)).expect("opens");
    block_on(async {
        log.begin(token(1), id(1), source(9), true).await.expect("begins");
        let lost = log.advance(token(2), id(1), vec![accepted(1, 1)], 2, 10).await;
        assert!(matches!(lost, Err(QueueError::LeaseLost(_))));
        log.begin(token(2), id(1), source(9), false).await.expect("goes on");
        assert!(log.advance(token(1), id(1), vec![accepted(1, 1)], 2, 10).await.is_err());
        log.advance(token(2), id(1), vec![accepted(1, 1)], 2, 10).await.expect("notes");
        let other = log.begin(token(3), id(1), source(8), false).await;
        assert!(matches!(other, Err(QueueError::OtherMessages(_))));
    });
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let disk = disk(1);
    block_on(async {
        let log = open(&disk).expect("opens");
        log.begin(token(1), id(1), source(9), true).await.expect("begins");
        log.begin(token(1), id(2), source(5), true).await.expect("begins");
        log.advance(token(1), id(1), vec![accepted(1, 3), accepted(5, 1)], 4, 40).await.expect("notes");
        log.forget(id(2)).await;
        drop(log);
        let log = open(&disk).expect("opens again");
        let state = log.begin(token(2), id(1), source(9), false).await.expect("goes on");
        assert_eq!((state.progress.next, state.progress.offset, state.ahead), (4, 40, vec![5]));
        assert_eq!(log.progress(id(2)), None);
        log.keep_those(&mut |_| false).expect("forgets");
        drop(log);
        assert_eq!(open(&disk).expect("opens").progress(id(1)), None);
    });
}

#[test]
fn what_is_short_goes_with_the_record_and_what_is_long_into_a_file() {
    let disk = disk(1);
    block_on(async {
        let log = open(&disk).expect("opens");
        log.begin(token(1), id(1), source(1_000_000), true).await.expect("begins");
        log.advance(token(1), id(1), vec![accepted(1, 1_000_000)], 1_000_001, 5 << 30).await.expect("notes");
        let messages = log.at_end(id(1), true).expect("ends").expect("has messages");
        assert!(messages.outcomes.as_ref().is_some_and(|bytes| bytes.len() < 16));
        let count = 3_000;
        log.begin(token(1), id(2), source(count), true).await.expect("begins");
        for first in 1..=count {
            let run = if first % 2 == 0 { accepted(first, 1) } else { refused(first, &format!("fault {first}")) };
            log.advance(token(1), id(2), vec![run], first + 1, first * 10).await.expect("notes");
        }
        assert_eq!(log.at_end(id(2), false).expect("ends").expect("has messages").outcomes, None);
        let messages = log.at_end(id(2), true).expect("ends").expect("has messages");
        assert_eq!((messages.outcomes, messages.progress.tally.refused), (None, count / 2));
        log.forget(id(2)).await;
        let after = disk.reboot();
        let log = open(&after).expect("opens");
        assert_eq!(log.kept_outcomes(id(2), 1, usize::MAX).expect("read").len() as u64, count);
        let some = log.kept_outcomes(id(2), 1_501, 2).expect("read");
        assert_eq!(some, [refused(1_501, "fault 1501"), accepted(1_502, 1)]);
        log.sweep(&mut |_| Ok(true)).expect("swept");
        assert_eq!(log.kept_outcomes(id(2), 1, 1).expect("read").len(), 1);
        log.sweep(&mut |_| Ok(false)).expect("swept");
        assert_eq!(log.kept_outcomes(id(2), 1, 1).expect("read").len(), 0);
    });
}

#[test]
fn a_file_that_waits_for_long_keeps_no_old_segments() {
    let disk = disk(1);
    block_on(async {
        let log = open(&disk).expect("opens");
        log.begin(token(1), id(1), source(9), true).await.expect("begins");
        log.advance(token(1), id(1), vec![accepted(1, 3), refused(4, "no"), accepted(6, 1)], 5, 50)
            .await
            .expect("notes");
        let text = "x".repeat(512);
        let mut most = 0;
        for file in 2..12 {
            log.begin(token(1), id(file), source(3_000), true).await.expect("begins");
            for first in (1..=3_000).step_by(10) {
                let runs: Vec<_> = (first..first + 10).map(|ordinal| refused(ordinal, &text)).collect();
                log.advance(token(1), id(file), runs, first + 10, first).await.expect("notes");
            }
            log.forget(id(file)).await;
            tidy(&log).await.expect("tidied");
            tidy(&log).await.expect("tidied");
            let files = disk.shared().list(Path::new(DIR)).expect("listed");
            most = most.max(files.iter().filter(|name| name.extension().is_some_and(|end| end == "log")).count());
        }
        assert!(most <= 12, "{most} segments");
        let wanted = [accepted(1, 3), refused(4, "no"), accepted(6, 1)];
        assert_eq!(log.outcomes(id(1), 1, 99).expect("read"), wanted);
        drop(log);
        let log = open(&disk).expect("opens");
        let state = log.begin(token(2), id(1), source(9), false).await.expect("goes on");
        assert_eq!((state.progress.next, state.progress.offset, state.ahead), (5, 50, vec![6]));
        assert_eq!(log.outcomes(id(1), 1, 99).expect("read"), wanted);
    });
}

#[test]
fn outcomes_that_come_while_a_file_is_written_anew_stay() {
    let disk = disk(1);
    block_on(async {
        let log = open(&disk).expect("opens");
        log.begin(token(1), id(1), source(9), true).await.expect("begins");
        log.advance(token(1), id(1), vec![accepted(1, 1)], 2, 10).await.expect("notes");
        let inner = log.if_open().expect("open");
        let record = inner.anew(id(1)).expect("read").expect("short");
        log.advance(token(1), id(1), vec![refused(2, "no")], 3, 20).await.expect("notes");
        let (answer, told) = oneshot::channel();
        inner.send(Job::Anew { record, answer }).expect("sent");
        told.await.expect("answered").expect("passed over");
        log.advance(token(1), id(1), vec![accepted(3, 1)], 4, 30).await.expect("goes on");
        drop((inner, log));
        let log = open(&disk).expect("opens again");
        let state = log.begin(token(2), id(1), source(9), false).await.expect("nothing is lost");
        assert_eq!((state.progress.next, state.progress.offset), (4, 30));
        assert_eq!(log.outcomes(id(1), 1, 99).expect("read"), [accepted(1, 1), refused(2, "no"), accepted(3, 1)]);
    });
}

/// Until the segment that is made ahead is written: without any room a group is taken back with its room.
fn wait_for_spare(disk: &SimDisk) {
    let disk = disk.shared();
    let is_written = || {
        let names = disk.list(Path::new(DIR)).expect("listed");
        names.iter().filter(|name| name.to_string_lossy().starts_with("spare")).any(|name| {
            let mut magic = [0; 8];
            disk.open(&Path::new(DIR).join(name), false).is_ok_and(|file| file.read_at(&mut magic, 0).is_ok())
                && magic != [0; 8]
        })
    };
    while !is_written() {
        std::thread::yield_now();
    }
}

#[test]
fn where_there_is_no_room_nothing_has_changed() {
    let disk = disk(1);
    block_on(async {
        let log = open(&disk).expect("opens");
        log.begin(token(1), id(1), source(9), true).await.expect("begins");
        wait_for_spare(&disk);
        disk.set_quota(Some(10));
        let full = log.advance(token(1), id(1), vec![accepted(1, 1)], 2, 10).await;
        assert!(matches!(full, Err(QueueError::Full)), "{full:?}");
        assert_eq!(log.progress(id(1)).expect("there").next, 1);
        disk.set_quota(None);
        log.advance(token(1), id(1), vec![accepted(1, 1)], 2, 10).await.expect("there is room");
    });
}

#[test]
fn a_log_that_lost_records_lets_nothing_go_on() {
    let disk = disk(1);
    block_on(async {
        let log = open(&disk).expect("opens");
        log.begin(token(1), id(1), source(9), true).await.expect("begins");
        for first in 1..=5 {
            log.advance(token(1), id(1), vec![accepted(first, 1)], first + 1, first * 10).await.expect("notes");
        }
        drop(log);
        let path = disk
            .shared()
            .list(Path::new(DIR))
            .expect("listed")
            .into_iter()
            .find(|name| name.ends_with("log") || name.extension().is_some_and(|end| end == "log"));
        let file = disk.shared().open(&Path::new(DIR).join(path.expect("a segment")), true).expect("opens");
        // In the middle of the records.
        file.write_at(&[0xff; 40], 4096 + 150).expect("written");
        let log = open(&disk).expect("opens");
        let damaged = log.begin(token(2), id(1), source(9), false).await;
        assert!(matches!(damaged, Err(QueueError::Damaged { .. })), "{damaged:?}");
        log.begin(token(2), id(2), source(9), true).await.expect("one that was never begun");
    });
}

/// Files that are noted at once until the power goes; what was not so afterwards.
fn life(seed: u64, without: Option<SyncClass>) -> (Option<String>, usize) {
    let mut disk = disk(seed);
    if let Some(class) = without {
        disk = disk.without(class);
    }
    let mut random = SmallRng::seed_from_u64(seed);
    let log = open(&disk).expect("opens");
    let told: Mutex<HashMap<u64, u64>> = Mutex::default();
    let count = AtomicUsize::new(0);
    block_on(async {
        log.begin(token(1), id(9), source(1), true).await.expect("a fresh disk");
        disk.cut_at(disk.operations() + random.random_range(1..120));
        let work = |number: u64, mut random: SmallRng| {
            let (log, told, count) = (&log, &told, &count);
            async move {
                if log.begin(token(1), id(number), source(200), true).await.is_err() {
                    return;
                }
                let mut next = 1;
                while next < 150 {
                    let many = random.random_range(1..6);
                    let runs =
                        if random.random_bool(0.3) { vec![refused(next, "no")] } else { vec![accepted(next, many)] };
                    let end = runs[0].end();
                    if log.advance(token(1), id(number), runs, end, end * 10).await.is_err() {
                        return;
                    }
                    next = end;
                    told.lock().insert(number, next);
                    count.fetch_add(1, Ordering::Relaxed);
                    if random.random_ratio(1, 8) {
                        let _ = tidy(log).await;
                    }
                }
            }
        };
        let seeds: Vec<u64> = (0..3).map(|_| random.random()).collect();
        let new = |at: usize| SmallRng::seed_from_u64(seeds[at]);
        tokio::join!(work(1, new(0)), work(2, new(1)), work(3, new(2)));
    });
    disk.cut_now();
    drop(log);
    let after = match open(&disk.reboot()) {
        Ok(log) => log,
        Err(error) => return (Some(format!("does not open: {error}")), 0),
    };
    for (number, next) in &*told.lock() {
        let Some(progress) = after.progress(id(*number)) else { return (Some(format!("file {number} is gone")), 0) };
        let runs = after.outcomes(id(*number), 1, usize::MAX).expect("read");
        if progress.next < *next || runs.last().map(MessageRun::end) != Some(progress.next) {
            return (Some(format!("file {number} is at {} and was at {next}: {runs:?}", progress.next)), 0);
        }
        if runs.iter().any(|run| run.result == MessageResult::Refused && run.detail.is_none()) {
            return (Some("a detail is gone".to_owned()), 0);
        }
    }
    (None, count.into_inner())
}

fn seed() -> u64 {
    let given = std::env::var("FOREBAY_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("FOREBAY_SEED={seed}");
    seed
}

#[test]
fn what_was_noted_is_there_after_any_cut() {
    let (seed, mut noted) = (seed(), 0);
    for at in 0..300 {
        let (wrong, count) = life(seed + at, None);
        assert_eq!(wrong, None, "with FOREBAY_SEED={} in the first life", seed + at);
        noted += count;
    }
    assert!(noted > 3_000, "too few to prove anything: {noted}");
}

#[test]
fn the_sync_is_needed() {
    let seed = seed();
    let red = (0..100).find_map(|at| life(seed + at, Some(SyncClass::Elsewhere)).0);
    assert!(red.is_some(), "without it nothing was lost in 100 cuts: the test cannot see it");
}
