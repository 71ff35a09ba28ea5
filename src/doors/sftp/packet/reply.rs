//! Replies to clients (draft-ietf-secsh-filexfer-02, section 7).
//!
//! Numbers of packets: VERSION 2, STATUS 101, HANDLE 102, DATA 103, NAME 104, ATTRS 105,
//! EXTENDED_REPLY 201.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Attributes, Code, LENGTH_BYTES, VERSION};

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// A line for people, as `ls -l` has it.
    pub line: String,
    /// Its attributes.
    pub attributes: Attributes,
}

/// A reply as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply;

impl Reply {
    /// The answer to [`Request::Init`](super::Request::Init), with the extensions that are served.
    #[must_use]
    pub fn version() -> Bytes {
        let mut packet = begin(2);
        packet.put_u32(VERSION);
        for (name, version) in [
            ("posix-rename@openssh.com", "1"),
            ("statvfs@openssh.com", "2"),
            ("fstatvfs@openssh.com", "2"),
            ("fsync@openssh.com", "1"),
            ("limits@openssh.com", "1"),
        ] {
            put(&mut packet, name.as_bytes());
            put(&mut packet, version.as_bytes());
        }
        end(packet)
    }

    /// The outcome of a request. Control characters never get into the text: clients print it.
    #[must_use]
    pub fn status(id: u32, code: Code, text: &str) -> Bytes {
        // Names of files stand in these texts.
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let mut packet = begin(101);
        packet.put_u32(id);
        packet.put_u32(code as u32);
        put(&mut packet, text.as_bytes());
        // The language of the text (RFC 1766, as the draft wants).
        put(&mut packet, b"en");
        end(packet)
    }

    /// The handle of something that is open now.
    #[must_use]
    pub fn handle(id: u32, handle: u32) -> Bytes {
        let mut packet = begin(102);
        packet.put_u32(id);
        put(&mut packet, &handle.to_be_bytes());
        end(packet)
    }

    /// Bytes of a file: at most [`MAX_DATA_BYTES`](super::MAX_DATA_BYTES).
    #[must_use]
    pub fn data(id: u32, data: &[u8]) -> Bytes {
        let mut packet = BytesMut::with_capacity(DATA_HEAD_BYTES + data.len());
        packet.put_u32(0);
        packet.put_u8(103);
        packet.put_u32(id);
        put(&mut packet, data);
        end(packet)
    }

    /// Names.
    #[must_use]
    pub fn names(id: u32, names: &[Named]) -> Bytes {
        let mut packet = begin(104);
        packet.put_u32(id);
        packet.put_u32(names.len() as u32);
        for one in names {
            put(&mut packet, one.name.as_bytes());
            put(&mut packet, one.line.as_bytes());
            one.attributes.write(&mut packet);
        }
        end(packet)
    }

    /// The attributes of a file.
    #[must_use]
    pub fn attributes(id: u32, attributes: &Attributes) -> Bytes {
        let mut packet = begin(105);
        packet.put_u32(id);
        attributes.write(&mut packet);
        end(packet)
    }

    /// Numbers, as the extensions of OpenSSH want them.
    #[must_use]
    pub fn numbers(id: u32, numbers: &[u64]) -> Bytes {
        let mut packet = begin(201);
        packet.put_u32(id);
        numbers.iter().for_each(|number| packet.put_u64(*number));
        end(packet)
    }
}

const DATA_HEAD_BYTES: usize = LENGTH_BYTES + 1 + 4 + 4;

/// Begins a packet; its length is filled in by [`end`].
fn begin(kind: u8) -> BytesMut {
    let mut packet = BytesMut::with_capacity(64);
    packet.put_u32(0);
    packet.put_u8(kind);
    packet
}

/// Fills the length in.
fn end(mut packet: BytesMut) -> Bytes {
    let length = (packet.len() - LENGTH_BYTES) as u32;
    packet[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    packet.freeze()
}

fn put(packet: &mut BytesMut, string: &[u8]) {
    packet.put_u32(string.len() as u32);
    packet.put_slice(string);
}
