//! What server and runner say to each other: frames of a length and JSON, of which the first carries descriptors; then
//! single bytes that ask for something.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use forebay_storage::FileId;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of all this. Server and runner are the same program, but may be started at different times.
pub(in crate::process) const VERSION: u32 = 1;
/// The longest frame: a command and its variables are no longer than what the kernel takes for an exec.
pub(super) const FRAME_BYTES: usize = 4 << 20;
/// The server's word that the program may begin.
pub(super) const GO: u8 = b'g';
/// Asks for SIGTERM.
pub(super) const TERM: u8 = b't';
/// Asks for SIGKILL.
pub(super) const KILL: u8 = b'k';

/// One attempt. Its first descriptor is the file, the second the pipe for the output.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::process) struct Prepare {
    pub(in crate::process) version: u32,
    /// Whose bytes they are.
    pub(in crate::process) file: FileId,
    /// The attempt's number.
    pub(in crate::process) number: u32,
    /// The bytes are a message of the file: they come on standard input alone.
    #[serde(default)]
    pub(in crate::process) is_message: bool,
    /// The name of the file, one component.
    pub(in crate::process) name: String,
    pub(in crate::process) command: Vec<String>,
    pub(in crate::process) variables: Vec<(String, String)>,
    /// The time between TERM and KILL.
    pub(in crate::process) kill_after_ms: u64,
}

/// The runner's words.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// Everything is there; `GO` begins it.
    Ready,
    /// It runs: its process group, and when its leader was started.
    Started(Option<(i32, u64)>),
    /// It does not run.
    Refused(String),
    /// It has ended, with this raw status.
    Ended(i32),
}

/// Sends a frame, with descriptors. Blocks.
pub(super) fn send(stream: &UnixStream, frame: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = encode(frame)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    // The descriptors go with the first byte; the rest of a long frame follows without any.
    let sent = sendmsg(stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(&bytes[sent..])
}

/// Receives the first bytes of a frame with the descriptors that come with them. Does not block if the stream does not.
pub(super) fn receive_first(stream: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((got.bytes, descriptors))
}

/// Receives a frame. Blocks as long as the stream's time-out says.
pub(super) fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<T> {
    let mut stream = stream;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; length_of(length)?];
    stream.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// A frame with its length.
pub(super) fn encode(frame: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(frame)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length as usize <= FRAME_BYTES);
    let length = length.ok_or_else(|| io::Error::other("the command and its variables are too long"))?;
    Ok([&length.to_be_bytes()[..], &text].concat())
}

/// The length that begins a frame.
pub(super) fn length_of(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(bytes) as usize;
    match length <= FRAME_BYTES {
        true => Ok(length),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long")),
    }
}
