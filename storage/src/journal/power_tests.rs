//! The journal on a disk whose power is cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Journal, JournalOptions, NewContent, NewRecord};
use crate::{
    FileId, StorageError,
    disk::sim::{SimDisk, SyncClass},
    log::{Recovery, Seq},
};

const DIR: &str = "/data/journal";

fn open(disk: &SimDisk) -> Result<(Journal, Recovery), StorageError> {
    let options = JournalOptions { segment_bytes: 16 << 10, recent_segment_bytes: 32 << 10, recent_bytes: 64 << 10 };
    Journal::open(disk.shared(), Path::new(DIR), options, 1)
}

fn record(seq: Seq) -> Vec<u8> {
    format!("<{seq}>").repeat(1 + (seq * 37 % 100) as usize).into_bytes()
}

fn content(seq: Seq) -> Option<Bytes> {
    let length = (seq * 131 % 6_000) as usize;
    (seq % 5 < 3).then(|| (0..length).map(|at| ((seq as usize + at / 3) % 251) as u8).collect::<Vec<_>>().into())
}

fn new(seq: Seq) -> NewRecord {
    let id = FileId::from_bytes(u128::from(seq).to_be_bytes());
    NewRecord { record: record(seq), content: content(seq).map(|bytes| NewContent { id, bytes }) }
}

/// What was promised.
#[derive(Default)]
struct Promises {
    /// The last record that was acknowledged.
    acknowledged: Seq,
    /// Records before this one were given up.
    first: Seq,
    /// Contents that nobody wants, from before their room was given back.
    dead: BTreeSet<Seq>,
}

fn work(journal: &mut Journal, disk: &SimDisk, rng: &mut StdRng, count: u64, promises: &mut Promises) {
    while journal.next_seq() < count {
        let next = journal.next_seq();
        let group: Vec<_> = (0..rng.random_range(1..8)).map(|more| new(next + more)).collect();
        let Ok(range) = journal.append(&group) else { return };
        if disk.is_cut() {
            return;
        }
        promises.acknowledged = range.end - 1;
        let done = match rng.random_range(0..30) {
            0 => {
                let from = next.saturating_sub(150);
                let given_up: Vec<_> = (from..next).filter(|_| rng.random_bool(0.7)).collect();
                promises.dead.extend(&given_up);
                journal.reader().sweep(&given_up, &|_, seq| Ok(!promises.dead.contains(&seq))).map(drop)
            }
            1 => journal.empty(),
            2 if next > 200 => {
                let before = next - 100;
                promises.dead.extend((1..before).filter(|seq| seq % 7 > 0));
                let swept = journal.reader().sweep_before(before, &|_, seq| Ok(!promises.dead.contains(&seq)));
                promises.first = promises.first.max(before);
                swept.and_then(|()| journal.retire(before))
            }
            _ => Ok(()),
        };
        if done.is_err() {
            return;
        }
    }
}

/// What of the promises is broken on this disk.
fn broken(after: &SimDisk, promises: &Promises) -> Option<String> {
    let (mut journal, recovery) = match open(after) {
        Ok(opened) => opened,
        Err(error) => return Some(format!("it does not open: {error}")),
    };
    if !recovery.lost.is_empty() {
        return Some(format!("a loss is reported that was none: {recovery:?}"));
    }
    let reader = journal.reader();
    let records: BTreeMap<Seq, Vec<u8>> = reader.read(1, usize::MAX).expect("read").into_iter().collect();
    for (seq, bytes) in &records {
        assert_eq!(*bytes, record(*seq), "a record that was never written");
    }
    let first = promises.first.max(1);
    if let Some(seq) = (first..=promises.acknowledged).find(|seq| !records.contains_key(seq)) {
        return Some(format!("record {seq} of {} is gone", promises.acknowledged));
    }
    for seq in 1..=promises.acknowledged {
        let (there, wanted) = (reader.content(seq).expect("read"), content(seq));
        // What is dead may be there or not, but is never something else.
        if there != wanted && !(promises.dead.contains(&seq) && there.is_none()) {
            return Some(format!("the content of record {seq} is not what it was"));
        }
    }
    let next = journal.next_seq();
    journal.append(&[new(next)]).expect("it goes on");
    journal.empty().expect("emptied");
    assert_eq!(reader.read(next, 9).expect("read"), [(next, record(next))]);
    assert_eq!(reader.content(next).expect("read"), content(next));
    None
}

