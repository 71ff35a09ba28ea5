use std::{fs, os::unix::fs::FileExt as _, path::Path};

use bytes::Bytes;

use super::{Journal, JournalOptions, NewContent, NewRecord};
use crate::{
    FileId,
    disk::OsDisk,
    log::{Log, LogOptions, Recovery, Seq},
};

const OPTIONS: JournalOptions =
    JournalOptions { segment_bytes: 16 << 10, recent_segment_bytes: 64 << 10, recent_bytes: 128 << 10 };

fn open(dir: &Path) -> (Journal, Recovery) {
    Journal::open(OsDisk::shared(), &dir.join("journal"), OPTIONS, 1).expect("opens")
}

fn id(seq: Seq) -> FileId {
    FileId::from_bytes(u128::from(seq).to_be_bytes())
}

fn content(seq: Seq) -> Option<Bytes> {
    seq.is_multiple_of(2).then(|| Bytes::from(format!("{seq}-").repeat(300)))
}

fn new(seq: Seq) -> NewRecord {
    let content = content(seq).map(|bytes| NewContent { id: id(seq), bytes });
    NewRecord { record: format!("record {seq}").into_bytes(), content }
}

fn fill(journal: &mut Journal, count: u64) {
    for _ in 0..count {
        let next = journal.next_seq();
        journal.append(&[new(next), new(next + 1)]).expect("appended");
    }
}

fn check(journal: &Journal, seqs: impl Iterator<Item = Seq>) {
    let reader = journal.reader();
    for seq in seqs {
        assert_eq!(reader.read(seq, 1).expect("read"), [(seq, new(seq).record)]);
        assert_eq!(reader.content(seq).expect("read"), content(seq), "{seq}");
    }
}

fn packs(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut packs: Vec<_> =
        fs::read_dir(dir.join("journal/packs")).expect("listed").map(|pack| pack.expect("listed").path()).collect();
    packs.sort();
    packs
}

fn packed_bytes(dir: &Path) -> u64 {
    packs(dir).iter().map(|pack| fs::metadata(pack).expect("asked").len()).sum()
}

#[test]
fn records_and_contents_are_read_wherever_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    fill(&mut journal, 400);
    check(&journal, 1..801);
    assert!(!packs(dir.path()).is_empty(), "nothing was emptied yet");
    drop(journal);
    let (mut journal, recovery) = open(dir.path());
    assert_eq!(recovery, Recovery { first: 1, next: 801, ..Recovery::default() });
    check(&journal, 1..801);
    fill(&mut journal, 3);
    check(&journal, 1..807);
    let recent: u64 = fs::read_dir(dir.path().join("journal/recent"))
        .expect("listed")
        .map(|file| file.expect("listed").metadata().expect("asked").len())
        .sum();
    assert!(recent <= 4 * OPTIONS.recent_bytes, "{recent}");
}

#[test]
fn a_journal_of_the_version_before_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = LogOptions { segment_bytes: 16 << 10, ..LogOptions::default() };
    let path = dir.path().join("journal");
    let (mut log, _) = Log::open(OsDisk::shared(), &path, options, 1, &mut |_, _| {}).expect("opens");
    log.append(&(1..300).map(|seq| new(seq).record).collect::<Vec<_>>()).expect("appended");
    drop(log);
    let (journal, recovery) = open(dir.path());
    assert_eq!((recovery.first, recovery.next), (1, 300));
    // Not even one that was never written to may be gone on with by the version before: it would not see the short log.
    let newest = fs::read_dir(&path).expect("listed").map(|one| one.expect("listed").path());
    let newest = newest.filter(|path| path.extension().is_some_and(|end| end == "log")).max().expect("a segment");
    assert_eq!(fs::read(newest).expect("read")[8..12], 2u32.to_le_bytes());
    drop(journal);
    let (mut journal, recovery) = open(dir.path());
    assert_eq!((recovery.first, recovery.next), (1, 300));
    fill(&mut journal, 2);
    assert_eq!(journal.reader().read(290, 100).expect("read").len(), 14);
    check(&journal, 300..304);
}

