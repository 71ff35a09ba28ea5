//! All inodes of a simulated disk.
//!
//! One lock around all of it: operations are counted in one order, which makes a seed reproducible.
//! Inodes are never freed, so a handle on a file that was removed goes on working, as POSIX has it.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    SyncClass,
    image::{Change, Dir, File, Luck},
};
use crate::Space;

/// The number of an inode; never used twice.
pub(super) type Ino = usize;

const ROOT: Ino = 0;
const UNLIMITED: u64 = 1 << 40;

#[derive(Clone, Debug)]
enum Node {
    File(File),
    Dir(Dir),
}

/// The disk and its luck.
#[derive(Debug)]
pub(super) struct World {
    nodes: Vec<Node>,
    rng: StdRng,
    pub(super) operations: u64,
    pub(super) cut_at: Option<u64>,
    pub(super) off: bool,
    pub(super) syncs: BTreeMap<SyncClass, u64>,
    pub(super) without: HashSet<SyncClass>,
    pub(super) failing: HashSet<SyncClass>,
    unreadable: HashSet<Ino>,
    pub(super) capacity: u64,
    /// What may still be written, if that is limited.
    pub(super) quota: Option<u64>,
    pub(super) now_ms: i64,
}

impl World {
    /// A root directory and nothing else.
    pub(super) fn new(seed: u64) -> Self {
        Self::with(vec![Node::Dir(Dir::default())], seed)
    }

    fn with(nodes: Vec<Node>, seed: u64) -> Self {
        Self {
            nodes,
            rng: StdRng::seed_from_u64(seed),
            operations: 0,
            cut_at: None,
            off: false,
            syncs: BTreeMap::new(),
            without: HashSet::new(),
            failing: HashSet::new(),
            unreadable: HashSet::new(),
            capacity: UNLIMITED,
            quota: None,
            now_ms: 0,
        }
    }

