//! A simulated disk whose power can be cut.
//!
//! A [`SimDisk`] keeps two images: the live one, which every caller sees at once, and the durable one, which is what
//! syncs have made of it. Between them lie the changes that were not synced. [`SimDisk::reboot`] gives the disk after
//! a power cut: **each** unsynced change of each file and each directory is kept or dropped on its own, at random.
//! It is more pessimistic than any one file system:
//!
//! - a name may be there without the bytes of its file, and the bytes without the name;
//! - of a rename, the new name may be there and the old one too, or neither;
//! - an unsynced write may be kept in part, in sectors of 512 bytes, and its length without its bytes;
//! - `sync_data` keeps contents and length, not attributes and mode; `sync_all` keeps the inode, not its name;
//!   `sync_dir` keeps the names of that directory alone; nothing drags anything else along.
//!
//! # A power-cut test
//! ```
//! use std::path::Path;
//! use forebay_storage::disk::{Disk, sim::{SimDisk, SyncClass}};
//!
//! let disk = SimDisk::new(7).with_dir(Path::new("/data"));
//! // First without a cut, to learn how many operations there are; then again with a cut at each or at random ones.
//! disk.cut_at(3);
//! let file = disk.create_new(Path::new("/data/a")).unwrap();
//! file.write_at(b"hello", 0).unwrap();
//! assert!(file.sync_all().is_err(), "the third operation finds no power, and so do all after it");
//! let after = disk.reboot();
//! # let _ = (after.open(Path::new("/data/a"), false), SyncClass::Shard);
//! ```
//! Cut right after an acknowledgement ([`SimDisk::cut_now`]) as often as at random operations: that is where a
//! missing sync shows. To prove that the test can fail, take syncs away with [`SimDisk::without`] and see it go red.
//!
//! Operations are counted over all threads: everything that changes or syncs something is one, reads are none. The
//! same seed gives the same outcome as long as the operations come in the same order. The owner is not root: files
//! of mode 0400 cannot be opened for writing.

mod image;
mod world;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use self::world::{Ino, World};
use super::{Disk, DiskFile};
use crate::Space;

/// A kind of sync, by what it is for. Where a path lies tells which it is: below `journal`, `spool`, `tmp` or
/// `partials`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SyncClass {
    /// The sync of a file that has its name in the spool.
    File,
    /// Not a sync of its own: taken out, the sync of a spool file is a `sync_data`.
    FileAttributes,
    /// The directory of a day in the spool.
    Shard,
    /// The spool directory, which names the days.
    ShardParent,
    /// Any file of the journal proper, by either kind of sync.
    Journal,
    /// The journal's directory.
    JournalDir,
    /// Any file of the journal's short log, by either kind of sync.
    Recent,
    /// The directory of the short log.
    RecentDir,
    /// A pack.
    Pack,
    /// The directory of the packs.
    PackDir,
    /// A file in `partials` or `tmp`.
    Partial,
    /// `partials` and the directories in it.
    PartialDir,
    /// Everything else.
    Elsewhere,
}

impl SyncClass {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::File,
        Self::FileAttributes,
        Self::Shard,
        Self::ShardParent,
        Self::Journal,
        Self::JournalDir,
        Self::Recent,
        Self::RecentDir,
        Self::Pack,
        Self::PackDir,
        Self::Partial,
        Self::PartialDir,
        Self::Elsewhere,
    ];

    fn of_file(path: &Path) -> Self {
        let below = |name: &str| path.components().any(|part| part.as_os_str() == name);
        match () {
            () if below("recent") => Self::Recent,
            () if below("packs") => Self::Pack,
            () if below("journal") => Self::Journal,
            () if below("spool") => Self::File,
            () if below("partials") || below("tmp") => Self::Partial,
            () => Self::Elsewhere,
        }
    }

    fn of_dir(path: &Path) -> Self {
        let is = |path: Option<&Path>, name: &str| path.and_then(Path::file_name).is_some_and(|last| last == name);
        match path.parent() {
            _ if is(Some(path), "journal") => Self::JournalDir,
            _ if is(Some(path), "recent") => Self::RecentDir,
            _ if is(Some(path), "packs") => Self::PackDir,
            _ if is(Some(path), "spool") => Self::ShardParent,
            _ if is(Some(path), "partials") => Self::PartialDir,
            parent if is(parent, "spool") => Self::Shard,
            parent if is(parent, "partials") => Self::PartialDir,
            _ => Self::Elsewhere,
        }
    }
}

