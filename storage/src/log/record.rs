//! How a record lies in a segment, and how sound records are found among any bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1..4 | zero |
//! | 4..8 | length of the payload |
//! | 8..16 | sequence |
//! | 16..20 | how many sequences earlier the append began that wrote it |
//! | 20..24 | CRC-32C over the segment's salt, bytes 0..20 and the payload |
//!
//! Numbers are little-endian. The payload follows, then zeros up to a multiple of 8. A payload may hold bytes of partners,
//! who know neither the salt nor any checksum with it: nothing that they send can pass for a record ([`Salt`]).

use std::ops::Range;

use super::{Seq, segment::Salt};

/// The record format this code writes.
pub(crate) const VERSION: u8 = 1;
/// Bytes before the payload.
pub(crate) const HEADER: usize = 24;
const ALIGN: usize = 8;

/// A sound record among bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) seq: Seq,
    /// The first sequence of the append that wrote it: everything before that was synced by then.
    pub(crate) batch: Seq,
    pub(crate) payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes it takes in the segment.
    pub(crate) fn size(&self) -> usize {
        size(self.payload.len())
    }
}

/// Bytes that a payload of this length takes in a segment.
pub(crate) fn size(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// The bytes of a record as they go to the log: written straight into the group's buffer, one copy of a file's bytes less.
pub(crate) trait Payload {
    /// How many bytes there are.
    fn length(&self) -> usize;

    /// Adds exactly that many bytes to `out`.
    fn write_to(&self, out: &mut Vec<u8>);
}

impl<T: AsRef<[u8]> + ?Sized> Payload for T {
    fn length(&self) -> usize {
        self.as_ref().len()
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_ref());
    }
}

/// Adds a record to `out`. The caller has bounded the payload.
pub(crate) fn encode<P: Payload + ?Sized>(salt: Salt, seq: Seq, batch: Seq, payload: &P, out: &mut Vec<u8>) {
    let (start, length) = (out.len(), payload.length());
    out.extend_from_slice(&[VERSION, 0, 0, 0]);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&u32::try_from(seq - batch).unwrap_or(u32::MAX).to_le_bytes());
    // Its place is left free, since it covers what stands on both sides of it.
    let checksum = out.len();
    out.extend_from_slice(&[0; 4]);
    payload.write_to(out);
    debug_assert_eq!(out.len(), start + HEADER + length);
    let crc = crc32c::crc32c_append(salt.checksum(&out[start..checksum]), &out[start + HEADER..]);
    out[checksum..start + HEADER].copy_from_slice(&crc.to_le_bytes());
    // Zeros up to the next record, so that a scan finds places at which one may begin.
    out.resize(start + size(length), 0);
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Record(Record<'a>),
    /// A record with a right checksum in a format this code does not know.
    Newer(u8),
    Nothing,
}

/// The record at the beginning of `bytes`, if there is a sound one. No bytes make it panic.
pub(crate) fn parse(salt: Salt, bytes: &[u8]) -> Parsed<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Parsed::Nothing };
    let &[version, a, b, c, l0, l1, l2, l3, s0, s1, s2, s3, s4, s5, s6, s7, e0, e1, e2, e3, c0, c1, c2, c3] = header;
    // Zeros begin no record: that is how the unused end of a segment looks.
    if version == 0 || [a, b, c] != [0; 3] {
        return Parsed::Nothing;
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    // Longer than what there is: torn, or no record.
    let Some(payload) = rest.get(..length) else { return Parsed::Nothing };
    let crc = crc32c::crc32c_append(salt.checksum(&header[..20]), payload);
    if crc != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Parsed::Nothing;
    }
    // After the checksum: only a sound record of another version is one.
    if version != VERSION {
        return Parsed::Newer(version);
    }
    let seq = Seq::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let batch = seq.saturating_sub(u64::from(u32::from_le_bytes([e0, e1, e2, e3])));
    Parsed::Record(Record { seq, batch, payload })
}

/// The sequence and the length of the payload that the header at the beginning of `bytes` speaks of, sound or not. To be
/// looked at before a checksum is computed: among hostile bytes anything may be said.
pub(crate) fn claim(bytes: &[u8]) -> Option<(Seq, usize)> {
    let header = bytes.first_chunk::<HEADER>()?;
    let length = header[4..].first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize)?;
    let seq = header[8..].first_chunk::<8>().map(|seq| Seq::from_le_bytes(*seq))?;
    (header[0] != 0 && header[1..4] == [0; 3]).then_some((seq, length))
}

/// How many bytes the header at the beginning of `bytes` speaks of, sound or not.
pub(crate) fn claimed_size(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(4..8)?;
    Some(size(u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize))
}

/// What a walk over a segment finds, with offsets into its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Record(usize, Record<'a>),
    /// Bytes that are no record, with a sound record behind them.
    Damage(Range<usize>),
    /// Bytes that are no record up to the last one that is not zero, and no sound record behind them.
    Tail(Range<usize>),
    /// Nothing but zeros from here on.
    End(usize),
    /// A record of a later format.
    Newer(u8),
}

