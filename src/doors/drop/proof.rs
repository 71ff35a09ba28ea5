//! The proof that a file is whole, as far as a folder can tell.

use std::{
    fs::Metadata,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use super::{
    options::{Accept, Options},
    place::{self, Found},
    writers::{self, Writers},
};
use crate::ingest::Origin;

/// Times of a file have the grain of the kernel's tick. When they are older than this, whatever is written now changes
/// them, and no file that comes later can have the same.
const QUIET: Duration = Duration::from_millis(50);
/// A file that nobody saw being renamed, and whose times do not show it, must have stood still for this long.
const UNSEEN: Duration = Duration::from_secs(2);
/// The time after which a file that is open for writing is looked at again.
const BUSY: Duration = Duration::from_secs(1);

/// The changes that were seen of a name, shared with those who judge the file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// It was seen to be created under this very name, or to change under it: whoever writes here does not rename.
    pub(super) in_place: AtomicBool,
    /// It was seen to be renamed to this name.
    pub(super) renamed: AtomicBool,
    /// The inode of which `in_place` is said; 0 before the first look.
    pub(super) inode: AtomicU64,
}

impl Seen {
    pub(super) fn is_in_place(&self) -> bool {
        self.in_place.load(Ordering::Acquire)
    }
}

/// The decision about a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is whole.
    Whole,
    /// It may be so after a while.
    Wait(Duration),
    /// A program has it open for writing: it may be whole after a while.
    Busy(Duration),
    /// Something must happen first, which the folder will tell.
    Unproven,
    /// It is not written as `accept` wants it.
    Never(&'static str),
}

/// The age of a file.
pub(super) struct Age {
    /// The time for which it has been seen unchanged.
    pub(super) watched: Duration,
    /// Nanoseconds after 1970 by the wall clock.
    pub(super) now_ns: i64,
}

impl Age {
    /// The time for which it has not changed, by what was seen or by what its times say, whichever is longer.
    fn quiet(&self, origin: &Origin) -> Duration {
        let last = origin.changed_ns.max(origin.modified_ns);
        let said = Duration::from_nanos(u64::try_from(self.now_ns.saturating_sub(last)).unwrap_or(0));
        self.watched.max(said)
    }
}

/// Judges a file that was found.
///
/// The same questions are asked again after the copy ([`doubt`]): a file that changed while it was
/// copied is not accepted.
pub(super) fn judge(options: &Options, found: &Found, seen: &Seen, age: &Age) -> Judgement {
    if writers::of(&found.file) == Writers::Some {
        return Judgement::Busy(BUSY);
    }
    let quiet = age.quiet(&found.origin);
    let needed = match options.accept {
        Accept::Rename if seen.is_in_place() => {
            return Judgement::Never("was written under its final name, and accept = \"rename\" wants it renamed");
        }
        Accept::Rename if was_renamed(&found.origin, seen) => QUIET,
        Accept::Rename => UNSEEN,
        Accept::Marker if !has_marker(options, found) => return Judgement::Unproven,
        Accept::Marker => QUIET,
        Accept::Settled => return after(options.settle, age.watched),
    };
    after(needed, quiet)
}

/// Whole if it was quiet for long enough; otherwise how long to wait.
fn after(needed: Duration, had: Duration) -> Judgement {
    match needed.saturating_sub(had) {
        Duration::ZERO => Judgement::Whole,
        left => Judgement::Wait(left),
    }
}

/// A rename changes the inode and not what was written.
fn was_renamed(origin: &Origin, seen: &Seen) -> bool {
    seen.renamed.load(Ordering::Acquire) || origin.changed_ns > origin.modified_ns
}

/// A marker is a regular file that came no earlier than the last byte: an older one is of another file.
fn has_marker(options: &Options, found: &Found) -> bool {
    let Ok(marker) = place::look(&found.parent, &format!("{}{}", found.name, options.marker)) else { return false };
    let (marker_is, file) = (Origin::of("", &marker), &found.origin);
    marker.is_file() && marker_is.changed_ns >= file.modified_ns.min(file.changed_ns)
}

/// The doubt about a file that was copied, at this moment; it was whole before.
pub(super) fn doubt(options: &Options, found: &Found, seen: &Seen) -> Option<&'static str> {
    let unchanged = |there: &Metadata| {
        use std::os::unix::fs::MetadataExt;
        there.is_file() && there.nlink() == 1 && Origin::of(&found.origin.folder, there) == found.origin
    };
    if !found.file.metadata().is_ok_and(|there| unchanged(&there)) {
        return Some("it changed while it was copied");
    }
    if !place::look(&found.parent, &found.name).is_ok_and(|there| unchanged(&there)) {
        return Some("its name was gone or another file's when it had been copied");
    }
    if writers::of(&found.file) == Writers::Some {
        return Some("a program had it open for writing when it had been copied");
    }
    match options.accept {
        Accept::Rename if seen.is_in_place() => Some("it was written under its final name"),
        Accept::Marker if !has_marker(options, found) => Some("its marker was gone when it had been copied"),
        _ => None,
    }
}
