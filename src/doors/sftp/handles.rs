//! The handles of a channel: its open files and folders.
//!
//! A handle is a number and a channel to the task that owns the open file. Dropping the sender ends
//! that task: an upload then keeps a partial.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    answer::Answer,
    packet::{Attributes, Code, NO_HANDLE},
    room::Held,
    turns::Turn,
};

/// The most that a channel may have open.
pub(super) const MOST_HANDLES: usize = 128;
/// The most names that are remembered as emptied.
const MOST_EMPTIED: usize = 1024;

/// A request for a handle.
pub(super) enum Op {
    Read { offset: u64, length: u32 },
    Write { offset: u64, data: Bytes },
    Readdir,
    Fstat,
    Fsetstat(Attributes),
    Fsync,
    Close(Option<Turn>),
}

/// A request for a handle, its answer to come, and the memory it takes.
pub(super) struct Asked {
    pub(super) op: Op,
    pub(super) answer: Answer,
    pub(super) held: Option<Held>,
}

/// Something that is open, as a task of its own.
struct Open {
    ask: mpsc::UnboundedSender<Asked>,
    /// Of a file that is written.
    upload: Option<(String, Arc<AtomicU64>)>,
}

/// The open handles of a channel. Requests for one handle are done in the order in which they came, those for others
/// meanwhile.
#[derive(Clone, Default)]
pub(super) struct Handles(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    open: HashMap<u32, Open>,
    last: u32,
    over: bool,
    emptied: HashSet<String>,
}

impl Inner {
    /// A number that no open handle has.
    fn next_handle(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != NO_HANDLE && !self.open.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

impl Handles {
    /// A handle for what is open now, and what will be asked of it. None when there are too many, or the channel is
    /// over.
    pub(super) fn add(
        &self,
        upload: Option<(String, Arc<AtomicU64>)>,
    ) -> Result<(u32, mpsc::UnboundedReceiver<Asked>), &'static str> {
        let mut inner = self.0.lock();
        if inner.over {
            return Err("the channel is closed");
        }
        if inner.open.len() >= MOST_HANDLES {
            return Err("too many open files on this channel");
        }
        let handle = inner.next_handle();
        if let Some((path, _)) = &upload {
            inner.emptied.remove(path);
        }
        let (ask, asked) = mpsc::unbounded_channel();
        inner.open.insert(handle, Open { ask, upload });
        Ok((handle, asked))
    }

    /// Hands a request to a handle's task.
    pub(super) fn ask(&self, handle: u32, asked: Asked) {
        let unasked = match self.0.lock().open.get(&handle) {
            Some(open) => open.ask.send(asked).err().map(|unsent| unsent.0),
            None => Some(asked),
        };
        if let Some(asked) = unasked {
            asked.answer.status(Code::Failure, "there is no such handle");
        }
    }

    /// Closes a handle, in the turn that its name gives.
    /// The handle is gone at once, so a request that comes after CLOSE finds none, although the
    /// file is still being committed.
    pub(super) fn close(&self, handle: u32, answer: Answer, turn: impl FnOnce(&str) -> Turn) {
        let Some(open) = self.0.lock().open.remove(&handle) else {
            return answer.status(Code::Failure, "there is no such handle");
        };
        let turn = open.upload.as_ref().map(|(path, _)| turn(path));
        // One that has ended by itself has nothing left to do; the answer says so when it is dropped.
        let _ = open.ask.send(Asked { op: Op::Close(turn), answer, held: None });
    }

    /// The length of a file that is being written under this name.
    pub(super) fn size_of(&self, path: &str) -> Option<u64> {
        let inner = self.0.lock();
        let uploads = inner.open.values().filter_map(|open| open.upload.as_ref());
        let sizes = uploads.filter(|(name, _)| name == path).map(|(_, size)| size.load(Ordering::Relaxed));
        sizes.max()
    }

    /// The name was truncated to nothing: what is accepted stays, and the next upload under it begins anew.
    pub(super) fn empty(&self, path: String) -> bool {
        let mut inner = self.0.lock();
        inner.emptied.len() < MOST_EMPTIED && {
            inner.emptied.insert(path);
            true
        }
    }

    /// Returns whether the name was truncated to nothing, and not written since.
    pub(super) fn is_emptied(&self, path: &str) -> bool {
        self.0.lock().emptied.contains(path)
    }

    /// Lets all go: what is still being written is cut when what was asked of it before is done.
    pub(super) fn end(&self) {
        let mut inner = self.0.lock();
        // Under the same lock as `add`: nothing is opened after this.
        inner.over = true;
        inner.open.clear();
    }
}
