//! The local store on a real directory.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::Digest;

use super::{LocalStorage, Options};
use crate::{
    Durability, FileId, FileMeta, NewFile, Retract, Sha256, SpoolItem, SpoolMaintenance, Storage, StorageError, Upload,
    Verified, disk::OsDisk,
};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_777_075_200_123).expect("in range")
}

fn store(root: &Path) -> LocalStorage {
    LocalStorage::open(OsDisk::shared(), root, Options { reserve_bytes: 1 << 20, ..Options::default() }).expect("opens")
}

fn new_file(name: &str) -> NewFile {
    NewFile {
        id: FileId::new(now()),
        partner: "clinic".to_owned(),
        name: name.to_owned(),
        door: "ftp".to_owned(),
        began_at: now(),
        origin: None,
        goes_on: None,
    }
}

fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 % 251) as u8).collect()
}

async fn send(upload: &mut dyn Upload, bytes: &[u8], chunk: usize) {
    for piece in bytes.chunks(chunk) {
        upload.write(Bytes::copy_from_slice(piece)).await.expect("written");
    }
}

async fn put(store: &LocalStorage, bytes: &[u8], chunk: usize) -> FileMeta {
    let mut upload = store.begin(new_file("a/b.hl7")).await.expect("begun");
    send(&mut *upload, bytes, chunk).await;
    assert_eq!(upload.len(), bytes.len() as u64);
    upload.commit(now()).await.expect("committed")
}

async fn all_of(store: &LocalStorage, id: FileId) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let at = bytes.len() as u64;
        let piece = store.read(id, at..at + 100_000).await.expect("read");
        if piece.is_empty() {
            return bytes;
        }
        bytes.extend_from_slice(&piece);
    }
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

fn names(dir: impl AsRef<Path>) -> usize {
    fs::read_dir(dir).expect("listed").count()
}

/// Blocking tasks remove what was dropped; this waits for them, with a bound.
async fn becomes_empty(dir: std::path::PathBuf) {
    let emptied = async {
        while names(&dir) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), emptied).await.expect("it becomes empty");
}

#[tokio::test]
async fn what_is_committed_is_read_again_in_every_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let mut ids = Vec::new();
    for (len, chunk) in [(0, 1), (5, 2), (10_240, 10_240), (262_144, 65_536), (262_145, 1000), (20 << 20, 262_144)] {
        let bytes = contents(len);
        let meta = put(&store, &bytes, chunk).await;
        assert_eq!((meta.size_bytes, meta.sha256), (len as u64, sha256(&bytes)));
        assert_eq!(store.meta(meta.id).await.expect("meta"), meta);
        assert!(all_of(&store, meta.id).await == bytes, "{len}");
        assert_eq!(store.inspect(meta.id).await.expect("inspected"), SpoolItem::Sound(meta.clone()));
        let path = dir.path().join(format!("spool/20260425/{}", meta.id));
        assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o400);
        ids.push(meta.id);
    }
    ids.sort_unstable();
    assert_eq!(store.ids().await.expect("ids"), ids);
    assert_eq!(names(dir.path().join("tmp")), 0);
    let mode = fs::metadata(dir.path().join("spool")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn what_is_dropped_or_aborted_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    for len in [100, 600_000, 3 << 20] {
        let mut upload = store.begin(new_file("x")).await.expect("begun");
        send(&mut *upload, &contents(len), 100_000).await;
        drop(upload);
        let mut upload = store.begin(new_file("x")).await.expect("begun");
        send(&mut *upload, &contents(len), 100_000).await;
        upload.abort().await.expect("aborted");
    }
    becomes_empty(dir.path().join("tmp")).await;
    assert_eq!(store.ids().await.expect("ids"), []);
}

#[tokio::test]
async fn a_small_upload_costs_no_disk_work_before_its_commit() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let mut upload = store.begin(new_file("x")).await.expect("begun");
    send(&mut *upload, &contents(200_000), 50_000).await;
    assert_eq!(names(dir.path().join("tmp")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commit_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let tasks: Vec<_> = (0..100)
        .map(|at| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &contents(at * 97), 1000).await })
        })
        .collect();
    for task in tasks {
        let meta = task.await.expect("committed");
        assert_eq!(store.inspect(meta.id).await.expect("inspected"), SpoolItem::Sound(meta));
    }
    assert_eq!(store.ids().await.expect("ids").len(), 100);
}

