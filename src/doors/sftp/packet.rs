//! SFTP version 3 packets (draft-ietf-secsh-filexfer-02, and OpenSSH's extensions), read and written. No I/O.
//!
//! [`Assembler`] takes bytes as they come and gives whole packets; [`Request::parse`] reads one. Lengths are looked at
//! before anything is kept for them: what a client can make us hold is one packet of [`MAX_PACKET_BYTES`].

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version that is spoken.
pub const VERSION: u32 = 3;
/// The longest packet that is taken, without its length: as OpenSSH has it.
pub const MAX_PACKET_BYTES: usize = 256 << 10;
/// The most bytes of a file in a packet.
pub const MAX_DATA_BYTES: u32 = 255 << 10;
/// What no handle is called.
pub const NO_HANDLE: u32 = u32::MAX;

const LENGTH_BYTES: usize = 4;
/// Pieces of a packet that are kept as they came.
const MOST_PIECES: usize = 64;

/// What a status packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names of the draft")]
pub enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    OpUnsupported = 8,
}

/// How a file is to be opened.
pub mod open {
    /// For reading.
    pub const READ: u32 = 0x01;
    /// For writing.
    pub const WRITE: u32 = 0x02;
    /// Writing goes on at the end.
    pub const APPEND: u32 = 0x04;
    /// It is made when it is not there.
    pub const CREATE: u32 = 0x08;
    /// What is there goes away.
    pub const TRUNCATE: u32 = 0x10;
    /// It must not be there.
    pub const EXCLUSIVE: u32 = 0x20;
}

/// Why what came is no packet. The channel cannot go on: nobody knows where the next packet begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It says it is longer than any may be.
    #[error("a packet of {0} bytes, and {MAX_PACKET_BYTES} are allowed")]
    TooLong(u32),
    /// It has no type.
    #[error("an empty packet")]
    Empty,
    /// It ends before what it must hold.
    #[error("a packet of type {kind} that ends too early")]
    Short {
        /// Its type.
        kind: u8,
        /// The request, when it came that far.
        id: Option<u32>,
    },
    /// A version was asked for again, or not at first.
    #[error("the version is to be asked for once, at first")]
    Version,
}

/// Puts packets together from pieces.
#[derive(Debug, Default)]
pub struct Assembler {
    pieces: VecDeque<Bytes>,
    have: usize,
}

impl Assembler {
    /// Takes the next piece. Ask for packets until there is none, or it grows.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.have += piece.len();
        self.pieces.push_back(piece);
        // Each piece costs more than its bytes: a client that sends one at a time must not make us hold the sum.
        if self.pieces.len() > MOST_PIECES {
            let mut pieces = self.pieces.drain(..);
            let mut whole = pieces.next().map(BytesMut::from).unwrap_or_default();
            pieces.by_ref().for_each(|piece| whole.extend_from_slice(&piece));
            drop(pieces);
            self.pieces.push_back(whole.freeze());
        }
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.have
    }

    /// The next packet without its length, when all of it is there. One that came in one piece is not copied.
    ///
    /// # Errors
    /// [`Broken::TooLong`] as soon as the length is there; [`Broken::Empty`].
    pub fn next_packet(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.have < LENGTH_BYTES {
            return Ok(None);
        }
        let mut length = [0; LENGTH_BYTES];
        let bytes = self.pieces.iter().flat_map(|piece| piece.iter());
        bytes.zip(&mut length).for_each(|(byte, place)| *place = *byte);
        let length = u32::from_be_bytes(length);
        if length == 0 {
            return Err(Broken::Empty);
        }
        if length as usize > MAX_PACKET_BYTES {
            return Err(Broken::TooLong(length));
        }
        if self.have < LENGTH_BYTES + length as usize {
            return Ok(None);
        }
        drop(self.take(LENGTH_BYTES));
        Ok(Some(self.take(length as usize)))
    }

    /// As many bytes as are there at least.
    fn take(&mut self, count: usize) -> Bytes {
        self.have -= count;
        if let Some(first) = self.pieces.front_mut()
            && first.len() >= count
        {
            let taken = first.split_to(count);
            if first.is_empty() {
                self.pieces.pop_front();
            }
            return taken;
        }
        let mut taken = BytesMut::with_capacity(count);
        while let Some(mut piece) = self.pieces.pop_front() {
            let wanted = (count - taken.len()).min(piece.len());
            taken.extend_from_slice(&piece.split_to(wanted));
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
            if taken.len() == count {
                break;
            }
        }
        taken.freeze()
    }
}

