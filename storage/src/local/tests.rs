//! The local store on a real directory.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::Digest;
use tokio::io::AsyncReadExt;

use super::{LocalStorage, Options};
use crate::{
    FileId, FileMeta, NewFile, Placement, Retract, Sha256, SpoolItem, Storage, StorageError, Upload, disk::OsDisk,
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

async fn all_of(store: &LocalStorage, id: FileId) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.reader(id).await.expect("opened").read_to_end(&mut bytes).await?;
    Ok(bytes)
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
        assert!(all_of(&store, meta.id).await.expect("read") == bytes, "{len}");
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
        assert!(all_of(&store, meta.id).await.expect("read") == bytes);
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
    assert_eq!(all_of(&store, meta.id).await.expect_err("found").kind(), std::io::ErrorKind::InvalidData);
    let dest = dir.path().join("dest");
    let refusal = store.place(meta.id, &dest, Placement::Copy).await.expect_err("found");
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
    let options = Options { reserve_bytes: 0, intake_bytes: 256 << 10 };
    let store = LocalStorage::open(disk.shared(), root, options).expect("opens");
    for len in [100, 300_000] {
        let meta = put(&store, &contents(len), 100_000).await;
        disk.fail_reads(&spooled(root, meta.id)).expect("there");
        let placed = store.place(meta.id, &root.join("copy"), Placement::Copy).await;
        assert!(matches!(&placed, Err(StorageError::Damaged { id, what }) if *id == meta.id && what.contains("read")));
        assert!(crate::disk::Disk::open(&disk, &root.join("copy"), false).is_err(), "nothing is left of the copy");
        assert!(matches!(store.inspect(meta.id).await, Ok(SpoolItem::Damaged { .. })));
    }
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
async fn accepted_bytes_are_placed_as_a_copy_or_a_link_and_never_over_something() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let bytes = contents(400_000);
    let meta = put(&store, &bytes, 100_000).await;
    let (copy, link) = (dir.path().join("copy"), dir.path().join("link"));
    store.place(meta.id, &copy, Placement::Copy).await.expect("copied");
    store.place(meta.id, &link, Placement::Link).await.expect("linked");
    assert!(fs::read(&copy).expect("read") == bytes && fs::read(&link).expect("read") == bytes);
    let inode = |path: &Path| fs::metadata(path).expect("there").ino();
    let spooled = dir.path().join(format!("spool/20260425/{}", meta.id));
    assert!(inode(&copy) != inode(&spooled) && inode(&link) == inode(&spooled));
    for how in [Placement::Copy, Placement::Link] {
        assert!(store.place(meta.id, &copy, how).await.is_err(), "taken");
    }
    assert!(fs::read(&copy).expect("read") == bytes, "what was there is left alone");
    let absent = store.place(FileId::new(now()), &dir.path().join("x"), Placement::Link).await.expect_err("absent");
    assert!(matches!(absent, StorageError::NotFound(_)), "{absent}");
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
    assert_eq!(all_of(&store, meta.id).await.expect("read"), bytes);
    assert_eq!(store.partial("clinic", "x").await.expect("asked"), None);
    assert_eq!(other.sync().await.expect("the name is free"), 5);
    let meta = other.commit(now()).await.expect("committed");
    assert_eq!(all_of(&store, meta.id).await.expect("read"), b"other");
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
    assert_eq!(all_of(&store, meta.id).await.expect("read"), b"bytesmore");
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

#[tokio::test]
async fn what_the_intake_log_keeps_is_put_right_at_the_start_and_what_left_stays_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = store(dir.path());
    let mut kept = Vec::new();
    for len in [0, 1, 100, 10_240, 65_536] {
        kept.push(put(&first, &contents(len), 5_000).await);
    }
    let long = put(&first, &contents(65_537), 5_000).await;
    let [dropped, to_partial, removed] =
        [put(&first, b"a", 1).await, put(&first, b"b", 1).await, put(&first, b"c", 1).await];
    first.retract(dropped.id, Retract::Drop).await.expect("dropped");
    first.retract(to_partial.id, Retract::ToPartial).await.expect("taken back");
    first.remove(&[removed.id]).await.expect("removed");
    drop(first);
    // What a power cut may leave of files that were never synced: nothing, other bytes, no metadata, another mode.
    fs::remove_file(spooled(dir.path(), kept[1].id)).expect("removed");
    for (meta, bytes) in [(&kept[2], &[0; 100][..]), (&kept[3], b"")] {
        fs::set_permissions(spooled(dir.path(), meta.id), fs::Permissions::from_mode(0o600)).expect("set");
        fs::write(spooled(dir.path(), meta.id), bytes).expect("written");
    }
    fs::remove_file(spooled(dir.path(), kept[4].id)).expect("removed");
    fs::write(spooled(dir.path(), kept[4].id), contents(65_536)).expect("written");

    let second = store(dir.path());
    for meta in &kept {
        assert_eq!(second.inspect(meta.id).await.expect("inspected"), SpoolItem::Sound(meta.clone()));
        let mode = fs::metadata(spooled(dir.path(), meta.id)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
    }
    let mut there: Vec<_> = kept.iter().map(|meta| meta.id).chain([long.id]).collect();
    there.sort_unstable();
    assert_eq!(second.ids().await.expect("ids"), there);
    drop(second);
    // All that is durable by itself now, and no affair of the log any more.
    fs::remove_file(spooled(dir.path(), kept[1].id)).expect("removed");
    assert!(!store(dir.path()).ids().await.expect("ids").contains(&kept[1].id));
}

#[tokio::test]
async fn a_store_that_was_closed_relies_on_no_log_and_takes_nothing_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = store(dir.path());
    let meta = put(&first, b"bytes", 5).await;
    let mut late = Vec::new();
    for len in [10, 100_000] {
        let mut upload = first.begin(new_file("late")).await.expect("begun");
        send(&mut *upload, &contents(len), 5_000).await;
        late.push(upload);
    }
    assert!(first.root.intake.carries(meta.id));
    first.close().await.expect("closed");
    assert!(!first.root.intake.carries(meta.id));
    for upload in late {
        assert!(matches!(upload.commit(now()).await, Err(StorageError::Poisoned(_))));
    }
    assert!(matches!(first.begin(new_file("later")).await, Err(StorageError::Poisoned(_))));
    assert!(matches!(first.remove(&[meta.id]).await, Err(StorageError::Poisoned(_))));
    assert_eq!(first.ids().await.expect("ids"), [meta.id]);
    // Nothing is put right at the start.
    fs::remove_file(spooled(dir.path(), meta.id)).expect("removed");
    assert_eq!(store(dir.path()).ids().await.expect("ids"), []);
}

