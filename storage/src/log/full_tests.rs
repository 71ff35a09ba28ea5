//! The log where even what is written over costs room, and a quota is spent in the middle of a group.

use std::{collections::BTreeMap, path::Path};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Log, LogOptions, Recovery, Seq};
use crate::{
    Result, StorageError,
    disk::sim::{SimDisk, SyncClass},
};

const DIR: &str = "/data/journal";
const SEGMENT: u64 = 16 << 10;

type Shown = BTreeMap<Seq, Vec<u8>>;

fn open_with(disk: &SimDisk, segment_bytes: u64) -> Result<(Log, Recovery, Shown)> {
    let options = LogOptions { segment_bytes, is_salted: true, ..LogOptions::default() };
    let mut shown = Shown::new();
    let (log, recovery) = Log::open(disk.shared(), Path::new(DIR), options, 1, &mut |seq, bytes| {
        shown.insert(seq, bytes.to_vec());
    })?;
    Ok((log, recovery, shown))
}

fn open(disk: &SimDisk) -> Result<(Log, Recovery, Shown)> {
    open_with(disk, SEGMENT)
}

fn fresh(seed: u64) -> SimDisk {
    SimDisk::new(seed).with_dir(Path::new("/data"))
}

/// Records that no other group has the like of.
fn group(mark: u64, count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| format!("<{mark}.{at}>").repeat(1 + bytes / 6).into_bytes()).collect()
}

/// A log with a few records, and a spare beside it.
fn begun(disk: &SimDisk) -> (Log, Shown) {
    let (mut log, ..) = open(disk).expect("opens");
    let records = group(0, 5, 300);
    let range = log.append(&records).expect("appended");
    log.spares.ensure(1).expect("prepared");
    (log, range.zip(records).collect())
}

/// Nothing but what was acknowledged is there, now and after any power cut.
fn has_exactly(disk: &SimDisk, log: &Log, acknowledged: &Shown, what: &str) {
    let read: Shown = log.read(1, usize::MAX).expect("read").into_iter().collect();
    assert!(read == *acknowledged, "{what}: read {:?} of {:?}", read.keys(), acknowledged.keys());
    for cut in 0..8 {
        let (log, recovery, shown) = open(&disk.reboot()).unwrap_or_else(|error| panic!("{what}, cut {cut}: {error}"));
        assert!(shown == *acknowledged, "{what}, cut {cut}: shown {:?} of {:?}", shown.keys(), acknowledged.keys());
        let next = acknowledged.len() as Seq + 1;
        assert_eq!(recovery, Recovery { first: 1, next, ..Recovery::default() }, "{what}, cut {cut}");
        assert_eq!(log.next_seq(), next);
    }
}

/// Appends one that is much shorter than what was refused: nothing may stand behind it.
fn goes_on(disk: &SimDisk, log: &mut Log, acknowledged: &mut Shown, what: &str) {
    for mark in 7..9 {
        let records = group(mark, 1, 20);
        let range = log.append(&records).unwrap_or_else(|error| panic!("{what}: {error}"));
        acknowledged.extend(range.zip(records));
        has_exactly(disk, log, acknowledged, what);
    }
}

/// The quota is spent after so many bytes, in a group of this many records of so many bytes each.
fn is_refused_and_forgotten(quota: u64, (count, bytes): (usize, usize)) {
    let what = format!("{quota} bytes of {count} records of {bytes}");
    let disk = fresh(quota);
    let (mut log, mut acknowledged) = begun(&disk);
    log.spares.ensure(3).expect("prepared");
    disk.set_quota(Some(quota));
    let refused = log.append(&group(1, count, bytes)).expect_err("there is no room");
    assert!(matches!(refused, StorageError::Full), "{what}: {refused}");
    assert_eq!(log.poisoned(), None, "{what}");
    has_exactly(&disk, &log, &acknowledged, &what);
    disk.set_quota(None);
    goes_on(&disk, &mut log, &mut acknowledged, &what);
}

#[test]
fn a_group_that_finds_no_room_leaves_nothing_and_the_log_goes_on() {
    for quota in [0, 1, 23, 24, 500, 512, 513, 1000, 2000, 2800] {
        is_refused_and_forgotten(quota, (8, 400));
    }
}