/// What is known of a file, or is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Length in bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permissions, as `st_mode`.
    pub mode: Option<u32>,
    /// Time of access and of change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

const HAS_SIZE: u32 = 0x01;
const HAS_OWNER: u32 = 0x02;
const HAS_MODE: u32 = 0x04;
const HAS_TIMES: u32 = 0x08;

impl Attributes {
    fn read(from: &mut Bytes) -> Option<Self> {
        let flags = from.try_get_u32().ok()?;
        let mut read = Self::default();
        if flags & HAS_SIZE != 0 {
            read.size = Some(from.try_get_u64().ok()?);
        }
        if flags & HAS_OWNER != 0 {
            read.owner = Some((from.try_get_u32().ok()?, from.try_get_u32().ok()?));
        }
        if flags & HAS_MODE != 0 {
            read.mode = Some(from.try_get_u32().ok()?);
        }
        if flags & HAS_TIMES != 0 {
            read.times = Some((from.try_get_u32().ok()?, from.try_get_u32().ok()?));
        }
        // Extended attributes may follow; they say nothing to us.
        Some(read)
    }

    fn write(&self, to: &mut BytesMut) {
        let flag = |has: bool, flag: u32| if has { flag } else { 0 };
        to.put_u32(
            flag(self.size.is_some(), HAS_SIZE)
                | flag(self.owner.is_some(), HAS_OWNER)
                | flag(self.mode.is_some(), HAS_MODE)
                | flag(self.times.is_some(), HAS_TIMES),
        );
        if let Some(size) = self.size {
            to.put_u64(size);
        }
        if let Some((user, group)) = self.owner {
            to.put_u32(user);
            to.put_u32(group);
        }
        if let Some(mode) = self.mode {
            to.put_u32(mode);
        }
        if let Some((accessed, changed)) = self.times {
            to.put_u32(accessed);
            to.put_u32(changed);
        }
    }
}

/// What a client asks for. Paths are bytes, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the draft")]
pub enum What {
    Open {
        path: Bytes,
        flags: u32,
        attributes: Attributes,
    },
    Close {
        handle: u32,
    },
    Read {
        handle: u32,
        offset: u64,
        length: u32,
    },
    Write {
        handle: u32,
        offset: u64,
        data: Bytes,
    },
    Lstat {
        path: Bytes,
    },
    Stat {
        path: Bytes,
    },
    Fstat {
        handle: u32,
    },
    Setstat {
        path: Bytes,
        attributes: Attributes,
    },
    Fsetstat {
        handle: u32,
        attributes: Attributes,
    },
    Opendir {
        path: Bytes,
    },
    Readdir {
        handle: u32,
    },
    Remove {
        path: Bytes,
    },
    Mkdir {
        path: Bytes,
    },
    Rmdir {
        path: Bytes,
    },
    Realpath {
        path: Bytes,
    },
    Rename {
        from: Bytes,
        to: Bytes,
    },
    Readlink {
        path: Bytes,
    },
    Symlink,
    Fsync {
        handle: u32,
    },
    Statvfs {
        path: Bytes,
    },
    Fstatvfs {
        handle: u32,
    },
    Hardlink,
    Limits,
    /// An extension or a type that is not known.
    Unknown,
}

/// A packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first: which version the client speaks.
    Init {
        /// The highest that it speaks.
        version: u32,
    },
    /// Every other.
    Asked {
        /// What its reply is known by.
        id: u32,
        /// What is asked for.
        what: What,
    },
}

