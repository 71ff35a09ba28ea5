//! What an inode holds, and how changes get into it.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use rand::{RngExt, rngs::StdRng};

use super::world::Ino;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file's contents and attributes.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
    pub(super) read_only: bool,
}

/// One change of a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
    Xattr(String, Option<Vec<u8>>),
    ReadOnly(bool),
}

impl Change {
    fn is_data(&self) -> bool {
        matches!(self, Self::Write(..) | Self::Len(_))
    }
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(at, bytes) => self.write(*at, bytes),
            Change::Len(len) => self.bytes.resize(*len, 0),
            Change::Xattr(name, Some(value)) => drop(self.xattrs.insert(name.clone(), value.clone())),
            Change::Xattr(name, None) => drop(self.xattrs.remove(name)),
            Change::ReadOnly(read_only) => self.read_only = *read_only,
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
    }

    /// Keeps some sectors of a write, and perhaps its length.
    fn tear(&mut self, at: usize, bytes: &[u8], rng: &mut StdRng) {
        if rng.random_bool(0.5) && self.bytes.len() < at + bytes.len() {
            self.bytes.resize(at + bytes.len(), 0);
        }
        let mut from = at;
        while from < at + bytes.len() {
            let to = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
            if rng.random_bool(0.5) {
                self.write(from, &bytes[from - at..to - at]);
            }
            from = to;
        }
    }
}

/// A file: what everyone sees, what is on stable storage, and what lies between.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) live: Image,
    durable: Image,
    pending: Vec<Change>,
    /// The name it was given last.
    pub(super) path: PathBuf,
    pub(super) modified_ms: i64,
}

impl File {
    /// An empty file that has just been given this name.
    pub(super) fn named(path: PathBuf, modified_ms: i64) -> Self {
        Self { path, modified_ms, ..Self::default() }
    }

    /// Seen by everybody at once, kept by a power cut only perhaps.
    pub(super) fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.pending.push(change);
    }

    /// In order; attributes that a data sync leaves stay pending.
    pub(super) fn sync(&mut self, data_only: bool) {
        for change in std::mem::take(&mut self.pending) {
            if data_only && !change.is_data() {
                self.pending.push(change);
            } else {
                self.durable.apply(&change);
            }
        }
    }

    /// What is seen is read from the disk again, but for what is still to be written.
    pub(super) fn drop_cached(&mut self) {
        self.live = self.durable.clone();
        self.pending.iter().for_each(|change| self.live.apply(change));
    }

    /// The file after a power cut.
    pub(super) fn after_cut(&self, luck: &Luck, rng: &mut StdRng) -> Self {
        let mut image = self.durable.clone();
        for change in &self.pending {
            // Data and attributes have luck of their own: a cut may keep all of one kind and
            // nothing of the other.
            let kept = rng.random_bool(if change.is_data() { luck.data } else { luck.attributes });
            match change {
                // Between whole and gone.
                Change::Write(at, bytes) if luck.tears && rng.random_bool(0.3) => image.tear(*at, bytes, rng),
                change if kept => image.apply(change),
                _ => {}
            }
        }
        let (path, modified_ms) = (self.path.clone(), self.modified_ms);
        Self { live: image.clone(), durable: image, pending: Vec::new(), path, modified_ms }
    }
}

/// A directory, in the same way.
#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    pub(super) live: BTreeMap<OsString, Ino>,
    durable: BTreeMap<OsString, Ino>,
    pending: Vec<(OsString, Option<Ino>)>,
}

impl Dir {
    /// Gives a name to an inode, or takes it away.
    pub(super) fn set(&mut self, name: OsString, ino: Option<Ino>) {
        apply(&mut self.live, &name, ino);
        self.pending.push((name, ino));
    }

    /// A directory has no order among its names: all of them, or by luck some.
    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable = self.live.clone();
    }

    pub(super) fn after_cut(&self, luck: &Luck, rng: &mut StdRng) -> Self {
        let mut names = self.durable.clone();
        for (name, ino) in &self.pending {
            if rng.random_bool(luck.names) {
                apply(&mut names, name, *ino);
            }
        }
        Self { live: names.clone(), durable: names, pending: Vec::new() }
    }
}

fn apply(names: &mut BTreeMap<OsString, Ino>, name: &OsString, ino: Option<Ino>) {
    match ino {
        Some(ino) => drop(names.insert(name.clone(), ino)),
        None => drop(names.remove(name)),
    }
}

/// How likely unsynced changes are to survive one power cut. Extremes are frequent: everything of one kind kept while
/// all of another is gone is what a real disk does, and what tells syncs apart.
#[derive(Debug)]
pub(super) struct Luck {
    data: f64,
    attributes: f64,
    names: f64,
    tears: bool,
}

impl Luck {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        let mut chance = || [0.0, 0.0, 0.3, 0.7, 1.0, 1.0][rng.random_range(0..6)];
        let (data, attributes, names) = (chance(), chance(), chance());
        Self { data, attributes, names, tears: rng.random_bool(0.5) }
    }
}