#[tokio::test]
async fn a_partial_is_resumed_by_one_and_only_as_far_as_it_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = contents(2_000_000);
    for kept in [1000, 1_500_000] {
        let store = store(dir.path());
        let mut upload = store.begin(new_file("in/big.hl7")).await.expect("begun");
        send(&mut *upload, &bytes[..kept], 70_000).await;
        assert_eq!(upload.keep_partial().await.expect("kept"), kept as u64);
        let info = store.partial("clinic", "in/big.hl7").await.expect("asked").expect("there");
        assert_eq!(info.size_bytes, kept as u64);
        assert_eq!(store.partial_bytes("clinic").await.expect("asked"), kept as u64);
        assert_eq!(store.partial("clinic", "other").await.expect("asked"), None);

        let beyond = store.resume(new_file("in/big.hl7"), kept as u64 + 1).await.err().expect("refused");
        assert!(matches!(beyond, StorageError::CannotResume { have, .. } if have == kept as u64), "{beyond}");
        let mut upload = store.resume(new_file("in/big.hl7"), 500).await.expect("resumed");
        let second = store.resume(new_file("in/big.hl7"), 500).await.err().expect("refused");
        assert!(matches!(second, StorageError::Busy), "{second}");
        send(&mut *upload, &bytes[500..900_000], 70_000).await;
        assert_eq!(upload.keep_partial().await.expect("kept"), 900_000);
        let mut upload = store.resume(new_file("in/big.hl7"), 900_000).await.expect("resumed");
        send(&mut *upload, &bytes[900_000..], 70_000).await;
        let meta = upload.commit(now()).await.expect("committed");
        assert_eq!(meta.sha256, sha256(&bytes));
        assert!(all_of(&store, meta.id).await == bytes);
        assert_eq!(store.partial("clinic", "in/big.hl7").await.expect("asked"), None);
    }
}

#[tokio::test]
async fn partials_are_swept_by_age() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let mut upload = store.begin(new_file("old")).await.expect("begun");
    send(&mut *upload, b"bytes", 5).await;
    upload.keep_partial().await.expect("kept");
    let written_at = store.partial("clinic", "old").await.expect("asked").expect("there").written_at;
    assert_eq!(store.sweep_partials(written_at).await.expect("swept"), 0);
    let later = written_at + chrono::TimeDelta::seconds(1);
    let writing = store.resume(new_file("old"), 5).await.expect("resumed");
    assert_eq!(store.sweep_partials(later).await.expect("swept"), 0);
    writing.keep_partial().await.expect("kept");
    let later = later + chrono::TimeDelta::hours(1);
    assert_eq!(store.sweep_partials(later).await.expect("swept"), 1);
    assert_eq!(store.partial("clinic", "old").await.expect("asked"), None);
}

#[tokio::test]
async fn a_commit_that_is_taken_back_is_gone_or_a_partial() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let bytes = contents(5000);
    let dropped = put(&store, &bytes, 5000).await;
    store.retract(dropped.id, Retract::Drop).await.expect("retracted");
    assert_eq!(store.partial("clinic", "a/b.hl7").await.expect("asked"), None);
    let cut = put(&store, &bytes, 5000).await;
    store.retract(cut.id, Retract::ToPartial).await.expect("retracted");
    assert_eq!(store.ids().await.expect("ids"), []);
    let info = store.partial("clinic", "a/b.hl7").await.expect("asked").expect("kept");
    assert_eq!(info.size_bytes, 5000);
    let mut upload = store.resume(new_file("a/b.hl7"), 5000).await.expect("resumed");
    send(&mut *upload, b"more", 4).await;
    let meta = upload.commit(now()).await.expect("committed");
    assert_eq!(meta.sha256, sha256(&[&bytes[..], b"more"].concat()));
}

