//! The index's own state.

use chrono::{DateTime, Utc};

use super::entry_codec::Input;

/// The layout of keys and values. An index of another layout is made anew.
const FORMAT: u8 = 3;

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
        let newest = self.newest_at.unwrap_or(DateTime::UNIX_EPOCH);
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.applied.to_be_bytes());
        out.extend_from_slice(&newest.timestamp().to_be_bytes());
        out.extend_from_slice(&newest.timestamp_subsec_nanos().to_be_bytes());
        out.extend_from_slice(&self.entries.to_be_bytes());
        out.extend_from_slice(&self.next_lane.to_be_bytes());
        out.extend_from_slice(&self.purged.to_be_bytes());
        out.extend_from_slice(&self.forgotten);
        out.extend_from_slice(&self.folders.to_be_bytes());
        out
    }

    /// None: another layout, or damage.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        if input.bytes::<1>()? != [FORMAT] {
            return None;
        }
        let applied = u64::from_be_bytes(input.bytes()?);
        let seconds = i64::from_be_bytes(input.bytes()?);
        let newest = DateTime::from_timestamp(seconds, u32::from_be_bytes(input.bytes()?))?;
        Some(Self {
            applied,
            newest_at: (newest != DateTime::UNIX_EPOCH).then_some(newest),
            entries: u64::from_be_bytes(input.bytes()?),
            next_lane: u32::from_be_bytes(input.bytes()?),
            purged: u64::from_be_bytes(input.bytes()?),
            forgotten: input.bytes()?,
            folders: u64::from_be_bytes(input.bytes()?),
        })
    }
}
