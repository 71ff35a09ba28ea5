//! What a program is given: a copy of what was accepted, twice, or a message.
//!
//! # Guarantees
//! Nothing that a program is given leads to kept bytes. A message comes on standard input alone, in memory that nobody can
//! change any more. At `FOREBAY_PATH` lies a copy (a reflink where the file system
//! can) that it may change. On standard input are the same bytes: of a small file in memory that nobody can change any
//! more, of another one the copy, open for reading.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use forebay_queue::Entry;
use forebay_storage::{Durability, StorageError, Verified};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};

use crate::{contents::Contents, process::Outcome};

/// Files of up to so many bytes are given in memory.
const SEALED_BYTES: u64 = 64 << 10;

/// Puts a verified copy of the file at `path`, where nothing is yet, and returns what goes to standard input.
///
/// # Errors
/// The outcome of the attempt: held when the kept bytes are not what was accepted, and "the backend
/// is down" when this machine cannot make the copy.
pub(super) fn give(contents: &Contents, entry: &Entry, path: &Path) -> Result<File, Outcome> {
    verify(contents.materialize(entry, path, Durability::Unsynced), entry)?;
    let opened =
        File::open(path).and_then(|copy| if entry.size_bytes <= SEALED_BYTES { sealed_copy(copy) } else { Ok(copy) });
    opened.map_err(|error| Outcome::BackendDown { reason: format!("cannot open the attempt's file: {error}") })
}

fn sealed_copy(mut copy: File) -> io::Result<File> {
    let mut bytes = Vec::new();
    copy.read_to_end(&mut bytes)?;
    sealed(&bytes)
}

/// These bytes in memory, with everything forbidden that would change them.
pub(super) fn sealed(bytes: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create("forebay", flags | MemfdFlags::NOEXEC_SEAL) {
        // A kernel before 6.3.
        Err(Errno::INVAL) => memfd_create("forebay", flags)?,
        made => made?,
    };
    let mut memory = File::from(memory);
    memory.write_all(bytes)?;
    memory.rewind()?;
    fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(memory)
}

/// Refuses a copy that is not what was accepted.
pub(super) fn verify(placed: Result<Verified, StorageError>, entry: &Entry) -> Result<(), Outcome> {
    let verified = placed.map_err(|error| cannot_place(&error))?;
    match verified.sha256 == entry.sha256 && verified.size_bytes == entry.size_bytes {
        true => Ok(()),
        false => Err(Outcome::Hold { reason: format!("file {} is not what was accepted", entry.id) }),
    }
}

/// The outcome of an attempt whose spooled bytes cannot be put where the program needs them.
pub(in crate::process) fn cannot_place(error: &StorageError) -> Outcome {
    let reason = error.to_string();
    match error {
        StorageError::NotFound(_) | StorageError::Damaged { .. } => Outcome::Hold { reason },
        _ => Outcome::BackendDown { reason },
    }
}
