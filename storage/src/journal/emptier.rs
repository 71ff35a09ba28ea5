//! The thread that empties the short log: contents into packs, records into the journal proper.
//!
//! The order is pack, journal, and only then the segments of the short log: a crash in between does
//! a part of it again.
//!
//! A full disk is tried again when somebody asks or when there is more to do; any other failure
//! ends the journal, because what a failed sync has left cannot be believed.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex};

use super::{frame, pack::Writer, reader::Shared};
use crate::{
    Result, StorageError,
    log::{Log, Seq},
};

/// What is read of the short log at a time, in bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// The short log may grow to this many times what makes it be emptied. Then groups that bring
/// contents wait.
const MOST_BEHIND: u64 = 4;

/// Handle of the thread.
#[derive(Debug)]
pub(super) struct Emptier {
    work: Arc<Work>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Work {
    shared: Arc<Shared>,
    orders: Mutex<Orders>,
    /// Something is to be done, or was done.
    changed: Condvar,
    /// When the short log is longer than this, it is emptied; a pack takes about as much.
    begin_bytes: u64,
}

#[derive(Debug, Default)]
struct Orders {
    /// Records before this one are to be emptied out.
    until: Seq,
    /// How often that was asked for.
    asked: u64,
    /// How the latest try failed, and which asking it answered.
    failed: Option<(u64, Failed)>,
    stop: bool,
}

/// Whether what found no room is tried once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Now,
    WhenThereIsMore,
}

#[derive(Clone, Debug)]
enum Failed {
    Full,
    /// It is not tried again: what a failed sync has left cannot be believed.
    ForGood(String),
}

impl From<Failed> for StorageError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Full => Self::Full,
            Failed::ForGood(why) => Self::Poisoned(why),
        }
    }
}

impl Emptier {
    pub(super) fn start(shared: Arc<Shared>, begin_bytes: u64) -> Result<Self> {
        let (orders, changed) = (Mutex::default(), Condvar::new());
        let work = Arc::new(Work { shared, orders, changed, begin_bytes });
        let own = work.clone();
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || own.work());
        let thread = thread.map_err(|error| StorageError::io("cannot start the journal's thread", error))?;
        Ok(Self { work, thread: Some(thread) })
    }

    /// Whether it can go on.
    pub(super) fn sound(&self) -> Result<()> {
        match &self.work.orders.lock().failed {
            Some((_, failed @ Failed::ForGood(_))) => Err(failed.clone().into()),
            _ => Ok(()),
        }
    }

    /// Says up to where the short log is never written again; it is emptied when that is worth it.
    pub(super) fn tell(&self, recent: &Log) {
        let until = recent.current_seq();
        if until > self.work.shared.emptied() && recent.bytes() > self.work.begin_bytes {
            self.ask(until, Again::WhenThereIsMore);
        }
    }

    /// Asks the thread to empty up to `until`. Returns the number of the request, by which its
    /// failure is known.
    fn ask(&self, until: Seq, again: Again) -> u64 {
        let mut orders = self.work.orders.lock();
        if orders.until < until || again == Again::Now {
            orders.until = orders.until.max(until);
            orders.asked += 1;
            self.work.changed.notify_all();
        }
        orders.asked
    }

    /// Waits until the short log is short enough for more. Contents are refused when the disk has no room to empty it;
    /// a group that brings none does not wait.
    pub(super) fn wait_until_short(&self, recent: &Log, brings_contents: bool) -> Result<()> {
        let has_more = recent.current_seq() > self.work.shared.emptied();
        if !brings_contents || !has_more || recent.bytes() <= MOST_BEHIND * self.work.begin_bytes {
            return Ok(());
        }
        let asked = self.ask(recent.current_seq(), Again::Now);
        self.wait(asked, |shared| shared.emptied() > recent.first_seq())
    }

    /// Has everything before `until` emptied out, and waits for that.
    pub(super) fn empty(&self, until: Seq) -> Result<()> {
        let asked = self.ask(until, Again::Now);
        self.wait(asked, |shared| shared.emptied() >= until)
    }

    fn wait(&self, asked: u64, is_done: impl Fn(&Shared) -> bool) -> Result<()> {
        let mut orders = self.work.orders.lock();
        while !is_done(&self.work.shared) {
            match &orders.failed {
                Some((answered, failed)) if *answered >= asked || matches!(failed, Failed::ForGood(_)) => {
                    return Err(failed.clone().into());
                }
                _ => self.work.changed.wait(&mut orders),
            }
        }
        Ok(())
    }
}

