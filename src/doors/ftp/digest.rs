//! HASH, XSHA256 and their like: digests of files as the partner sees them.
//!
//! Weak algorithms are there because clients compare by them; nothing in the server relies on one.
//! Computed on what the partner would download, so a client can compare an upload that was accepted
//! long ago.

use std::{fmt, str::FromStr};

use md5::Digest as _;

use crate::ingest::{Files, OpenFile, Refusal};

/// Bytes that are read at a time.
/// Other sessions get their turn between two of them.
const PIECE_BYTES: usize = 1 << 20;

/// An algorithm of HASH (draft-bryan-ftpext-hash) and of the older commands.
/// A new one needs its name here, a way in `Running`, and its `X…` verb in `command.rs` and
/// `feat.rs` if clients know one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha256,
    Sha512,
    Sha1,
    Md5,
    Crc32,
}

impl Algorithm {
    pub(super) const ALL: [Self; 5] = [Self::Sha256, Self::Sha512, Self::Sha1, Self::Md5, Self::Crc32];
}

/// The names that HASH and FEAT show (draft-bryan-ftpext-hash).
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
            Self::Sha1 => "SHA-1",
            Self::Md5 => "MD5",
            Self::Crc32 => "CRC32",
        })
    }
}

impl FromStr for Algorithm {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|one| one.to_string().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// The digest so far.
enum Running {
    Sha(ring::digest::Context),
    Md5(md5::Md5),
    Crc32(crc32fast::Hasher),
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        use ring::digest;
        match algorithm {
            Algorithm::Sha256 => Self::Sha(digest::Context::new(&digest::SHA256)),
            Algorithm::Sha512 => Self::Sha(digest::Context::new(&digest::SHA512)),
            Algorithm::Sha1 => Self::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Algorithm::Md5 => Self::Md5(md5::Md5::new()),
            Algorithm::Crc32 => Self::Crc32(crc32fast::Hasher::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha(context) => context.update(bytes),
            Self::Md5(context) => context.update(bytes),
            Self::Crc32(hasher) => hasher.update(bytes),
        }
    }

    fn hex(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha(context) => hex(context.finish().as_ref()),
            Self::Md5(context) => hex(context.finalize().as_slice()),
            Self::Crc32(hasher) => format!("{:08x}", hasher.finalize()),
        }
    }
}

/// The digest of a file, in hexadecimal, and its length. The SHA-256 of an accepted file is known without reading it.
pub(super) async fn of(files: &Files, path: &str, algorithm: Algorithm) -> Result<(String, u64), Refusal> {
    if algorithm == Algorithm::Sha256
        && let Some((sha256, bytes)) = files.sha256(path).await?
    {
        return Ok((sha256.to_string(), bytes));
    }
    read(&files.open(path).await?, algorithm).await
}

/// # Errors
/// A file that is removed while it is read, or a disk that fails.
async fn read(file: &OpenFile, algorithm: Algorithm) -> Result<(String, u64), Refusal> {
    let (mut running, mut bytes) = (Running::new(algorithm), 0);
    loop {
        let piece = file.read(bytes, PIECE_BYTES).await?;
        if piece.is_empty() {
            return Ok((running.hex(), bytes));
        }
        running.update(&piece);
        bytes += piece.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_others() {
        for (algorithm, digest) in [
            (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b"),
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ] {
            let mut running = Running::new(algorithm);
            running.update(b"1234");
            running.update(b"56789");
            assert_eq!(running.hex(), digest);
        }
    }
}