impl Request {
    /// Reads a packet. What stands behind the last field is not looked at, as OpenSSH does.
    ///
    /// # Errors
    /// [`Broken::Short`], [`Broken::Empty`].
    pub fn parse(mut packet: Bytes) -> Result<Self, Broken> {
        let kind = packet.try_get_u8().map_err(|_| Broken::Empty)?;
        let number = packet.try_get_u32().map_err(|_| Broken::Short { kind, id: None })?;
        if kind == 1 {
            return Ok(Self::Init { version: number });
        }
        let what = body(kind, &mut packet).ok_or(Broken::Short { kind, id: Some(number) })?;
        Ok(Self::Asked { id: number, what })
    }
}

fn body(kind: u8, packet: &mut Bytes) -> Option<What> {
    Some(match kind {
        3 => What::Open {
            path: string(packet)?,
            flags: packet.try_get_u32().ok()?,
            attributes: Attributes::read(packet)?,
        },
        4 => What::Close { handle: handle(packet)? },
        5 => What::Read {
            handle: handle(packet)?,
            offset: packet.try_get_u64().ok()?,
            length: packet.try_get_u32().ok()?,
        },
        6 => What::Write { handle: handle(packet)?, offset: packet.try_get_u64().ok()?, data: string(packet)? },
        7 => What::Lstat { path: string(packet)? },
        8 => What::Fstat { handle: handle(packet)? },
        9 => What::Setstat { path: string(packet)?, attributes: Attributes::read(packet)? },
        10 => What::Fsetstat { handle: handle(packet)?, attributes: Attributes::read(packet)? },
        11 => What::Opendir { path: string(packet)? },
        12 => What::Readdir { handle: handle(packet)? },
        13 => What::Remove { path: string(packet)? },
        14 => What::Mkdir { path: string(packet)? },
        15 => What::Rmdir { path: string(packet)? },
        16 => What::Realpath { path: string(packet)? },
        17 => What::Stat { path: string(packet)? },
        18 => What::Rename { from: string(packet)?, to: string(packet)? },
        19 => What::Readlink { path: string(packet)? },
        20 => What::Symlink,
        200 => extended(packet)?,
        _ => What::Unknown,
    })
}

fn extended(packet: &mut Bytes) -> Option<What> {
    let name = string(packet)?;
    Some(match &name[..] {
        b"posix-rename@openssh.com" => What::Rename { from: string(packet)?, to: string(packet)? },
        b"fsync@openssh.com" => What::Fsync { handle: handle(packet)? },
        b"statvfs@openssh.com" => What::Statvfs { path: string(packet)? },
        b"fstatvfs@openssh.com" => What::Fstatvfs { handle: handle(packet)? },
        b"hardlink@openssh.com" => What::Hardlink,
        b"limits@openssh.com" => What::Limits,
        _ => What::Unknown,
    })
}

fn string(packet: &mut Bytes) -> Option<Bytes> {
    let length = packet.try_get_u32().ok()? as usize;
    (packet.len() >= length).then(|| packet.split_to(length))
}

/// One that is not as ours are is none of ours.
fn handle(packet: &mut Bytes) -> Option<u32> {
    let bytes = string(packet)?;
    Some(<[u8; 4]>::try_from(&bytes[..]).map_or(NO_HANDLE, u32::from_be_bytes))
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// A line for people, as `ls -l` has it.
    pub line: String,
    /// What is known of it.
    pub attributes: Attributes,
}

/// A reply as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply;

impl Reply {
    /// The answer to [`Request::Init`], with the extensions that are served.
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

    /// How it went. Control characters never get into the text: clients print it.
    #[must_use]
    pub fn status(id: u32, code: Code, text: &str) -> Bytes {
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let mut packet = begin(101);
        packet.put_u32(id);
        packet.put_u32(code as u32);
        put(&mut packet, text.as_bytes());
        put(&mut packet, b"en");
        end(packet)
    }