#[test]
fn room_comes_back_when_contents_are_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    fill(&mut journal, 400);
    journal.empty().expect("emptied");
    let (reader, before) = (journal.reader(), packed_bytes(dir.path()));
    let dead: Vec<Seq> = (1..500).collect();
    reader.sweep(&dead, &|file, seq| Ok(file == id(seq) && seq >= 500)).expect("swept");
    check(&journal, 500..801);
    assert!(packed_bytes(dir.path()) < before * 6 / 10, "{} of {before}", packed_bytes(dir.path()));
    // Half of what is left, in no order: packs are written anew.
    let dead: Vec<Seq> = (500..801).filter(|seq| seq % 3 > 0).collect();
    reader.sweep(&dead, &|file, seq| Ok(file == id(seq) && seq >= 500 && seq % 3 == 0)).expect("swept");
    check(&journal, (500..801).filter(|seq| seq % 3 == 0));
    assert!(packed_bytes(dir.path()) < before * 3 / 10, "{} of {before}", packed_bytes(dir.path()));
    assert_eq!(reader.content(500).expect("read"), None, "it was given up");
    drop(journal);
    let (journal, _) = open(dir.path());
    check(&journal, (500..801).filter(|seq| seq % 3 == 0));
}

#[test]
fn what_is_retired_takes_its_dead_contents_along() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    fill(&mut journal, 400);
    journal.empty().expect("emptied");
    // One in twenty is dead: no pack would be written anew for that.
    let reader = journal.reader();
    reader.sweep_before(700, &|file, seq| Ok(file == id(seq) && seq % 20 > 0)).expect("swept");
    journal.retire(700).expect("retired");
    assert!(reader.first_seq() > 500, "{}", reader.first_seq());
    let packed: Vec<Seq> = reader.packed_records(1..700).expect("read").into_iter().map(|(seq, _)| seq).collect();
    assert!(packed.iter().all(|seq| seq % 20 > 0), "a dead content has outlived the record that says so");
    assert_eq!(packed, (1..700).filter(|seq| seq % 2 == 0 && seq % 20 > 0).collect::<Vec<_>>());
}

#[test]
fn a_damaged_sector_of_a_pack_costs_what_lies_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    fill(&mut journal, 100);
    journal.empty().expect("emptied");
    drop(journal);
    let [pack] = &packs(dir.path())[..] else { panic!("one pack") };
    let sound = fs::read(pack).expect("read");
    for sector in 0..sound.len().div_ceil(512) {
        let at = sector * 512;
        let file = fs::OpenOptions::new().write(true).open(pack).expect("opened");
        file.write_all_at(&vec![0xa5; 512.min(sound.len() - at)], at as u64).expect("damaged");
        let (journal, recovery) = open(dir.path());
        assert!(recovery.lost.is_empty(), "{recovery:?}");
        let reader = journal.reader();
        let mut gone = 0;
        for seq in 1..201 {
            match reader.content(seq).expect("read") {
                there if there == content(seq) => {}
                None => gone += 1,
                Some(_) => panic!("sector {sector}: other bytes for record {seq}"),
            }
        }
        assert!(gone <= 2, "sector {sector}: {gone} contents are gone");
        fs::write(pack, &sound).expect("repaired");
    }
}

#[test]
fn a_damaged_sector_of_the_short_log_costs_what_lies_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    fill(&mut journal, 20);
    // As a killed process leaves it.
    let copy = copy_of(dir.path());
    drop(journal);
    let segment = copy.path().join("journal/recent/00000000000000000001.log");
    let sound = fs::read(&segment).expect("read");
    let used = sound[..sound.len() - 24].iter().rposition(|byte| *byte != 0).expect("used");
    let whole = |journal: &Journal| {
        let reader = journal.reader();
        (1..41).filter(|seq| reader.read(*seq, 1).expect("read") == [(*seq, new(*seq).record)]).count()
    };
    for sector in 0..used.div_ceil(512) {
        let trial = copy_of(copy.path());
        let file =
            fs::OpenOptions::new().write(true).open(trial.path().join("journal/recent/00000000000000000001.log"));
        file.expect("opened").write_all_at(&[0xa5; 512], sector as u64 * 512).expect("damaged");
        let (journal, recovery) = open(trial.path());
        let lost: u64 = recovery.lost.iter().map(|lost| lost.end - lost.start).sum();
        let left = whole(&journal) as u64;
        // At the very end it looks like a write that a crash has torn.
        let torn = if recovery.torn_bytes > 0 { 41 - recovery.next } else { 0 };
        assert_eq!(left + lost + torn, 40, "sector {sector}: {recovery:?}");
        assert!(lost + torn <= 4, "sector {sector}: {recovery:?}");
    }
}

