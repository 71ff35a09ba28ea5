//! The log on a disk whose power is cut, and on a disk with rubbish on it.

use std::path::Path;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Log, LogOptions, Recovery, Seq};
use crate::{
    Result, StorageError,
    disk::{
        Disk,
        sim::{SimDisk, SyncClass},
    },
};

const DIR: &str = "/data/journal";
const OPTIONS: LogOptions = LogOptions { segment_bytes: 16 << 10, first: 1, elsewhere: 0..0, is_salted: true };

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(seed).with_dir(Path::new("/data"))
}

type Shown = Vec<(Seq, Vec<u8>)>;

fn open(disk: &SimDisk) -> Result<(Log, Recovery, Shown)> {
    let mut shown = Vec::new();
    let (log, recovery) = Log::open(disk.shared(), Path::new(DIR), OPTIONS, 1, &mut |seq, bytes| {
        shown.push((seq, bytes.to_vec()));
    })?;
    Ok((log, recovery, shown))
}

fn payload(seq: Seq) -> Vec<u8> {
    format!("<{seq}>").repeat(1 + (seq * 37 % 300) as usize).into_bytes()
}

/// Appends in groups until `count` are acknowledged or the power is gone, and gives how many were acknowledged.
fn work(log: &mut Log, rng: &mut StdRng, count: u64) -> Seq {
    let mut acknowledged = log.next_seq() - 1;
    while acknowledged < count {
        let group: Vec<_> = (1..=rng.random_range(1..6)).map(|more| payload(acknowledged + more)).collect();
        match log.append(&group) {
            Ok(range) => acknowledged = range.end - 1,
            Err(_) => break,
        }
        if acknowledged > 60 && rng.random_bool(0.05) && log.retire(acknowledged - 50).is_err() {
            break;
        }
    }
    acknowledged
}

/// One run with a cut, and whether anything that was acknowledged is gone after it.
fn loses(seed: u64, without: Option<SyncClass>) -> Option<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = without.map_or(disk(seed), |class| disk(seed).without(class));
    // Half of the cuts come right after an acknowledgement.
    let at_random = rng.random_bool(0.5);
    if at_random {
        disk.cut_at(rng.random_range(1..400));
    }
    let count = rng.random_range(1..250);
    let mut first = 1;
    let acknowledged = open(&disk).map_or(0, |(mut log, ..)| {
        let acknowledged = work(&mut log, &mut rng, count);
        if !at_random {
            disk.cut_now();
        }
        first = log.first_seq();
        acknowledged
    });
    let after = disk.reboot();
    let (mut log, recovery, shown) = match open(&after) {
        Ok(opened) => opened,
        Err(error) => return Some(format!("it does not open: {error}")),
    };
    let wrong = shown.iter().find(|(seq, bytes)| *bytes != payload(*seq));
    assert_eq!(wrong, None, "seed {seed}: a record that was never written");
    let missing = (first..=acknowledged).find(|seq| !shown.iter().any(|(shown, _)| shown == seq));
    if let Some(seq) = missing {
        return Some(format!("record {seq} of {acknowledged} is gone: {recovery:?}"));
    }
    if !recovery.lost.is_empty() {
        return Some(format!("a loss is reported that was none: {recovery:?}"));
    }
    let next = log.next_seq();
    log.append(&[payload(next)]).expect("it goes on");
    assert_eq!(log.read(next, 9).expect("read"), vec![(next, payload(next))], "seed {seed}");
    None
}

#[test]
fn no_power_cut_takes_an_acknowledged_record() {
    for seed in 0..400 {
        assert_eq!(loses(seed, None), None, "seed {seed}");
    }
}

#[test]
fn each_sync_of_the_log_is_needed() {
    for class in [SyncClass::Journal, SyncClass::JournalDir] {
        let red = (0..200).filter(|seed| loses(*seed, Some(class)).is_some()).count();
        println!("without {class:?}: {red} of 200 runs lose");
        assert!(red > 0, "without {class:?} nothing is lost: the test proves nothing");
    }
}