fn run(seed: u64, without: Option<SyncClass>) -> Option<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut disk = SimDisk::new(seed).with_dir(Path::new("/data"));
    if let Some(class) = without {
        disk = disk.without(class);
    }
    let at_random = rng.random_bool(0.7);
    if at_random {
        disk.cut_at(rng.random_range(1..900));
    }
    let count = rng.random_range(1..900);
    let mut promises = Promises::default();
    for _ in 0..rng.random_range(1..3) {
        if let Ok((mut journal, _)) = open(&disk) {
            work(&mut journal, &disk, &mut rng, count, &mut promises);
            if !at_random && rng.random_bool(0.5) {
                disk.cut_now();
            }
        }
    }
    disk.cut_now();
    let mut after = disk.reboot();
    // The power may fail once more while things are put in order.
    if rng.random_bool(0.3) {
        after.cut_at(after.operations() + rng.random_range(1..80));
        drop(open(&after));
        after.cut_now();
        after = after.reboot();
    }
    broken(&after, &promises)
}

#[test]
fn no_power_cut_takes_a_record_or_a_content() {
    for seed in 0..400 {
        assert_eq!(run(seed, None), None, "seed {seed}");
    }
}

#[test]
fn each_sync_of_the_journal_is_needed() {
    use SyncClass::{Journal, JournalDir, Pack, PackDir, Recent, RecentDir};
    for class in [Recent, RecentDir, Journal, JournalDir, Pack, PackDir] {
        let mut red = None;
        for seed in 0..600 {
            red = run(seed, Some(class));
            if red.is_some() {
                println!("without {class:?}, run {}: {red:?}", seed + 1);
                break;
            }
        }
        assert!(red.is_some(), "without {class:?} nothing is lost: the test proves nothing");
    }
}

#[test]
fn a_failed_sync_of_what_is_emptied_stops_the_journal_and_loses_nothing() {
    for class in [SyncClass::Journal, SyncClass::Pack] {
        let disk = SimDisk::new(1).with_dir(Path::new("/data"));
        let (mut journal, _) = open(&disk).expect("opens");
        // Few enough that nothing is emptied before it is asked for, and no segment is filled.
        journal.append(&(1..20).map(new).collect::<Vec<_>>()).expect("appended");
        // The first segment of the journal proper and its spare, which a thread makes: what fails now is a record's sync.
        while disk.syncs(SyncClass::Journal) < 2 {
            std::thread::yield_now();
        }
        disk.fail_next(class);
        assert!(journal.empty().is_err(), "{class:?}");
        assert!(matches!(journal.append(&[new(20)]), Err(StorageError::Poisoned(_))), "{class:?}");
        drop(journal);
        assert_eq!(broken(&disk.reboot(), &Promises { acknowledged: 19, ..Promises::default() }), None, "{class:?}");
    }
}

#[test]
fn a_full_disk_refuses_contents_and_takes_records() {
    let disk = SimDisk::new(1).with_dir(Path::new("/data"));
    let (mut journal, _) = open(&disk).expect("opens");
    // Room for a few segments of the short log, and for nothing that it is emptied into.
    disk.set_capacity(600 << 10);
    let (mut refused, mut contents) = (0, BTreeMap::new());
    for _ in 0..2_000 {
        let (seq, bytes) = (journal.next_seq(), Bytes::from(vec![7; 5_000]));
        let content = Some(NewContent { id: FileId::from_bytes([7; 16]), bytes: bytes.clone() });
        match journal.append(&[NewRecord { record: record(seq), content }]) {
            Ok(_) => drop(contents.insert(seq, bytes)),
            Err(StorageError::Full) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        if refused > 3 {
            break;
        }
    }
    assert!(refused > 3 && contents.len() > 10, "{refused} of {}", contents.len());
    // As the reserve is: a segment of the short log, and what may be under way beside it.
    disk.set_capacity((600 << 10) + (256 << 10));
    for _ in 0..20 {
        let seq = journal.next_seq();
        journal.append(&[record(seq).into()]).expect("an outcome is taken");
    }
    disk.set_capacity(1 << 40);
    journal.empty().expect("there is room again");
    for (seq, bytes) in contents {
        assert_eq!(journal.reader().content(seq).expect("read"), Some(bytes));
    }
}
