//! The local store on a disk whose power is cut.

use std::{collections::HashMap, path::Path, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::Digest;

use super::{LocalStorage, Options};
use crate::{
    DigestState, FileId, GoesOn, NewFile, PartialInfo, Retract, Sha256, SpoolItem, SpoolMaintenance, Storage,
    StorageError,
    disk::{
        Disk,
        sim::{SimDisk, SyncClass},
    },
};

const ROOT: &str = "/data";

/// Bytes of the file that some go on from.
const BEFORE: u64 = 100;

fn now(day: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_777_075_200_123 + (day * 86_400_000) as i64).expect("in range")
}

fn open(disk: &SimDisk) -> Result<LocalStorage, StorageError> {
    LocalStorage::open(disk.shared(), Path::new(ROOT), Options { reserve_bytes: 0, reserve_inodes: 0, inline_bytes: 0 })
}

fn new_file(name: String, day: u64) -> NewFile {
    let (id, partner, door) = (FileId::new(now(day)), "clinic".to_owned(), "sftp".to_owned());
    // Some are the rest of a longer whole: their bytes are kept, and are a partial, as any others.
    let is_rest = name.ends_with(['1', '4', '7']);
    let digest = DigestState::of(&sha2::Sha256::new_with_prefix([7; BEFORE as usize]));
    let goes_on = is_rest.then_some(GoesOn { from: FileId::from_bytes([9; 16]), at: BEFORE, digest });
    NewFile { id, partner, name, door, began_at: now(day), origin: None, goes_on }
}

/// The bytes of a partial that are its own, of so many that it counts.
fn own_bytes(info: Option<PartialInfo>) -> u64 {
    info.map_or(0, |info| info.size_bytes - info.goes_on.map_or(0, |(_, before)| before))
}

fn contents(rng: &mut StdRng) -> Vec<u8> {
    // Now and then one does not stay in memory.
    let len = match rng.random_range(0..10) {
        0 => rng.random_range(300_000..400_000),
        1..5 => rng.random_range(5_000..7_000),
        _ => rng.random_range(0..3000),
    };
    let first = rng.random_range(0..251);
    (0..len).map(|at| ((first + at / 3) % 251) as u8).collect()
}

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// What was promised, and what must never be shown otherwise.
#[derive(Default)]
struct Promises {
    /// Every file that was ever begun.
    begun: HashMap<FileId, Sha256>,
    kept: Vec<FileId>,
    /// Taken back or removed.
    left: Vec<FileId>,
    /// Names with the contents that partials of them begin with, and their promised length.
    partials: Vec<(String, Vec<u8>, u64)>,
    /// Names whose partial was being changed from the one contents to the other: any beginning of either may be there.
    changing: Vec<(String, [Vec<u8>; 2])>,
}

