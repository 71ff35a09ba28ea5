//! What an accepted file says of itself.
//!
//! Each file in the spool carries a [`FileMeta`] in an extended attribute, so that a spool without
//! its journal still tells whose each file is, and each can be checked against its own digest.

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    str::FromStr,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::{DigestState, FileId};

/// The most that is read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// What is known of a file before its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// The id it will have.
    pub id: FileId,
    /// The partner it belongs to.
    pub partner: String,
    /// The path the partner gave it, relative to the login directory, with `/` between components.
    pub name: String,
    /// The door it came in by: `ftp`, `sftp`, `web` or `drop`.
    pub door: String,
    /// When the upload began.
    pub began_at: DateTime<Utc>,
    /// The file that it is a copy of, if it is one.
    pub origin: Option<Origin>,
    /// The accepted file that its bytes go on from, if they do: then they are the rest of a longer whole.
    pub goes_on: Option<GoesOn>,
}

/// The end of an accepted file, where new bytes go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoesOn {
    /// The file.
    pub from: FileId,
    /// Its length in bytes.
    pub at: u64,
    /// The state that the digest of all its bytes is in at its end.
    pub digest: DigestState,
}

/// What tells that bytes are the rest of a longer whole, of which an accepted file has the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The accepted file.
    pub of: FileId,
    /// Its length: where these bytes begin in the whole.
    pub at: u64,
    /// SHA-256 over the whole.
    pub whole_sha256: Sha256,
    /// The state of that digest, for what goes on behind these bytes.
    pub digest: DigestState,
}

/// The file on this machine that bytes were copied from. While it is there it must not be taken a second time.
///
/// Whoever renames, links or writes it changes `changed_ns`; numbers of devices may change with a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The folder that the file's name is relative to.
    pub folder: String,
    /// The device it is on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Length in bytes.
    pub size_bytes: u64,
    /// When it was last written, in nanoseconds of its file system's clock after 1970.
    pub modified_ns: i64,
    /// When its inode last changed, likewise.
    pub changed_ns: i64,
}

impl Origin {
    /// What a file in `folder` is now.
    #[must_use]
    pub fn of(folder: &str, there: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            folder: folder.to_owned(),
            device: there.dev(),
            inode: there.ino(),
            size_bytes: there.len(),
            modified_ns: ns(there.mtime(), there.mtime_nsec()),
            changed_ns: ns(there.ctime(), there.ctime_nsec()),
        }
    }

    /// Returns whether this is still the very same file, and unchanged since. A restart may give
    /// its device another number, so that is not compared.
    #[must_use]
    pub fn is(&self, there: &Metadata) -> bool {
        let now = Self::of(&self.folder, there);
        there.is_file() && Self { device: self.device, ..now } == *self
    }
}

/// What is stored beside the bytes, so that a spool without its journal still tells what it holds.
///
/// Kept as JSON in the extended attribute `user.forebay`. `version` rises when the meaning of a field changes: 1 for a file
/// that is whole by itself, 2 for the rest of one, which a version that knows no 2 must not take for a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// The format of this record; 1 or 2 today.
    pub version: u8,
    /// The file.
    pub id: FileId,
    /// The partner it belongs to.
    pub partner: String,
    /// The path the partner gave it, relative to the login directory.
    pub name: String,
    /// The door it came in by.
    pub door: String,
    /// Length of these bytes.
    pub size_bytes: u64,
    /// SHA-256 over these bytes.
    pub sha256: Sha256,
    /// When the last byte had come, before the commit.
    pub received_at: DateTime<Utc>,
    /// The file that it is a copy of, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// That they are the rest of a longer whole, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Box<Rest>>,
}

impl FileMeta {
    /// The version of a record with or without a [`Rest`].
    #[must_use]
    pub fn version_of(rest: Option<&Rest>) -> u8 {
        if rest.is_some() { 2 } else { 1 }
    }

    /// Length and SHA-256 of the whole.
    #[must_use]
    pub fn whole(&self) -> (u64, Sha256) {
        match &self.rest {
            Some(rest) => (rest.at.saturating_add(self.size_bytes), rest.whole_sha256),
            None => (self.size_bytes, self.sha256),
        }
    }

    /// The metadata that a file on this machine carries, if it is an accepted file's or a hard link to one.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        let mut buffer = vec![0; 64 << 10];
        match rustix::fs::lgetxattr(path, "user.forebay", &mut buffer[..]) {
            // An attribute of this name that is not ours says nothing.
            Ok(length) => Ok(serde_json::from_slice(&buffer[..length]).ok()),
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A SHA-256 digest (FIPS 180-4), shown and stored as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Whether the file has so many bytes, and this digest. Blocks.
    /// Used for files of others, as in a folder that is watched, so it does not go through
    /// [`crate::disk`].
    pub fn is_of(&self, path: &Path, size_bytes: u64) -> io::Result<bool> {
        let (mut file, mut digest) = (File::open(path)?, sha2::Sha256::new());
        // The length first: it costs nothing, and most files that differ differ in it.
        if file.metadata()?.len() != size_bytes {
            return Ok(false);
        }
        // One byte more than there should be: then the end is seen by the first read of a small file.
        let most = usize::try_from(size_bytes.saturating_add(1)).map_or(BUFFER_BYTES, |all| all.min(BUFFER_BYTES));
        let mut buffer = vec![0; most];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(digest.finalize()[..] == self.0),
                length => digest.update(&buffer[..length]),
            }
        }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sha-256 is 64 hexadecimal digits")]
pub struct NotASha256;

impl FromStr for Sha256 {
    type Err = NotASha256;

    fn from_str(text: &str) -> Result<Self, NotASha256> {
        let mut digest = [0; 32];
        // Bytes are paired below: a letter of two bytes would be cut.
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotASha256);
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotASha256)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotASha256)?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_version_1_is_read_for_ever() {
        let fixture = concat!(
            r#"{"version":1,"id":"019dc1c0-f47b-7000-8000-000000000001","partner":"clinic","name":"in/a.hl7","#,
            r#""door":"ftp","size_bytes":5,"#,
            r#""sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","#,
            r#""received_at":"2026-04-25T00:00:00.123Z"}"#
        );
        let meta: FileMeta = serde_json::from_str(fixture).expect("reads");
        assert_eq!((meta.name.as_str(), meta.size_bytes), ("in/a.hl7", 5));
        assert_eq!(serde_json::to_string(&meta).expect("writes"), fixture);
    }

    #[test]
    fn a_copy_says_what_it_was_copied_from() {
        let fixture = concat!(
            r#"{"version":1,"id":"019dc1c0-f47b-7000-8000-000000000001","partner":"clinic","name":"in/a.hl7","#,
            r#""door":"drop","size_bytes":5,"#,
            r#""sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","#,
            r#""received_at":"2026-04-25T00:00:00.123Z","origin":{"folder":"/srv/in","device":66305,"inode":77,"#,
            r#""size_bytes":5,"modified_ns":1777075200000000001,"changed_ns":1777075200000000002}}"#
        );
        let meta: FileMeta = serde_json::from_str(fixture).expect("reads");
        assert_eq!(
            meta.origin.as_ref().map(|origin| (origin.inode, origin.changed_ns)),
            Some((77, 1_777_075_200_000_000_002))
        );
        assert_eq!(serde_json::to_string(&meta).expect("writes"), fixture);
    }
}
