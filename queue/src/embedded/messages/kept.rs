//! What became of the messages of files that are over, where that is long: a file for each, `messages/<id>`.
//!
//! It consists of pieces: a length in four bytes, the first message in eight, and runs as the log has them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay_storage::{
    FileId, StorageError,
    disk::{Disk, DiskFile, read_full},
};

use super::{
    super::index::Fault,
    of_storage,
    record::{decode_runs, encode_runs},
};
use crate::{MessageRun, QueueError, Result};

const HEADER: usize = 12;
/// A longer piece is none of ours.
const LONGEST: usize = 1 << 20;
const UNFINISHED: &str = "unfinished";
/// So much of what became of its messages goes with the record of a file's end.
const INLINE_BYTES: usize = 4 << 10;
/// Outcomes that are written together.
const CHUNK_RUNS: usize = 64;

/// Those files.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// One that is being written.
struct Writer {
    kept: Kept,
    file: Arc<dyn DiskFile>,
    unfinished: PathBuf,
    path: PathBuf,
    at: u64,
}

impl Kept {
    pub(super) fn new(disk: &Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk: Arc::clone(disk), dir: dir.to_path_buf() }
    }

    fn path(&self, id: FileId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn create(&self, id: FileId) -> Result<Writer> {
        let path = self.path(id);
        let unfinished = path.with_extension(UNFINISHED);
        self.disk.unlink_if_there(&unfinished).map_err(failing(&unfinished))?;
        let file = self.disk.create_new(&unfinished).map_err(failing(&unfinished))?;
        Ok(Writer { kept: self.clone(), file, unfinished, path, at: 0 })
    }

    /// Runs from this message on, at most so many.
    pub(super) fn read(&self, id: FileId, from: u64, limit: usize) -> Result<Vec<MessageRun>> {
        let path = self.path(id);
        let file = match self.disk.open(&path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failing(&path)(error)),
        };
        let damaged = || QueueError::Damaged { id, what: "what became of its messages cannot be read".to_owned() };
        let (mut runs, mut at, mut piece) = (Vec::new(), 0, None);
        while runs.len() < limit {
            let header = header(&*file, at).map_err(failing(&path))?;
            let next = header.map(|(length, first)| (at + HEADER as u64, length, first));
            // The piece before is of use if this one begins behind what is wanted.
            if let Some((start, length, _)) = piece.take()
                && next.is_none_or(|(.., first)| first > from)
            {
                let mut bytes = vec![0; length];
                if read_full(&*file, &mut bytes, start).map_err(failing(&path))? < length {
                    return Err(damaged());
                }
                runs.extend(decode_runs(&bytes).ok_or_else(damaged)?.into_iter().filter(|run| run.end() > from));
            }
            let Some((start, length, _)) = next else { break };
            if length > LONGEST {
                return Err(damaged());
            }
            at = start + length as u64;
            piece = next;
        }
        runs.truncate(limit);
        Ok(runs)
    }

    /// Removes those that are not known, and what was not finished. Blocks.
    pub(super) fn sweep(&self, is_known: &mut dyn FnMut(FileId) -> Result<bool, Fault>) -> Result<(), Fault> {
        for name in self.disk.list(&self.dir).map_err(failing(&self.dir))? {
            let Some(id) = name.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok()) else {
                continue;
            };
            if !is_known(id)? {
                let path = self.dir.join(&name);
                self.disk.unlink_if_there(&path).map_err(failing(&path))?;
            }
        }
        Ok(())
    }
}

impl Writer {
    fn add(&mut self, runs: &[MessageRun]) -> Result<()> {
        let Some(first) = runs.first() else { return Ok(()) };
        let encoded = encode_runs(runs);
        let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        let piece = [&length.to_le_bytes()[..], &first.first.to_le_bytes(), &encoded].concat();
        self.file.write_at(&piece, self.at).map_err(failing(&self.unfinished))?;
        self.at += piece.len() as u64;
        Ok(())
    }

    /// Durable under its name when this returns.
    fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(failing(&self.unfinished))?;
        self.kept.disk.rename_over(&self.unfinished, &self.path).map_err(failing(&self.path))?;
        self.kept.disk.sync_dir(&self.kept.dir).map_err(failing(&self.kept.dir))
    }
}

/// The outcomes of a file that is over: in memory as long as they are short.
pub(super) struct Gathered<'a> {
    runs: Vec<MessageRun>,
    bytes: usize,
    writer: Option<Writer>,
    kept: &'a Kept,
    id: FileId,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(kept: &'a Kept, id: FileId) -> Self {
        Self { runs: Vec::new(), bytes: 0, writer: None, kept, id }
    }

    pub(super) fn add(&mut self, run: MessageRun) -> Result<()> {
        self.bytes += encode_runs(std::slice::from_ref(&run)).len();
        self.runs.push(run);
        if self.writer.is_none() && self.bytes > INLINE_BYTES {
            self.writer = Some(self.kept.create(self.id)?);
        }
        match &mut self.writer {
            Some(writer) if self.runs.len() >= CHUNK_RUNS => writer.add(&std::mem::take(&mut self.runs)),
            _ => Ok(()),
        }
    }

    /// Encoded where they are short; none: they are in a file, durably.
    pub(super) fn finish(self) -> Result<Option<Vec<u8>>> {
        match self.writer {
            None => Ok(Some(encode_runs(&self.runs))),
            Some(mut writer) => {
                writer.add(&self.runs)?;
                writer.finish().map(|()| None)
            }
        }
    }
}

/// Length and first message of the piece that begins here, if one does.
fn header(file: &dyn DiskFile, at: u64) -> io::Result<Option<(usize, u64)>> {
    let mut bytes = [0; HEADER];
    if read_full(file, &mut bytes, at)? < bytes.len() {
        return Ok(None);
    }
    let [l0, l1, l2, l3, first @ ..] = bytes;
    Ok(Some((u32::from_le_bytes([l0, l1, l2, l3]) as usize, u64::from_le_bytes(first))))
}

fn failing(path: &Path) -> impl Fn(io::Error) -> QueueError {
    let doing = format!("cannot keep what became of messages in {}", path.display());
    move |source| of_storage(StorageError::io(doing.clone(), source))
}
