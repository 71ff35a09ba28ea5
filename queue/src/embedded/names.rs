//! The catalogue as keys of the index, and what each fact does to it.
//!
//! Folders have numbers, so that a folder's rename changes one key whatever is below it. The
//! numbers are private to one index: a rebuilt one may give others, so no record and no caller
//! keeps one. Entries keep the place at which they are shown (`Place`), which is how a file's path
//! is found.
//!
//! # Guarantees
//! - A change of names is checked against the staged state before its record is journalled
//!   (`check_names`), and refused as a whole.
//! - `change_names` and `change_name_of` are called by `QueueState::apply` alone, so names change
//!   with the record that says so and with no other.
//! - A replayed record that does not fit (a file is where a folder should be) changes no name; the
//!   file itself is not affected.
//! - The number of names of each partner is counted along, folders included.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{
    binary::{Input, Output},
    entry_codec::{Place, Stored},
    index::{Fault, Index},
    keys,
    layered::Layered,
    staged::after,
    state::QueueState,
};
use crate::{Entry, Fact, NameFault, Node, QueueError, Record, Shown};
use chrono::{DateTime, Utc};
use forebay_storage::FileId;

/// The number of what is no folder: the one above a login directory.
const NOWHERE: u64 = 0;

/// A partner's login directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) folder: u64,
    /// Names in it and below, folders included.
    pub(super) names: u64,
}

/// The login directories of all partners; in memory too, because each acceptance counts a name.
pub(super) type Roots = BTreeMap<String, Root>;

/// The value of a name's key: a folder's number, or a file with what listings show of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Folder { number: u64, at: DateTime<Utc> },
    File { id: FileId, size_bytes: u64, at: DateTime<Utc> },
}

impl Leaf {
    fn encode(self) -> Vec<u8> {
        let mut out = Output::new(48);
        match self {
            Self::Folder { number, at } => {
                out.byte(0);
                out.number(number);
                out.time(at);
            }
            Self::File { id, size_bytes, at } => {
                out.byte(1);
                out.bytes.extend_from_slice(id.as_bytes());
                out.number(size_bytes);
                out.time(at);
            }
        }
        out.bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut input = Input::new(bytes);
        let mut read = || {
            let leaf = match input.byte()? {
                0 => Self::Folder { number: input.number()?, at: input.time()? },
                1 => {
                    let id = FileId::from_bytes(input.array()?);
                    Self::File { id, size_bytes: input.number()?, at: input.time()? }
                }
                _ => return None,
            };
            input.whole(leaf)
        };
        read().ok_or_else(|| Fault::Index("a name of the catalogue cannot be read".into()))
    }

    pub(super) fn node(self) -> Node {
        match self {
            Self::Folder { at, .. } => Node::Folder { at },
            Self::File { id, size_bytes, at } => Node::File { id, size_bytes, at },
        }
    }
}

/// A folder's own facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// The folder above; none above a login directory, whose name is the partner.
    pub(super) above: u64,
    pub(super) name: String,
    /// The record from which on it can be replayed.
    /// Older records may be forgotten: see `retire`.
    pub(super) basis: u64,
    pub(super) at: DateTime<Utc>,
}

impl Folder {
    fn encode(&self) -> Vec<u8> {
        let mut out = Output::new(32 + self.name.len());
        out.number(self.above);
        out.text(&self.name);
        out.number(self.basis);
        out.time(self.at);
        out.bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut input = Input::new(bytes);
        let mut read = || {
            let (above, name) = (input.number()?, input.text()?);
            let folder = Self { above, name, basis: input.number()?, at: input.time()? };
            input.whole(folder)
        };
        read().ok_or_else(|| Fault::Index("a folder of the catalogue cannot be read".into()))
    }
}

pub(super) fn encode_root(root: Root) -> Vec<u8> {
    let mut out = Output::new(8);
    out.number(root.folder);
    out.number(root.names);
    out.bytes
}

pub(super) fn decode_root(bytes: &[u8]) -> Result<Root, Fault> {
    let mut input = Input::new(bytes);
    let mut read = || {
        let root = Root { folder: input.number()?, names: input.number()? };
        input.whole(root)
    };
    read().ok_or_else(|| Fault::Index("a login directory cannot be read".into()))
}