#[test]
fn a_failed_sync_ends_the_log_and_a_full_disk_does_not() {
    let disk = disk(1);
    let (mut log, ..) = open(&disk).expect("opens");
    log.append(&[payload(1)]).expect("appended");
    // Waits for the spare, so that the next sync is that of the append.
    log.spares.ensure(1).expect("prepared");
    disk.fail_next(SyncClass::Journal);
    assert!(log.append(&[payload(2)]).is_err());
    assert!(matches!(log.append(&[payload(2)]), Err(StorageError::Poisoned(_))));
    assert!(matches!(log.retire(1), Err(StorageError::Poisoned(_))));
    assert_eq!(log.read(1, 9).expect("read"), vec![(1, payload(1))]);

    let disk = SimDisk::new(2).with_dir(Path::new("/data"));
    let (mut log, ..) = open(&disk).expect("opens");
    log.spares.ensure(1).expect("prepared");
    disk.set_capacity(33 << 10);
    let group: Vec<_> = (1..200).map(payload).collect();
    assert!(matches!(log.append(&group), Err(StorageError::Full)));
    assert_eq!((log.next_seq(), log.poisoned()), (1, None));
    disk.set_capacity(1 << 20);
    assert_eq!(log.append(&group).expect("there is room again"), 1..200);
}

/// Rubbish over, in and behind segments. Gives whether a segment has a wrong name now.
fn corrupt(disk: &SimDisk, rng: &mut StdRng) -> bool {
    let mut renamed = false;
    let names = disk.list(Path::new(DIR)).expect("listed");
    for _ in 0..rng.random_range(1..5) {
        let name = &names[rng.random_range(0..names.len())];
        let path = Path::new(DIR).join(name);
        let Ok(file) = disk.open(&path, true) else { continue };
        let len = file.len().expect("asked");
        let at = rng.random_range(0..=len);
        match rng.random_range(0..8) {
            0 => file.set_len(at).expect("cut"),
            1 => file.set_len(len + rng.random_range(0..9000)).expect("extended"),
            2 => {
                let mut piece = vec![0; rng.random_range(1..5000)];
                let got = file.read_at(&mut piece, rng.random_range(0..=len)).expect("read");
                file.write_at(&piece[..got], at).expect("moved");
            }
            3 => {
                let to = Path::new(DIR).join(format!("{:020}.log", rng.random_range(0..400)));
                renamed |= disk.rename_new(&path, &to).is_ok();
            }
            _ => {
                let bytes: Vec<u8> = (0..rng.random_range(1..200)).map(|_| rng.random()).collect();
                file.write_at(&bytes, at).expect("written");
            }
        }
    }
    renamed
}

#[test]
fn no_bytes_make_it_panic_or_show_a_record_that_was_not_written() {
    let sound = disk(5);
    let (mut log, ..) = open(&sound).expect("opens");
    for next in 1..120 {
        log.append(&[payload(next)]).expect("appended");
    }
    drop(log);
    for seed in 0..2000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = sound.fork(seed);
        let renamed = corrupt(&disk, &mut rng);
        let Ok((mut log, recovery, shown)) = open(&disk) else { continue };
        for (seq, bytes) in &shown {
            assert!(*bytes == payload(*seq), "seed {seed}: record {seq}");
        }
        let next = log.next_seq();
        let read = log.read(1, usize::MAX).expect("read");
        let seqs = |records: &[(Seq, Vec<u8>)]| records.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
        assert!(renamed || read == shown, "seed {seed}: {:?} {:?} {recovery:?}", seqs(&read), seqs(&shown));
        log.append(&[b"after".to_vec()]).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(log.read(next, 9).expect("read"), vec![(next, b"after".to_vec())], "seed {seed}");
    }
}

#[test]
fn a_segment_that_found_no_room_ahead_of_time_refuses_nothing_when_there_is_room_again() {
    let disk = disk(3);
    let (mut log, ..) = open(&disk).expect("opens");
    log.spares.ensure(1).expect("prepared");
    disk.set_capacity(33 << 10);
    log.append(&[payload(1)]).expect("appended");
    log.begin_segment().expect("the spare is there");
    // The next spare finds no room.
    log.append(&[payload(2)]).expect("appended");
    while log.spares.is_making() {
        std::thread::yield_now();
    }
    disk.set_capacity(1 << 20);
    log.begin_segment().expect("there is room again");
    assert_eq!(log.append(&[payload(3)]).expect("appended"), 3..4);
}
