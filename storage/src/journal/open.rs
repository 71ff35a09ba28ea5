//! Opens both logs and the packs of a journal.
//!
//! The short log is read whole, and what it holds counts: the journal proper is cut off where that
//! begins, and is written again from it by the emptier. The next sequence is above everything that
//! either log or any pack knows, so that no sequence is ever given to two records.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use parking_lot::Mutex;

use super::{Journal, JournalOptions, emptier::Emptier, packs::Packs, reader::Shared};
use crate::{
    Result,
    disk::Disk,
    log::{self, Log, LogOptions, Recovery, Seq},
};

pub(super) fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &JournalOptions,
    from: Seq,
) -> Result<(Journal, Recovery)> {
    let recent_dir = dir.join("recent");
    let open = |dir: &Path, options, from| Log::open(disk.clone(), dir, options, from, &mut |_, _| {});
    let segment_bytes = options.segment_bytes;
    let layout =
        |first| LogOptions { segment_bytes: options.recent_segment_bytes, first, elsewhere: 0..0, is_salted: true };
    log::make_dir(&**disk, dir)?;
    let (mut recent, mut kept, recent_found, kept_found, cut) = match log::has_segments(&**disk, &recent_dir)? {
        true => {
            // All of it: what is cut off below is nowhere else.
            // The short log first: where it begins decides how much of the journal proper is
            // believed.
            let (recent, found) = open(&recent_dir, layout(1), 0)?;
            // Where the short log is damaged, what the journal proper has of the same records may be all that is left. What
            // is unsettled was never emptied.
            let cut = found.lost.last().map_or(found.first, |lost| lost.end);
            let rest = LogOptions { segment_bytes, first: found.first, elsewhere: cut..found.next, is_salted: false };
            let (mut kept, kept_found) = open(dir, rest, from)?;
            kept.renew_format()?;
            (recent, kept, found, kept_found, cut)
        }
        false => {
            let fresh = LogOptions { segment_bytes, ..LogOptions::default() };
            let (mut kept, found) = open(dir, fresh, from)?;
            // The version before would go on in it, and know nothing of the short log.
            kept.renew_format()?;
            let (recent, recent_found) = open(&recent_dir, layout(found.next), 0)?;
            (recent, kept, recent_found, found, 0)
        }
    };
    let packs = Packs::open(disk.clone(), &dir.join("packs"))?;
    let packed = packs.end_of_all();
    // Something took the end of the short log: what it held is in the journal proper, or lost. Either way no record gets a
    // sequence that one had before.
    let next = kept_found.next.max(recent_found.next);
    recent.skip_to(next.max(packed))?;
    if packed > next {
        kept.skip_to(packed)?;
    }
    let recovery = Recovery { next: recent.next_seq(), ..merged(&kept_found, &recent_found, cut, packed) };
    let emptied = kept.next_seq().max(recent_found.first);
    let shared = Arc::new(Shared {
        recent: recent.reader(),
        kept_reader: kept.reader(),
        kept: Mutex::new(kept),
        packs,
        emptied: AtomicU64::new(emptied),
    });
    let emptier = Emptier::start(shared.clone(), options.recent_bytes)?;
    let most = (options.segment_bytes / 4).min(options.recent_segment_bytes / 4);
    // A record takes so many bytes more in the log, with its frame.
    let most_record = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(64);
    Ok((Journal { recent, shared, emptier, most_record, has_grown: false }, recovery))
}

/// What both logs found. From `cut` on the journal proper was rebuilt from the short log, which is believed there.
fn merged(kept: &Recovery, recent: &Recovery, cut: Seq, packed: Seq) -> Recovery {
    // What was emptied out of the short log was acknowledged before, so nothing of it is unsettled; but a version before
    // this one had no short log.
    let (unsettled, known) =
        if cut == 0 { (&kept.unsettled, &[][..]) } else { (&recent.unsettled, &kept.unsettled[..]) };
    let mut lost: Vec<_> = kept.lost.iter().chain(known).filter(|lost| cut == 0 || lost.start < cut).cloned().collect();
    if kept.next < recent.first {
        lost.push(kept.next..recent.first);
    }
    lost.extend(recent.lost.iter().filter(|lost| lost.end > kept.next).cloned());
    let next = recent.next.max(kept.next);
    if next < packed {
        lost.push(next..packed);
    }
    Recovery {
        torn_bytes: recent.torn_bytes + if cut == 0 { kept.torn_bytes } else { 0 },
        lost,
        unsettled: unsettled.clone(),
        set_aside: kept.set_aside.iter().chain(&recent.set_aside).cloned().collect(),
        first: kept.first,
        next,
    }
}