/// One session: uploads until the power is gone or it has sent enough.
async fn session(store: LocalStorage, disk: SimDisk, seed: u64, promises: Arc<Mutex<Promises>>, files: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for at in 0..files {
        let bytes = contents(&mut rng);
        let name = format!("{seed}/{at}");
        let file = new_file(name.clone(), rng.random_range(0..3));
        let id = file.id;
        promises.lock().begun.insert(id, digest(&bytes));
        let Ok(mut upload) = store.begin(file).await else { return };
        for piece in bytes.chunks(100_000) {
            if upload.write(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        if rng.random_bool(0.2) {
            let Ok(len) = upload.keep_partial().await else { return };
            promises.lock().partials.push((name.clone(), bytes.clone(), len));
            if rng.random_bool(0.5) && !bytes.is_empty() {
                // It goes on, with other bytes behind a point in its middle.
                let cut = rng.random_range(0..bytes.len());
                let before = bytes;
                let bytes = [&before[..cut], b"and then something else"].concat();
                {
                    let mut promises = promises.lock();
                    promises.partials.retain(|(other, ..)| *other != name);
                    promises.changing.push((name.clone(), [before, bytes.clone()]));
                }
                let Ok(mut upload) = store.resume(new_file(name.clone(), 0), cut as u64).await else { return };
                if upload.write(Bytes::copy_from_slice(&bytes[cut..])).await.is_err() {
                    return;
                }
                let Ok(len) = upload.keep_partial().await else { return };
                let mut promises = promises.lock();
                promises.changing.retain(|(other, _)| *other != name);
                promises.partials.push((name, bytes, len));
            }
            continue;
        }
        if upload.commit(now(0)).await.is_err() {
            return;
        }
        // An answer counts only if it was there before the cut.
        if disk.is_cut() {
            return;
        }
        let left = match rng.random_range(0..20) {
            0 => store.retract(id, Retract::Drop).await,
            1 => {
                promises.lock().changing.push((name, [bytes.clone(), bytes]));
                store.retract(id, Retract::ToPartial).await
            }
            2 => store.remove(&[id]).await,
            _ => {
                promises.lock().kept.push(id);
                continue;
            }
        };
        if left.is_ok() {
            promises.lock().left.push(id);
        }
    }
}

/// Looks at the disk after the cut, and says what promise was broken.
async fn broken(after: &SimDisk, promises: &Promises) -> Option<String> {
    let store = match open(after) {
        Ok(store) => store,
        Err(error) => return Some(format!("it does not open: {error}")),
    };
    let there = store.ids().await.expect("listed");
    for id in &there {
        match store.inspect(*id).await.expect("inspected") {
            // What is called sound is what was sent, promised or not.
            SpoolItem::Sound(meta) => assert_eq!(promises.begun.get(id), Some(&meta.sha256), "half a file is sound"),
            SpoolItem::Damaged { what, .. } if promises.kept.contains(id) => return Some(format!("{id}: {what}")),
            SpoolItem::Damaged { .. } => store.set_aside(*id, "damaged").await.expect("set aside"),
        }
    }
    if let Some(id) = promises.kept.iter().find(|id| !there.contains(id)) {
        return Some(format!("{id} is gone"));
    }
    if let Some(id) = promises.left.iter().find(|id| there.contains(id)) {
        return Some(format!("{id} had left and is there again"));
    }
    for (name, bytes, len) in &promises.partials {
        if *len == 0 {
            continue;
        }
        let have = own_bytes(store.partial("clinic", name).await.expect("asked"));
        if have < *len {
            return Some(format!("the partial {name} has {have} bytes of {len}"));
        }
        if !begins_so(&store, name, *len, &[bytes]).await {
            return Some(format!("the partial {name} has other bytes"));
        }
    }
    for (name, [before, then]) in &promises.changing {
        let have = own_bytes(store.partial("clinic", name).await.expect("asked"));
        if have > 0 && !begins_so(&store, name, have, &[before, then]).await {
            return Some(format!("the partial {name} is a mixture"));
        }
    }
    None
}

/// Whether the partial holds the first `len` bytes of one of these.
async fn begins_so(store: &LocalStorage, name: &str, len: u64, contents: &[&Vec<u8>]) -> bool {
    let upload = store.resume(new_file(name.to_owned(), 0), len).await.expect("resumed");
    let meta = upload.commit(now(0)).await.expect("committed");
    let len = usize::try_from(len).expect("small");
    contents.iter().any(|bytes| bytes.get(..len).is_some_and(|start| digest(start) == meta.sha256))
}

async fn run(seed: u64, without: Option<SyncClass>) -> Option<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut disk = SimDisk::new(seed).with_dir(Path::new(ROOT));
    if let Some(class) = without {
        disk = disk.without(class);
    }
    let at_random = rng.random_bool(0.5);
    if at_random {
        disk.cut_at(rng.random_range(1..700));
    }
    let promises = Arc::new(Mutex::new(Promises::default()));
    if let Ok(store) = open(&disk) {
        let files = rng.random_range(1..16);
        let sessions: Vec<_> = (0..4)
            .map(|at| tokio::spawn(session(store.clone(), disk.clone(), seed * 10 + at, promises.clone(), files)))
            .collect();
        for session in sessions {
            session.await.expect("no session panics");
        }
    }
    disk.cut_now();
    let promises = std::mem::take(&mut *promises.lock());
    let mut after = disk.reboot();
    // The power may fail once more while things are put in order.
    if rng.random_bool(0.3) {
        after.cut_at(after.operations() + rng.random_range(1..80));
        drop(open(&after));
        after.cut_now();
        after = after.reboot();
    }
    broken(&after, &promises).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_power_cut_breaks_a_promise() {
    for seed in 0..300 {
        assert_eq!(run(seed, None).await, None, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sync_of_the_store_is_needed() {
    use SyncClass::{File, FileAttributes, Partial, PartialDir, Shard, ShardParent};
    for class in [File, FileAttributes, Shard, ShardParent, Partial, PartialDir] {
        let mut red = None;
        for seed in 0..400 {
            red = run(seed, Some(class)).await;
            if red.is_some() {
                println!("without {class:?}, run {}: {red:?}", seed + 1);
                break;
            }
        }
        assert!(red.is_some(), "without {class:?} nothing is lost: the test proves nothing");
    }
}

/// A partial says how long it is only once its bytes are on the disk, wherever they were before.
#[tokio::test]
async fn a_file_that_is_taken_back_never_leaves_a_partial_of_other_bytes() {
    let bytes: Vec<u8> = (0..3_000u32).map(|at| (at % 251) as u8).collect();
    let mut partials = 0;
    for cut in 0..40 {
        let disk = SimDisk::new(cut).with_dir(Path::new(ROOT));
        let store = open(&disk).expect("opens");
        let mut upload = store.begin(new_file("x".to_owned(), 0)).await.expect("begun");
        upload.write(Bytes::from(bytes.clone())).await.expect("written");
        let meta = upload.commit(now(0)).await.expect("committed");
        disk.cut_at(disk.operations() + cut);
        let _ = store.retract(meta.id, Retract::ToPartial).await;
        drop(store);
        for _ in 0..20 {
            let after = open(&disk.reboot()).expect("opens");
            let have = after.partial("clinic", "x").await.expect("asked").map_or(0, |info| info.size_bytes);
            if have > 0 {
                partials += 1;
                assert!(begins_so(&after, "x", have, &[&bytes]).await, "cut at {cut}");
            }
        }
    }
    assert!(partials > 100, "{partials}");
}

#[tokio::test]
async fn a_failed_sync_poisons_the_store_and_the_file_is_not_there() {
    for class in [SyncClass::File, SyncClass::Shard, SyncClass::ShardParent] {
        let disk = SimDisk::new(1).with_dir(Path::new(ROOT));
        let store = open(&disk).expect("opens");
        let mut upload = store.begin(new_file("x".to_owned(), 0)).await.expect("begun");
        upload.write(Bytes::from(vec![1; 100_000])).await.expect("written");
        disk.fail_next(class);
        let error = upload.commit(now(0)).await.expect_err("not durable");
        assert!(matches!(error, StorageError::Poisoned(_)), "{class:?}: {error}");
        assert_eq!(store.ids().await.expect("ids"), []);
        assert!(matches!(store.begin(new_file("y".to_owned(), 0)).await, Err(StorageError::Poisoned(_))));
        assert!(store.poisoned().is_some());
    }
}

/// Whoever empties a day removes its directory under the feet of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_empty_a_day_do_not_stop_the_store() {
    let disk = SimDisk::new(1).with_dir(Path::new(ROOT));
    let store = open(&disk).expect("opens");
    for round in 0..2_000 {
        let mut ids = Vec::new();
        for number in 0..2 {
            let mut upload = store.begin(new_file(format!("{round}-{number}"), 1)).await.expect("begun");
            upload.write(Bytes::from_static(b"x")).await.expect("written");
            ids.push(upload.commit(now(0)).await.expect("committed").id);
        }
        let (one, other) = (store.clone(), store.clone());
        let (removed, dropped) = (ids[0], ids[1]);
        let one = tokio::spawn(async move { one.remove(&[removed]).await });
        let other = tokio::spawn(async move { other.retract(dropped, Retract::Drop).await });
        one.await.expect("it ends").expect("removed");
        other.await.expect("it ends").expect("dropped");
        assert_eq!(store.poisoned(), None, "round {round}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_nothing() {
    let disk = SimDisk::new(1).with_dir(Path::new(ROOT));
    let store = open(&disk).expect("opens");
    disk.set_capacity(1_000_000);
    let mut upload = store.begin(new_file("x".to_owned(), 0)).await.expect("begun");
    let mut outcome = Ok(());
    for _ in 0..20 {
        outcome = upload.write(Bytes::from(vec![1; 200_000])).await;
        if outcome.is_err() {
            break;
        }
    }
    assert!(matches!(outcome, Err(StorageError::Full)), "{outcome:?}");
    assert!(matches!(upload.commit(now(0)).await, Err(StorageError::Full)));
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while !disk.list(&Path::new(ROOT).join("tmp")).expect("listed").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what was written is given back");
    let mut upload = store.begin(new_file("y".to_owned(), 0)).await.expect("there is room again");
    upload.write(Bytes::from_static(b"small")).await.expect("written");
    upload.commit(now(0)).await.expect("committed");
    assert_eq!(store.ids().await.expect("ids").len(), 1);
}
