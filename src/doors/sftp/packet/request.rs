//! Requests of clients (draft-ietf-secsh-filexfer-02, section 6; OpenSSH's PROTOCOL, section 4).
//!
//! Parsing reads fields and judges nothing: what a request means is decided by the service. A type
//! or an extension that is not known is [`What::Unknown`], which is answered with OP_UNSUPPORTED
//! (draft, 8) and ends nothing.

use bytes::{Buf, Bytes};

use super::{Attributes, Broken, NO_HANDLE};

/// The content of a request. Paths are bytes, as they came.
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
        /// The number by which its reply is known.
        id: u32,
        /// Its content.
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
        // INIT has its version where all others have their id.
        if kind == 1 {
            return Ok(Self::Init { version: number });
        }
        let what = body(kind, &mut packet).ok_or(Broken::Short { kind, id: Some(number) })?;
        Ok(Self::Asked { id: number, what })
    }
}

/// Reads the fields after type and number. `None` when the packet ends before the last of them.
fn body(kind: u8, packet: &mut Bytes) -> Option<What> {
    Some(match kind {
        // The numbers are those of the draft, section 3: 3 is SSH_FXP_OPEN, 20 SSH_FXP_SYMLINK, 200
        // SSH_FXP_EXTENDED.
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

/// Reads an extended request: its name, and the fields that this name has.
fn extended(packet: &mut Bytes) -> Option<What> {
    let name = string(packet)?;
    Some(match &name[..] {
        // Served like the draft's own RENAME: a file that has the new name is replaced.
        b"posix-rename@openssh.com" => What::Rename { from: string(packet)?, to: string(packet)? },
        b"fsync@openssh.com" => What::Fsync { handle: handle(packet)? },
        b"statvfs@openssh.com" => What::Statvfs { path: string(packet)? },
        b"fstatvfs@openssh.com" => What::Fstatvfs { handle: handle(packet)? },
        b"hardlink@openssh.com" => What::Hardlink,
        b"limits@openssh.com" => What::Limits,
        _ => What::Unknown,
    })
}

/// Reads a string: a length in four bytes, and as many bytes. The length is compared with what is
/// there, so nothing is reserved for a lie.
fn string(packet: &mut Bytes) -> Option<Bytes> {
    let length = packet.try_get_u32().ok()? as usize;
    (packet.len() >= length).then(|| packet.split_to(length))
}

/// Reads a handle. One that is not four bytes long is none of ours: [`NO_HANDLE`].
fn handle(packet: &mut Bytes) -> Option<u32> {
    let bytes = string(packet)?;
    Some(<[u8; 4]>::try_from(&bytes[..]).map_or(NO_HANDLE, u32::from_be_bytes))
}
