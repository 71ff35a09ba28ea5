//! Taking an accepted file out of its folder, without ever removing what came in its place.

use std::{
    fs::{File, Metadata},
    io,
    path::Path,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat, renameat_with, unlinkat},
    io::Errno,
};

use super::{
    options::{Accept, After, Options},
    place::{self, ASIDE},
    writers::{self, Writers},
};
use crate::ingest::{FileId, Origin};

/// The outcome of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// It is out of the folder.
    Gone,
    /// Something else has its name, or it was written to: that stays.
    Changed,
}

/// Returns whether this is the file that was taken. The time of its inode does not count: renaming it here changes
/// that.
fn is_same(origin: &Origin, there: &Metadata) -> bool {
    let now = Origin::of("", there);
    there.is_file()
        && (now.inode, now.size_bytes, now.modified_ns) == (origin.inode, origin.size_bytes, origin.modified_ns)
}

/// Removes the file `name` of `folder`, which was accepted as `id`.
/// Blocks. An error means that it is still there, and is tried again.
pub(super) fn remove(options: &Options, name: &str, id: FileId, origin: &Origin) -> io::Result<Removed> {
    let (parent, last) = match place::parent(&options.directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removed::Gone),
        other => other?,
    };
    match place::look(&parent, last) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return finish_aside(&parent, id, origin),
        Err(error) => return Err(error),
        Ok(there) if !is_same(origin, &there) => return Ok(Removed::Changed),
        Ok(_) => refuse_written(&parent, last)?,
    }
    if options.accept == Accept::Marker {
        // First: a marker that outlives its file would speak for the next one of that name.
        if_there(unlinkat(&parent, format!("{last}{}", options.marker), AtFlags::empty()))?;
    }
    match (options.after, &options.move_to) {
        (After::Move, Some(to)) => move_to(&parent, last, to, id, origin),
        _ => delete(&parent, last, id, origin),
    }
}

/// Refuses a file that some process has open for writing: it would write into what is gone. Under a name that nobody
/// else knows it cannot be opened again, so there nobody writes after this.
fn refuse_written(parent: &File, name: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // One that cannot be opened tells nothing of its writers.
    let Ok(file) = openat(parent, name, flags, Mode::empty()) else { return Ok(()) };
    match writers::of(&File::from(file)) {
        Writers::Some => Err(io::Error::new(io::ErrorKind::ResourceBusy, "a program has it open for writing")),
        Writers::None | Writers::Unknown => Ok(()),
    }
}

/// A name cannot be removed on the condition that it means this very file and that nobody writes to it. So it is
/// renamed first, looked at, and given back when it is another or is written to.
fn delete(parent: &File, name: &str, id: FileId, origin: &Origin) -> io::Result<Removed> {
    let aside = format!("{ASIDE}{id}");
    // First the rename, then the look: nobody can put another file under this name in between.
    rename_new(parent, name, parent, &aside)?;
    if let Err(written) = refuse_written(parent, &aside) {
        rename_new(parent, &aside, parent, name)?;
        return Err(written);
    }
    match place::look(parent, &aside) {
        Ok(there) if is_same(origin, &there) => match unlinkat(parent, &*aside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(Removed::Gone),
            Err(error) => {
                rename_new(parent, &aside, parent, name)?;
                Err(error.into())
            }
        },
        _ => {
            rename_new(parent, &aside, parent, name)?;
            Ok(Removed::Changed)
        }
    }
}

/// Moves the file to another directory, under its own name or one with its id.
fn move_to(parent: &File, name: &str, to: &Path, id: FileId, origin: &Origin) -> io::Result<Removed> {
    let target = place::directory(to)?;
    let mut moved = name.to_owned();
    match renameat_with(parent, name, &target, &*moved, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => {
            moved = beside(name, id);
            renameat_with(parent, name, &target, &*moved, RenameFlags::NOREPLACE)?;
        }
        other => other?,
    }
    if let Err(written) = refuse_written(&target, &moved) {
        rename_new(&target, &moved, parent, name)?;
        return Err(written);
    }
    match place::look(&target, &moved) {
        Ok(there) if is_same(origin, &there) => {
            // The target's directory before `Gone`: `Known::forget` syncs the folder and then
            // forgets the origin. A power cut in between must not leave the file under neither
            // name.
            target.sync_all()?;
            Ok(Removed::Gone)
        }
        _ => {
            rename_new(&target, &moved, parent, name)?;
            Ok(Removed::Changed)
        }
    }
}

/// A name that no other file has: with the id, cut where it would be too long.
fn beside(name: &str, id: FileId) -> String {
    let mut end = name.len().min(255 - 37);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}.{id}", &name[..end])
}

/// Removes what a crash left under our own name, if it is the file that was taken.
fn finish_aside(parent: &File, id: FileId, origin: &Origin) -> io::Result<Removed> {
    let aside = format!("{ASIDE}{id}");
    refuse_written(parent, &aside)?;
    match place::look(parent, &aside) {
        Ok(there) if is_same(origin, &there) => if_there(unlinkat(parent, aside, AtFlags::empty()))?,
        // Another file's: it has to be given its name back, which only the sweep does that knows it.
        Ok(_) => return Ok(Removed::Changed),
        Err(_) => {}
    }
    Ok(Removed::Gone)
}

