//! The beginning of an upload: what OPEN says of it, and what is there to go on with.
//!
//! SFTP does not say whether a client continues a file or writes it anew: the flags of OPEN (6.3),
//! what the client has set before, and the offset of its first write say it together.

use std::sync::{Arc, atomic::AtomicU64};

use crate::ingest::Refusal;

use super::{
    packet::{Attributes, open},
    room::Room,
    sftp_session::SftpSession,
    upload::Upload,
    upload_state::{Progress, UploadState},
    writing::Writing,
};

/// What the way in which a file was opened tells of its client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) offsets: Offsets,
    pub(super) size_set: SizeSet,
}

/// The byte that a client's offsets count from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Offsets {
    FromStart,
    /// The file was opened for appending: some clients count from its end.
    FromEitherEnd,
}

/// The occasion on which a client sets the size of a file to what was written.
#[derive(Clone, Copy, Debug)]
pub(super) enum SizeSet {
    /// At the end of every file, as clients do that write it in its place (scp) or give it no mode when they open it
    /// (lftp).
    AtEveryEnd,
    /// When it breaks off, as OpenSSH's client does before it closes: a sign that the file is not whole.
    WhenBrokenOff,
}

impl Opened {
    /// Reads the habits of a client from the flags and attributes of its OPEN.
    fn of(flags: u32, attributes: &Attributes) -> Self {
        let has = |flag| flags & flag != 0;
        // Measured on what clients send, not on what the draft says.
        let ends_with_size = (!has(open::TRUNCATE) && !has(open::APPEND)) || attributes.mode.is_none();
        Self {
            offsets: if has(open::APPEND) { Offsets::FromEitherEnd } else { Offsets::FromStart },
            size_set: if ends_with_size { SizeSet::AtEveryEnd } else { SizeSet::WhenBrokenOff },
        }
    }
}

/// The file that a client opens for writing.
pub(super) struct Opening<'a> {
    pub(super) path: String,
    pub(super) flags: u32,
    pub(super) attributes: &'a Attributes,
    /// The client has truncated the name to nothing before.
    pub(super) is_emptied: bool,
    /// Memory for bytes that come early.
    pub(super) room: Room,
}

impl Opening<'_> {
    /// Begins the upload. What can be refused before the first byte is refused here.
    pub(super) async fn begin(self, session: &Arc<SftpSession>) -> Result<Upload, Refusal> {
        let have = self.have(session).await?;
        let state = match have {
            0 => {
                let intake = session.ingest.begin(&session.info, &self.path, None).await?;
                UploadState::writing(Writing::new(intake, 0, self.room.clone()))
            }
            // Whether it goes on from there or begins again the first write will say.
            have => UploadState::Open(Progress::Untouched { have }),
        };
        session.ticket.doing(format!("put {}", self.path.trim_start_matches('/')));
        Ok(Upload {
            session: session.clone(),
            opened: Opened::of(self.flags, self.attributes),
            path: self.path,
            state,
            room: self.room,
            size: Arc::new(AtomicU64::new(have)),
            shows: None,
            time: session.transfers.begin(),
            received_bytes: 0,
            _busy: session.busy(),
        })
    }

    /// The bytes that are there to go on with.
    async fn have(&self, session: &SftpSession) -> Result<u64, Refusal> {
        let has = |flag| self.flags & flag != 0;
        let shown = match session.files.stat(&self.path).await {
            Ok(stat) => Some(stat.size_bytes),
            Err(Refusal::NotFound) => None,
            Err(refusal) => return Err(refusal),
        };
        // The draft, 6.3: EXCL together with CREAT fails where the name exists.
        if has(open::CREATE) && has(open::EXCLUSIVE) && shown.is_some() {
            return Err(Refusal::Exists);
        }
        // A client that sets the size to nothing first means the same as TRUNC.
        let begins_anew = has(open::TRUNCATE) || self.is_emptied;
        let there = match begins_anew {
            true => shown,
            // A partial before the file of that name: it is what an upload can go on with.
            false => session.ingest.resumable(&session.info, &self.path).await?.or(shown),
        };
        match there {
            None if !has(open::CREATE) => Err(Refusal::NotFound),
            Some(have) if !begins_anew => Ok(have),
            _ => Ok(0),
        }
    }
}
