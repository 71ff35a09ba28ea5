//! How a record and its content lie in one record of a log.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | 0: a record alone; 1: a record with a content |
//! | 1..5 | length of the record, little-endian |
//! | 5..21 | with a content: the id of its file |
//!
//! The record follows, and then the content.
//!
//! Frames are the payloads of the short log and of packs, so a content moves between them without
//! being taken apart.

use bytes::Bytes;

use super::NewRecord;
use crate::{
    FileId, Result, StorageError,
    log::{Seq, record::Payload},
};

const HEADER: usize = 5;
const ID: usize = 16;

/// What stands in a frame, by offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// The file whose content it brings, if it brings one.
    pub(super) brings: Option<FileId>,
    start: usize,
    end: usize,
}

/// A record with its content, as the frame that goes to the log.
pub(super) struct Frame<'a>(pub(super) &'a NewRecord);

impl Payload for Frame<'_> {
    fn length(&self) -> usize {
        let content = self.0.content.as_ref().map_or(0, |content| ID + content.bytes.len());
        HEADER + self.0.record.len() + content
    }

    fn write_to(&self, frame: &mut Vec<u8>) {
        let NewRecord { record, content } = self.0;
        frame.push(u8::from(content.is_some()));
        // The caller has bounded it.
        frame.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        if let Some(content) = content {
            frame.extend_from_slice(content.id.as_bytes());
        }
        frame.extend_from_slice(record);
        if let Some(content) = content {
            frame.extend_from_slice(&content.bytes);
        }
    }
}

/// The parts of a frame; none when these bytes are none.
pub(super) fn parts(frame: &[u8]) -> Option<Parts> {
    let (&[kind, a, b, c, d], rest) = frame.split_first_chunk::<HEADER>()?;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let (brings, start) = match kind {
        0 => (None, HEADER),
        1 => (Some(FileId::from_bytes(*rest.first_chunk::<ID>()?)), HEADER + ID),
        _ => return None,
    };
    let end = start.checked_add(length).filter(|end| *end <= frame.len())?;
    (brings.is_some() || end == frame.len()).then_some(Parts { brings, start, end })
}

/// The record without its content.
pub(super) fn into_record(mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let parts = parts(&frame)?;
    frame.truncate(parts.end);
    frame.drain(..parts.start);
    // A content was in its room.
    frame.shrink_to_fit();
    Some(frame)
}

/// The record of a frame of the short log.
///
/// # Errors
/// [`StorageError::Unsupported`] when it is no frame: it has a right checksum, so another version wrote it.
pub(super) fn record_of(seq: Seq, frame: Vec<u8>) -> Result<Vec<u8>> {
    into_record(frame).ok_or_else(|| {
        StorageError::Unsupported(format!("record {seq} of the journal's short log is none that this version knows"))
    })
}

/// The content, if there is one.
pub(super) fn into_content(frame: Vec<u8>) -> Option<Bytes> {
    let parts = parts(&frame)?;
    parts.brings.map(|_| Bytes::from(frame).slice(parts.end..))
}

#[cfg(test)]
mod tests {
    use super::{super::NewContent, *};

    const ID_7: [u8; 16] = [7; 16];

    fn encode(new: &NewRecord) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame(new).write_to(&mut bytes);
        assert_eq!(bytes.len(), Frame(new).length());
        bytes
    }

    fn new(content: Option<&'static [u8]>) -> NewRecord {
        let id = FileId::from_bytes(ID_7);
        let content = content.map(|bytes| NewContent { id, bytes: Bytes::from_static(bytes) });
        NewRecord { record: b"record".to_vec(), content }
    }

    #[test]
    fn record_and_content_come_back() {
        for content in [None, Some(&b""[..]), Some(b"content")] {
            let frame = encode(&new(content));
            let brings = parts(&frame).expect("a frame").brings;
            assert_eq!(brings, content.map(|_| FileId::from_bytes(ID_7)));
            assert_eq!(into_record(frame.clone()).as_deref(), Some(&b"record"[..]));
            assert_eq!(into_content(frame).as_deref(), content);
        }
    }

    #[test]
    fn the_format_stays() {
        let fixture = [&b"\x01\x06\0\0\0"[..], &ID_7, b"recordcontent"].concat();
        assert_eq!(encode(&new(Some(b"content"))), fixture);
        assert_eq!(encode(&new(None)), b"\0\x06\0\0\0record");
    }

    #[test]
    fn what_is_no_frame_is_none() {
        let bytes: [&[u8]; 7] =
            [b"", b"\0", b"\x02\0\0\0\0", b"\0\x01\0\0\0", b"\0\0\0\0\0more", b"\x01\0\0\0\0short", &[1; 40]];
        for bytes in bytes {
            assert_eq!(parts(bytes), None, "{bytes:?}");
            assert_eq!(into_record(bytes.to_vec()), None, "{bytes:?}");
            assert_eq!(into_content(bytes.to_vec()), None, "{bytes:?}");
        }
    }
}
