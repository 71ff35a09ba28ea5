//! What a partner sees, for reading: nothing above its own directory can be reached.

use std::{io, path::Path};

use cap_std::{
    ambient_authority,
    fs::{Dir, DirEntry, Metadata, MetadataExt, ReadDir},
};
use chrono::{DateTime, TimeDelta, Utc};
use rustix::fs::StatVfs;

use crate::ingest::{Name, Refusal};

use super::{
    guest::Guest,
    packet::{Attributes, Named},
};

pub(super) const FILE: u32 = 0o100_600;
const DIRECTORY: u32 = 0o040_700;
/// `ls` shows the time of day of what is younger.
const RECENT: TimeDelta = TimeDelta::days(180);

/// A partner's directory.
#[derive(Debug)]
pub(super) struct View {
    root: Dir,
}

impl View {
    pub(super) fn open(home: &Path) -> io::Result<Self> {
        Ok(Self { root: Dir::open_ambient_dir(home, ambient_authority())? })
    }

    /// What is known of a path. It is absolute and without `..`.
    pub(super) fn stat(&self, path: &str) -> Result<Attributes, Refusal> {
        Ok(attributes(&self.root.symlink_metadata(below(path)?)?))
    }

    /// A file to read, with its length.
    pub(super) fn file(&self, path: &str) -> Result<(std::fs::File, Attributes), Refusal> {
        let there = self.stat(path)?;
        if there.mode != Some(FILE) {
            return Err(Refusal::Denied("is not a file".to_owned()));
        }
        Ok((self.root.open(below(path)?)?.into_std(), there))
    }

    pub(super) fn directory(&self, path: &str) -> Result<ReadDir, Refusal> {
        if self.stat(path)?.mode != Some(DIRECTORY) {
            return Err(Refusal::Denied("is not a directory".to_owned()));
        }
        Ok(self.root.read_dir(below(path)?)?)
    }

    pub(super) fn space(&self) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.root)?)
    }
}

fn below(path: &str) -> Result<&Path, Refusal> {
    match path.trim_start_matches('/') {
        "" => Ok(Path::new(".")),
        inner => {
            Name::parse(inner)?;
            Ok(Path::new(inner))
        }
    }
}

/// A file that is still being written.
pub(super) fn under_way(size: u64, now: DateTime<Utc>) -> Attributes {
    let now = u32::try_from(now.timestamp()).unwrap_or(u32::MAX);
    Attributes { size: Some(size), owner: None, mode: Some(FILE), times: Some((now, now)) }
}

fn attributes(there: &Metadata) -> Attributes {
    let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    Attributes {
        size: Some(there.len()),
        owner: None,
        mode: Some(match (there.is_dir(), there.is_file()) {
            (true, _) => DIRECTORY,
            (_, true) => FILE,
            // Nobody puts such a thing there by us.
            _ => 0o020_000,
        }),
        times: Some((seconds(there.atime()), seconds(there.mtime()))),
    }
}

/// An entry of a directory; none when it has gone, or has a name that nobody could have given it by us.
pub(super) fn entry(entry: &DirEntry, directory: &str, guest: &Guest, now: DateTime<Utc>) -> Option<Named> {
    let name = entry.file_name().into_string().ok()?;
    let attributes = guest.timed(&format!("{directory}/{name}"), attributes(&entry.metadata().ok()?));
    let line = line(&name, &attributes, guest.session.partner.as_str(), now);
    Some(Named { name, line, attributes })
}

/// As `ls -l` has it: some clients show it as it is, some read it.
pub(super) fn line(name: &str, attributes: &Attributes, owner: &str, now: DateTime<Utc>) -> String {
    let mode = if attributes.mode == Some(DIRECTORY) { "drwx------" } else { "-rw-------" };
    let changed = attributes.times.and_then(|(_, changed)| DateTime::from_timestamp(i64::from(changed), 0));
    let changed = changed.unwrap_or(DateTime::UNIX_EPOCH);
    let recent = changed <= now && now - changed < RECENT;
    let time = changed.format(if recent { "%b %e %H:%M" } else { "%b %e  %Y" });
    format!("{mode}    1 {owner:<8} {owner:<8} {:>8} {time} {name}", attributes.size.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_above_can_be_reached() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("home/link")).unwrap();
        let view = View::open(&dir.path().join("home")).unwrap();
        for path in ["/../secret", "/link", "/a/../../secret", "/\0", "/\u{1b}"] {
            assert!(view.file(path).is_err(), "{path:?}");
        }
        assert_eq!(view.stat("/").unwrap().mode, Some(DIRECTORY));
    }

    #[test]
    fn lines_are_as_ls_has_them() {
        let now = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
        let file = Attributes { times: Some((0, 1_750_000_000)), ..under_way(12, now) };
        assert_eq!(line("a b", &file, "demo", now), "-rw-------    1 demo     demo           12 Jun 15 15:06 a b");
        let old = Attributes { times: Some((0, 1_000_000_000)), mode: Some(DIRECTORY), ..file };
        assert!(
            line("x", &old, "demo", now).starts_with("drwx------") && line("x", &old, "demo", now).contains(" 2001 x")
        );
    }
}
