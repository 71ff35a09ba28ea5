//! The log on a real directory.

use std::{fs, os::unix::fs::FileExt, path::Path};

use super::{Log, LogOptions, Recovery, Seq, record, segment};
use crate::{StorageError, disk::OsDisk};

const SMALL: LogOptions = LogOptions { segment_bytes: 16 << 10, first: 1, elsewhere: 0..0, is_salted: true };

type Shown = Vec<(Seq, Vec<u8>)>;

fn open(dir: &Path, from: Seq) -> (Log, Recovery, Shown) {
    let mut shown = Vec::new();
    let (log, recovery) = Log::open(OsDisk::shared(), &dir.join("journal"), SMALL, from, &mut |seq, bytes| {
        shown.push((seq, bytes.to_vec()));
    })
    .expect("opens");
    (log, recovery, shown)
}

fn payload(seq: Seq) -> Vec<u8> {
    format!("record {seq} ").repeat(1 + seq as usize % 40).into_bytes()
}

fn fill(log: &mut Log, count: usize) {
    for _ in 0..count {
        let next = log.next_seq();
        assert_eq!(log.append(&[payload(next), payload(next + 1)]).expect("appended"), next..next + 2);
    }
}

fn expected(range: std::ops::Range<Seq>) -> Shown {
    range.map(|seq| (seq, payload(seq))).collect()
}

#[test]
fn records_come_back_in_order_over_segments_and_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, recovery, shown) = open(dir.path(), 1);
    assert_eq!((recovery, shown), (Recovery { first: 1, next: 1, ..Recovery::default() }, vec![]));
    fill(&mut log, 150);
    let reader = log.reader();
    assert_eq!(reader.read(1, usize::MAX).expect("read"), expected(1..301));
    assert_eq!(reader.read(133, 5).expect("read"), expected(133..138));
    assert_eq!(reader.read(301, 5).expect("read"), vec![]);
    drop(log);
    let (mut log, recovery, shown) = open(dir.path(), 1);
    assert_eq!((recovery, shown), (Recovery { first: 1, next: 301, ..Recovery::default() }, expected(1..301)));
    fill(&mut log, 10);
    drop(log);
    let (log, recovery, shown) = open(dir.path(), 290);
    assert_eq!(recovery, Recovery { first: 1, next: 321, ..Recovery::default() });
    assert_eq!(shown, expected(290..321));
    assert_eq!(log.read(1, 1000).expect("read"), expected(1..321));
}

#[test]
fn one_append_may_fill_several_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    let all: Vec<_> = (1..401).map(payload).collect();
    assert_eq!(log.append(&all).expect("appended"), 1..401);
    assert!(log.bytes() > 3 * SMALL.segment_bytes);
    drop(log);
    let (_, recovery, shown) = open(dir.path(), 1);
    assert_eq!(recovery, Recovery { first: 1, next: 401, ..Recovery::default() });
    assert_eq!(shown, expected(1..401));
}

#[test]
fn retired_segments_are_gone_and_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    fill(&mut log, 200);
    let before = log.bytes();
    log.retire(250).expect("retired");
    let first = log.first_seq();
    assert!((2..=250).contains(&first), "{first}");
    assert!(log.bytes() < before);
    assert_eq!(log.read(1, 1).expect("read"), expected(first..first + 1));
    fill(&mut log, 100);
    drop(log);
    let (log, recovery, shown) = open(dir.path(), 1);
    assert_eq!(recovery, Recovery { first, next: 601, ..Recovery::default() });
    assert_eq!(shown, expected(first..601));
    assert_eq!(log.read(first, 1000).expect("read"), expected(first..601));
}

#[test]
fn a_record_that_is_too_long_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    let refusal = log.append(&[payload(1), vec![0; 5000]]).expect_err("too long");
    assert!(matches!(refusal, StorageError::Unsupported(_)), "{refusal}");
    fill(&mut log, 3);
    assert_eq!(log.read(1, 9).expect("read"), expected(1..7));
}

#[test]
fn a_torn_tail_is_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    fill(&mut log, 3);
    let (path, at, salt) = (log.current.path.clone(), log.at, log.current.salt);
    drop(log);
    let mut torn = Vec::new();
    record::encode(salt, 7, 7, &[7; 700], &mut torn);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
    file.write_all_at(&torn[..512], at).expect("written");
    let (mut log, recovery, shown) = open(dir.path(), 1);
    assert_eq!(recovery, Recovery { torn_bytes: 512, first: 1, next: 7, ..Recovery::default() });
    assert_eq!(shown, expected(1..7));
    fill(&mut log, 1);
    drop(log);
    let (_, recovery, shown) = open(dir.path(), 1);
    assert_eq!(recovery, Recovery { first: 1, next: 9, ..Recovery::default() });
    assert_eq!(shown, expected(1..9));
}

#[test]
fn damage_in_the_middle_is_set_aside_and_reported_and_the_rest_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    fill(&mut log, 150);
    let (first, path) = {
        let segments = log.shared.segments.read();
        (segments[1].first, segments[1].path.clone())
    };
    drop(log);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
    file.write_all_at(b"???", segment::DATA_START + 30).expect("written");
    for _ in 0..2 {
        let (log, recovery, shown) = open(dir.path(), 1);
        assert_eq!(recovery.lost, vec![first..first + 1]);
        assert_eq!((recovery.torn_bytes, recovery.next, recovery.set_aside.len()), (0, 301, 1));
        assert_eq!(fs::read(&recovery.set_aside[0]).expect("a copy"), fs::read(&path).expect("there"));
        let all: Shown = expected(1..first).into_iter().chain(expected(first + 1..301)).collect();
        assert_eq!(shown, all);
        assert_eq!(log.read(1, 1000).expect("read"), all);
        assert_eq!(fs::read_dir(dir.path().join("journal/aside")).expect("listed").count(), 1);
    }
}

#[test]
fn a_segment_that_is_missing_or_empty_is_reported_as_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    fill(&mut log, 150);
    let firsts: Vec<_> = log.shared.segments.read().iter().map(|s| (s.first, s.path.clone())).collect();
    drop(log);
    fs::remove_file(&firsts[1].1).expect("removed");
    let (last, path) = firsts.last().expect("some");
    fs::write(path, b"").expect("emptied");
    let (mut log, recovery, _) = open(dir.path(), 1);
    assert_eq!(recovery.lost, vec![firsts[1].0..firsts[2].0]);
    assert_eq!(recovery.next, *last);
    fill(&mut log, 1);
    drop(log);
    let (_, recovery, shown) = open(dir.path(), *last);
    assert_eq!((recovery.next, shown), (last + 2, expected(*last..last + 2)));
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    fill(&mut log, 1);
    let path = log.current.path.clone();
    drop(log);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("opened")
        .write_all_at(&segment::header_of(3, [0; 8]), 0)
        .expect("ok");
    let before = fs::read(&path).expect("read");
    let refusal =
        Log::open(OsDisk::shared(), &dir.path().join("journal"), SMALL, 1, &mut |_, _| {}).expect_err("newer");
    assert!(refusal.to_string().contains("newer version of forebay"), "{refusal}");
    assert_eq!(fs::read(&path).expect("read"), before);
}

#[test]
fn readers_see_whole_durable_records_while_the_log_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), 1);
    let reader = log.reader();
    let watching = std::thread::spawn(move || {
        let mut next = 1;
        while next < 401 {
            for (seq, bytes) in reader.read(next, 50).expect("read") {
                assert_eq!((seq, &bytes), (next, &payload(next)));
                next += 1;
            }
        }
    });
    fill(&mut log, 200);
    watching.join().expect("all were seen");
}