/// A partner that knows the format may send what looks like records, to the last bit of what it can know.
#[test]
fn contents_that_look_like_records_are_contents() {
    use crate::log::{record, segment::Salt};
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    let mut forged = Vec::new();
    // At every place that a record may begin at, wherever the content itself does.
    for _ in 0..8 {
        forged.resize(forged.len() + 1, 0);
        for seq in 1..42 {
            record::encode(Salt::Absent, seq, seq, b"\0\x05\0\0\0forge", &mut forged);
        }
    }
    for seq in 1..40 {
        let content = Some(NewContent { id: id(seq), bytes: Bytes::from(forged.clone()) });
        journal.append(&[NewRecord { record: new(seq).record, content }]).expect("appended");
    }
    let copy = copy_of(dir.path());
    let recent = copy.path().join("journal/recent");
    let mut segments: Vec<_> = fs::read_dir(&recent).expect("listed").map(|one| one.expect("listed").path()).collect();
    segments.sort();
    let last = segments.iter().rfind(|path| path.extension().is_some_and(|end| end == "log")).expect("a segment");
    let sound = fs::read(last).expect("read");
    let used = sound[..sound.len() - 24].iter().rposition(|byte| *byte != 0).expect("used") + 1;
    // Torn at every block, and a block missing in the middle.
    for torn in (4_096..used).step_by(512) {
        for hole in [false, true] {
            let mut bytes = sound.clone();
            let until = if hole { torn + 512 } else { used };
            bytes[torn..until.min(used)].fill(0);
            let trial = copy_of(copy.path());
            fs::write(trial.path().join("journal/recent").join(last.file_name().expect("a name")), &bytes)
                .expect("torn");
            let (journal, _) = open(trial.path());
            for (seq, record) in journal.reader().read(1, usize::MAX).expect("read") {
                assert_eq!(record, new(seq).record, "torn at {torn}: a record that nobody wrote");
            }
        }
    }
}

/// Whoever had the journal proper alone, and wrote to it, is believed.
#[test]
fn records_behind_those_of_the_short_log_are_not_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    fill(&mut journal, 5);
    drop(journal);
    let options = LogOptions { segment_bytes: 16 << 10, ..LogOptions::default() };
    let path = dir.path().join("journal");
    let (mut log, _) = Log::open(OsDisk::shared(), &path, options, 1, &mut |_, _| {}).expect("opens");
    log.append(&(11..20).map(|seq| new(seq).record).collect::<Vec<_>>()).expect("appended");
    drop(log);
    let (mut journal, recovery) = open(dir.path());
    assert_eq!((recovery.first, recovery.next), (1, 20));
    assert_eq!(journal.reader().read(1, 99).expect("read").len(), 19);
    fill(&mut journal, 1);
    check(&journal, 20..22);
}

fn copy_of(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a directory");
    let status = std::process::Command::new("cp").arg("-r").arg(from.join("journal")).arg(to.path()).status();
    assert!(status.expect("run").success());
    to
}

fn newest_segment(dir: &Path) -> std::path::PathBuf {
    let segments = fs::read_dir(dir).expect("listed").map(|one| one.expect("listed").path());
    segments.filter(|path| path.extension().is_some_and(|end| end == "log")).max().expect("a segment")
}

fn spoil(path: &Path, text: &str) {
    let mut bytes = fs::read(path).expect("read");
    let at = bytes.windows(text.len()).rposition(|window| window == text.as_bytes()).expect("it is there");
    bytes[at..at + text.len()].fill(0);
    fs::write(path, bytes).expect("written");
}