#[tokio::test]
async fn damage_is_found_by_every_reader_and_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let meta = put(&store, &contents(300_000), 100_000).await;
    let path = dir.path().join(format!("spool/20260425/{}", meta.id));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    let mut bytes = fs::read(&path).expect("read");
    bytes[200_000] ^= 1;
    fs::write(&path, bytes).expect("written");
    let dest = dir.path().join("dest");
    let refusal = store.materialize(meta.id, &dest, Durability::Unsynced).expect_err("found");
    assert!(matches!(refusal, StorageError::Damaged { .. }), "{refusal}");
    assert!(!dest.exists());
    let SpoolItem::Damaged { what, .. } = store.inspect(meta.id).await.expect("inspected") else { panic!("sound") };
    assert!(what.contains("sha-256"), "{what}");
    store.set_aside(meta.id, &what).await.expect("set aside");
    assert!(matches!(store.meta(meta.id).await, Err(StorageError::NotFound(_))));
    assert_eq!(fs::metadata(dir.path().join(format!("aside/{}", meta.id))).expect("there").len(), 300_000);
    let reason = fs::read_to_string(dir.path().join(format!("aside/{}.reason", meta.id))).expect("there");
    assert_eq!(reason.trim_end(), what);
}

/// One bad sector must not look like a backend that is down.
#[tokio::test]
async fn a_file_that_the_disk_cannot_read_is_damaged() {
    let root = Path::new("/data");
    let disk = crate::disk::sim::SimDisk::new(1).with_dir(root);
    let options = Options { reserve_bytes: 0, reserve_inodes: 0, inline_bytes: 0 };
    let store = LocalStorage::open(disk.shared(), root, options).expect("opens");
    for len in [100, 300_000] {
        let meta = put(&store, &contents(len), 100_000).await;
        disk.fail_reads(&spooled(root, meta.id)).expect("there");
        let placed = store.materialize(meta.id, &root.join("copy"), Durability::Unsynced);
        assert!(matches!(&placed, Err(StorageError::Damaged { id, what }) if *id == meta.id && what.contains("read")));
        assert!(crate::disk::Disk::open(&disk, &root.join("copy"), false).is_err(), "nothing is left of the copy");
        assert!(matches!(store.inspect(meta.id).await, Ok(SpoolItem::Damaged { .. })));
    }
}

#[tokio::test]
async fn a_check_beside_uploads_syncs_nothing() {
    use crate::disk::sim::SyncClass;
    let root = Path::new("/data");
    let disk = crate::disk::sim::SimDisk::new(1).with_dir(root);
    let options = Options { reserve_bytes: 0, reserve_inodes: 0, inline_bytes: 0 };
    let store = LocalStorage::open(disk.shared(), root, options).expect("opens");
    let meta = put(&store, &contents(300_000), 100_000).await;
    let syncs = || disk.syncs(SyncClass::File);
    let before = syncs();
    assert_eq!(store.examine(meta.id).await.expect("examined"), SpoolItem::Sound(meta.clone()));
    assert_eq!(syncs(), before);
    assert_eq!(store.inspect(meta.id).await.expect("inspected"), SpoolItem::Sound(meta.clone()));
    assert_eq!(syncs(), before + 1, "what recovery calls sound is durable");
    disk.fail_reads(&spooled(root, meta.id)).expect("there");
    assert!(matches!(store.examine(meta.id).await, Ok(SpoolItem::Damaged { .. })));
}

#[tokio::test]
async fn removed_files_are_gone_and_their_day_with_the_last() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let (a, b) = (put(&store, b"a", 1).await.id, put(&store, b"b", 1).await.id);
    store.remove(&[a]).await.expect("removed");
    assert_eq!(store.ids().await.expect("ids"), [b]);
    store.remove(&[a, b]).await.expect("removed");
    assert_eq!(names(dir.path().join("spool")), 0);
    store.remove(&[a, b]).await.expect("nothing to remove is no error");
    let c = put(&store, b"c", 1).await.id;
    assert_eq!(store.ids().await.expect("ids"), [c]);
}

#[tokio::test]
async fn accepted_bytes_are_materialized_and_never_over_something() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let bytes = contents(400_000);
    let meta = put(&store, &bytes, 100_000).await;
    for durability in [Durability::Synced, Durability::Unsynced] {
        let copy = dir.path().join(format!("{durability:?}"));
        let verified = store.materialize(meta.id, &copy, durability).expect("copied");
        assert_eq!(verified, Verified { size_bytes: 400_000, sha256: meta.sha256 });
        assert!(fs::read(&copy).expect("read") == bytes);
        assert_eq!(fs::metadata(&copy).expect("there").nlink(), 1, "nobody is handed what is kept");
        assert!(store.materialize(meta.id, &copy, durability).is_err(), "taken");
        assert!(fs::read(&copy).expect("read") == bytes, "what was there is left alone");
    }
    assert_eq!(fs::metadata(spooled(dir.path(), meta.id)).expect("there").nlink(), 1);
    let absent = store.materialize(FileId::new(now()), &dir.path().join("x"), Durability::Unsynced);
    assert!(matches!(absent, Err(StorageError::NotFound(_))), "{absent:?}");
}