/// Walks over the records of a segment, also past damage.
pub(crate) struct Scan<'a> {
    salt: Salt,
    bytes: &'a [u8],
    at: usize,
    next: Seq,
    over: bool,
}

impl<'a> Scan<'a> {
    /// A walk from offset `at`, where the record `next` is expected.
    pub(crate) fn new(salt: Salt, bytes: &'a [u8], at: usize, next: Seq) -> Self {
        Self { salt, bytes, at, next, over: false }
    }

    fn found(&self, at: usize) -> Parsed<'a> {
        let bytes = self.bytes.get(at..).unwrap_or_default();
        // The bytes that were skipped can have held only so many records. This keeps stale and forged ones out.
        let most = self.next.saturating_add(((at - self.at) / HEADER) as u64);
        match claim(bytes) {
            // A sequence that cannot stand here needs no checksum: computing one at each place
            // would take hours on hostile bytes.
            Some((seq, _)) if bytes[0] != VERSION || (self.next..=most).contains(&seq) => parse(self.salt, bytes),
            _ => Parsed::Nothing,
        }
    }

    /// Looks for the next sound record, at each place where one may begin.
    /// Records begin at multiples of eight only.
    fn past_damage(&mut self) -> Piece<'a> {
        let rest = &self.bytes[self.at..];
        let used = used(rest);
        if used == 0 {
            self.over = true;
            return Piece::End(self.at);
        }
        for at in (self.at + ALIGN..self.at + used).step_by(ALIGN) {
            if self.bytes[at] != VERSION {
                continue;
            }
            if let Parsed::Record(record) = self.found(at) {
                let damage = self.at..at;
                (self.at, self.next) = (at, record.seq);
                return Piece::Damage(damage);
            }
        }
        self.over = true;
        Piece::Tail(self.at..self.at + used)
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.over {
            return None;
        }
        if self.at >= self.bytes.len() {
            self.over = true;
            return Some(Piece::End(self.bytes.len()));
        }
        Some(match self.found(self.at) {
            Parsed::Record(record) => {
                let at = self.at;
                self.at += record.size();
                self.next = record.seq.saturating_add(1);
                Piece::Record(at, record)
            }
            Parsed::Newer(version) => {
                self.over = true;
                Piece::Newer(version)
            }
            Parsed::Nothing => self.past_damage(),
        })
    }
}

/// How many bytes there are up to the last one that is not zero.
pub(crate) fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    // From the end and by pages: most of a segment is zeros.
    for chunk in bytes.rchunks(ZEROS.len()) {
        if chunk != &ZEROS[..chunk.len()] {
            return end - chunk.len() + chunk.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        }
        end -= chunk.len();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt::Of([7; 8]);

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(SALT, 7, 7, b"seven", &mut bytes);
        encode(SALT, 8, 7, b"", &mut bytes);
        encode(SALT, 9, 7, &[1; 100], &mut bytes);
        bytes.resize(bytes.len() + 300, 0);
        bytes
    }

    #[test]
    fn records_are_found_in_order() {
        let bytes = three();
        let found: Vec<_> = Scan::new(SALT, &bytes, 0, 7).collect();
        let [Piece::Record(0, seven), Piece::Record(32, eight), Piece::Record(56, nine), Piece::End(184)] = found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!((seven.seq, seven.payload, eight.seq, nine.batch), (7, &b"seven"[..], 8, 7));
    }

    #[test]
    fn a_flipped_bit_takes_one_record_and_no_other() {
        let mut bytes = three();
        bytes[33] ^= 1;
        let found: Vec<_> = Scan::new(SALT, &bytes, 0, 7).collect();
        assert_eq!(found[1], Piece::Damage(32..56));
        assert!(matches!(found[2], Piece::Record(56, Record { seq: 9, .. })), "{found:?}");
    }

    #[test]
    fn damage_at_the_end_is_a_tail_and_a_stale_record_is_none() {
        let mut bytes = three();
        bytes[60] ^= 1;
        assert_eq!(Scan::new(SALT, &bytes, 0, 7).last(), Some(Piece::Tail(56..180)));
        assert_eq!(Scan::new(SALT, &three(), 0, 700).next(), Some(Piece::Tail(0..180)));
    }

    #[test]
    fn the_format_of_version_1_stays() {
        let mut bytes = Vec::new();
        encode(Salt::Absent, 0x0102, 0x0100, b"forebay", &mut bytes);
        let fixture = [
            1, 0, 0, 0, 7, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 158, 133, 67, 2, 102, 111, 114, 101, 98, 97,
            121, 0,
        ];
        assert_eq!(bytes, fixture);
    }

    #[test]
    fn what_is_salted_otherwise_is_no_record() {
        let bytes = three();
        for other in [Salt::Absent, Salt::Of([8; 8])] {
            let found: Vec<_> = Scan::new(other, &bytes, 0, 7).collect();
            assert_eq!(found, [Piece::Tail(0..180)], "{other:?}");
        }
    }
}
