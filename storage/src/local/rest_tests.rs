//! Files that are the rest of a longer whole, on a real directory.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::Digest;

use super::{LocalStorage, Options};
use crate::{
    DigestState, FileId, FileMeta, GoesOn, NewFile, Retract, Sha256, SpoolItem, SpoolMaintenance, Storage,
    StorageError, Upload, Verified, disk::OsDisk,
};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_777_075_200_123).expect("in range")
}

fn store(root: &Path) -> LocalStorage {
    let options = Options { reserve_bytes: 1 << 20, reserve_inodes: 0, inline_bytes: 1_000 };
    LocalStorage::open(OsDisk::shared(), root, options).expect("opens")
}

/// A file that goes on from one that has these bytes.
fn rest_of(before: &[u8]) -> NewFile {
    let digest = DigestState::of(&sha2::Sha256::new_with_prefix(before));
    NewFile {
        id: FileId::new(now()),
        partner: "clinic".to_owned(),
        name: "a/b.bin".to_owned(),
        door: "ftp".to_owned(),
        began_at: now(),
        origin: None,
        goes_on: Some(GoesOn { from: FileId::from_bytes([5; 16]), at: before.len() as u64, digest }),
    }
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 % 251) as u8).collect()
}

async fn send(upload: &mut dyn Upload, bytes: &[u8]) {
    for piece in bytes.chunks(70_000) {
        upload.write(Bytes::copy_from_slice(piece)).await.expect("written");
    }
}

/// What the metadata says of the own bytes and of the whole.
fn assert_is_rest(meta: &FileMeta, all: &[u8], at: usize) {
    assert_eq!((meta.version, meta.size_bytes, meta.sha256), (2, (all.len() - at) as u64, sha256(&all[at..])));
    assert_eq!(meta.whole(), (all.len() as u64, sha256(all)));
    let rest = meta.rest.as_ref().expect("a rest");
    assert_eq!((rest.of, rest.at), (FileId::from_bytes([5; 16]), at as u64));
    assert_eq!(rest.digest, DigestState::of(&sha2::Sha256::new_with_prefix(all)));
}

#[tokio::test]
async fn it_keeps_its_own_bytes_and_knows_the_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, all) = (store(dir.path()), contents(900_000));
    for (at, to) in [(100, 900_000), (500_000, 500_700), (777, 777)] {
        let mut upload = store.begin(rest_of(&all[..at])).await.expect("begun");
        send(&mut *upload, &all[at..to]).await;
        assert_eq!(upload.len(), (to - at) as u64);
        let sealed = upload.seal().await.expect("sealed");
        let meta = match sealed.into_inline(now()) {
            Ok((meta, bytes)) => {
                assert_eq!(bytes, all[at..to]);
                meta
            }
            Err(sealed) => {
                let meta = sealed.commit(now()).expect("committed");
                assert_eq!(store.inspect(meta.id).await.expect("read"), SpoolItem::Sound(meta.clone()));
                let mut read = Vec::new();
                let verified = store.read_whole(meta.id, &mut |piece| {
                    read.extend_from_slice(piece);
                    Ok(())
                });
                let own = Verified { size_bytes: (to - at) as u64, sha256: sha256(&all[at..to]) };
                assert_eq!((verified.expect("read"), read == all[at..to]), (own, true));
                meta
            }
        };
        assert_is_rest(&meta, &all[..to], at);
    }
}

#[tokio::test]
async fn its_partial_counts_from_the_beginning_of_the_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, all, at) = (store(dir.path()), contents(900_000), 1_000);
    let mut upload = store.begin(rest_of(&all[..at])).await.expect("begun");
    send(&mut *upload, &all[at..400_000]).await;
    assert_eq!(upload.keep_partial().await.expect("kept"), 399_000);
    let info = store.partial("clinic", "a/b.bin").await.expect("asked").expect("there");
    assert_eq!((info.size_bytes, info.goes_on), (400_000, Some((FileId::from_bytes([5; 16]), 1_000))));
    assert_eq!(store.partial_bytes("clinic").await.expect("asked"), 399_000);
    // It is none of an upload that goes on from elsewhere, or from nothing.
    let others = [rest_of(&all[..at + 1]), NewFile { goes_on: None, ..rest_of(&all) }];
    for other in others {
        let refused = store.resume(other, 10).await.err().expect("refused");
        assert!(matches!(refused, StorageError::CannotResume { have: 0, .. }), "{refused}");
    }
    let mut upload = store.resume(rest_of(&all[..at]), 300_000).await.expect("resumed");
    send(&mut *upload, &all[at + 300_000..500_000]).await;
    assert_eq!(upload.sync().await.expect("synced"), 499_000);
    send(&mut *upload, &all[500_000..]).await;
    let meta = upload.commit(now()).await.expect("committed");
    assert_is_rest(&meta, &all, at);
    // Taken back it is a partial that goes on so again.
    store.retract(meta.id, Retract::ToPartial).await.expect("retracted");
    let info = store.partial("clinic", "a/b.bin").await.expect("asked").expect("there");
    assert_eq!((info.size_bytes, info.goes_on.map(|(_, before)| before)), (900_000, Some(1_000)));
    let upload = store.resume(rest_of(&all[..at]), 0).await.expect("resumed");
    assert_is_rest(&upload.commit(now()).await.expect("committed"), &all[..at], at);
}

#[tokio::test]
async fn a_state_that_is_none_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let digest = DigestState::from_bytes([0xff; 104]);
    let goes_on = rest_of(b"abc").goes_on.map(|goes_on| GoesOn { digest, ..goes_on });
    let refused = store(dir.path()).begin(NewFile { goes_on, ..rest_of(b"abc") }).await.err().expect("refused");
    assert!(matches!(refused, StorageError::Damaged { .. }), "{refused}");
}