#[tokio::test]
async fn few_bytes_need_no_place_of_their_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    for (len, is_inline) in [(0, true), (10_000, true), (65_536, true), (65_537, false), (300_000, false)] {
        let mut upload = store.begin(new_file("a.hl7")).await.expect("begun");
        send(&mut *upload, &contents(len), 5_000).await;
        let sealed = upload.seal().await.expect("sealed");
        match sealed.into_inline(now()) {
            Ok((meta, bytes)) => {
                assert!(is_inline && bytes == contents(len), "{len}");
                assert_eq!((meta.size_bytes, meta.sha256), (len as u64, sha256(&contents(len))));
            }
            Err(sealed) => {
                assert!(!is_inline, "{len}");
                let meta = sealed.commit(now()).expect("committed");
                assert_eq!(meta.sha256, sha256(&contents(len)));
            }
        }
    }
    assert_eq!((store.ids().await.expect("ids").len(), names(dir.path().join("tmp"))), (2, 0));
    // What a partial began has a place already.
    let mut upload = store.begin(new_file("b.hl7")).await.expect("begun");
    send(&mut *upload, b"MSH", 3).await;
    upload.keep_partial().await.expect("kept");
    let mut upload = store.resume(new_file("b.hl7"), 3).await.expect("resumed");
    send(&mut *upload, b"|", 1).await;
    assert!(upload.seal().await.expect("sealed").into_inline(now()).is_err());
}

#[tokio::test]
async fn uploads_leave_the_reserve_alone_and_metadata_has_a_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let full =
        LocalStorage::open(OsDisk::shared(), dir.path(), Options { reserve_bytes: u64::MAX, ..Options::default() })
            .expect("opens");
    assert!(matches!(full.begin(new_file("x")).await, Err(StorageError::Full)));
    assert!(full.space().expect("asked").is_short());
    let store = store(dir.path());
    let refusal = store.begin(new_file(&"x".repeat(4000))).await.err().expect("too long");
    assert!(refusal.to_string().contains("its name is too long"), "{refusal}");
    let long = NewFile { name: "y".repeat(3500), ..new_file("") };
    let meta = store.begin(long).await.expect("begun").commit(now()).await.expect("committed");
    assert_eq!(meta.name.len(), 3500);
    let escape = store.partial("../etc", "x").await.expect_err("no partner is called so");
    assert!(matches!(escape, StorageError::Unsupported(_)), "{escape}");
}

#[tokio::test]
async fn only_what_was_coming_in_is_swept_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let meta = put(&store(dir.path()), b"kept", 4).await;
    let mut upload = store(dir.path()).begin(new_file("p")).await.expect("begun");
    send(&mut *upload, b"part", 4).await;
    upload.keep_partial().await.expect("kept");
    fs::write(dir.path().join("tmp/left"), b"over").expect("written");
    fs::write(dir.path().join("spool/20260425/stray"), b"not ours").expect("written");
    let store = store(dir.path());
    assert_eq!(names(dir.path().join("tmp")), 0);
    assert_eq!(store.ids().await.expect("ids"), [meta.id]);
    assert!(store.partial("clinic", "p").await.expect("asked").is_some());
    assert!(dir.path().join("spool/20260425/stray").exists());
}

