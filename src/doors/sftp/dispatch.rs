//! Requests on their way: each goes to its handle's task, or gets a task of its own in its turn (`named_requests`).

use bytes::Bytes;

use super::{
    answer::Answer,
    handles::{Asked, MOST_HANDLES, Op},
    packet::{Code, MAX_DATA_BYTES, MAX_PACKET_BYTES, What},
    service::Service,
};

/// Shorter pieces are copied out of the packet that they came in, which may be so much longer that what waits would
/// hold on to far more memory than it is counted for. Most clients write longer ones.
const COPIED_BELOW_BYTES: usize = 32 << 10;
/// The answer to limits@openssh.com: packet, read, write, handles.
const LIMITS: [u64; 4] = [MAX_PACKET_BYTES as u64, MAX_DATA_BYTES as u64, MAX_DATA_BYTES as u64, MOST_HANDLES as u64];

impl Service {
    /// Has a request done. Waits only for what goes on without the connection: its loop waits for us.
    pub(super) async fn dispatch(&self, what: What, answer: Answer) {
        match what {
            What::Write { handle, offset, data } => self.write(handle, offset, data, answer).await,
            What::Read { handle, offset, length } => self.ask(handle, Op::Read { offset, length }, answer),
            What::Readdir { handle } => self.ask(handle, Op::Readdir, answer),
            What::Fstat { handle } => self.ask(handle, Op::Fstat, answer),
            What::Fsetstat { handle, attributes } => self.ask(handle, Op::Fsetstat(attributes), answer),
            What::Fsync { handle } => self.ask(handle, Op::Fsync, answer),
            What::Close { handle } => {
                self.handles.close(handle, answer, |path| self.turns.lock().take(vec![path.to_owned()]));
            }
            What::Open { path, flags, attributes } => self.open(&path, flags, attributes, answer).await,
            What::Opendir { path } => self.open_directory(&path, answer).await,
            What::Stat { path } | What::Lstat { path } => self.tell_attributes(&path, answer).await,
            What::Setstat { path, attributes } => self.set_attributes(&path, attributes, answer).await,
            What::Remove { path } => self.remove(&path, answer).await,
            What::Mkdir { path } => self.make_folder(&path, answer).await,
            What::Rmdir { path } => self.remove_folder(&path, answer).await,
            What::Rename { from, to } => self.rename(&from, &to, answer).await,
            What::Realpath { path } => self.real_path(&path, answer),
            What::Readlink { path } => self.read_link(&path, answer).await,
            What::Statvfs { path } => self.space_at(&path, answer).await,
            What::Fstatvfs { .. } => self.space(answer),
            What::Limits => answer.numbers(&LIMITS),
            What::Symlink | What::Hardlink => answer.status(Code::OpUnsupported, "links are not served"),
            What::Unknown => answer.status(Code::OpUnsupported, "this request is not served"),
        }
    }

    /// Serves WRITE: waits for room, which holds the reading of more requests back, and hands the
    /// bytes on.
    async fn write(&self, handle: u32, offset: u64, data: Bytes, answer: Answer) {
        let held = self.rooms.writing.take(data.len()).await;
        let data = if data.len() < COPIED_BELOW_BYTES { Bytes::copy_from_slice(&data) } else { data };
        self.handles.ask(handle, Asked { op: Op::Write { offset, data }, answer, held });
    }

    /// Hands a request to the task of its handle.
    fn ask(&self, handle: u32, op: Op, answer: Answer) {
        self.handles.ask(handle, Asked { op, answer, held: None });
    }
}
