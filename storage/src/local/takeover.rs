//! The intake log of the version before. Small files had their names in the spool unsynced, and their bytes in this log,
//! until the whole file system was synced. What it holds is compared with the spool, written again where that differs,
//! synced file by file, and then the log goes.
//!
//! # After a crash
//! Nothing of the log goes before all that it holds is durable in the spool, and its oldest segment goes first: the next
//! start does the rest.

use std::collections::BTreeSet;

use sha2::Digest;

use super::root::{Root, make_dir};
use crate::{
    FileId, FileMeta, Result, Sha256, StorageError,
    log::{self, Log, LogOptions, Seq},
};

/// Records that are read at once.
const PAGE: usize = 64;

/// What a record of the log says.
enum LogRecord {
    /// This file is in the spool.
    File(Box<FileMeta>, Vec<u8>),
    /// This one no longer is.
    Gone(FileId),
    /// Everything before this sequence is durable by itself.
    Settled(Seq),
}

/// Puts the spool right after the log, and removes that.
pub(super) fn take_over(root: &Root) -> Result<()> {
    let dir = root.path.join("intake");
    if !log::has_segments(&*root.disk, &dir)? {
        // A crash may have come after its last segment went, and before the rest did.
        return remove(root);
    }
    tracing::info!(path = %dir.display(), "the intake log of the version before is taken over");
    // Nothing is appended to it: what would be prepared for that is to be short.
    let options = LogOptions { segment_bytes: 16 << 10, ..LogOptions::default() };
    let (log, recovery) = Log::open(root.disk.clone(), &dir, options, 0, &mut |_, _| {})?;
    if !recovery.lost.is_empty() || !recovery.set_aside.is_empty() {
        tracing::error!(lost = ?recovery.lost, set_aside = ?recovery.set_aside,
            "the intake log is damaged: files that came shortly before the crash may be missing or cut, which shows when \
             they are read");
    }
    let mut days = BTreeSet::new();
    let from = settled(&log, recovery.first, recovery.next)?;
    each(&log, from, recovery.next, |said| match said {
        LogRecord::File(meta, bytes) => {
            days.insert(root.day_dir(meta.id));
            root.take_over_file(&meta, &bytes).map_err(too_full_to_start)
        }
        LogRecord::Gone(id) => {
            days.insert(root.day_dir(id));
            let removed = root.disk.unlink_if_there(&root.spool_path(id));
            removed.map_err(|e| StorageError::io(format!("cannot remove spool file {id}"), e))
        }
        LogRecord::Settled(_) => Ok(()),
    })?;
    days.iter().try_for_each(|day| root.settle_removals(day))?;
    root.settle(&root.spool)?;
    drop(log);
    remove(root)
}

/// Removes the log, its oldest segment first. What was set aside stays.
fn remove(root: &Root) -> Result<()> {
    let dir = root.path.join("intake");
    let removing = |e| StorageError::io(format!("cannot remove {}", dir.display()), e);
    let mut names = match root.disk.list(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(removing)?,
    };
    names.sort();
    for name in names.iter().filter(|name| *name != std::path::Path::new("aside")) {
        root.disk.unlink(&dir.join(name)).map_err(removing)?;
        root.disk.sync_dir(&dir).map_err(removing)?;
    }
    // With something set aside it is not empty.
    let _ = root.disk.remove_dir(&dir);
    Ok(())
}

fn settled(log: &Log, first: Seq, next: Seq) -> Result<Seq> {
    let mut from = first;
    each(log, first, next, |said| {
        if let LogRecord::Settled(before) = said {
            from = from.max(before);
        }
        Ok(())
    })?;
    Ok(from)
}

fn each(log: &Log, from: Seq, end: Seq, mut visit: impl FnMut(LogRecord) -> Result<()>) -> Result<()> {
    let mut next = from;
    while next < end {
        let records = log.read(next, PAGE)?;
        let Some((last, _)) = records.last() else { break };
        next = last + 1;
        for (seq, record) in records {
            match parse(&record) {
                Some(said) => visit(said)?,
                None => tracing::error!(seq, "a record of the intake log cannot be read and is left out"),
            }
        }
    }
    Ok(())
}

/// | bytes | what |
/// |---|---|
/// | 0 | kind: 1 file, 2 gone, 3 settled |
/// | 1..17 | file, gone: the id; settled: the first sequence that is not durable by itself, then zeros |
/// | 17..49 | file: the mask |
/// | 49..53 | file: length of the metadata |
///
/// Numbers are little-endian. Metadata and bytes of a file follow, both under the mask (exclusive or).
fn parse(record: &[u8]) -> Option<LogRecord> {
    let (kind, rest) = record.split_first()?;
    let (about, rest) = rest.split_first_chunk::<16>()?;
    match *kind {
        1 => {
            let (mask, rest) = rest.split_first_chunk::<32>()?;
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let mut meta = rest.to_vec();
            meta.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            let len = u32::from_le_bytes(*len) as usize;
            let bytes = (len <= meta.len()).then(|| meta.split_off(len))?;
            Some(LogRecord::File(serde_json::from_slice(&meta).ok()?, bytes))
        }
        2 => Some(LogRecord::Gone(FileId::from_bytes(*about))),
        3 => Some(LogRecord::Settled(Seq::from_le_bytes(*about.first_chunk::<8>()?))),
        _ => None,
    }
}

impl Root {
    fn take_over_file(&self, meta: &FileMeta, bytes: &[u8]) -> Result<()> {
        let id = meta.id;
        if !self.has_whole(meta) {
            if Sha256(sha2::Sha256::digest(bytes).into()) != meta.sha256 {
                tracing::error!(file.id = %id, "the intake log has other bytes than were accepted; the spool is left as it is");
                return Ok(());
            }
            self.restore(meta, bytes)?;
        }
        let file = self.open_spooled(id)?;
        file.sync_all().map_err(|error| self.stop(format!("cannot sync spool file {id}: {error}")))
    }

    /// Whether the disk has this file as it was accepted. Its mode is put right.
    fn has_whole(&self, meta: &FileMeta) -> bool {
        self.described(meta.id).is_ok_and(|(file, there)| {
            file.drop_cached();
            there == *meta && self.check(&*file, meta).is_ok() && file.make_read_only().is_ok()
        })
    }

    /// Writes a file of the log into the spool, over what a crash may have left there.
    fn restore(&self, meta: &FileMeta, bytes: &[u8]) -> Result<()> {
        let id = meta.id;
        let restoring = |e| StorageError::io(format!("cannot restore file {id} from the intake log"), e);
        let aside = self.tmp.join(id.to_string());
        let file = self.disk.create_new(&aside).map_err(restoring)?;
        file.write_at(bytes, 0).map_err(restoring)?;
        self.describe(&*file, meta)?;
        file.make_read_only().map_err(restoring)?;
        make_dir(&*self.disk, &self.day_dir(id))?;
        self.disk.rename_over(&aside, &self.spool_path(id)).map_err(restoring)
    }
}

/// Without these files the start would call them missing.
fn too_full_to_start(error: StorageError) -> StorageError {
    match error {
        StorageError::Full => StorageError::Unsupported(
            "there is no room to write back the files that the intake log keeps; make some, also from the reserve, and start \
             again: nothing is lost"
                .to_owned(),
        ),
        other => other,
    }
}
