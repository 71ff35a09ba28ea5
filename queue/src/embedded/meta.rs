//! The index's own state.
//!
//! It is written with every batch of the index, so it is true of exactly what the index has.

use chrono::{DateTime, Utc};

use super::binary::{Input, Output, put_optional, take_optional};

/// The layout of keys and values. An index of another layout is rebuilt.
/// Raise it with any change of `keys`, `entry_codec` or this: nothing is migrated, the journal has
/// it all.
const FORMAT: u8 = 5;

/// Written in every batch, so that entries and the applied sequence agree also after a crash.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Meta {
    /// The last record of the journal that is in the index.
    pub(super) applied: u64,
    /// The newest time in the journal.
    pub(super) newest_at: Option<DateTime<Utc>>,
    /// How many entries there are.
    pub(super) entries: u64,
    /// The number that the next new lane gets.
    pub(super) next_lane: u32,
    /// How many ids are kept as purged.
    pub(super) purged: u64,
    /// The greatest id that was purged and is no longer kept as such; whether a smaller one was purged is to be read
    /// from the journal.
    pub(super) forgotten: [u8; 16],
    /// The number of the newest folder of the catalogue.
    pub(super) folders: u64,
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Output::new(64);
        out.byte(FORMAT);
        out.number(self.applied);
        out.number(self.entries);
        out.number(u64::from(self.next_lane));
        out.number(self.purged);
        out.number(self.folders);
        out.bytes.extend_from_slice(&self.forgotten);
        put_optional(&mut out, 1, &self.newest_at);
        out.bytes
    }

    pub(super) fn is_of_another_format(bytes: &[u8]) -> bool {
        bytes.first() != Some(&FORMAT)
    }

    /// None: another layout, or damage.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        if input.byte()? != FORMAT {
            return None;
        }
        let meta = Self {
            applied: input.number()?,
            entries: input.number()?,
            next_lane: input.number()?.try_into().ok()?,
            purged: input.number()?,
            folders: input.number()?,
            forgotten: input.array()?,
            newest_at: take_optional(&mut input, 1)?,
        };
        input.whole(meta)
    }
}
