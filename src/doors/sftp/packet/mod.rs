//! SFTP version 3 packets (draft-ietf-secsh-filexfer-02, and OpenSSH's extensions), read and written. No I/O.
//!
//! [`Assembler`] takes bytes as they come and gives whole packets; [`Request::parse`] reads one. Lengths are looked at
//! before anything is kept for them: what a client can make us hold is one packet of [`MAX_PACKET_BYTES`].

mod assembler;
mod attributes;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use assembler::Assembler;
pub use attributes::Attributes;
pub use reply::{Named, Reply};
pub use request::{Request, What};

/// The version that is spoken.
pub const VERSION: u32 = 3;
/// The longest packet that is taken, without its length: as OpenSSH has it.
pub const MAX_PACKET_BYTES: usize = 256 << 10;
/// The most bytes of a file in a packet.
pub const MAX_DATA_BYTES: u32 = 255 << 10;
/// A number that no handle has.
pub const NO_HANDLE: u32 = u32::MAX;

const LENGTH_BYTES: usize = 4;

/// The code of a status packet.
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

/// Flags of a request to open a file.
pub mod open {
    /// For reading.
    pub const READ: u32 = 0x01;
    /// For writing.
    pub const WRITE: u32 = 0x02;
    /// Writing goes on at the end.
    pub const APPEND: u32 = 0x04;
    /// It is made when it is not there.
    pub const CREATE: u32 = 0x08;
    /// The file is emptied.
    pub const TRUNCATE: u32 = 0x10;
    /// It must not be there.
    pub const EXCLUSIVE: u32 = 0x20;
}

/// The fault of bytes that are no packet. The channel cannot go on: nobody knows where the next packet begins.
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