/// Also one that was settled: its record may still be read when the one that says so is damaged.
#[tokio::test]
async fn what_was_removed_stays_away_when_the_log_is_damaged_behind_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = store(dir.path());
    let [gone, kept] = [put(&first, b"gone", 4).await.id, put(&first, b"kept", 4).await.id];
    first.remove(&[gone]).await.expect("removed");
    drop(first);
    let second = store(dir.path());
    assert_eq!(second.ids().await.expect("ids"), [kept]);
    second.remove(&[kept]).await.expect("removed");
    second.close().await.expect("closed");
    drop(second);
    let intake = dir.path().join("intake");
    let mut segments: Vec<_> = fs::read_dir(&intake).expect("listed").map(|one| one.expect("listed").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let begins_anew = segments[0].file_stem().is_some_and(|stem| stem != "00000000000000000001");
    assert!(segments.len() == 1 && begins_anew, "what was settled is given up, and its bytes with it: {segments:?}");
    // The one record that is left says what is settled.
    let mut bytes = fs::read(&segments[0]).expect("read");
    bytes[4096 + 30] ^= 1;
    fs::write(&segments[0], bytes).expect("written");
    assert_eq!(store(dir.path()).ids().await.expect("ids"), []);
}

/// When the disk was too slow, or full for a moment, it must not stay so for ever.
#[tokio::test]
async fn a_log_that_is_too_long_is_settled_without_another_file() {
    let disk = crate::disk::sim::SimDisk::new(1).with_dir(Path::new("/data"));
    let options = Options { reserve_bytes: 0, intake_bytes: 1 << 10 };
    let store = LocalStorage::open(disk.shared(), Path::new("/data"), options).expect("opens");
    for _ in 0..20 {
        put(&store, &contents(1_000), 1_000).await;
    }
    let settled = async {
        while !store.root.intake.takes(1_000) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), settled).await.expect("it takes files again");
}

/// A damaged log is searched for sound records: none must be found in the bytes of a partner.
#[tokio::test]
async fn what_a_partner_sends_does_not_stand_in_the_intake_log_as_it_was_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let sent = b"FORGED RECORD ".repeat(500);
    put(&store, &sent, 1_000).await;
    let mut looked_at = 0;
    for segment in fs::read_dir(dir.path().join("intake")).expect("listed") {
        let bytes = fs::read(segment.expect("listed").path()).expect("read");
        looked_at += bytes.len();
        assert!(!bytes.windows(8).any(|window| window == &sent[..8] || window == b"clinic\",\""));
    }
    assert!(looked_at > sent.len());
}

#[tokio::test]
async fn a_long_intake_log_is_settled_while_files_come_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { reserve_bytes: 1 << 20, intake_bytes: 128 << 10 };
    let store = LocalStorage::open(OsDisk::shared(), dir.path(), options).expect("opens");
    let mut ids = Vec::new();
    for _ in 0..400 {
        ids.push(put(&store, &contents(3_000), 3_000).await.id);
    }
    let segments = || fs::read_dir(dir.path().join("intake")).expect("listed").count();
    // 1.4 MB went through it in segments of 32 KiB.
    let settled = async {
        while segments() > 24 || store.root.intake.carries(ids[0]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), settled).await.expect("it is settled");
    drop(store);
    let store = LocalStorage::open(OsDisk::shared(), dir.path(), options).expect("opens");
    ids.sort_unstable();
    assert_eq!(store.ids().await.expect("ids"), ids);
}

#[tokio::test]
async fn a_full_disk_refuses_a_file_of_the_intake_log_and_keeps_nothing_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = crate::disk::sim::SimDisk::new(1).with_dir(dir.path());
    let options = Options { reserve_bytes: 0, intake_bytes: 32 << 10 };
    let store = LocalStorage::open(disk.shared(), dir.path(), options).expect("opens");
    // Room for the file itself and for no further segment of the log.
    disk.set_capacity(3 * (32 << 10) + 40_000);
    let mut kept = Vec::new();
    let full = loop {
        let mut upload = match store.begin(new_file("x")).await {
            Ok(upload) => upload,
            Err(error) => break error,
        };
        send(&mut *upload, &contents(1_000), 1_000).await;
        match upload.commit(now()).await {
            Ok(meta) => kept.push(meta.id),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StorageError::Full), "{full}");
    kept.sort_unstable();
    assert_eq!(store.ids().await.expect("ids"), kept);
    assert_eq!(store.poisoned(), None);
}