/// The effect of a record about an entry on where that is shown.
#[derive(Debug)]
pub(super) enum NameEffect {
    None,
    /// It is shown here from now on.
    Shown {
        place: Place,
        /// The file that had the name before, and the time that it showed.
        replaced: Option<(FileId, DateTime<Utc>)>,
    },
}

impl NameEffect {
    /// Notes the effect in the entry that is about to be stored.
    pub(super) fn shape(self, stored: &mut Stored, fact: &Fact) {
        let Self::Shown { place, replaced } = self else { return };
        stored.place = Some(place);
        // Only an acceptance can be withdrawn, and then the file that had the name before is shown
        // again.
        if matches!(fact, Fact::Accepted { .. }) {
            stored.replaced = replaced;
        }
    }
}

/// A path's folder and its last component.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Reading the catalogue.
impl Layered<'_> {
    pub(super) fn leaf(&self, folder: u64, name: &str) -> Result<Option<Leaf>, Fault> {
        self.get(&keys::name(folder, name))?.map(|bytes| Leaf::decode(&bytes)).transpose()
    }

    /// The number of the folder of this path; an error when something on the way is no folder.
    ///
    /// A partner without a login directory has had no names yet: the empty path is an empty folder
    /// then.
    pub(super) fn folder(&self, partner: &str, path: &str) -> Result<u64, Fault> {
        let Some(root) = self.get(&keys::root(partner))? else {
            return if path.is_empty() { Ok(NOWHERE) } else { Err(NameFault::NotFound.into()) };
        };
        let mut folder = decode_root(&root)?.folder;
        // From the login directory down, one look for each component.
        for part in path.split('/').filter(|part| !part.is_empty()) {
            folder = match self.leaf(folder, part)? {
                Some(Leaf::Folder { number, .. }) => number,
                Some(Leaf::File { .. }) => return Err(NameFault::NotFolder.into()),
                None => return Err(NameFault::NotFound.into()),
            };
        }
        Ok(folder)
    }

    /// What a path leads to, with the folder it lies in.
    pub(super) fn find(&self, partner: &str, path: &str) -> Result<Option<(u64, Leaf)>, Fault> {
        let (above, name) = split(path);
        let folder = match self.folder(partner, above) {
            Ok(folder) => folder,
            Err(Fault::Queue(QueueError::Name(_))) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        Ok(self.leaf(folder, name)?.map(|leaf| (folder, leaf)))
    }

    /// The path that leads to a file, with the time that it shows.
    pub(super) fn shown(&self, id: FileId) -> Result<Option<(String, DateTime<Utc>)>, Fault> {
        match self.stored(id)?.and_then(|stored| stored.place) {
            Some(place) => self.shown_at(id, &place),
            None => Ok(None),
        }
    }

    /// The path of a place, with the time that it shows, if that leads to this file.
    pub(super) fn shown_at(&self, id: FileId, place: &Place) -> Result<Option<(String, DateTime<Utc>)>, Fault> {
        match self.leaf(place.folder, &place.name)? {
            // A place is only a hint: another file may have taken the name since.
            Some(Leaf::File { id: there, at, .. }) if there == id => {
                Ok(self.path(place.folder, &place.name)?.map(|(_, path)| (path, at)))
            }
            _ => Ok(None),
        }
    }

    /// The partner and path of a name in a folder.
    ///
    /// `None` when a folder above is gone.
    pub(super) fn path(&self, folder: u64, name: &str) -> Result<Option<(String, String)>, Fault> {
        let (mut folder, mut parts) = (folder, vec![name.to_owned()]);
        loop {
            let Some(bytes) = self.get(&keys::folder(folder))? else { return Ok(None) };
            let above = Folder::decode(&bytes)?;
            // The login directory itself: its name is the partner's.
            if above.above == NOWHERE {
                parts.reverse();
                return Ok(Some((above.name, parts.join("/"))));
            }
            parts.push(above.name);
            folder = above.above;
        }
    }

    /// Visits the names in a folder in byte order, those after `behind`, until `visit` has enough.
    pub(super) fn names(
        &self,
        folder: u64,
        behind: Option<&str>,
        mut visit: impl FnMut(String, Leaf) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let from = behind.map_or_else(|| keys::name(folder, "").to_vec(), |name| after(&keys::name(folder, name)));
        self.scan(&from, &keys::name(folder + 1, ""), |key, value| {
            let name = std::str::from_utf8(&key[9..]).map_err(|_| Fault::Index("a name is not text".into()))?;
            visit(name.to_owned(), Leaf::decode(&value)?)
        })
    }

    /// Collects the files in a folder and below, at most `most`. Without recursion: partners choose
    /// how deep their folders are.
    pub(super) fn files_below(
        &self,
        folder: u64,
        before: &str,
        most: usize,
        found: &mut Vec<(String, FileId)>,
    ) -> Result<(), Fault> {
        // A stack of its own and not that of the thread.
        let mut folders = vec![(folder, before.to_owned())];
        while let Some((folder, before)) = folders.pop() {
            self.names(folder, None, |name, leaf| {
                let path = if before.is_empty() { name } else { format!("{before}/{name}") };
                match leaf {
                    Leaf::Folder { number, .. } => folders.push((number, path)),
                    Leaf::File { id, .. } => found.push((path, id)),
                }
                Ok(if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if found.len() >= most {
                break;
            }
        }
        Ok(())
    }
}

impl From<NameFault> for Fault {
    fn from(fault: NameFault) -> Self {
        Self::Queue(fault.into())
    }
}

/// Changing it.
impl QueueState {
    /// Refuses a change of names that cannot be made. Changes nothing.
    ///
    /// # Errors
    /// [`NameFault`], which the partner reads as a refusal.
    pub(super) fn check_names(&self, index: &Index, fact: &Fact) -> Result<(), Fault> {
        let view = self.staged.over(index);
        let file = |partner: &str, path: &str| match view.find(partner, path)? {
            Some((_, Leaf::File { .. })) => Ok(()),
            Some(_) => Err(NameFault::IsFolder.into()),
            None => Err(Fault::from(NameFault::NotFound)),
        };
        match fact {
            Fact::FolderMade { partner, path } => {
                // The folder above must be there: making it silently would hide a partner's typing
                // mistake.
                view.folder(partner, split(path).0)?;
                match view.find(partner, path)? {
                    Some(_) => Err(NameFault::Exists.into()),
                    None => Ok(()),
                }
            }
            Fact::FolderRemoved { partner, path } => {
                let folder = view.folder(partner, path)?;
                // The first name is enough to know.
                let mut empty = true;
                view.names(folder, None, |_, _| {
                    empty = false;
                    Ok(ControlFlow::Break(()))
                })?;
                if empty { Ok(()) } else { Err(NameFault::NotEmpty.into()) }
            }
            Fact::Hidden { partner, path } | Fact::TimeSet { partner, path, .. } => file(partner, path),
            Fact::Moved { partner, from, to, .. } => check_move(view, partner, from, to),
            _ => Ok(()),
        }
    }

    /// The effect of a record that is about names alone. A record that does not fit changes
    /// nothing, because a replay has to go on after it.
    pub(super) fn change_names(&mut self, index: &Index, seq: u64, record: &Record) -> Result<(), Fault> {
        match &record.fact {
            Fact::FolderMade { partner, path } => {
                self.make_folders(index, partner, path, seq, record.at)?;
            }
            Fact::FolderCarried { partner, path, made_at } => {
                if let Some(number) = self.make_folders(index, partner, path, seq, *made_at)? {
                    self.rest_folder_on(index, number, seq)?;
                }
            }
            Fact::FolderRemoved { partner, path } => self.drop_folder(index, partner, path)?,
            Fact::Hidden { partner, path } => {
                if let Some((folder, Leaf::File { id, .. })) = self.staged.over(index).find(partner, path)? {
                    let place = Place { folder, name: split(path).1.to_owned() };
                    self.unshow(index, partner, id, Some(&place))?;
                }
            }
            Fact::TimeSet { partner, path, shows } => {
                if let Some((folder, Leaf::File { id, size_bytes, .. })) =
                    self.staged.over(index).find(partner, path)?
                {
                    let leaf = Leaf::File { id, size_bytes, at: *shows };
                    self.staged.set_name(keys::name(folder, split(path).1), Some(leaf.encode()));
                }
            }
            Fact::Moved { partner, from, to, .. } => self.move_name(index, partner, from, to, seq, record.at)?,
            Fact::NamesForgotten { partner } => self.forget_names(index, partner)?,
            _ => {}
        }
        Ok(())
    }

    /// Applies the effect that a record about an entry has on names, and returns where the entry is
    /// shown from now on. `old` is the entry as it stood before.
    pub(super) fn change_name_of(
        &mut self,
        index: &Index,
        seq: u64,
        record: &Record,
        new: Option<&Entry>,
        old: Option<&Stored>,
    ) -> Result<NameEffect, Fault> {
        let at = |entry: &Entry| entry.received_at;
        let place = old.and_then(|old| old.place.as_ref());
        match (&record.fact, new, old) {
            // The name that it was sent under is also where it is shown.
            (Fact::Accepted { .. }, Some(new), _) => self.show(index, new, place, &new.name, at(new), seq),
            (Fact::Named { .. }, Some(new), Some(_)) => {
                // A rename keeps the time that the file shows.
                let shown = place.map(|place| self.staged.over(index).shown_at(new.id, place)).transpose()?.flatten();
                let shows = shown.map_or(at(new), |(_, shows)| shows);
                self.show(index, new, place, &new.name, shows, seq)
            }
            (Fact::ShownAt { path, shows, .. }, Some(new), _) => self.show(index, new, place, path, *shows, seq),
            (Fact::Carried { shown: Shown::At { path, shows }, .. }, Some(new), _) => {
                self.show(index, new, place, path, *shows, seq)
            }
            // Versions before this one did not say where a file is shown: it is shown under its own
            // name.
            (Fact::Carried { shown: Shown::Unknown, .. }, Some(new), None) => {
                self.show(index, new, place, &new.name, at(new), seq)
            }
            (Fact::Carried { shown: Shown::Nowhere, .. }, Some(new), _) => {
                self.unshow(index, &new.partner, new.id, place)?;
                Ok(NameEffect::None)
            }
            (Fact::Withdrawn { .. }, _, Some(old)) => {
                // Looked up before the name is taken away.
                let shown = place.map(|place| self.staged.over(index).shown_at(old.entry.id, place)).transpose()?;
                self.unshow(index, &old.entry.partner, old.entry.id, place)?;
                if let (Some((path, _)), Some((before, shows))) = (shown.flatten(), old.replaced) {
                    self.show_again(index, before, &path, shows, seq)?;
                }
                Ok(NameEffect::None)
            }
            (Fact::Purged, _, Some(old)) => {
                self.unshow(index, &old.entry.partner, old.entry.id, place)?;
                Ok(NameEffect::None)
            }
            _ => Ok(NameEffect::None),
        }
    }

    /// Shows the file again whose name a withdrawn one had taken, if it is still there and shown
    /// nowhere else.
    fn show_again(
        &mut self,
        index: &Index,
        id: FileId,
        path: &str,
        shows: DateTime<Utc>,
        seq: u64,
    ) -> Result<(), Fault> {
        let Some(stored) = self.stored(index, id)? else { return Ok(()) };
        if self.staged.over(index).shown(id)?.is_none()
            && let NameEffect::Shown { place, .. } = self.show(index, &stored.entry, None, path, shows, seq)?
        {
            self.set_place(index, id, place)?;
        }
        Ok(())
    }

    /// Shows a file under a name, wherever it was before (`old`); folders above are made. A folder of that name, or a file
    /// on the way, keeps it from being shown.
    fn show(
        &mut self,
        index: &Index,
        entry: &Entry,
        old: Option<&Place>,
        path: &str,
        shows: DateTime<Utc>,
        seq: u64,
    ) -> Result<NameEffect, Fault> {
        // First: a file has one name at most, also when the new one cannot be given.
        self.unshow(index, &entry.partner, entry.id, old)?;
        let (above, name) = split(path);
        let Some(folder) = self.make_folders(index, &entry.partner, above, seq, entry.received_at)? else {
            return Ok(NameEffect::None);
        };
        let replaced = match self.staged.over(index).leaf(folder, name)? {
            Some(Leaf::Folder { .. }) => return Ok(NameEffect::None),
            // Its own place leads nowhere from now on.
            Some(Leaf::File { id, at, .. }) => Some((id, at)),
            None => {
                // Only a new name counts: a file that replaces another takes over its name.
                self.count_names(&entry.partner, 1);
                None
            }
        };
        let leaf = Leaf::File { id: entry.id, size_bytes: entry.size_bytes, at: shows };
        self.staged.set_name(keys::name(folder, name), Some(leaf.encode()));
        Ok(NameEffect::Shown { place: Place { folder, name: name.to_owned() }, replaced })
    }

    /// Takes the name of this place away, if it leads to this file. Another file may have it by
    /// now.
    fn unshow(&mut self, index: &Index, partner: &str, id: FileId, place: Option<&Place>) -> Result<(), Fault> {
        let Some(place) = place else { return Ok(()) };
        match self.staged.over(index).leaf(place.folder, &place.name)? {
            Some(Leaf::File { id: there, .. }) if there == id => {
                self.staged.set_name(keys::name(place.folder, &place.name), None);
                self.count_names(partner, -1);
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the number of a folder, which is made with those above it if need be, and `None`
    /// when a file is in the way.
    fn make_folders(
        &mut self,
        index: &Index,
        partner: &str,
        path: &str,
        seq: u64,
        at: DateTime<Utc>,
    ) -> Result<Option<u64>, Fault> {
        let mut folder = self.root(partner, seq, at);
        for part in path.split('/').filter(|part| !part.is_empty()) {
            folder = match self.staged.over(index).leaf(folder, part)? {
                Some(Leaf::Folder { number, .. }) => number,
                Some(Leaf::File { .. }) => return Ok(None),
                None => {
                    // Never used again: a place that kept the number of a folder that was removed
                    // must lead nowhere.
                    let number = self.next_folder();
                    self.staged.set_name(keys::name(folder, part), Some(Leaf::Folder { number, at }.encode()));
                    self.set_folder(number, &Folder { above: folder, name: part.to_owned(), basis: seq, at });
                    self.count_names(partner, 1);
                    number
                }
            };
        }
        Ok(Some(folder))
    }

    /// The folder of a partner's login directory, which is made if need be.
    fn root(&mut self, partner: &str, seq: u64, at: DateTime<Utc>) -> u64 {
        if let Some(root) = self.roots.get(partner) {
            return root.folder;
        }
        let folder = self.next_folder();
        // In memory at once: the records of one group build on each other before any is in the
        // index.
        self.roots.insert(partner.to_owned(), Root { folder, names: 0 });
        self.set_folder(folder, &Folder { above: NOWHERE, name: partner.to_owned(), basis: seq, at });
        self.publish_root(partner);
        folder
    }

    fn next_folder(&mut self) -> u64 {
        self.meta.folders += 1;
        self.meta.folders
    }

    fn set_folder(&mut self, number: u64, folder: &Folder) {
        self.staged.set_name(keys::folder(number), Some(folder.encode()));
    }

    /// Notes that the folder can be replayed from this record on.
    fn rest_folder_on(&mut self, index: &Index, number: u64, seq: u64) -> Result<(), Fault> {
        if let Some(bytes) = self.staged.get(index, &keys::folder(number))? {
            let folder = Folder { basis: seq, ..Folder::decode(&bytes)? };
            self.set_folder(number, &folder);
        }
        Ok(())
    }

    /// Removes a folder. That it is empty was checked when the record was written.
    fn drop_folder(&mut self, index: &Index, partner: &str, path: &str) -> Result<(), Fault> {
        // A replay may find it gone, or a file in its place.
        let Some((above, Leaf::Folder { number, .. })) = self.staged.over(index).find(partner, path)? else {
            return Ok(());
        };
        self.staged.set_name(keys::name(above, split(path).1), None);
        self.staged.set_name(keys::folder(number), None);
        self.count_names(partner, -1);
        Ok(())
    }

    /// Gives a file or folder another name. What is below a folder moves with it, because its
    /// number stays.
    fn move_name(
        &mut self,
        index: &Index,
        partner: &str,
        from: &str,
        to: &str,
        seq: u64,
        at: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let Some((old_folder, leaf)) = self.staged.over(index).find(partner, from)? else { return Ok(()) };
        // Nothing to do, and below it would be counted as a name that is replaced.
        if from == to {
            return Ok(());
        }
        let (above, name) = split(to);
        // Before anything is taken away: when a file is in the way, the old name stays.
        let Some(folder) = self.make_folders(index, partner, above, seq, at)? else { return Ok(()) };
        match (self.staged.over(index).leaf(folder, name)?, leaf) {
            // Checked when it was written; a replay without that check goes on without the move.
            (Some(Leaf::Folder { .. }), _) | (Some(_), Leaf::Folder { .. }) => return Ok(()),
            // The file that is replaced loses its name; the one that moves brings its own along.
            (Some(Leaf::File { .. }), _) => self.count_names(partner, -1),
            (None, _) => {}
        }
        self.staged.set_name(keys::name(old_folder, split(from).1), None);
        self.staged.set_name(keys::name(folder, name), Some(leaf.encode()));
        match leaf {
            Leaf::File { id, .. } => self.set_place(index, id, Place { folder, name: name.to_owned() })?,
            Leaf::Folder { number, .. } => {
                if let Some(bytes) = self.staged.get(index, &keys::folder(number))? {
                    let moved = Folder { above: folder, name: name.to_owned(), ..Folder::decode(&bytes)? };
                    self.set_folder(number, &moved);
                }
            }
        }
        Ok(())
    }

    /// Forgets all names of a partner, and its login directory. Entries stay: their places lead
    /// nowhere. A folder's names are gathered first: what is scanned must not be changed while it
    /// is.
    fn forget_names(&mut self, index: &Index, partner: &str) -> Result<(), Fault> {
        self.forget_keys_of(index, partner)?;
        let Some(root) = self.roots.remove(partner) else { return Ok(()) };
        let mut folders = vec![root.folder];
        while let Some(folder) = folders.pop() {
            let mut names = Vec::new();
            self.staged.over(index).names(folder, None, |name, leaf| {
                names.push((name, leaf));
                Ok(ControlFlow::Continue(()))
            })?;
            for (name, leaf) in names {
                self.staged.set_name(keys::name(folder, &name), None);
                if let Leaf::Folder { number, .. } = leaf {
                    folders.push(number);
                }
            }
            self.staged.set_name(keys::folder(folder), None);
        }
        self.staged.set_name(keys::root(partner), None);
        Ok(())
    }

    /// Counts names that were added or taken away, and stages the count with them.
    fn count_names(&mut self, partner: &str, more: i64) {
        if let Some(root) = self.roots.get_mut(partner) {
            root.names = root.names.saturating_add_signed(more);
        }
        self.publish_root(partner);
    }

    fn publish_root(&mut self, partner: &str) {
        if let Some(root) = self.roots.get(partner) {
            self.staged.set_name(keys::root(partner), Some(encode_root(*root)));
        }
    }
}

/// Checks a move: `from` is there, `to` is free or a file that a file may replace, and no folder
/// goes into itself.
fn check_move(view: Layered<'_>, partner: &str, from: &str, to: &str) -> Result<(), Fault> {
    let Some((_, leaf)) = view.find(partner, from)? else { return Err(NameFault::NotFound.into()) };
    // "a" into "a/b": the folder would be below itself, and nothing would lead there.
    if to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
        return Err(NameFault::IntoItself.into());
    }
    view.folder(partner, split(to).0)?;
    match (leaf, view.find(partner, to)?) {
        (Leaf::Folder { .. }, Some(_)) => Err(NameFault::Exists.into()),
        (Leaf::File { .. }, Some((_, Leaf::Folder { .. }))) => Err(NameFault::IsFolder.into()),
        _ => Ok(()),
    }
}

/// Folders whose record lies before `cutoff`: partner, path and when they were made.
pub(super) fn folders_before(index: &Index, cutoff: u64) -> Result<Vec<(String, String, DateTime<Utc>)>, Fault> {
    let nothing = super::layered::Changes::new();
    let view = Layered { changes: &nothing, index };
    let mut folders = Vec::new();
    index.scan(b"h", &keys::behind(b'h'), |_, value| {
        let folder = Folder::decode(&value)?;
        // Login directories need no record of their own: the first name in them makes them again.
        if folder.basis < cutoff && folder.above != NOWHERE {
            folders.extend(view.path(folder.above, &folder.name)?.map(|(partner, path)| (partner, path, folder.at)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(folders)
}