#[test]
fn a_group_that_finds_no_room_in_a_later_segment_is_gone_from_all_of_them() {
    for quota in (0..40_000).step_by(997) {
        is_refused_and_forgotten(quota, (13, 3_500));
    }
}

/// The log has only what it has begun with, and the group ends in its first segment's beginning.
#[test]
fn a_group_that_begins_a_segment_leaves_it_empty() {
    for quota in [1, 700, 20_000] {
        let disk = fresh(quota);
        let (mut log, mut acknowledged) = begun(&disk);
        log.spares.ensure(3).expect("prepared");
        log.begin_segment().expect("begun");
        disk.set_quota(Some(quota));
        assert!(matches!(log.append(&group(1, 13, 3_500)), Err(StorageError::Full)));
        has_exactly(&disk, &log, &acknowledged, "at a segment's beginning");
        disk.set_quota(None);
        goes_on(&disk, &mut log, &mut acknowledged, "at a segment's beginning");
    }
}

/// The name of the segment is what there is no room for.
#[test]
fn a_segment_that_cannot_be_named_refuses_and_changes_nothing() {
    let disk = fresh(1);
    let (mut log, mut acknowledged) = begun(&disk);
    disk.set_quota(Some(0));
    assert!(matches!(log.begin_segment(), Err(StorageError::Full)));
    assert!(matches!(log.skip_to(50), Err(StorageError::Full)));
    has_exactly(&disk, &log, &acknowledged, "without a name");
    // For the name alone: what was made ahead for it is there still.
    disk.set_quota(Some(1));
    log.begin_segment().expect("there is room for a name");
    disk.set_quota(None);
    goes_on(&disk, &mut log, &mut acknowledged, "without a name");
}

#[test]
fn a_segment_is_given_up_where_another_name_finds_no_room() {
    let disk = fresh(1);
    let (mut log, ..) = begun(&disk);
    log.begin_segment().expect("begun");
    log.append(&group(1, 1, 300)).expect("appended");
    // No spare is there or in the making, so a segment would become one.
    log.spares.give_up().expect("removed");
    disk.set_quota(Some(0));
    log.retire(6).expect("given up");
    assert_eq!((log.first_seq(), log.poisoned()), (6, None));
    let (_, recovery, shown) = open(&disk.reboot()).expect("opens");
    assert_eq!((recovery.first, shown.len()), (6, 1));
}

/// There is nothing whose room the zeros could have.
#[test]
fn a_group_that_cannot_be_taken_back_poisons_and_is_not_called_refused() {
    let disk = fresh(1);
    let (mut log, acknowledged) = begun(&disk);
    log.spares.give_up().expect("removed");
    disk.set_quota(Some(1_000));
    let failed = log.append(&group(1, 8, 400)).expect_err("there is no room");
    assert!(matches!(failed, StorageError::Io { .. }), "{failed}");
    disk.set_quota(None);
    assert!(matches!(log.append(&group(2, 1, 9)), Err(StorageError::Poisoned(_))));
    assert!(matches!(log.begin_segment(), Err(StorageError::Poisoned(_))));
    let read: Shown = log.read(1, usize::MAX).expect("read").into_iter().collect();
    assert_eq!(read, acknowledged);
}

#[test]
fn a_failed_sync_of_what_is_taken_back_poisons() {
    for (quota, class) in [
        (500, SyncClass::Journal),
        (11_000, SyncClass::JournalDir),
        (11_000, SyncClass::Journal),
        (0, SyncClass::Journal),
    ] {
        let disk = fresh(1);
        let (mut log, _) = begun(&disk);
        log.spares.ensure(3).expect("prepared");
        disk.set_quota(Some(quota));
        // The first is that of the segment before, which a quota of 11,000 bytes comes to.
        disk.fail_next(class);
        assert!(matches!(log.append(&group(1, 8, 3_500)), Err(StorageError::Io { .. })), "{quota} {class:?}");
        assert!(log.poisoned().is_some());
    }
}