/// A disk in memory. Clones are handles on the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

impl SimDisk {
    /// An empty disk; `seed` decides what a power cut leaves.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed))) }
    }

    /// With this directory and those above it, durable from the beginning.
    #[must_use]
    pub fn with_dir(self, path: &Path) -> Self {
        self.world.lock().add_durable_dir(path);
        self
    }

    /// With this kind of sync doing nothing (but saying that it did). The disk after a reboot syncs everything again.
    #[must_use]
    pub fn without(self, class: SyncClass) -> Self {
        self.world.lock().without.insert(class);
        self
    }

    /// The same disk, to be handed to a store.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Cuts the power at this operation, counted from 1 since the disk was made: it fails, and so does all after it,
    /// reads too.
    pub fn cut_at(&self, operation: u64) {
        self.world.lock().cut_at = Some(operation);
    }

    /// Cuts the power at once.
    pub fn cut_now(&self) {
        self.world.lock().off = true;
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.world.lock().off
    }

    /// The disk as a power cut at this instant leaves it. This one stays as it is: ask again for another outcome.
    #[must_use]
    pub fn reboot(&self) -> Self {
        Self { world: Arc::new(Mutex::new(self.world.lock().reboot())) }
    }

    /// A second disk with the same contents, synced and unsynced, and the power on.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        Self { world: Arc::new(Mutex::new(self.world.lock().fork(seed))) }
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.world.lock().operations
    }

    /// How many syncs of this kind there were. [`SyncClass::FileAttributes`] counts the full syncs of spool files.
    #[must_use]
    pub fn syncs(&self, class: SyncClass) -> u64 {
        self.world.lock().syncs.get(&class).copied().unwrap_or(0)
    }

    /// Makes the next sync of this kind fail, once; what it should have synced stays unsynced.
    pub fn fail_next(&self, class: SyncClass) {
        self.world.lock().failing.insert(class);
    }

    /// Has every read of the file that is there now fail, as where a sector is gone (EIO).
    pub fn fail_reads(&self, path: &Path) -> io::Result<()> {
        self.world.lock().fail_reads(path)
    }

    /// Limits the bytes that all files together may have. Without a limit there is a tebibyte.
    pub fn set_capacity(&self, bytes: u64) {
        self.world.lock().capacity = bytes;
    }

    /// Has all that is written cost its bytes, also over what is there, and every new name one, as on a file system that
    /// writes elsewhere what is written over. When so many are spent, a write does what it still can and fails (EDQUOT).
    /// Removing a file gives back its length.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.world.lock().quota = bytes;
    }

    /// The time that files take on when they are written, in milliseconds since the Unix epoch.
    pub fn set_time_ms(&self, now_ms: i64) {
        self.world.lock().now_ms = now_ms;
    }

    fn handle(&self, ino: Ino, write: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { world: self.world.clone(), ino, write })
    }
}