    /// Draws what is kept anew each time; this world stays as it is.
    pub(super) fn reboot(&mut self) -> Self {
        // Once for the whole disk: a cut that keeps all names and no bytes is what a real one may
        // do, and single draws would hardly ever come to it.
        let luck = Luck::draw(&mut self.rng);
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            nodes.push(match node {
                Node::File(file) => Node::File(file.after_cut(&luck, &mut self.rng)),
                Node::Dir(dir) => Node::Dir(dir.after_cut(&luck, &mut self.rng)),
            });
        }
        let seed = self.rng.random();
        self.with_same(nodes, seed)
    }

    pub(super) fn fork(&self, seed: u64) -> Self {
        self.with_same(self.nodes.clone(), seed)
    }

    fn with_same(&self, nodes: Vec<Node>, seed: u64) -> Self {
        let Self { capacity, now_ms, .. } = *self;
        Self { capacity, now_ms, ..Self::with(nodes, seed) }
    }

    pub(super) fn add_durable_dir(&mut self, path: &Path) {
        let mut at = ROOT;
        for part in names(path) {
            let next = self.nodes.len();
            let Node::Dir(dir) = &mut self.nodes[at] else { return };
            match dir.live.get(&part) {
                Some(ino) => at = *ino,
                None => {
                    dir.set(part, Some(next));
                    dir.sync();
                    self.nodes.push(Node::Dir(Dir::default()));
                    at = next;
                }
            }
        }
    }

    /// After the cut nothing answers, not even reads: the process would be gone.
    fn powered(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is cut")) } else { Ok(()) }
    }

    /// Begins an operation that changes or syncs something.
    fn step(&mut self) -> io::Result<()> {
        self.powered()?;
        self.operations += 1;
        // Before it does anything: the operation at which the power is cut has no effect that
        // anybody saw.
        self.off = self.cut_at.is_some_and(|cut| self.operations >= cut);
        self.powered()
    }

    fn find(&self, path: &Path) -> io::Result<Ino> {
        self.powered()?;
        let mut at = ROOT;
        for part in names(path) {
            let Node::Dir(dir) = &self.nodes[at] else { return Err(io::ErrorKind::NotADirectory.into()) };
            at = *dir.live.get(&part).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn dir(&mut self, ino: Ino) -> io::Result<&mut Dir> {
        match &mut self.nodes[ino] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, ino: Ino) -> io::Result<&mut File> {
        self.powered()?;
        match &mut self.nodes[ino] {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory that this path names something in, and that name.
    fn place(&mut self, path: &Path) -> io::Result<(Ino, OsString)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let ino = self.find(parent)?;
        self.dir(ino)?;
        Ok((ino, name.to_owned()))
    }

    /// # Errors
    /// `AlreadyExists` when the name is taken.
    fn free_place(&mut self, path: &Path) -> io::Result<(Ino, OsString)> {
        let (ino, name) = self.place(path)?;
        if self.dir(ino)?.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok((ino, name))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Ino> {
        let (parent, name) = self.free_place(path)?;
        let ino = self.nodes.len();
        self.nodes.push(node);
        self.dir(parent)?.set(name, Some(ino));
        Ok(ino)
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Ino> {
        self.step()?;
        // Its path tells later what kind of sync it gets; see `SyncClass`.
        let file = File::named(path.to_path_buf(), self.now_ms);
        self.add(path, Node::File(file))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.add(path, Node::Dir(Dir::default())).map(drop)
    }

    pub(super) fn open(&mut self, path: &Path, write: bool) -> io::Result<Ino> {
        let ino = self.find(path)?;
        // As for an owner who is not root.
        if write && self.file(ino)?.live.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(ino)
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let ino = self.find(path)?;
        Ok(self.dir(ino)?.live.keys().map(PathBuf::from).collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, over: bool) -> io::Result<()> {
        self.step()?;
        let ino = self.find(from)?;
        if self.spend(1) == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (old_dir, old_name) = self.place(from)?;
        let (new_dir, new_name) = if over { self.place(to)? } else { self.free_place(to)? };
        match self.dir(new_dir)?.live.get(&new_name).copied() {
            // So POSIX has it: two names of one file stay as they are.
            Some(there) if there == ino => return Ok(()),
            Some(there) => drop(self.file(there)?),
            None => {}
        }
        // Two changes, each of which a cut may keep or drop: that is what a rename without syncs
        // is.
        self.dir(new_dir)?.set(new_name, Some(ino));
        self.dir(old_dir)?.set(old_name, None);
        if let Node::File(file) = &mut self.nodes[ino] {
            file.path = to.to_path_buf();
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        let ino = self.find(path)?;
        let length = self.file(ino)?.live.bytes.len() as u64;
        let (dir, name) = self.place(path)?;
        self.dir(dir)?.set(name, None);
        self.quota = self.quota.map(|left| left + length);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        let ino = self.find(path)?;
        if !self.dir(ino)?.live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = self.place(path)?;
        self.dir(dir)?.set(name, None);
        Ok(())
    }

    /// Counts a sync. Gives whether it is to be done.
    fn begin_sync(&mut self, class: SyncClass) -> io::Result<bool> {
        self.step()?;
        // Counted also when it is left out or fails: tests ask how often it was asked for.
        *self.syncs.entry(class).or_default() += 1;
        if self.failing.remove(&class) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(!self.without.contains(&class))
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let ino = self.find(path)?;
        self.dir(ino)?;
        if self.begin_sync(SyncClass::of_dir(path))? {
            self.dir(ino)?.sync();
        }
        Ok(())
    }

    pub(super) fn drop_cached(&mut self, ino: Ino) {
        if let Ok(file) = self.file(ino) {
            file.drop_cached();
        }
    }

    pub(super) fn sync_file(&mut self, ino: Ino, mut data_only: bool) -> io::Result<()> {
        // By the name that it has now: a file in the spool was one in `tmp` before.
        let class = SyncClass::of_file(&self.file(ino)?.path);
        let wanted = self.begin_sync(class)?;
        if class == SyncClass::File && !data_only {
            *self.syncs.entry(SyncClass::FileAttributes).or_default() += 1;
            data_only = self.without.contains(&SyncClass::FileAttributes);
        }
        if wanted {
            self.file(ino)?.sync(data_only);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, ino: Ino, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.step()?;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.has_room(ino, at + bytes.len())?;
        let now_ms = self.now_ms;
        let done = self.spend(bytes.len());
        let file = self.file(ino)?;
        file.modified_ms = now_ms;
        file.change(Change::Write(at, bytes[..done].to_vec()));
        if done < bytes.len() { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(()) }
    }

    /// Spends so much of the quota, or what is left of it, and gives how much that was.
    fn spend(&mut self, bytes: usize) -> usize {
        let Some(left) = &mut self.quota else { return bytes };
        let spent = bytes.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= spent as u64;
        spent
    }

    pub(super) fn set_len(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        self.step()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.has_room(ino, len)?;
        let now_ms = self.now_ms;
        let file = self.file(ino)?;
        file.modified_ms = now_ms;
        file.change(Change::Len(len));
        Ok(())
    }

    fn has_room(&mut self, ino: Ino, len: usize) -> io::Result<()> {
        if self.capacity == UNLIMITED {
            return Ok(());
        }
        let more = len.saturating_sub(self.file(ino)?.live.bytes.len());
        if more as u64 > self.space()?.free_bytes { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn space(&self) -> io::Result<Space> {
        self.powered()?;
        // Files without a name take no room here; a real disk waits for the last handle.
        let named: HashSet<Ino> = self.nodes.iter().flat_map(named_in).collect();
        let used: usize = named.iter().map(|ino| len_of(&self.nodes[*ino])).sum();
        let free_bytes = self.capacity.saturating_sub(used as u64);
        Ok(Space {
            free_bytes,
            total_bytes: self.capacity,
            reserve_bytes: 0,
            free_inodes: 0,
            total_inodes: 0,
            reserve_inodes: 0,
        })
    }

    pub(super) fn fail_reads(&mut self, path: &Path) -> io::Result<()> {
        let ino = self.find(path)?;
        self.unreadable.insert(ino);
        Ok(())
    }

    pub(super) fn read(&mut self, ino: Ino, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.unreadable.contains(&ino) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let bytes = &self.file(ino)?.live.bytes;
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    pub(super) fn len(&mut self, ino: Ino) -> io::Result<u64> {
        Ok(self.file(ino)?.live.bytes.len() as u64)
    }

    pub(super) fn modified_ms(&mut self, ino: Ino) -> io::Result<i64> {
        Ok(self.file(ino)?.modified_ms)
    }

    pub(super) fn set_xattr(&mut self, ino: Ino, name: &str, value: Option<Vec<u8>>) -> io::Result<()> {
        self.step()?;
        let file = self.file(ino)?;
        if file.live.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        file.change(Change::Xattr(name.to_owned(), value));
        Ok(())
    }

    pub(super) fn xattr(&mut self, ino: Ino, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.file(ino)?.live.xattrs.get(name).cloned())
    }

    pub(super) fn set_read_only(&mut self, ino: Ino, read_only: bool) -> io::Result<()> {
        self.step()?;
        self.file(ino)?.change(Change::ReadOnly(read_only));
        Ok(())
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    })
}

fn named_in(node: &Node) -> Vec<Ino> {
    match node {
        Node::Dir(dir) => dir.live.values().copied().collect(),
        Node::File(_) => Vec::new(),
    }
}

fn len_of(node: &Node) -> usize {
    match node {
        Node::File(file) => file.live.bytes.len(),
        Node::Dir(_) => 0,
    }
}