/// Readers remember where records lie, of those that are gone too.
#[test]
fn what_takes_the_place_of_a_refused_group_is_read() {
    let disk = fresh(1);
    let (mut log, ..) = open_with(&disk, 1 << 20).expect("opens");
    log.append(&group(0, 5, 300)).expect("appended");
    log.spares.ensure(1).expect("prepared");
    disk.set_quota(Some(100_000));
    assert!(matches!(log.append(&group(1, 200, 1_000)), Err(StorageError::Full)));
    disk.set_quota(None);
    for at in 0..200 {
        log.append(&group(at + 2, 1, 90)).expect("appended");
    }
    for at in 0..200 {
        assert_eq!(log.read(6 + at, 1).expect("read"), [(6 + at, group(at + 2, 1, 90).remove(0))]);
    }
    drop(log);
    let (_, recovery, shown) = open_with(&disk, 1 << 20).expect("opens");
    assert_eq!((recovery, shown.len()), (Recovery { first: 1, next: 206, ..Recovery::default() }, 205));
}

/// What was said of groups in one run.
#[derive(Default)]
struct Said {
    acknowledged: Shown,
    /// The group that was under way when the power went: it may be there, from its beginning on.
    under_way: Vec<Vec<u8>>,
    refused: usize,
}

fn work(disk: &SimDisk, log: &mut Log, rng: &mut StdRng, groups: u64, said: &mut Said) {
    for mark in 0..groups {
        let (count, bytes) = (rng.random_range(1..9), rng.random_range(1..3_500));
        let records = group(mark, count, bytes);
        let is_short = rng.random_bool(0.3);
        disk.set_quota(is_short.then(|| rng.random_range(0..40_000)));
        let outcome = log.append(&records);
        disk.set_quota(None);
        if disk.is_cut() {
            said.under_way = records;
            return;
        }
        match outcome {
            Ok(range) => said.acknowledged.extend(range.zip(records)),
            Err(StorageError::Full) => said.refused += 1,
            // It could not be taken back.
            Err(_) => {
                said.under_way = records;
                return;
            }
        }
    }
}

/// One run with a cut, and what is wrong after it.
fn broken(seed: u64, refused: &mut usize) -> Option<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = fresh(seed);
    let mut said = Said::default();
    let (mut log, ..) = open(&disk).expect("opens");
    if rng.random_bool(0.7) {
        disk.cut_at(disk.operations() + rng.random_range(1..200));
    }
    let groups = rng.random_range(1..40);
    work(&disk, &mut log, &mut rng, groups, &mut said);
    *refused += said.refused;
    disk.cut_now();
    let (log, recovery, shown) = match open(&disk.reboot()) {
        Ok(opened) => opened,
        Err(error) => return Some(format!("it does not open: {error}")),
    };
    if !recovery.lost.is_empty() {
        return Some(format!("a loss is reported that was none: {recovery:?}"));
    }
    if let Some((seq, _)) = said.acknowledged.iter().find(|(seq, bytes)| shown.get(seq) != Some(bytes)) {
        return Some(format!("record {seq} is not what was acknowledged"));
    }
    let last = said.acknowledged.len() as Seq;
    let under_way: Shown = (last + 1..).zip(said.under_way).collect();
    if let Some((seq, _)) = shown.iter().find(|(seq, bytes)| **seq > last && under_way.get(seq) != Some(bytes)) {
        return Some(format!("record {seq} was refused and is there"));
    }
    drop(log);
    None
}

#[test]
fn no_power_cut_brings_back_what_was_refused() {
    let mut refused = 0;
    for seed in 0..600 {
        assert_eq!(broken(seed, &mut refused), None, "seed {seed}");
    }
    assert!(refused > 600, "too few to prove anything: {refused}");
}

/// One in one segment, and one over several.
#[test]
fn each_sync_of_taking_back_is_needed() {
    for (class, quota) in [(SyncClass::Journal, 3_000), (SyncClass::JournalDir, 20_000)] {
        let disk = fresh(1);
        let (mut log, acknowledged) = begun(&disk);
        log.spares.ensure(3).expect("prepared");
        disk.set_quota(Some(quota));
        // From here on, for all handles on it.
        let disk = disk.without(class);
        assert!(matches!(log.append(&group(1, 13, 3_500)), Err(StorageError::Full)));
        let comes_back = |_: &u32| {
            let opened = open(&disk.reboot());
            opened.is_ok_and(|(_, _, shown)| shown.keys().any(|seq| !acknowledged.contains_key(seq)))
        };
        let back = (0..200).filter(comes_back).count();
        println!("without {class:?}: it comes back after {back} of 200 cuts");
        assert!(back > 0, "without {class:?} nothing comes back: the test proves nothing");
    }
}
