//! Small file systems that a test fills.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A small file system, mounted for as long as this lives.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    _image: Option<tempfile::NamedTempFile>,
}

impl SmallDisk {
    /// In memory, of so many MiB.
    pub fn in_memory(at: PathBuf, mebibytes: u32) -> Self {
        fs::create_dir_all(&at).unwrap();
        let options = format!("size={mebibytes}m,mode=0700,uid={}", rustix::process::geteuid().as_raw());
        root(&["mount", "-t", "tmpfs", "-o", &options, "forebay-test", at.to_str().unwrap()]);
        Self { at, _image: None }
    }

    /// ext4 with a journal, of so many MiB and inodes, none of it reserved for root.
    pub fn ext4(at: PathBuf, mebibytes: u32, inodes: u32) -> Self {
        fs::create_dir_all(&at).unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(u64::from(mebibytes) << 20).unwrap();
        let (path, inodes) = (image.path().to_str().unwrap(), inodes.to_string());
        root(&["mkfs.ext4", "-q", "-F", "-m", "0", "-N", &inodes, path]);
        root(&["mount", "-o", "loop", path, at.to_str().unwrap()]);
        let owner = rustix::process::geteuid().as_raw().to_string();
        root(&["chown", &owner, at.to_str().unwrap()]);
        root(&["chmod", "0700", at.to_str().unwrap()]);
        Self { at, _image: Some(image) }
    }

    /// btrfs of so many MiB, of which all files in it may take so many by its quota. `statvfs` says nothing of that.
    /// What is there is written over in its place, as on other file systems.
    pub fn btrfs_with_quota(at: PathBuf, mebibytes: u32, quota_mebibytes: u32) -> Self {
        let disk = Self::btrfs_that_copies(at, mebibytes, quota_mebibytes);
        root(&["chattr", "+C", disk.text()]);
        disk
    }

    /// The same, and what is written over is written elsewhere, as btrfs does of itself.
    pub fn btrfs_that_copies(at: PathBuf, mebibytes: u32, quota_mebibytes: u32) -> Self {
        fs::create_dir_all(&at).unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(u64::from(mebibytes) << 20).unwrap();
        let path = image.path().to_str().unwrap();
        // One copy of everything: what is written is what counts.
        root(&["mkfs.btrfs", "--quiet", "--force", "--metadata", "single", "--data", "single", path]);
        root(&["mount", "-o", "loop", path, at.to_str().unwrap()]);
        let disk = Self { at, _image: Some(image) };
        root(&["btrfs", "--quiet", "quota", "enable", disk.text()]);
        root(&["btrfs", "--quiet", "qgroup", "limit", &format!("{quota_mebibytes}M"), disk.text()]);
        let owner = rustix::process::geteuid().as_raw().to_string();
        root(&["chown", &owner, disk.text()]);
        root(&["chmod", "0700", disk.text()]);
        disk
    }

    fn text(&self) -> &str {
        self.at.to_str().unwrap()
    }

    /// Writes until the quota is spent; what others give back later is not.
    pub fn spend_quota(&self) -> PathBuf {
        let path = self.at.join("filler");
        let mut file = fs::File::options().append(true).create(true).open(&path).unwrap();
        for size in [1 << 20, 64 << 10, 4 << 10] {
            let bytes = vec![1; size];
            let refused = loop {
                if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
                    break error;
                }
            };
            assert_eq!(refused.kind(), std::io::ErrorKind::QuotaExceeded, "{refused}");
        }
        path
    }

    /// Takes all the room there is, to the last block.
    pub fn fill(&self) -> PathBuf {
        let filler = self.fill_but(0);
        assert_eq!(self.free().0, 0, "blocks are left");
        filler
    }

    /// Takes the room there is but for so many bytes, give or take a block.
    pub fn fill_but(&self, left: u64) -> PathBuf {
        let path = self.at.join("filler");
        let mut file = fs::File::options().append(true).create(true).open(&path).unwrap();
        for size in [1 << 20, 4096, 1024] {
            while self.free().0 >= left + size && file.write_all(&vec![1; usize::try_from(size).unwrap()]).is_ok() {
                // Blocks that are promised and not given yet count only then.
                file.sync_data().unwrap();
            }
        }
        path
    }

    /// Takes all inodes there are, in a directory that is to be removed to give them back.
    pub fn fill_inodes(&self) -> PathBuf {
        let dir = self.fill_inodes_but(0);
        assert_eq!(self.free().1, 0, "inodes are left");
        dir
    }

    /// Takes inodes until so many are left.
    pub fn fill_inodes_but(&self, left: u64) -> PathBuf {
        let dir = self.at.join("fillers");
        fs::create_dir(&dir).unwrap();
        let is_enough = |number: &u32| {
            (left > 0 && self.free().1 <= left) || fs::File::create(dir.join(number.to_string())).is_err()
        };
        (0..).find(is_enough);
        dir
    }

    /// Lets whoever writes wait, until what this gives is dropped. Only file systems on a disk can do it.
    pub fn stand_still(&self) -> StandsStill<'_> {
        root(&["fsfreeze", "--freeze", self.text()]);
        StandsStill(self)
    }

    /// Free bytes and inodes.
    pub fn free(&self) -> (u64, u64) {
        let stat = rustix::fs::statvfs(&self.at).unwrap();
        (stat.f_bavail * stat.f_frsize, stat.f_favail)
    }

    pub fn path(&self) -> &Path {
        &self.at
    }
}

/// A file system that stands still.
#[derive(Debug)]
pub struct StandsStill<'a>(&'a SmallDisk);

impl Drop for StandsStill<'_> {
    fn drop(&mut self) {
        root(&["fsfreeze", "--unfreeze", self.0.text()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        root(&["umount", "--lazy", self.at.to_str().unwrap()]);
    }
}

fn root(command: &[&str]) {
    let mut words = if rustix::process::geteuid().is_root() { vec![] } else { vec!["sudo", "-n"] };
    words.extend(command);
    let done = Command::new(words[0])
        .args(&words[1..])
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success(), "{words:?} failed: this test mounts a file system, as root or by `sudo -n`");
}