impl Disk for SimDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let ino = self.world.lock().create_file(path)?;
        Ok(self.handle(ino, true))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let ino = self.world.lock().open(path, write)?;
        Ok(self.handle(ino, write))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world.lock().rename(from, to, false)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world.lock().rename(from, to, true)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.world.lock().unlink(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.world.lock().create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.world.lock().remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.world.lock().list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.world.lock().sync_dir(dir)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        self.world.lock().space()
    }

    fn real_path(&self, _: &Path) -> Option<PathBuf> {
        None
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
struct SimFile {
    world: Arc<Mutex<World>>,
    ino: Ino,
    write: bool,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        // EBADF has no kind of its own.
        if self.write { Ok(()) } else { Err(io::Error::other("the file is not open for writing")) }
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        self.world.lock().write(self.ino, bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.world.lock().read(self.ino, buffer, offset)
    }

    fn drop_cached(&self) {
        self.world.lock().drop_cached(self.ino);
    }

    fn len(&self) -> io::Result<u64> {
        self.world.lock().len(self.ino)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.world.lock().set_len(self.ino, len)
    }

    fn write_back(&self, _: u64, _: u64) {}

    fn set_xattr(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.world.lock().set_xattr(self.ino, name, Some(value.to_vec()))
    }

    fn xattr(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.world.lock().xattr(self.ino, name)
    }

    fn remove_xattr(&self, name: &str) -> io::Result<()> {
        self.world.lock().set_xattr(self.ino, name, None)
    }

    fn make_read_only(&self) -> io::Result<()> {
        self.world.lock().set_read_only(self.ino, true)
    }

    fn make_writable(&self) -> io::Result<()> {
        self.world.lock().set_read_only(self.ino, false)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.world.lock().modified_ms(self.ino)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.world.lock().sync_file(self.ino, false)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.world.lock().sync_file(self.ino, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimDisk, path: &str) -> io::Result<Vec<u8>> {
        let file = disk.open(Path::new(path), false)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).expect("small")];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// How often, over many power cuts, something holds.
    fn often(disk: &SimDisk, holds: impl Fn(&SimDisk) -> bool) -> usize {
        (0..300).filter(|_| holds(&disk.reboot())).count()
    }

    #[test]
    fn what_is_synced_stays_and_what_is_not_may_go_each_on_its_own() {
        let disk = SimDisk::new(1).with_dir(Path::new("/d"));
        let file = disk.create_new(Path::new("/d/a")).expect("created");
        file.write_at(&[1; 2000], 0).expect("written");
        file.set_xattr("user.x", b"v").expect("set");
        let named = |disk: &SimDisk| read(disk, "/d/a").is_ok();
        let whole = |disk: &SimDisk| read(disk, "/d/a").is_ok_and(|bytes| bytes == [1; 2000]);
        let marked = |disk: &SimDisk| {
            disk.open(Path::new("/d/a"), false).is_ok_and(|file| file.xattr("user.x").expect("asked").is_some())
        };
        assert!((1..300).contains(&often(&disk, named)));
        assert!((1..300).contains(&often(&disk, |disk| named(disk) && !whole(disk))));
        file.sync_data().expect("synced");
        assert_eq!(often(&disk, |disk| named(disk) && !whole(disk)), 0);
        assert!((1..300).contains(&often(&disk, |disk| whole(disk) && !marked(disk))));
        file.sync_all().expect("synced");
        assert!((1..300).contains(&often(&disk, |disk| whole(disk) && marked(disk))));
        disk.sync_dir(Path::new("/d")).expect("synced");
        assert_eq!(often(&disk, |disk| whole(disk) && marked(disk)), 300);
        file.write_at(&[2; 2000], 0).expect("written");
        let torn = |disk: &SimDisk| {
            let bytes = read(disk, "/d/a").expect("named");
            bytes[..512] != bytes[512..1024] && bytes[..512].iter().all(|byte| *byte == bytes[0])
        };
        assert!(often(&disk, torn) > 0, "sectors go on their own");
    }

    #[test]
    fn a_rename_may_leave_either_name_both_or_none() {
        let disk = SimDisk::new(2).with_dir(Path::new("/d"));
        disk.create_new(Path::new("/d/a")).expect("created");
        disk.sync_dir(Path::new("/d")).expect("synced");
        disk.rename_new(Path::new("/d/a"), Path::new("/d/b")).expect("renamed");
        for (a, b) in [(true, true), (true, false), (false, true), (false, false)] {
            let seen = often(&disk, |disk| read(disk, "/d/a").is_ok() == a && read(disk, "/d/b").is_ok() == b);
            assert!(seen > 0, "{a} {b}");
        }
    }

    #[test]
    fn after_the_cut_nothing_works_and_before_it_everything_did() {
        let disk = SimDisk::new(3).with_dir(Path::new("/d"));
        disk.cut_at(2);
        let file = disk.create_new(Path::new("/d/a")).expect("created");
        assert!(file.write_at(b"x", 0).is_err() && file.len().is_err() && disk.list(Path::new("/d")).is_err());
        assert!(disk.is_cut() && disk.operations() == 2);
        assert!(disk.reboot().list(Path::new("/d")).is_ok());
    }

    #[test]
    fn read_only_files_a_full_disk_and_failing_syncs_are_as_on_a_real_one() {
        let disk = SimDisk::new(4).with_dir(Path::new("/spool/day"));
        let file = disk.create_new(Path::new("/spool/day/a")).expect("created");
        disk.set_capacity(100);
        assert_eq!(file.write_at(&[0; 101], 0).expect_err("full").kind(), io::ErrorKind::StorageFull);
        file.make_read_only().expect("mode");
        let denied = io::ErrorKind::PermissionDenied;
        assert_eq!(file.set_xattr("user.x", b"").expect_err("read-only").kind(), denied);
        assert_eq!(disk.open(Path::new("/spool/day/a"), true).expect_err("read-only").kind(), denied);
        disk.fail_next(SyncClass::File);
        assert!(file.sync_all().is_err() && file.sync_all().is_ok());
        assert_eq!(disk.syncs(SyncClass::File), 2);
    }
}