    /// What an open file is called from now on.
    #[must_use]
    pub fn handle(id: u32, handle: u32) -> Bytes {
        let mut packet = begin(102);
        packet.put_u32(id);
        put(&mut packet, &handle.to_be_bytes());
        end(packet)
    }

    /// Room for bytes of a file, which are to be put behind what is there; see [`Reply::finish_data`].
    #[must_use]
    pub fn begin_data(id: u32, most: usize) -> Vec<u8> {
        let mut packet = Vec::with_capacity(DATA_HEAD_BYTES + most);
        packet.put_u32(0);
        packet.put_u8(103);
        packet.put_u32(id);
        packet.put_u32(0);
        packet
    }

    /// The packet with the bytes that were put in.
    #[must_use]
    pub fn finish_data(mut packet: Vec<u8>) -> Bytes {
        // At most 255 KiB and the head.
        let (length, data) = ((packet.len() - LENGTH_BYTES) as u32, (packet.len() - DATA_HEAD_BYTES) as u32);
        packet[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        packet[DATA_HEAD_BYTES - LENGTH_BYTES..DATA_HEAD_BYTES].copy_from_slice(&data.to_be_bytes());
        packet.into()
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

    /// What is known of a file.
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

fn begin(kind: u8) -> BytesMut {
    let mut packet = BytesMut::with_capacity(64);
    packet.put_u32(0);
    packet.put_u8(kind);
    packet
}

fn end(mut packet: BytesMut) -> Bytes {
    let length = (packet.len() - LENGTH_BYTES) as u32;
    packet[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    packet.freeze()
}

fn put(packet: &mut BytesMut, string: &[u8]) {
    packet.put_u32(string.len() as u32);
    packet.put_slice(string);
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((body.len() + 1) as u32).to_be_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(body);
        bytes
    }

    fn write(id: u32, offset: u64, data: &[u8]) -> Vec<u8> {
        let mut body = id.to_be_bytes().to_vec();
        body.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 7]);
        body.extend_from_slice(&offset.to_be_bytes());
        body.extend_from_slice(&(data.len() as u32).to_be_bytes());
        body.extend_from_slice(data);
        packet(6, &body)
    }

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let mut stream = packet(1, &3u32.to_be_bytes());
        for at in 0..20u8 {
            stream.extend(write(u32::from(at), u64::from(at) * 1000, &vec![at; usize::from(at) * 100]));
        }
        for step in [1, 2, 3, 7, 64, 1000, stream.len()] {
            let mut assembler = Assembler::default();
            let mut read = Vec::new();
            for piece in stream.chunks(step) {
                assembler.push(Bytes::copy_from_slice(piece));
                while let Some(packet) = assembler.next_packet().unwrap() {
                    read.push(Request::parse(packet).unwrap());
                }
            }
            assert_eq!(assembler.held_bytes(), 0);
            assert_eq!(read[0], Request::Init { version: 3 });
            for (at, request) in read[1..].iter().enumerate() {
                let data = vec![at as u8; at * 100].into();
                let what = What::Write { handle: 7, offset: at as u64 * 1000, data };
                assert_eq!(*request, Request::Asked { id: at as u32, what });
            }
        }
    }

    #[test]
    fn a_packet_that_comes_in_crumbs_is_not_held_as_crumbs() {
        let stream = write(1, 0, &vec![9; 200_000]);
        let mut assembler = Assembler::default();
        for byte in &stream[..stream.len() - 1] {
            // As a connection gives them: a small part of a buffer that it keeps.
            assembler.push(Bytes::from(vec![*byte; 100]).slice(..1));
            assert_eq!(assembler.next_packet(), Ok(None));
            assert!(assembler.pieces.len() <= MOST_PIECES, "{} pieces", assembler.pieces.len());
        }
        assembler.push(Bytes::copy_from_slice(&stream[stream.len() - 1..]));
        assert_eq!(assembler.next_packet().unwrap().unwrap(), stream[LENGTH_BYTES..]);
        assert_eq!(assembler.held_bytes(), 0);
    }