/// Gives the file back its name that a crash left under ours and that is not what was taken.
pub(super) fn give_back(folder: &Path, name: &str, id: FileId) -> io::Result<()> {
    let (parent, last) = place::parent(folder, name)?;
    rename_new(&parent, &format!("{ASIDE}{id}"), &parent, last)
}

/// Renames, and replaces nothing where the file system can promise that.
fn rename_new(from: &File, name: &str, to: &File, new: &str) -> io::Result<()> {
    match renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) if new.starts_with(ASIDE) => Ok(renameat(from, name, to, new)?),
        other => Ok(other?),
    }
}

fn if_there(done: Result<(), Errno>) -> io::Result<()> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    fn options(dir: &Path, extra: &str) -> Options {
        toml::from_str(&format!("directory = {:?}\npartner = \"clinic\"\n{extra}", dir.join("in"))).unwrap()
    }

    fn id() -> FileId {
        "019dc1c0-f47b-7000-8000-000000000001".parse().unwrap()
    }

    fn house() -> (tempfile::TempDir, Origin) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::create_dir(dir.path().join("done")).unwrap();
        fs::write(dir.path().join("in/a"), "taken").unwrap();
        let origin = Origin::of("", &fs::metadata(dir.path().join("in/a")).unwrap());
        (dir, origin)
    }

    #[test]
    fn what_came_in_its_place_stays() {
        let (dir, origin) = house();
        let options = options(dir.path(), "");
        // The inode is still in use, so that the new file cannot get its number.
        let _open = fs::File::open(dir.path().join("in/a")).unwrap();
        fs::write(dir.path().join("in/.new"), "other").unwrap();
        fs::rename(dir.path().join("in/.new"), dir.path().join("in/a")).unwrap();
        assert_eq!(remove(&options, "a", id(), &origin).unwrap(), Removed::Changed);
        let parent = place::directory(&options.directory).unwrap();
        assert_eq!(delete(&parent, "a", id(), &origin).unwrap(), Removed::Changed, "also when it came between");
        assert_eq!(fs::read(dir.path().join("in/a")).unwrap(), b"other");
        let names: Vec<_> = fs::read_dir(dir.path().join("in")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["a"]);
    }

    #[test]
    fn what_was_written_after_it_was_taken_stays() {
        let (dir, origin) = house();
        fs::write(dir.path().join("in/a"), "taken and more").unwrap();
        let parent = place::directory(&dir.path().join("in")).unwrap();
        assert_eq!(delete(&parent, "a", id(), &origin).unwrap(), Removed::Changed);
        assert_eq!(fs::read(dir.path().join("in/a")).unwrap(), b"taken and more");
    }

    /// What is written through a file that was opened before it was removed would be gone with it.
    #[test]
    fn what_a_program_has_open_for_writing_stays_until_that_is_over() {
        use std::io::Write;
        for extra in ["", "after = \"move\"\nmove_to = \"@/done\""] {
            let (dir, origin) = house();
            let options = options(dir.path(), &extra.replace('@', &dir.path().to_string_lossy()));
            let parent = place::directory(&options.directory).unwrap();
            let mut writer = fs::File::options().append(true).open(dir.path().join("in/a")).unwrap();
            assert!(remove(&options, "a", id(), &origin).is_err());
            match &options.move_to {
                Some(to) => assert!(move_to(&parent, "a", to, id(), &origin).is_err(), "also when it came between"),
                None => assert!(delete(&parent, "a", id(), &origin).is_err(), "also when it came between"),
            }
            writer.write_all(b" and more").unwrap();
            drop(writer);
            assert_eq!(remove(&options, "a", id(), &origin).unwrap(), Removed::Changed);
            assert_eq!(fs::read(dir.path().join("in/a")).unwrap(), b"taken and more");
            assert_eq!(fs::read_dir(dir.path().join("in")).unwrap().count(), 1);
            assert_eq!(fs::read_dir(dir.path().join("done")).unwrap().count(), 0);
        }
    }

    #[test]
    fn it_is_moved_beside_what_is_there() {
        let (dir, origin) = house();
        let options = options(dir.path(), &format!("after = \"move\"\nmove_to = {:?}", dir.path().join("done")));
        fs::write(dir.path().join("done/a"), "earlier").unwrap();
        assert_eq!(remove(&options, "a", id(), &origin).unwrap(), Removed::Gone);
        assert_eq!(fs::read(dir.path().join("done/a")).unwrap(), b"earlier");
        let moved = dir.path().join(format!("done/a.{}", id()));
        assert_eq!((fs::read(&moved).unwrap(), fs::metadata(&moved).unwrap().ino()), (b"taken".to_vec(), origin.inode));
        assert!(beside(&"ö".repeat(127), id()).len() <= 255);
    }

    #[test]
    fn what_a_crash_left_under_our_name_is_removed() {
        let (dir, origin) = house();
        let options = options(dir.path(), "");
        fs::rename(dir.path().join("in/a"), dir.path().join(format!("in/{ASIDE}{}", id()))).unwrap();
        assert_eq!(remove(&options, "a", id(), &origin).unwrap(), Removed::Gone);
        assert_eq!(fs::read_dir(dir.path().join("in")).unwrap().count(), 0);
    }
}
