//! Files that were seen to be written under their final name, where `accept = "rename"`: kept over restarts, so that
//! half a file does not become a whole one because the server began anew.
//!
//! The file is written aside, synced and renamed. Nothing else depends on it: without it a file
//! that was written in place before a restart would have to stand still for a while, as any that
//! nobody saw.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use crate::durable_file;

/// Of one folder no more are kept.
const MOST: usize = 10_000;

type ByFolder = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Debug)]
pub(super) struct Suspects {
    file: PathBuf,
    all: Mutex<ByFolder>,
}

impl Suspects {
    /// Reads what was kept; the directory is made.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = directory.join("in-place.json");
        let all = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => ByFolder::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, all: Mutex::new(all) })
    }

    /// Names and inodes of one folder.
    pub(super) fn of(&self, folder: &str) -> BTreeMap<String, u64> {
        self.all.lock().get(folder).cloned().unwrap_or_default()
    }

    /// Keeps what is said of a folder now, durably when it is another thing than before. Blocks.
    pub(super) fn keep(&self, folder: &str, mut names: BTreeMap<String, u64>) -> io::Result<()> {
        while names.len() > MOST {
            names.pop_last();
        }
        let mut all = self.all.lock();
        if all.get(folder).map_or(names.is_empty(), |before| *before == names) {
            return Ok(());
        }
        let mut new = all.clone();
        match names.is_empty() {
            true => drop(new.remove(folder)),
            false => drop(new.insert(folder.to_owned(), names)),
        }
        self.write(&new)?;
        *all = new;
        Ok(())
    }

    /// Writes the file durably.
    fn write(&self, all: &ByFolder) -> io::Result<()> {
        Ok(durable_file::replace(&self.file, &serde_json::to_vec(all)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suspected_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let suspects = Suspects::open(dir.path()).unwrap();
        suspects.keep("/in", BTreeMap::from([("a".to_owned(), 7)])).unwrap();
        suspects.keep("/other", BTreeMap::new()).unwrap();
        let again = Suspects::open(dir.path()).unwrap();
        assert_eq!(again.of("/in"), BTreeMap::from([("a".to_owned(), 7)]));
        again.keep("/in", BTreeMap::new()).unwrap();
        assert!(Suspects::open(dir.path()).unwrap().of("/in").is_empty());
    }
}
