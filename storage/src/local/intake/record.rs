//! How a record lies in the intake log.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | kind: 1 file, 2 gone, 3 settled |
//! | 1..17 | file, gone: the id; settled: the first sequence that is not durable by itself, then zeros |
//! | 17..49 | file: the mask |
//! | 49..53 | file: length of the metadata |
//!
//! Numbers are little-endian. Metadata and bytes of a file follow, both under the mask: a partner must not be able to
//! send what looks like a record of its own when a damaged log is searched for sound ones.

use bytes::Bytes;

use crate::{FileId, FileMeta, log::Seq};

const FILE: u8 = 1;
const GONE: u8 = 2;
const SETTLED: u8 = 3;

/// Bytes that repeat over metadata and contents, by exclusive or. Nobody else may be able to know them beforehand.
pub(super) type Mask = [u8; 32];

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// This file is in the spool.
    File(FileId),
    /// It no longer is.
    Gone(FileId),
    /// Everything before this sequence is durable by itself.
    Settled(Seq),
}

pub(super) fn file(id: FileId, mask: &Mask, meta: &[u8], pieces: &[Bytes]) -> Vec<u8> {
    let len = pieces.iter().map(Bytes::len).sum::<usize>() + meta.len();
    let mut record = Vec::with_capacity(53 + len);
    record.push(FILE);
    record.extend_from_slice(id.as_bytes());
    record.extend_from_slice(mask);
    record.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(u32::MAX).to_le_bytes());
    let start = record.len();
    record.extend_from_slice(meta);
    pieces.iter().for_each(|piece| record.extend_from_slice(piece));
    apply(mask, &mut record[start..]);
    record
}

pub(super) fn gone(id: FileId) -> Vec<u8> {
    [&[GONE][..], id.as_bytes()].concat()
}

pub(super) fn settled(before: Seq) -> Vec<u8> {
    [&[SETTLED][..], &before.to_le_bytes(), &[0; 8]].concat()
}

pub(super) fn head(record: &[u8]) -> Option<Head> {
    let (kind, rest) = record.split_first()?;
    let about = rest.first_chunk::<16>()?;
    match *kind {
        FILE => Some(Head::File(FileId::from_bytes(*about))),
        GONE => Some(Head::Gone(FileId::from_bytes(*about))),
        SETTLED => Some(Head::Settled(Seq::from_le_bytes(*about.first_chunk::<8>()?))),
        _ => None,
    }
}

/// Metadata and bytes of a file's record.
pub(super) fn contents(record: &[u8]) -> Option<(FileMeta, Vec<u8>)> {
    let (mask, rest) = record.get(17..)?.split_first_chunk::<32>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let mut meta = rest.to_vec();
    apply(mask, &mut meta);
    let len = u32::from_le_bytes(*len) as usize;
    let bytes = (len <= meta.len()).then(|| meta.split_off(len))?;
    Some((serde_json::from_slice(&meta).ok()?, bytes))
}

fn apply(mask: &Mask, bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(mask.len()) {
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::Sha256;

    #[test]
    fn what_is_written_is_read() {
        let id = FileId::new(DateTime::UNIX_EPOCH);
        let meta = FileMeta {
            version: 1,
            id,
            partner: "clinic".to_owned(),
            name: "a.hl7".to_owned(),
            door: "ftp".to_owned(),
            size_bytes: 6,
            sha256: Sha256([7; 32]),
            received_at: DateTime::UNIX_EPOCH,
            origin: None,
        };
        let json = serde_json::to_vec(&meta).expect("json");
        let record = file(id, &[0x5a; 32], &json, &[Bytes::from_static(b"MSH"), Bytes::from_static(b"|^~")]);
        assert_eq!(head(&record), Some(Head::File(id)));
        assert_eq!(contents(&record), Some((meta, b"MSH|^~".to_vec())));
        assert_eq!(head(&gone(id)), Some(Head::Gone(id)));
        assert_eq!(head(&settled(1 << 40)), Some(Head::Settled(1 << 40)));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.random_range(0..200)];
            random.fill(&mut bytes[..]);
            if let Some(first) = bytes.first_mut() {
                *first %= 5;
            }
            let _ = (head(&bytes), contents(&bytes));
        }
    }
}
