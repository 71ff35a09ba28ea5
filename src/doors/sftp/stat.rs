//! Requests about attributes and free space (draft-ietf-secsh-filexfer-02, 6.8 and 6.9; OpenSSH's
//! statvfs).

use tracing::warn;

use crate::ingest::{MAX_COMPONENT_BYTES, Refusal, Space, Stat};

use super::{
    answer::Answer,
    packet::{Attributes, Code},
    service::Service,
};

/// The size of the blocks in which space is told.
const BLOCK_BYTES: u64 = 4096;

impl Service {
    /// The kind, size and time of a file or folder. A file that is being written has the length that came, an
    /// interrupted one the length that it can be resumed at.
    pub(super) async fn stat(&self, path: &str) -> Result<Stat, Refusal> {
        let session = &self.session;
        if let Some(size_bytes) = self.handles.size_of(path) {
            return Ok(Stat::file(size_bytes, session.clock.now()));
        }
        let shown = session.files.stat(path).await;
        if self.handles.is_emptied(path) {
            return Ok(Stat { size_bytes: 0, ..shown? });
        }
        match &shown {
            Ok(stat) if stat.is_folder() => return shown,
            Ok(_) | Err(Refusal::NotFound) => {}
            Err(_) => return shown,
        }
        match session.ingest.resumable(&session.info, path).await? {
            Some(size_bytes) => Ok(Stat::file(size_bytes, session.clock.now())),
            None => shown,
        }
    }

    /// Gives a file a time. Modes are taken and not kept, and the accepted bytes never change. A file that is truncated
    /// to nothing, as some clients do before they write it anew, is written anew by the next upload.
    pub(super) async fn set(&self, path: String, attributes: &Attributes, answer: Answer) {
        let stat = match self.stat(&path).await {
            Ok(stat) => stat,
            Err(refusal) => return answer.refuse(&refusal),
        };
        match attributes.size {
            Some(size) if size != stat.size_bytes && (size > 0 || !self.handles.empty(path.clone())) => {
                answer.status(Code::OpUnsupported, "what was accepted does not change");
            }
            _ => match attributes.times.filter(|_| stat.is_file()) {
                Some((_, changed)) => match self.session.set_time(&path, changed).await {
                    // What is still written, or was cut, shows no time of its own.
                    Ok(()) | Err(Refusal::NotFound) => answer.ok(),
                    Err(refusal) => answer.refuse(&refusal),
                },
                None => answer.ok(),
            },
        }
    }

    /// Answers how much room the disk has.
    pub(super) fn space(&self, answer: Answer) {
        match self.session.ingest.space() {
            Ok(space) => answer.numbers(&space_numbers(&space)),
            Err(refusal) => {
                warn!(%refusal, "cannot tell how much room there is");
                answer.refuse(&refusal);
            }
        }
    }
}

/// The numbers of statvfs@openssh.com, in its order.
fn space_numbers(space: &Space) -> [u64; 11] {
    let blocks = |bytes: u64| bytes / BLOCK_BYTES;
    let for_uploads = space.free_bytes.saturating_sub(space.reserve_bytes);
    [
        BLOCK_BYTES,
        BLOCK_BYTES,
        blocks(space.total_bytes),
        blocks(space.free_bytes),
        blocks(for_uploads),
        // Names of a partner take no inodes: their number is unlimited here, as `df -i` understands 0.
        0,
        0,
        0,
        // Nobody needs to know which file system it is.
        0,
        0,
        MAX_COMPONENT_BYTES as u64,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_told_in_blocks_and_uploads_leave_the_reserve() {
        let space = Space {
            free_bytes: 10 << 20,
            total_bytes: 40 << 20,
            reserve_bytes: 4 << 20,
            free_inodes: 0,
            total_inodes: 0,
            reserve_inodes: 0,
        };
        assert_eq!(space_numbers(&space), [4096, 4096, 10_240, 2560, 1536, 0, 0, 0, 0, 0, 255]);
        let short = Space { reserve_bytes: 11 << 20, ..space };
        assert_eq!(space_numbers(&short)[4], 0);
    }
}