/// A power cut in the middle of two writes: that of the emptier, and that of a group that nobody was told of.
#[test]
fn holes_in_the_last_write_of_both_logs_cost_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    loop {
        let next = journal.next_seq();
        journal.append(&[new(next), new(next + 1), new(next + 2), new(next + 3)]).expect("appended");
        if journal.recent.bytes() > OPTIONS.recent_bytes {
            break;
        }
    }
    // The journal proper has them, and the short log has them yet.
    let until = journal.recent.current_seq();
    while journal.shared.emptied() < until {
        std::thread::yield_now();
    }
    let (last, copy) = (journal.next_seq() - 1, copy_of(dir.path()));
    drop(journal);
    spoil(&newest_segment(&copy.path().join("journal")), &format!("record {}", until - 5));
    spoil(&newest_segment(&copy.path().join("journal/recent")), &format!("record {}", last - 1));
    let (mut journal, recovery) = open(copy.path());
    assert_eq!((recovery.lost, recovery.unsettled.first()), (vec![], Some(&(last - 1..last))));
    check(&journal, (1..last - 1).chain([last]));
    let next = journal.next_seq();
    journal.append(&[new(next)]).expect("appended");
    journal.empty().expect("emptied");
    check(&journal, (1..last - 1).chain([last, next]));
}

/// One damaged sector where the same record is still whole in the journal proper, and its content in a pack.
#[test]
fn a_record_that_the_short_log_has_lost_since_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    while journal.recent.bytes() <= OPTIONS.recent_bytes {
        fill(&mut journal, 1);
    }
    let until = journal.recent.current_seq();
    while journal.shared.emptied() < until {
        std::thread::yield_now();
    }
    let (last, copy) = (journal.next_seq() - 1, copy_of(dir.path()));
    drop(journal);
    spoil(&copy.path().join("journal/recent/00000000000000000001.log"), "record 10");
    // The owner's index is far ahead, so that old segments need not be read.
    let opened = Journal::open(OsDisk::shared(), &copy.path().join("journal"), OPTIONS, until);
    let (mut journal, recovery) = opened.expect("opens");
    assert_eq!(recovery.lost, vec![]);
    check(&journal, 1..last + 1);
    fill(&mut journal, 1);
    journal.empty().expect("emptied");
    check(&journal, 1..last + 1);
}

#[test]
fn packs_that_overlap_after_a_crash_tell_each_record_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    fill(&mut journal, 50);
    journal.empty().expect("emptied");
    drop(journal);
    let [pack] = &packs(dir.path())[..] else { panic!("one pack") };
    fs::copy(pack, pack.with_file_name(format!("{:020}-{:020}.7.pack", 51, 151))).expect("copied");
    let (journal, _) = open(dir.path());
    let seqs: Vec<Seq> =
        journal.reader().packed_records(1..200).expect("read").into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, (1..101).filter(|seq| seq % 2 == 0).collect::<Vec<_>>());
    check(&journal, 1..101);
}

/// What the disk cannot read is damaged, and no reason to wait for better times.
#[test]
fn a_pack_that_the_disk_cannot_read_costs_its_contents_and_stops_nothing() {
    let root = Path::new("/data");
    let disk = crate::disk::sim::SimDisk::new(1).with_dir(root);
    let open = || Journal::open(disk.shared(), &root.join("journal"), OPTIONS, 1).expect("opens").0;
    let mut journal = open();
    fill(&mut journal, 50);
    journal.empty().expect("emptied");
    drop(journal);
    let packs = root.join("journal/packs");
    let name = crate::disk::Disk::list(&disk, &packs).expect("listed").pop().expect("a pack");
    disk.fail_reads(&packs.join(name)).expect("there");
    let mut journal = open();
    let reader = journal.reader();
    assert_eq!(reader.content(2).expect("it is damaged, which is no failure"), None);
    reader.sweep_all(&|_, _| Ok(false)).expect("what cannot be read is left alone");
    reader.sweep_before(90, &|_, _| Ok(false)).expect("what cannot be read is left alone");
    fill(&mut journal, 50);
    journal.empty().expect("emptied");
    check(&journal, 101..201);
}
