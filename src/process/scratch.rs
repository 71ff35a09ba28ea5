//! The directory of one attempt: `<data>/scratch/<id>-<attempt>/`, or `<id>-<message>-<attempt>-<attempt at the message>/`.
//!
//! It has a copy of the file, never the kept bytes, so a program may do with it what it likes. That of a message is empty.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// An attempt's directory. Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    file: PathBuf,
}

impl Scratch {
    /// Makes this one, empty, also when an attempt of the same number was there before.
    pub(super) fn make_at(dir: PathBuf, name: &str) -> io::Result<Self> {
        match make_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir_all(&dir)?;
                make_dir(&dir)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            }
            made => made?,
        }
        let file = dir.join(last_component(name));
        Ok(Self { dir, file })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the attempt's file belongs; nothing is there yet.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Most attempts leave nothing but their file.
        let removed = fs::remove_file(&self.file).and_then(|()| fs::remove_dir(&self.dir));
        if removed.is_err()
            && let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.dir.display(), %error, "cannot remove an attempt's directory");
        }
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

/// The last component of the name, which the file keeps since programs depend on extensions.
fn last_component(name: &str) -> &str {
    match name.rsplit('/').next() {
        None | Some("" | "." | "..") => "file",
        Some(last) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_empty_each_time_and_gone_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("scratch/one-1");
        let first = Scratch::make_at(dir.clone(), "in/a.hl7").unwrap();
        assert_eq!(first.file().file_name().unwrap(), "a.hl7");
        fs::create_dir(first.dir().join("left")).unwrap();
        std::mem::forget(first);
        let second = Scratch::make_at(dir.clone(), "..").unwrap();
        assert_eq!(fs::read_dir(second.dir()).unwrap().count(), 0);
        fs::write(second.file(), "x").unwrap();
        fs::write(second.dir().join("more"), "x").unwrap();
        drop(second);
        assert!(!dir.exists());
    }
}