    #[test]
    fn a_packet_in_one_piece_is_not_copied() {
        let stream = Bytes::from(write(1, 0, &[9; 5000]));
        let mut assembler = Assembler::default();
        assembler.push(stream.clone());
        let Request::Asked { what: What::Write { data, .. }, .. } =
            Request::parse(assembler.next_packet().unwrap().unwrap()).unwrap()
        else {
            panic!("is a WRITE")
        };
        assert_eq!(data.as_ptr(), stream[stream.len() - 5000..].as_ptr());
    }

    #[test]
    fn broken_packets_are_told() {
        let mut assembler = Assembler::default();
        assembler.push(Bytes::from_static(&[0, 4, 0, 1]));
        assert_eq!(assembler.next_packet(), Err(Broken::TooLong(0x40001)), "before any of it is kept");
        let mut assembler = Assembler::default();
        assembler.push(Bytes::from_static(&[0, 0, 0, 0, 1]));
        assert_eq!(assembler.next_packet(), Err(Broken::Empty));
        for (body, id) in [(&[][..], None), (&[0, 0, 0][..], None), (&[0, 0, 0, 5][..], Some(5))] {
            let mut packet = vec![3];
            packet.extend_from_slice(body);
            assert_eq!(Request::parse(packet.into()), Err(Broken::Short { kind: 3, id }));
        }
        // A string that says it is longer than all that came.
        let hostile = b"\x03\0\0\0\x01\xff\xff\xff\xffa";
        assert_eq!(Request::parse(Bytes::from_static(hostile)), Err(Broken::Short { kind: 3, id: Some(1) }));
    }

    #[test]
    fn attributes_come_back_as_they_went() {
        let all = Attributes { size: Some(1 << 40), owner: Some((1, 2)), mode: Some(0o100_600), times: Some((3, 4)) };
        for attributes in [all, Attributes::default(), Attributes { owner: None, ..all }] {
            let reply = Reply::attributes(9, &attributes);
            let mut body = reply.slice(9..);
            assert_eq!(Attributes::read(&mut body), Some(attributes));
            assert!(body.is_empty());
        }
    }

    #[test]
    fn data_has_its_lengths() {
        let mut packet = Reply::begin_data(5, 10);
        packet.extend_from_slice(b"0123456");
        assert_eq!(&Reply::finish_data(packet)[..], b"\0\0\0\x10\x67\0\0\0\x05\0\0\0\x070123456");
    }

    /// Fields of a request, mostly as they should be.
    fn fields(kind: u8, random: &mut StdRng) -> Vec<u8> {
        let mut body = random.random::<u32>().to_be_bytes().to_vec();
        let string = |body: &mut Vec<u8>, bytes: &[u8]| {
            body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            body.extend_from_slice(bytes);
        };
        const NAMES: [&[u8]; 8] = [
            b"a.hl7",
            b"",
            b"../x",
            b"\xff\0",
            b"posix-rename@openssh.com",
            b"fsync@openssh.com",
            b"statvfs@openssh.com",
            b"limits@openssh.com",
        ];
        for _ in 0..random.random_range(0..4) {
            match random.random_range(0..5) {
                0 => string(&mut body, NAMES[random.random_range(0..NAMES.len())]),
                1 => string(&mut body, &random.random::<u32>().to_be_bytes()),
                2 if kind == 6 => string(&mut body, &vec![7; random.random_range(0..3000)]),
                2 => body.extend_from_slice(&(random.random::<u32>() & 0x8000_000f).to_be_bytes()),
                3 => body.extend_from_slice(&random.random::<u64>().to_be_bytes()),
                _ => body.extend_from_slice(&random.random_range(0..40_u32).to_be_bytes()),
            }
        }
        body
    }

