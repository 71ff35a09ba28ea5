//! How an entry stands in the index: as in a carried record, with where the journal speaks of it and where the catalogue
//! shows it. Never read by another version, because the index is rebuilt instead.

use chrono::{DateTime, Utc};
use forebay_storage::FileId;

use super::{
    binary::{Field, Input, Output, put_optional, take_optional},
    index::Fault,
    names::split,
};
use crate::Entry;

/// An entry and where the journal speaks of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) entry: Entry,
    /// The record from which on the entry can be replayed: its acceptance, or the latest time it was carried.
    pub(super) basis: u64,
    /// Every record about it, ascending.
    pub(super) seqs: Vec<u64>,
    /// The file that had its name before it was accepted, and the time that file showed.
    pub(super) replaced: Option<(FileId, DateTime<Utc>)>,
    /// Where the catalogue showed it last. It still does if that name leads to it.
    pub(super) place: Option<Place>,
}

/// A name in a folder of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder's number.
    pub(super) folder: u64,
    pub(super) name: String,
}

/// The first byte: whether storage keeps the bytes.
const KEPT: u8 = 1;
const INLINE: u8 = 0;

impl Stored {
    pub(super) fn encode(&self) -> Vec<u8> {
        let entry = &self.entry;
        let mut out = Output::new(192);
        // First and fixed: `is_kept` looks at it without decoding the rest.
        out.byte(if entry.content.is_none() { KEPT } else { INLINE });
        // The other times are near this one.
        out.time(entry.received_at);
        out.base = entry.received_at;
        entry.put(&mut out);
        // Told from the turn, which is near: a byte or two instead of five.
        out.signed(self.basis.wrapping_sub(entry.turn).cast_signed());
        out.number(self.seqs.len() as u64);
        let mut before = entry.turn;
        for seq in &self.seqs {
            out.signed(seq.wrapping_sub(before).cast_signed());
            before = *seq;
        }
        put_optional(&mut out, 1, &self.replaced);
        let place = self.place.as_ref().map(|place| {
            // Nearly always it is: then an empty text stands for it, which is no name.
            let is_own = place.name == split(&entry.name).1;
            (place.folder, if is_own { String::new() } else { place.name.clone() })
        });
        put_optional(&mut out, 2, &place);
        out.bytes
    }

    /// Returns whether storage keeps the bytes of the entry that is stored so.
    pub(super) fn is_kept(bytes: &[u8]) -> bool {
        bytes.first() == Some(&KEPT)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        take(&mut Input::new(bytes)).ok_or_else(|| Fault::Index("an entry cannot be read".into()))
    }

    /// The id of the entry that is stored so.
    pub(super) fn id(bytes: &[u8]) -> Result<FileId, Fault> {
        Ok(Self::decode(bytes)?.entry.id)
    }
}

fn take(input: &mut Input<'_>) -> Option<Stored> {
    input.byte()?;
    input.base = input.time()?;
    let entry = Entry::take(input)?;
    let basis = entry.turn.wrapping_add_signed(input.signed()?);
    let (count, mut before, mut seqs) = (input.number()?, entry.turn, Vec::new());
    for _ in 0..count {
        before = before.wrapping_add_signed(input.signed()?);
        seqs.push(before);
    }
    let replaced = take_optional(input, 1)?;
    let place: Option<(u64, String)> = take_optional(input, 2)?;
    let place = place.map(|(folder, name)| {
        let name = if name.is_empty() { split(&entry.name).1.to_owned() } else { name };
        Place { folder, name }
    });
    // Whatever is left over is a fault of the index, which can be rebuilt.
    input.whole(Stored { entry, basis, seqs, replaced, place })
}