impl Drop for Emptier {
    fn drop(&mut self) {
        self.work.orders.lock().stop = true;
        self.work.changed.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that empties the journal's short log panicked");
        }
    }
}

/// Tells those who wait when the thread ends by a panic.
struct TellEnd<'a>(&'a Work);

impl Drop for TellEnd<'_> {
    fn drop(&mut self) {
        let mut orders = self.0.orders.lock();
        if std::thread::panicking() {
            let why = "emptying the journal's short log was cut short".to_owned();
            orders.failed = Some((orders.asked, Failed::ForGood(why)));
        }
        self.0.changed.notify_all();
    }
}

impl Work {
    fn work(&self) {
        let _end = TellEnd(self);
        while let Some((asked, until)) = self.next() {
            let failed = match self.empty(until) {
                Ok(()) => None,
                Err(StorageError::Full) => Some(Failed::Full),
                Err(error) => {
                    tracing::error!(%error, "the journal's short log cannot be emptied; nothing more is taken");
                    Some(Failed::ForGood(error.to_string()))
                }
            };
            self.orders.lock().failed = failed.map(|failed| (asked, failed));
            self.changed.notify_all();
        }
    }

    /// Waits for something to do: which asking, and up to where. None at the end.
    fn next(&self) -> Option<(u64, Seq)> {
        let mut orders = self.orders.lock();
        loop {
            if orders.stop {
                return None;
            }
            let may_try = match &orders.failed {
                None => true,
                Some((answered, Failed::Full)) => *answered < orders.asked,
                Some((_, Failed::ForGood(_))) => false,
            };
            if may_try && orders.until > self.shared.emptied() {
                return Some((orders.asked, orders.until));
            }
            self.changed.wait(&mut orders);
        }
    }

    fn empty(&self, until: Seq) -> Result<()> {
        while self.shared.emptied() < until {
            self.empty_a_pack(until)?;
            // Who waits for room need not wait for all of it. Under the lock, or who is about to wait would miss it.
            let _orders = self.orders.lock();
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Moves as much as a pack takes.
    fn empty_a_pack(&self, until: Seq) -> Result<()> {
        let first = self.shared.emptied();
        let (mut next, mut pack, mut records) = (first, None, Vec::new());
        while next < until && pack.as_ref().is_none_or(|pack: &Writer| pack.bytes() < self.begin_bytes) {
            let chunk = self.shared.recent.read_bytes(next, CHUNK_BYTES)?;
            if chunk.first().is_none_or(|(seq, _)| *seq != next) {
                tracing::error!(record = next, "damage has taken records of the journal's short log");
            }
            // What damage took is nowhere to be found.
            next = chunk.last().map_or(until, |(seq, _)| (seq + 1).min(until));
            for (seq, bytes) in chunk.into_iter().take_while(|(seq, _)| *seq < until) {
                if let Some(id) = frame::parts(&bytes).and_then(|parts| parts.brings) {
                    let pack = match &mut pack {
                        Some(pack) => pack,
                        none => none.insert(self.shared.packs.begin()?),
                    };
                    pack.push(seq, id, &bytes)?;
                }
                records.push((seq, frame::record_of(seq, bytes)?));
            }
        }
        if let Some(pack) = pack {
            self.shared.packs.end(pack, first..next)?;
        }
        self.keep(records, next)?;
        // Last, and with Release: from here on readers look for records in the journal proper and
        // for contents in packs alone (`JournalReader::content`), so both have to be durable.
        self.shared.emptied.store(next, Ordering::Release);
        Ok(())
    }

    /// Appends records to the journal proper, under their own sequences. Those that an earlier try
    /// has appended are skipped.
    fn keep(&self, records: Vec<(Seq, Vec<u8>)>, next: Seq) -> Result<()> {
        let mut kept = self.shared.kept.lock();
        // An earlier try may have got so far.
        let done = kept.next_seq();
        let mut records = records.into_iter().skip_while(|(seq, _)| *seq < done).peekable();
        while let Some((first, _)) = records.peek() {
            kept.skip_to(*first)?;
            let mut run = Vec::new();
            let mut at = *first;
            while let Some((_, record)) = records.next_if(|(seq, _)| *seq == at) {
                run.push(record);
                at += 1;
            }
            kept.append(&run)?;
        }
        if kept.next_seq() < next { kept.skip_to(next) } else { Ok(()) }
    }
}