    fn hostile(random: &mut StdRng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(0..8) {
            let kind = if random.random_range(0..10) > 0 { random.random_range(1..21) } else { random.random() };
            let kind = if random.random_range(0..8) == 0 { 200 } else { kind };
            let body = fields(kind, random);
            bytes.extend(packet(kind, &body));
        }
        for _ in 0..random.random_range(0..6_u32).saturating_sub(2) {
            let at = random.random_range(0..=bytes.len());
            match random.random_range(0..6) {
                0 => bytes.insert(at, random.random()),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                3 => drop(bytes.splice(at..at, (random.random::<u32>() >> random.random_range(0..32)).to_be_bytes())),
                4 => {
                    bytes.extend_from_slice(&((MAX_PACKET_BYTES as u32) - 1 + random.random_range(0..3)).to_be_bytes())
                }
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
            }
        }
        bytes
    }

    /// What packets these bytes are, seen all at once.
    fn plainly(mut bytes: &[u8]) -> (Vec<&[u8]>, Option<Broken>) {
        let mut found = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length);
            match length as usize {
                0 => return (found, Some(Broken::Empty)),
                1..=MAX_PACKET_BYTES if length as usize <= rest.len() => {}
                1..=MAX_PACKET_BYTES => break,
                _ => return (found, Some(Broken::TooLong(length))),
            }
            let (packet, rest) = rest.split_at(length as usize);
            found.push(packet);
            bytes = rest;
        }
        (found, None)
    }

    /// How many bytes a request keeps of what came.
    fn keeps(request: &Request) -> usize {
        match request {
            Request::Asked { what: What::Write { data, .. }, .. } => data.len(),
            Request::Asked { what: What::Rename { from, to }, .. } => from.len() + to.len(),
            Request::Asked { what: What::Open { path, .. } | What::Stat { path } | What::Mkdir { path }, .. } => {
                path.len()
            }
            _ => 0,
        }
    }

    /// Whatever comes, in whatever pieces: no panic, bounded memory, and the packets are those of a plain reader that
    /// sees all at once. `FOREBAY_FUZZ_INPUTS` says how many inputs, `FOREBAY_FUZZ_SEED` which.
    #[test]
    fn fuzz_any_bytes_are_read() {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let seed = number("FOREBAY_FUZZ_SEED").unwrap_or_else(rand::random);
        let inputs = number("FOREBAY_FUZZ_INPUTS").unwrap_or(20_000);
        println!("seed {seed}, {inputs} inputs");
        let mut random = StdRng::seed_from_u64(seed);
        let (mut packets, mut requests, mut most) = (0_u64, 0_u64, 0);
        for _ in 0..inputs {
            let bytes = hostile(&mut random);
            let (expected, broken) = plainly(&bytes);
            let (mut assembler, mut found, mut ended) = (Assembler::default(), 0, None);
            let mut rest = &bytes[..];
            while !rest.is_empty() && ended.is_none() {
                let (piece, later) = rest.split_at(random.random_range(1..=rest.len()));
                rest = later;
                assembler.push(Bytes::copy_from_slice(piece));
                loop {
                    match assembler.next_packet() {
                        Ok(Some(packet)) => {
                            assert_eq!(packet, expected[found], "seed {seed}: {bytes:?}");
                            found += 1;
                            let length = packet.len();
                            if let Ok(request) = Request::parse(packet) {
                                assert!(keeps(&request) <= length, "seed {seed}: {bytes:?}");
                                requests += 1;
                            }
                        }
                        Ok(None) => break,
                        Err(why) => {
                            ended = Some(why);
                            break;
                        }
                    }
                }
                most = most.max(assembler.held_bytes());
                assert!(assembler.held_bytes() <= MAX_PACKET_BYTES + LENGTH_BYTES + piece.len(), "seed {seed}");
            }
            assert_eq!((found, ended), (expected.len(), broken), "seed {seed}: {bytes:?}");
            packets += found as u64;
        }
        println!("{packets} packets, {requests} of them requests, at most {most} bytes held");
    }
}