/// A door may give up a write that has to wait, and write again: no byte and no part of the digest is lost.
#[test]
fn a_write_that_was_given_up_loses_nothing() {
    // One thread hashes and then writes, so that there is a moment between the two.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let bytes = contents(5 << 20);
    runtime.block_on(async {
        for _ in 0..5 {
            let mut upload = store.begin(new_file("a.hl7")).await.expect("begun");
            for piece in bytes.chunks(1 << 20) {
                let mut piece = Some(Bytes::copy_from_slice(piece));
                loop {
                    // What was given once is taken, also when the wait was given up.
                    let mut writing = upload.write(piece.take().unwrap_or_default());
                    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(writing.as_mut().poll(cx))).await;
                    drop(writing);
                    if let std::task::Poll::Ready(written) = polled {
                        written.expect("written");
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            let meta = upload.commit(now()).await.expect("committed");
            assert_eq!((meta.size_bytes, meta.sha256), (bytes.len() as u64, sha256(&bytes)));
        }
    });
}

#[tokio::test]
async fn what_is_synced_is_a_partial_that_stays_the_uploads_until_it_is_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let bytes = contents(3 << 20);
    let mut upload = store.begin(new_file("x")).await.expect("begun");
    assert_eq!(upload.sync().await.expect("nothing to sync"), 0);
    let mut other = store.begin(new_file("x")).await.expect("begun");
    send(&mut *other, b"other", 5).await;
    for to in [100, 300_000, 2 << 20] {
        let from = usize::try_from(upload.len()).expect("small");
        send(&mut *upload, &bytes[from..to], 65_536).await;
        assert_eq!(upload.sync().await.expect("synced"), to as u64);
        let partial = store.partial("clinic", "x").await.expect("asked").expect("there");
        assert_eq!(partial.size_bytes, to as u64);
        assert!(matches!(other.sync().await, Err(StorageError::Busy)));
        assert!(matches!(store.resume(new_file("x"), 1).await, Err(StorageError::Busy)));
    }
    send(&mut *upload, &bytes[2 << 20..], 65_536).await;
    let meta = upload.commit(now()).await.expect("committed");
    assert_eq!(all_of(&store, meta.id).await, bytes);
    assert_eq!(store.partial("clinic", "x").await.expect("asked"), None);
    assert_eq!(other.sync().await.expect("the name is free"), 5);
    let meta = other.commit(now()).await.expect("committed");
    assert_eq!(all_of(&store, meta.id).await, b"other");
    assert_eq!(names(dir.path().join("partials/clinic")), 0);
}

#[tokio::test]
async fn what_was_synced_and_not_kept_goes_with_its_upload() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    for ends in 0..2 {
        let mut upload = store.begin(new_file("x")).await.expect("begun");
        send(&mut *upload, b"bytes", 5).await;
        upload.sync().await.expect("synced");
        match ends {
            0 => upload.abort().await.expect("aborted"),
            _ => drop(upload),
        }
        becomes_empty(dir.path().join("partials/clinic")).await;
    }
    let mut upload = store.begin(new_file("x")).await.expect("begun");
    send(&mut *upload, b"bytes", 5).await;
    // The name goes away a moment before the right to it.
    let synced = async {
        while let Err(error) = upload.sync().await {
            assert!(matches!(error, StorageError::Busy), "{error}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), synced).await.expect("it is free again");
    send(&mut *upload, b"more", 4).await;
    assert_eq!(upload.keep_partial().await.expect("kept"), 9);
    let mut upload = store.resume(new_file("x"), 9).await.expect("resumed");
    assert_eq!(upload.sync().await.expect("synced"), 9);
    let meta = upload.commit(now()).await.expect("committed");
    assert_eq!(all_of(&store, meta.id).await, b"bytesmore");
}

/// Whoever opens many files and leaves them open must not be able to take all memory.
#[tokio::test]
async fn many_uploads_hold_little_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let held = || store.root.in_memory.load(std::sync::atomic::Ordering::SeqCst);
    let mut uploads = Vec::new();
    let piece = Bytes::from(contents(200 << 10));
    for number in 0..400 {
        let mut upload = store.begin(new_file(&number.to_string())).await.expect("begun");
        for _ in 0..6 {
            upload.write(piece.clone()).await.expect("written");
        }
        uploads.push(upload);
    }
    assert!(held() > 64 << 20, "this tests nothing: {}", held());
    assert!(held() < 200 << 20, "{} bytes are in memory", held());
    for (number, upload) in uploads.into_iter().enumerate() {
        match number % 4 {
            0 => drop(upload),
            1 => upload.abort().await.expect("aborted"),
            2 => drop(upload.keep_partial().await.expect("kept")),
            _ => assert_eq!(upload.commit(now()).await.expect("committed").size_bytes, 1200 << 10),
        }
    }
    let emptied = async {
        while held() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), emptied).await.expect("all of it is given back");
}

fn spooled(dir: &Path, id: FileId) -> std::path::PathBuf {
    dir.join(format!("spool/20260425/{id}"))
}

/// The intake log as the version before wrote it.
mod old_intake {
    use super::*;
    use crate::log::{Log, LogOptions};

    fn record(kind: u8, about: [u8; 16]) -> Vec<u8> {
        [&[kind][..], &about].concat()
    }

    fn file(meta: &FileMeta, bytes: &[u8]) -> Vec<u8> {
        let (mask, json) = ([0x5a; 32], serde_json::to_vec(meta).expect("json"));
        let mut record = record(1, *meta.id.as_bytes());
        record.extend_from_slice(&mask);
        record.extend_from_slice(&u32::try_from(json.len()).expect("short").to_le_bytes());
        record.extend(json.iter().chain(bytes).map(|byte| byte ^ 0x5a));
        record
    }

    fn log(dir: &Path) -> Log {
        Log::open(OsDisk::shared(), &dir.join("intake"), LogOptions::default(), 0, &mut |_, _| {}).expect("opens").0
    }

    /// A store with files as a power cut may leave them that were never synced, and the log that has them. Gives what is
    /// to be there.
    async fn broken_spool(dir: &Path) -> Vec<FileMeta> {
        let first = store(dir);
        let mut kept = Vec::new();
        for len in [0, 1, 100, 10_240, 65_536] {
            kept.push(put(&first, &contents(len), 5_000).await);
        }
        let removed = put(&first, b"c", 1).await;
        let settled = put(&first, b"settled and gone since", 22).await;
        drop(first);
        let mut log = log(dir);
        let mut records = vec![
            file(&settled, b"settled and gone since"),
            record(3, [&2u64.to_le_bytes()[..], &[0; 8]].concat().try_into().expect("16")),
        ];
        records.push(file(&removed, b"c"));
        for (meta, len) in kept.iter().zip([0, 1, 100, 10_240, 65_536]) {
            records.push(file(meta, &contents(len)));
        }
        records.push(record(2, *removed.id.as_bytes()));
        log.append(&records).expect("appended");
        for id in [settled.id, kept[1].id, kept[4].id] {
            fs::remove_file(spooled(dir, id)).expect("removed");
        }
        for (meta, bytes) in [(&kept[2], &[0; 100][..]), (&kept[3], b"")] {
            fs::set_permissions(spooled(dir, meta.id), fs::Permissions::from_mode(0o600)).expect("set");
            fs::write(spooled(dir, meta.id), bytes).expect("written");
        }
        fs::write(spooled(dir, kept[4].id), contents(65_536)).expect("written");
        kept
    }

    #[tokio::test]
    async fn what_it_keeps_is_put_right_and_it_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = broken_spool(dir.path()).await;
        let second = store(dir.path());
        for meta in &kept {
            assert_eq!(second.inspect(meta.id).await.expect("inspected"), SpoolItem::Sound(meta.clone()));
            let mode = fs::metadata(spooled(dir.path(), meta.id)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o400);
        }
        let mut there: Vec<_> = kept.iter().map(|meta| meta.id).collect();
        there.sort_unstable();
        assert_eq!(second.ids().await.expect("ids"), there, "neither what was removed nor what was settled comes back");
        assert!(!dir.path().join("intake").exists());
    }

    #[test]
    fn what_a_crash_left_of_a_log_without_segments_goes_too() {
        let dir = tempfile::tempdir().expect("a directory");
        for left in [None, Some("spare-0")] {
            let intake = dir.path().join("intake");
            fs::create_dir(&intake).expect("made");
            if let Some(name) = left {
                fs::write(intake.join(name), [0; 100]).expect("written");
            }
            drop(store(dir.path()));
            assert!(!intake.exists(), "{left:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_was_closed_takes_nothing_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = store(dir.path());
    let meta = put(&first, b"bytes", 5).await;
    let mut late = Vec::new();
    for len in [10, 100_000] {
        let mut upload = first.begin(new_file("late")).await.expect("begun");
        send(&mut *upload, &contents(len), 5_000).await;
        late.push(upload);
    }
    first.close().await.expect("closed");
    for upload in late {
        assert!(matches!(upload.commit(now()).await, Err(StorageError::Poisoned(_))));
    }
    assert!(matches!(first.begin(new_file("later")).await, Err(StorageError::Poisoned(_))));
    assert!(matches!(first.remove(&[meta.id]).await, Err(StorageError::Poisoned(_))));
    assert_eq!(first.ids().await.expect("ids"), [meta.id]);
}
